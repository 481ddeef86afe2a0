package sarama

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestGapIsReportedIfTheAnswerToItsCommitIsLost: the driver moves a position, and the
// answer to its commit is lost. The first commit of the new position is answered with
// an error, and the test then makes that commit in the member's name.
func TestGapIsReportedIfTheAnswerToItsCommitIsLost(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	strayed(t, cluster)
	admin, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MaxVersions(kversion.V2_8_0())) // topics by name
	require.NoError(t, err)
	defer admin.Close()

	var applied atomic.Bool
	refused := make(chan kmsg.OffsetCommitRequest, 1)
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: kerr.RequestTimedOut, Count: -1,
		When: func(r kmsg.Request) bool {
			commit := r.(*kmsg.OffsetCommitRequest)
			p := commit.Topics[0].Partitions[0]
			if p.Metadata != nil && *p.Metadata == "by the test" || p.Offset != 10 || applied.Load() {
				return false
			}
			select {
			case refused <- *commit:
			default:
			}
			return true
		},
	})

	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.OutOfRange = driver.OutOfRangeOldest
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	var commit kmsg.OffsetCommitRequest
	select {
	case commit = <-refused:
	case <-time.After(patienceTest):
		require.FailNow(t, "the position was not moved")
	}
	commitOffset(within(t, patienceTest), t, admin, commit, 10)
	applied.Store(true)
	r.waitRecords(t, 10)

	r.mu.Lock()
	defer r.mu.Unlock()
	var gaps []driver.DataLossError
	for _, err := range r.errs {
		var gap *driver.DataLossError
		if errors.As(err, &gap) {
			gaps = append(gaps, *gap)
		}
	}
	assert.Equal(t, []driver.DataLossError{{Topic: "t", From: 3, To: 10, Begin: 10, End: 20}}, gaps)
}

// TestOutOfRangeStopsWhenTheLogIsKnown: the leader does not say which log it has. That is no
// reason to stop. When it does, the position is not in it.
func TestOutOfRangeStopsWhenTheLogIsKnown(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
	commitAsNoMember(t, cluster.ListenAddrs(), 3)
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), newRecorder())
	m.waitRecords(t, 17)
	require.NoError(t, outside.Of(cluster.ListenAddrs()...).Truncate(within(t, patienceTest), "t", 0, 10))
	away := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.LeaderNotAvailable, Count: -1})
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 1})
	m.wait(t, "a report", func() bool {
		all := m.troubles()
		return len(all) > 0 && testkit.Code(all[0]) == "LEADER_NOT_AVAILABLE"
	})
	assert.Empty(t, m.done, "Run has returned")
	away.Remove()
	wantError(t, m.ranOut(t), "OFFSET_OUT_OF_RANGE", true)
	assert.Equal(t, int64(3), cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
}

// commitOffset commits offset for partition 0 of t in the name of by.
func commitOffset(ctx context.Context, t *testing.T, client *kgo.Client, by kmsg.OffsetCommitRequest, offset int64) {
	t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.Generation, req.MemberID = by.Group, by.Generation, by.MemberID
	p := kmsg.NewOffsetCommitRequestTopicPartition()
	p.Offset, p.Metadata = offset, kmsg.StringPtr("by the test")
	topic := kmsg.NewOffsetCommitRequestTopic()
	topic.Topic, topic.Partitions = "t", []kmsg.OffsetCommitRequestTopicPartition{p}
	req.Topics = []kmsg.OffsetCommitRequestTopic{topic}
	resp, err := req.RequestWith(ctx, client)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
}

// TestRefusedPositionStopsNoOtherTopic: the coordinator refuses permanently to move a
// position that is out of range. Its topic is reported and left out; the other is consumed.
func TestRefusedPositionStopsNoOtherTopic(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "t", "good"))
	seed(t, cluster.ListenAddrs(), "good", 0, "there")
	strayed(t, cluster)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Topic: "t", Err: kerr.TopicAuthorizationFailed, Count: -1})
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics, cfg.OutOfRange = []string{"good", "t"}, driver.OutOfRangeOldest
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the report", func() bool { return len(r.codesOf("t")) > 0 })
	r.wait(t, "a claim of the good topic alone", func() bool { return r.has("good") && !r.has("t") })
	r.mu.Lock()
	assert.Equal(t, []string{"TOPIC_AUTHORIZATION_FAILED"}, r.codesOf("t"))
	assert.Empty(t, r.gaps())
	r.mu.Unlock()
	fault.Remove()
	m.topics.deny("t", kerr.TopicAuthorizationFailed, 0)
	m.topics.lookSoon()
	r.wait(t, "the records behind the gap", func() bool { return r.has("good") && len(r.records) == 11 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, []driver.DataLossError{{Topic: "t", From: 3, To: 10, Begin: 10, End: 20}}, r.gaps())
}

// strayed lets the position of group g in topic t, 3, leave the log, which has the offsets
// from 10 to 19.
func strayed(t *testing.T, cluster *kfake.Cluster) {
	t.Helper()
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
	commitAsNoMember(t, cluster.ListenAddrs(), 3)
	require.NoError(t, outside.Of(cluster.ListenAddrs()...).Truncate(within(t, patienceTest), "t", 0, 10))
}

// commitAsNoMember commits offset for partition 0 of t, for group g, which has no members.
func commitAsNoMember(t *testing.T, brokers []string, offset int64) {
	t.Helper()
	require.NoError(t, outside.Of(brokers...).SetCommitted(within(t, patienceTest), "g", "t", 0, offset, ""))
}

// TestUnknownEndKeepsNoMemberFromJoining: the leader of the only partition whose position
// is out of range does not say where its log ends. The partition is reported, and the
// position is kept for the next attempt.
func TestUnknownEndKeepsNoMemberFromJoining(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	found := map[partition]astray{{Topic: "t"}: {err: errors.New("out of range")}}
	m.positions.keepAstray(found)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "t", Err: kerr.LeaderNotAvailable, Count: 1})
	refused, err := m.positions.moveIntoLog(t.Context(), m.topics.known.Eras(), []string{"t"})
	assert.NoError(t, err)
	assert.Empty(t, refused)
	assert.Equal(t, found, m.positions.takeAstray([]string{"t"}))
	r.mu.Lock()
	defer r.mu.Unlock()
	if assert.Len(t, r.troubles(), 1) {
		assert.Equal(t, "LEADER_NOT_AVAILABLE", testkit.Code(r.troubles()[0]))
	}
}

// TestGapInDoubt: an attempt to move a position was applied though it seemed to fail. As
// long as the position cannot be read, the member does not join. It is judged without its
// leader, which is away.
func TestGapInDoubt(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 10}}))
	inDoubt := astray{err: errors.New("out of range"), gap: &driver.DataLossError{Topic: "t", From: 3, To: 10}}
	m.positions.keepAstray(map[partition]astray{{Topic: "t"}: inDoubt})
	away := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.LeaderNotAvailable, Count: -1})
	defer away.Remove()
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: "t", Err: kerr.UnstableOffsetCommit, Count: 1})
	move := func() error {
		_, err := m.positions.moveIntoLog(t.Context(), m.topics.known.Eras(), []string{"t"})
		return err
	}
	assert.ErrorIs(t, move(), ibm.ErrUnstableOffsetCommit)
	r.mu.Lock()
	assert.Empty(t, r.gaps())
	r.mu.Unlock()
	assert.NoError(t, move())
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, []driver.DataLossError{*inDoubt.gap}, r.gaps())
	assert.Empty(t, m.positions.takeAstray([]string{"t"}))
}

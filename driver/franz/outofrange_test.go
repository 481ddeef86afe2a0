package franz

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

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
	strayed(t, cluster)
	away := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Err: kerr.LeaderNotAvailable, Count: -1})
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), newRecorder())
	m.wait(t, "a report", func() bool {
		all := m.troubles()
		return len(all) > 0 && testkit.Code(all[0]) == "LEADER_NOT_AVAILABLE"
	})
	assert.Empty(t, m.done, "Run has returned")
	away.Remove()
	wantError(t, m.ranOut(t), "OFFSET_OUT_OF_RANGE", true)
	assert.Equal(t, int64(3), cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
}

// TestOutOfRangeWithoutAPosition: the group has no position when the log begins behind the
// records that its claim has got. The claim's own start takes its place.
func TestOutOfRangeWithoutAPosition(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		faults []kfake.Fault
	}{
		{"known start", nil},
		{"unknown start", []kfake.Fault{{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "t", Err: kerr.LeaderNotAvailable, Count: 1}}},
	} {
		for policy, to := range map[driver.OutOfRange]int64{driver.OutOfRangeOldest: 10, driver.OutOfRangeNewest: 20} {
			t.Run(c.name+", "+policy.String(), func(t *testing.T) {
				t.Parallel()
				cluster := fake(t)
				seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
				cluster.Fault(c.faults...)
				cfg := consumerConfig(cluster.ListenAddrs())
				cfg.OutOfRange = policy
				r := newRecorder()
				start(t, Driver{}, cfg, r)
				r.waitRecords(t, 20)
				require.NoError(t, outside.Of(cluster.ListenAddrs()...).Truncate(within(t, patienceTest), "t", 0, 10))
				cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 1})
				r.wait(t, "the next claim", func() bool { return len(r.assigned) == 2 })
				r.mu.Lock()
				defer r.mu.Unlock()
				assert.Equal(t, []driver.DataLossError{{Topic: "t", From: 0, To: to, Begin: 10, End: 20}}, r.gaps())
				assert.Equal(t, to, r.assigned[1].Start)
				assert.Equal(t, to, cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
			})
		}
	}
}

// TestOutOfRangeInsideKeepsMetadata: a replica refuses a position that the leader has in its
// log. The next claim starts there, and has what is committed beside it.
func TestOutOfRangeInsideKeepsMetadata(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
	require.NoError(t, outside.Of(cluster.ListenAddrs()...).SetCommitted(within(t, patienceTest), "g", "t", 0, 3, "text"))
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 1})
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.OutOfRange = driver.OutOfRangeOldest
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "the next claim", func() bool { return len(r.assigned) == 2 })
	r.waitRecords(t, 7)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, c := range r.assigned {
		assert.Equal(t, int64(3), c.Start, "start of claim %d", i)
		assert.Equal(t, "text", c.Metadata, "metadata of claim %d", i)
		assert.Equal(t, int64(10), c.End, "end of claim %d", i)
	}
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

// strayed lets the position of group g in topic t, 3, leave the log, which has the offsets
// from 10 to 19.
func strayed(t *testing.T, cluster *kfake.Cluster) {
	t.Helper()
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
	direct, ctx := outside.Of(cluster.ListenAddrs()...), within(t, patienceTest)
	require.NoError(t, direct.SetCommitted(ctx, "g", "t", 0, 3, ""))
	require.NoError(t, direct.Truncate(ctx, "t", 0, 10))
}

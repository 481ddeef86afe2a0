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
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestGapIsReportedIfTheAnswerToItsCommitIsLost: the driver moves a position, and the
// answer to its commit is lost. The first commit of the new position is answered with
// an error, and the test then makes that commit in the member's name.
func TestGapIsReportedIfTheAnswerToItsCommitIsLost(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
	admin, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MaxVersions(kversion.V2_8_0())) // topics by name
	require.NoError(t, err)
	defer admin.Close()
	ctx := within(t, patienceTest)
	commitOffset(ctx, t, admin, kmsg.OffsetCommitRequest{Group: "g", Generation: -1}, 3)
	deleteBelow(ctx, t, admin, 10)

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
	commitOffset(ctx, t, admin, commit, 10)
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

// TestOutOfRangeOfAReplicaAloneIsReported: the replica that answers a fetch has the
// position outside its log. The leader, asked before the claim begins again, has it inside.
// That ends Run with no policy.
func TestOutOfRangeOfAReplicaAloneIsReported(t *testing.T) {
	t.Parallel()
	for _, policy := range []driver.OutOfRange{driver.OutOfRangeStop, driver.OutOfRangeOldest, driver.OutOfRangeNewest} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			cluster := fake(t)
			seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Err: kerr.OffsetOutOfRange, Count: 2})
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.OutOfRange = policy
			r := newRecorder()
			start(t, Driver{}, cfg, r)
			r.waitRecords(t, 10)
			r.mu.Lock()
			defer r.mu.Unlock()
			require.NotEmpty(t, r.errs, "no error was reported")
			for _, err := range r.errs {
				assert.Equal(t, "OFFSET_OUT_OF_RANGE", testkit.Code(err), "code of %v", err)
			}
			assert.Empty(t, r.lost)
		})
	}
}

// TestOutOfRangeStopsWhenTheLogIsKnown: the leader does not say which log it has. That is no
// reason to stop. When it does, the position is not in it.
func TestOutOfRangeStopsWhenTheLogIsKnown(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 20)...)
	admin, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MaxVersions(kversion.V2_8_0())) // topics by name
	require.NoError(t, err)
	defer admin.Close()
	ctx := within(t, patienceTest)
	commitOffset(ctx, t, admin, kmsg.OffsetCommitRequest{Group: "g", Generation: -1}, 3)
	deleteBelow(ctx, t, admin, 10)
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
				admin, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.MaxVersions(kversion.V2_8_0())) // topics by name
				require.NoError(t, err)
				defer admin.Close()
				deleteBelow(within(t, patienceTest), t, admin, 10)
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

// deleteBelow removes the records of partition 0 of t below offset.
func deleteBelow(ctx context.Context, t *testing.T, client *kgo.Client, offset int64) {
	t.Helper()
	req := kmsg.NewPtrDeleteRecordsRequest()
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Offset = offset
	topic := kmsg.NewDeleteRecordsRequestTopic()
	topic.Topic, topic.Partitions = "t", []kmsg.DeleteRecordsRequestTopicPartition{p}
	req.Topics = []kmsg.DeleteRecordsRequestTopic{topic}
	resp, err := req.RequestWith(ctx, client)
	require.NoError(t, err)
	require.NoError(t, kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode))
}

package franz

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// newestOf starts a member of a new group that starts at the newest records of topics.
func newestOf(t *testing.T, cluster *kfake.Cluster, topics ...string) *running {
	t.Helper()
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics, cfg.InitialOffset = topics, driver.OffsetNewest
	return start(t, Driver{}, cfg, newRecorder())
}

// startsOf returns where the live claims of a topic have started, by partition; the
// mutex must be held.
func (r *recorder) startsOf(topic string) map[int32]int64 {
	starts := map[int32]int64{}
	for c := range r.live {
		if c.Topic == topic {
			starts[c.Partition] = c.Start
		}
	}
	return starts
}

// TestNewestWithAPositionThatCannotBeRead: the coordinator says of one partition that
// its position is unstable, or that it refuses one. The topic of that partition is
// reported and comes later, at the end that it had at the first attempt. The other topic
// is consumed at once.
func TestNewestWithAPositionThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.OffsetFetch, kmsg.OffsetCommit} {
		t.Run(key.Name(), func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.SeedTopics(2, "good", "bad"))
			brokers := cluster.ListenAddrs()
			for p := range int32(2) {
				seed(t, brokers, "good", p, numbered(0, 10)...)
				seed(t, brokers, "bad", p, numbered(0, 10)...)
			}
			fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: "bad", Partitions: []int32{1}, Err: kerr.UnstableOffsetCommit, Count: -1})
			m := newestOf(t, cluster, "good", "bad")
			m.wait(t, "the claims of the good topic", func() bool { return len(m.startsOf("good")) == 2 })
			m.wait(t, "the report", func() bool {
				return slices.ContainsFunc(m.errs, func(err error) bool {
					var at *driver.PartitionError
					return errors.As(err, &at) && at.Topic == "bad" && testkit.Code(err) == "UNSTABLE_OFFSET_COMMIT"
				})
			})
			seed(t, brokers, "good", 0, "fresh")
			m.waitRecords(t, 1)
			assert.Equal(t, []string{"fresh"}, m.values())
			if key == kmsg.OffsetCommit { // by then the other partition of the topic has its position
				seed(t, brokers, "bad", 1, "late")
			}
			fault.Remove()
			m.topics.deny("bad", kerr.UnstableOffsetCommit, 0)
			m.wait(t, "the claims of the other topic", func() bool { return len(m.startsOf("bad")) == 2 })
			m.recorder.mu.Lock()
			assert.Equal(t, map[int32]int64{0: 10, 1: 10}, m.startsOf("bad"))
			assert.Empty(t, m.lost)
			m.recorder.mu.Unlock()
			assert.Equal(t, int64(10), cluster.GroupInfo("g").Commits["bad"][1].Offset, "the start that is committed")
		})
	}
}

// TestNewestWithALeaderThatIsAway: the end of one partition cannot be looked up before
// the join. Its neighbours are consumed, and it starts at its end when it has a leader.
func TestNewestWithALeaderThatIsAway(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(2, "t"))
	brokers := cluster.ListenAddrs()
	for p := range int32(2) {
		seed(t, brokers, "t", p, numbered(0, 10)...)
	}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "t", Partitions: []int32{1}, Err: kerr.LeaderNotAvailable, Count: 1})
	m := newestOf(t, cluster, "t")
	m.wait(t, "both claims", func() bool { return len(m.startsOf("t")) == 2 })
	for p := range int32(2) {
		seed(t, brokers, "t", p, "fresh")
		m.waitRecords(t, int(p)+1)
	}
	m.recorder.mu.Lock()
	defer m.recorder.mu.Unlock()
	assert.Equal(t, map[int32]int64{0: 10, 1: 10}, m.startsOf("t"))
	assert.ElementsMatch(t, []driver.NoPositionError{
		{Topic: "t", Partition: 0, Start: 10}, {Topic: "t", Partition: 1, Start: 10},
	}, m.starts)
	assert.Empty(t, m.errs)
}

// TestPositionsComeByPartition: an error of one partition is none of another, and one
// of the group is one of all.
func TestPositionsComeByPartition(t *testing.T) {
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 3}}))
	asked := []partition{{Topic: "t"}, {Topic: "other"}}
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: "other", Err: kerr.UnstableOffsetCommit, Count: 1})
	at, err := m.coordinator.committed(t.Context(), asked)
	require.NoError(t, err)
	assert.Equal(t, map[partition]int64{{Topic: "t"}: 3}, at.At)
	assert.Equal(t, map[partition]error{{Topic: "other"}: kerr.UnstableOffsetCommit}, at.Failed)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: "other", Err: kerr.CoordinatorLoadInProgress, Count: 1})
	_, err = m.coordinator.committed(t.Context(), asked)
	assert.ErrorIs(t, err, kerr.CoordinatorLoadInProgress)
}

package franz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
)

// TestPollHasBounds: a broker that does not answer has no vote. If the context ends when two
// of three brokers have named the topic's ID, there is no vote: they may be those that are
// behind.
func TestPollHasBounds(t *testing.T) {
	t.Parallel()
	cluster, gates := common.GatedBrokers(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	require.Len(t, m.topics.poll(within(t, patienceTest)), 3)
	heal := gates[(cluster.CoordinatorFor("g")+1)%3].Stall()
	defer heal()
	assert.Empty(t, m.topics.poll(within(t, 300*time.Millisecond)))
	began := time.Now()
	votes := m.topics.poll(t.Context())
	assert.Less(t, time.Since(began), 2*surveyTimeout)
	assert.GreaterOrEqual(t, len(votes), 2)
}

// TestRebalanceWaitsForNoQuestion: a position is not in the log. Brokers disagree about which
// topic that is, so the member asks them for a while. A rebalance does not wait for that.
func TestRebalanceWaitsForNoQuestion(t *testing.T) {
	t.Parallel()
	for _, policy := range []driver.OutOfRange{driver.OutOfRangeStop, driver.OutOfRangeOldest} {
		t.Run(policy.String(), func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(2, "re"))
			direct := outside.Of(cluster.ListenAddrs()...)
			ctx := within(t, 4*patienceTest)
			end := holdBack(t, cluster, (cluster.CoordinatorFor("g")+1)%3)
			defer end()
			deleteTopic(ctx, t, direct, "re")
			makeAgain(ctx, t, direct, "re", 2)

			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.Topics, cfg.OutOfRange = []string{"re"}, policy
			r, second := newRecorder(), newRecorder()
			m := start(t, Driver{}, cfg, r)
			r.wait(t, "the assignment", func() bool { return len(r.live) == 2 })
			cl := m.claims.at(partition{Topic: "re"})
			require.NotNil(t, cl)
			cl.session.turn.quiet(func() { cl.session.astray(cl, &stray{err: kerr.OffsetOutOfRange, parted: -1}) })
			began := time.Now()
			start(t, Driver{}, cfg, second)
			second.wait(t, "a claim of the second member", func() bool { return len(second.live) == 1 })
			assert.Less(t, time.Since(began), rivalPatience-time.Second)
			r.wait(t, "a claim of the first member", func() bool { return len(r.live) == 1 })
		})
	}
}

// TestSlowLeaderKeepsNoOtherClaim: the leader of one partition is frozen when a member joins.
// Claims of other partitions begin all the same.
func TestSlowLeaderKeepsNoOtherClaim(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		committed bool
	}{{"no position", false}, {"a position with an epoch", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cluster, gates := common.GatedBrokers(t, kfake.SeedTopics(2, "two"))
			coordinator := cluster.CoordinatorFor("g")
			slow := (coordinator + 1) % 3
			require.NoError(t, cluster.MoveTopicPartition("two", 0, coordinator))
			require.NoError(t, cluster.MoveTopicPartition("two", 1, slow))
			for p := range int32(2) {
				seed(t, cluster.ListenAddrs(), "two", p, numbered(0, 10)...)
			}
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.Topics = []string{"two"}
			if c.committed {
				r := newRecorder()
				m := start(t, Driver{}, cfg, r)
				r.waitRecords(t, 20)
				require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 5}, {Claim: r.claim(1), Offset: 5}}))
				require.NoError(t, m.stop(t))
			}
			r := newRecorder()
			var heal func()
			joined := false
			cluster.ControlKey(int16(kmsg.SyncGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
				if !joined { // until then the member asks any broker
					joined, heal = true, gates[slow].Stall()
				}
				return nil, nil, false
			})
			began := time.Now()
			start(t, Driver{}, cfg, r)
			r.wait(t, "a claim", func() bool { return len(r.startsOf("two")) > 0 })
			assert.Less(t, time.Since(began), commitWait(cfg.SessionTimeout))
			r.mu.Lock()
			assert.Contains(t, r.startsOf("two"), int32(0))
			r.mu.Unlock()
			require.NotNil(t, heal)
			heal()
			r.wait(t, "both claims", func() bool { return len(r.startsOf("two")) == 2 })
		})
	}
}

package franz

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A churner handles each record at once and commits in Revoke, as the core does.
type churner struct {
	*recorder
	m *running
}

func (c *churner) commit(ctx context.Context, cs []*driver.Claim) {
	var marks []driver.Mark
	c.mu.Lock()
	for _, claim := range cs {
		if next := c.next[claim]; next > 0 {
			marks = append(marks, driver.Mark{Claim: claim, Offset: next})
		}
	}
	c.mu.Unlock()
	_ = c.m.Commit(ctx, marks)
}

// TestRebalanceLosesNothing lets members come and go while records arrive, and
// counts the records that all of them got.
func TestRebalanceLosesNothing(t *testing.T) {
	testkit.Slow(t, "rebalances under load for 14 s")
	t.Parallel()
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.Range, driver.Sticky, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(churnPartitions, "churn"))
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.Topics, cfg.BalanceStrategies = []string{"churn"}, []driver.BalanceStrategy{strategy}
			churn(t, cfg)
		})
	}
}

const churnPartitions, churnRounds, churnEach = 6, 12, 20

// churn runs one member all the time and another now and then.
func churn(t *testing.T, cfg driver.ConsumerConfig) {
	var all []*churner
	join := func() *churner {
		c := &churner{recorder: newRecorder()}
		ready := make(chan struct{})
		c.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			<-ready
			c.commit(ctx, cs)
		}
		c.m = start(t, Driver{}, cfg, c.recorder)
		close(ready)
		all = append(all, c)
		return c
	}
	first := join()
	first.wait(t, "the first assignment", func() bool { return len(first.live) == churnPartitions })
	var extra *churner
	for round := range churnRounds {
		switch round % 6 {
		case 1:
			extra = join()
		case 4:
			// Not before: kfake miscounts when a member leaves that waits for its
			// assignment, and lets the others wait for the rebalance timeout.
			extra.wait(t, "an assignment of the new member", func() bool { return len(extra.live) > 0 })
			extra.m.stop(t)
		}
		for p := range int32(churnPartitions) {
			seed(t, cfg.Brokers, cfg.Topics[0], p, numbered(round*churnEach, (round+1)*churnEach)...)
		}
	}
	wantEachOnce(t, all)
}

// wantEachOnce waits for all records, and reports those that were delivered more
// than once.
func wantEachOnce(t *testing.T, all []*churner) {
	t.Helper()
	var counts map[[2]int64]int
	deadline := time.Now().Add(patienceTest)
	for len(counts) < churnPartitions*churnRounds*churnEach && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
		counts = map[[2]int64]int{}
		for _, c := range all {
			c.mu.Lock()
			for _, g := range c.records {
				counts[[2]int64{int64(g.partition), g.offset}]++
			}
			c.mu.Unlock()
		}
	}
	assert.Equal(t, churnPartitions*churnRounds*churnEach, len(counts), "records that were delivered")
	for at, n := range counts {
		assert.Equal(t, 1, n, "deliveries of %d/%d, although every revocation was committed", at[0], at[1])
	}
}

// TestCooperativeMemberKeepsItsClaimsInARebalance checks that a member goes on delivering
// and committing the claims that it keeps while another member joins.
func TestCooperativeMemberKeepsItsClaimsInARebalance(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(4, "coop"))
	brokers := cluster.ListenAddrs()
	cfg := consumerConfig(brokers)
	cfg.Topics, cfg.BalanceStrategies = []string{"coop"}, []driver.BalanceStrategy{driver.CooperativeSticky}
	a := newRecorder()
	ma := start(t, Driver{}, cfg, a)
	a.wait(t, "the first assignment", func() bool { return len(a.live) == 4 })
	a.mu.Lock()
	kept := slices.Clone(a.assigned)
	a.mu.Unlock()

	b := newRecorder()
	start(t, Driver{}, cfg, b)
	b.wait(t, "an assignment of the second member", func() bool { return len(b.live) == 2 })
	a.wait(t, "the revocation", func() bool { return len(a.revoked) == 2 })
	a.mu.Lock()
	revoked := slices.Clone(a.revoked)
	assert.Len(t, a.assigned, 4, "claims assigned to the first member")
	assert.Empty(t, a.lost, "claims that the first member lost")
	a.mu.Unlock()
	for _, c := range kept {
		if slices.Contains(revoked, c) {
			continue
		}
		seed(t, brokers, "coop", c.Partition, "v")
		a.waitRecords(t, 1)
		assert.NoError(t, ma.Commit(within(t, patienceTest), []driver.Mark{{Claim: c, Offset: 1}}), "a claim that outlived its generation")
		break
	}
	a.wait(t, "a call of Assign for the second generation", func() bool { return a.joins > 1 })
}

func TestCommitFaults(t *testing.T) {
	testkit.Slow(t, "waits for retries of commits")
	cases := []struct {
		name    string
		fault   *kerr.Error
		count   int // -1 is forever
		durable bool
		code    string
		took    time.Duration // at most
	}{
		{"not coordinator", kerr.NotCoordinator, 3, true, "", time.Second},
		{"coordinator not available", kerr.CoordinatorNotAvailable, 3, true, "", time.Second},
		{"loading", kerr.CoordinatorLoadInProgress, 3, true, "", time.Second},
		{"rebalance in progress", kerr.RebalanceInProgress, 3, true, "", time.Second},
		{"timed out, applied", kerr.RequestTimedOut, 2, true, "", time.Second},
		{"loading forever", kerr.CoordinatorLoadInProgress, -1, false, "REQUEST_TIMED_OUT", 2 * time.Second},
		{"not authorized", kerr.GroupAuthorizationFailed, -1, false, "GROUP_AUTHORIZATION_FAILED", time.Second},
		{"topic not authorized", kerr.TopicAuthorizationFailed, -1, false, "TOPIC_AUTHORIZATION_FAILED", time.Second},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cluster := fake(t)
			seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
			r := newRecorder()
			m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
			r.waitRecords(t, 10)
			h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetCommit}, Err: c.fault, Count: c.count})
			claim := r.claim(0)
			ctx := within(t, c.took)
			err := m.Commit(ctx, []driver.Mark{{Claim: claim, Offset: 5}})
			h.Remove()
			if c.durable {
				require.NoError(t, err)
				assert.Equal(t, int64(5), cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
				return
			}
			var ce *driver.CommitError
			require.ErrorAs(t, err, &ce)
			require.Len(t, ce.Failed, 1)
			require.Equal(t, c.code, testkit.Code(ce.Failed[0].Err), "code of %v", err)
			timedOut := c.count < 0 && c.code == "REQUEST_TIMED_OUT"
			assert.Equal(t, timedOut, errors.Is(err, context.DeadlineExceeded), "the context has ended: %v", err)
			assert.NoError(t, m.Commit(within(t, time.Second), []driver.Mark{{Claim: claim, Offset: 6}}), "after the fault")
		})
	}
}

// TestCoordinatorMoves commits while the coordinator changes its node again and
// again.
func TestCoordinatorMoves(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.NumBrokers(3))
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 100)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.waitRecords(t, 100)
	claim := r.claim(0)
	for i := range int64(20) {
		cluster.RehashCoordinators()
		require.NoError(t, m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: i + 1}}), "commit %d", i)
	}
	assert.Equal(t, int64(20), cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Empty(t, r.lost, "claims lost, for %v", r.causes)
	assert.Empty(t, r.revoked, "claims revoked")
}

// TestIdleCloseIsFast closes beside a fetch that waits at the broker for maxWait.
func TestIdleCloseIsFast(t *testing.T) {
	cluster := fake(t, kfake.SeedTopics(8, "idle"))
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics = []string{"idle"}
	wantFastClose(t, cfg, 50*time.Millisecond)
	require.Empty(t, cluster.GroupInfo("g").Members, "members that are left in the group")
}

func wantFastClose(t *testing.T, cfg driver.ConsumerConfig, limit time.Duration) {
	t.Helper()
	best := time.Hour
	for range 5 {
		r := newRecorder()
		m := start(t, Driver{}, cfg, r)
		r.wait(t, "the assignment", func() bool { return len(r.live) == 8 })
		time.Sleep(150 * time.Millisecond) // Sarama gathers new partitions for 100 ms, and then fetches
		began := time.Now()
		m.stop(t)
		best = min(best, time.Since(began))
	}
	t.Logf("the fastest of 5 took %v", best)
	assert.LessOrEqual(t, best, limit, "the fastest of 5")
}

// TestNewestOfATopicThatIsNewToALiveGroup: the group has members and positions,
// but for another topic.
func TestNewestOfATopicThatIsNewToALiveGroup(t *testing.T) {
	t.Parallel()
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			cluster := fake(t, kfake.SeedTopics(2, "old", "new"))
			brokers := cluster.ListenAddrs()
			for p := range int32(2) {
				seed(t, brokers, "new", p, numbered(0, 10)...)
			}
			cfg := consumerConfig(brokers)
			cfg.InitialOffset, cfg.BalanceStrategies = driver.OffsetNewest, []driver.BalanceStrategy{strategy}
			cfg.Topics = []string{"old"}
			a := newRecorder()
			start(t, Driver{}, cfg, a)
			a.wait(t, "the first member", func() bool { return len(a.live) == 2 })

			cfg.Topics = []string{"old", "new"}
			b := newRecorder()
			start(t, Driver{}, cfg, b)
			b.wait(t, "claims of the new topic", func() bool {
				n := 0
				for c := range b.live {
					if c.Topic == "new" {
						n++
					}
				}
				return n == 2
			})
			b.mu.Lock()
			for c := range b.live {
				if c.Topic == "new" {
					assert.Equal(t, int64(10), c.Start, "start of new/%d", c.Partition)
				}
			}
			b.mu.Unlock()
			assert.Equal(t, int64(10), cluster.GroupInfo("g").Commits["new"][0].Offset, "the start that is committed")
			seed(t, brokers, "new", 1, "fresh")
			b.waitRecords(t, 1)
			assert.Equal(t, []string{"fresh"}, b.values())
		})
	}
}

func TestLeaderMovesLoseNothing(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(3, "moving"))
	brokers := cluster.ListenAddrs()
	cfg := consumerConfig(brokers)
	cfg.Topics = []string{"moving"}
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	for i := range 5 {
		for p := range int32(3) {
			seed(t, brokers, "moving", p, numbered(i*10, i*10+10)...)
		}
		cluster.ShufflePartitionLeaders()
	}
	r.waitRecords(t, 150)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Len(t, r.records, 150)
	assert.Len(t, r.assigned, 3)
}

// TestAuthorizationEndsRun: a permanent refusal, which Sarama passes on by its channel
// of errors only, ends Run.
func TestAuthorizationEndsRun(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.Fetch, kmsg.Heartbeat, kmsg.JoinGroup} {
		t.Run(key.Name(), func(t *testing.T) {
			code := kerr.GroupAuthorizationFailed
			if key == kmsg.Fetch {
				code = kerr.TopicAuthorizationFailed
			}
			cluster := fake(t)
			cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: code, Count: -1})
			m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), newRecorder())
			wantError(t, m.ranOut(t), code.Message, true)
		})
	}
}

// TestPanickingHandler: a panic in a method of the handler is reported. A claim whose
// Deliver has panicked is read again.
func TestPanickingHandler(t *testing.T) {
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 3)...)
	var once sync.Once
	r := newRecorder()
	r.onRecord = func(*driver.Claim, driver.Record) { once.Do(func() { panic("boom") }) }
	r.onRevoke = func(context.Context, []*driver.Claim) { panic("bang") }
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the report of a panic", func() bool { return len(r.errs) > 0 })
	r.waitRecords(t, 3)
	m.stop(t)
	r.update(func() { clear(r.live) }) // Revoke did not get that far
	assert.Equal(t, "HANDLER_PANIC", testkit.Code(r.errs[0]))
	assert.EqualError(t, r.errs[0], "HANDLER_PANIC: panic in Handler.Deliver: boom")
}

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func strategies(ss ...driver.BalanceStrategy) func(*driver.ConsumerConfig) {
	return func(cfg *driver.ConsumerConfig) { cfg.BalanceStrategies = ss }
}

func topics(names ...string) func(*driver.ConsumerConfig) {
	return func(cfg *driver.ConsumerConfig) { cfg.Topics = names }
}

func instance(id string) func(*driver.ConsumerConfig) {
	return func(cfg *driver.ConsumerConfig) { cfg.InstanceID = id }
}

func TestEagerRebalanceStopsAll(t *testing.T) {
	for _, s := range []driver.BalanceStrategy{driver.RoundRobin, driver.Range, driver.Sticky} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 4)
			r1 := run(t, b, strategies(s))
			require.Equal(t, []string{"t/0", "t/1", "t/2", "t/3"}, r1.held(), "alone")
			generation := r1.claim(0).Generation
			r1.takeLog()

			r2 := run(t, b, strategies(s))
			require.Equal(t, []int{2, 2}, []int{len(r1.held()), len(r2.held())}, s.String()+": shares")
			require.Equal(t, []int{2, 1}, []int{r1.joins, r2.joins}, s.String()+": joins")
			require.Equal(t, generation+1, r1.all[4].Generation, s.String()+": generation")
			require.Len(t, r1.takeLog(), 4+2, s.String()+": revoked")

			require.NoError(t, r2.Close(t.Context()))
			synctest.Wait()
			require.Len(t, r1.held(), 4, s.String()+": alone again")
		})
	}
}

func TestCooperativeRebalanceRevokesWhatMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 4)
		coop := strategies(driver.CooperativeSticky)
		r1 := run(t, b, coop)
		r1.takeLog()
		kept := r1.claim(0)
		r2 := run(t, b, coop)
		require.Equal(t, []string{"revoke t/2", "revoke t/3"}, r1.takeLog(), "first member")
		require.Equal(t, []string{"assign t/2", "assign t/3"}, r2.takeLog(), "second member")

		// A claim that stays outlives its generation, and still commits.
		send(t, b, 0, "a")
		synctest.Wait()
		require.Equal(t, []string{"a"}, r1.got(kept), "the kept claim's values")
		assert.NoError(t, r1.Commit(t.Context(), mark(kept, 1)), "commit under the next generation")

		r2.Close(t.Context())
		synctest.Wait()
		require.Equal(t, []string{"assign t/2", "assign t/3"}, r1.takeLog(), "after the second has left")
	})
}

// One eager strategy makes a member eager, also when the
// group's choice is cooperative.
func TestMixedStrategies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1 := run(t, b, strategies(driver.CooperativeSticky, driver.Range))
		r1.takeLog()
		r2 := run(t, b, strategies(driver.CooperativeSticky))
		require.Equal(t, []string{"assign t/0", "revoke t/0", "revoke t/1"}, r1.takeLog(), "the eager member's claims")
		require.Equal(t, []string{"t/1"}, r2.held(), "the other one's")

		// Range is what all support now.
		r2.Close(t.Context())
		r3 := run(t, b, strategies(driver.Range, driver.RoundRobin))
		require.Equal(t, []string{"t/0"}, r1.held(), "range")
		require.Equal(t, []string{"t/1"}, r3.held(), "range")
	})
}

func TestNoCommonStrategy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1 := run(t, b, strategies(driver.Range))
		r1.takeLog()
		r2 := run(t, b, strategies(driver.RoundRobin))
		b.Rebalance("g")
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Len(t, r2.errs, 1)
		require.Equal(t, "INCONSISTENT_GROUP_PROTOCOL", testkit.Code(r2.errs[0]))
		assert.NotErrorIs(t, r2.errs[0], driver.ErrPermanent)
		require.Equal(t, []string{"t/0", "t/1"}, r1.held())
		require.Empty(t, r2.held())
		require.NoError(t, r1.Close(t.Context()))
		synctest.Wait()
		require.Equal(t, []string{"t/0", "t/1"}, r2.held(), "held alone")
	})
}

func TestDifferingSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		require.NoError(t, b.CreateTopic("u", 2))
		r1 := run(t, b, topics("t"))
		r2 := run(t, b, topics("t", "u"))
		require.Equal(t, []string{"t/0"}, r1.held(), "t alone")
		require.Equal(t, []string{"t/1", "u/0", "u/1"}, r2.held(), "both")
	})
}

// A member without partitions gets an Assign.
func TestMoreMembersThanPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r1, r2 := run(t, b), run(t, b)
		require.Equal(t, 1, len(r1.held())+len(r2.held()), "claims")
		require.GreaterOrEqual(t, r1.joins, 1)
		require.GreaterOrEqual(t, r2.joins, 1)
	})
}

func TestRevokeWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		release := make(chan struct{})
		rec := newRecorder(t)
		var deadline time.Duration
		var late error
		var stuck *runner
		var calls atomic.Int32
		rec.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			if calls.Add(1) > 1 {
				return
			}
			at, _ := ctx.Deadline()
			deadline = time.Until(at)
			<-release
			late = stuck.Commit(context.Background(), mark(cs[0], 1))
		}
		stuck = runWith(t, b, rec)
		begin := time.Now()
		c := stuck.claim(0)
		send(t, b, 0, "a")

		r2 := run(t, b)
		require.Empty(t, r2.held(), "before the window's end")
		time.Sleep(5 * time.Second)
		synctest.Wait()
		require.Equal(t, 5*time.Second, deadline, "deadline")
		require.Equal(t, 5*time.Second, time.Since(begin), "the group went on after")
		require.Len(t, r2.held(), 1, "the other member")
		assert.ErrorIs(t, stuck.Commit(t.Context(), mark(c, 1)), driver.ErrClaimEnded, "commit after the window")

		// Run waits for the stuck handler; Close does not.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.ErrorIs(t, stuck.Close(ctx), context.DeadlineExceeded, "close")
		select {
		case <-stuck.done:
			require.Fail(t, "Run returned while Revoke ran")
		default:
		}
		close(release)
		<-stuck.done
		assert.ErrorIs(t, late, driver.ErrClaimEnded, "commit from a late Revoke")
	})
}

// A member that does not join within the rebalance timeout is thrown out.
func TestRebalanceTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		slow := func(cfg *driver.ConsumerConfig) { cfg.RebalanceTimeout = 3 * time.Second }
		rec := newRecorder(t)
		var cause error
		rec.onRevoke = func(ctx context.Context, _ []*driver.Claim) {
			<-ctx.Done()
			cause = context.Cause(ctx)
		}
		r1 := runWith(t, b, rec, slow)
		begin := time.Now()
		r2 := run(t, b, slow)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		require.Equal(t, 3*time.Second, time.Since(begin), "time")
		require.Equal(t, "UNKNOWN_MEMBER_ID", testkit.Code(cause), "cause")
		require.Empty(t, r1.lost, "Lost")
		require.Equal(t, 2, len(r1.held())+len(r2.held()), "both are back")
		require.Len(t, b.Members("g"), 2, "members")
	})
}

func TestMetadataChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, topics("t", "u"), func(cfg *driver.ConsumerConfig) { cfg.InitialOffset = driver.OffsetNewest })
		require.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", testkit.Code(r.errs[0]), "errors")
		send(t, b, 0, "before")

		require.NoError(t, b.AddPartitions("t", 2))
		send(t, b, 1, "early")
		synctest.Wait()
		require.Equal(t, []string{"t/0", "t/1"}, r.held(), "partitions added")
		require.Equal(t, []string{"early"}, r.got(r.claim(1)), "a new partition is read from its beginning")
		require.Zero(t, b.Committed("g", "t", 1), "which is durable")

		joins := r.joins
		require.NoError(t, b.CreateTopic("v", 1))
		synctest.Wait()
		require.Zero(t, r.joins-joins, "joins for a topic of others")
		require.NoError(t, b.CreateTopic("u", 1))
		synctest.Wait()
		require.Equal(t, []string{"t/0", "t/1", "u/0"}, r.held(), "topic created")

		old := r.claim(1)
		require.NoError(t, b.DeleteTopic("t"))
		synctest.Wait()
		require.Equal(t, []string{"u/0"}, r.held(), "topic deleted")
		require.Equal(t, int64(-1), b.Committed("g", "t", 0), "what was committed for it")
		assert.ErrorIs(t, r.Commit(t.Context(), mark(old, 1)), driver.ErrClaimEnded, "commit")
	})
}

// A deleted topic that is created again before a cooperative member has noticed
// is another topic.
func TestTopicCreatedAgain(t *testing.T) {
	for _, s := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			r := run(t, b, strategies(s))
			send(t, b, 0, "a", "b")
			synctest.Wait()
			old := r.claim(0)
			require.NoError(t, errors.Join(b.DeleteTopic("t"), b.CreateTopic("t", 1)))
			send(t, b, 0, "c")
			synctest.Wait()
			require.NotSamef(t, old, r.claim(0), "%v: the claim has survived its topic", s)
			require.Equal(t, []string{"c"}, r.got(r.claim(0)), s.String()+": values")
		})
	}
}

func TestStaticMemberRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1, r2 := run(t, b, instance("one")), run(t, b, instance("two"))
		held := r1.held()
		r2.takeLog()

		require.NoError(t, r1.Close(t.Context()))
		time.Sleep(9 * time.Second)
		r1 = run(t, b, instance("one"))
		require.Equal(t, held, r1.held(), "its partitions")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Empty(t, r2.takeLog(), "the other member")

		r1.Close(t.Context())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		require.Equal(t, []string{"t/0", "t/1"}, r2.held(), "after the session timeout")
	})
}

func TestStaticMemberFencesOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r1 := run(t, b, instance("one"))
		c := r1.claim(0)
		r2 := run(t, b, instance("one"))
		<-r1.done
		require.Equal(t, "FENCED_INSTANCE_ID", testkit.Code(r1.err), "code")
		assert.ErrorIs(t, r1.err, driver.ErrPermanent)
		require.Equal(t, []string{"assign t/0", "lost t/0"}, r1.takeLog(), "the older")
		assert.ErrorIs(t, r1.Commit(t.Context(), mark(c, 1)), driver.ErrClaimEnded, "commit")
		assert.NoError(t, r1.Close(t.Context()), "close")
		require.Equal(t, []string{"t/0"}, r2.held(), "the newer")
	})
}

// A static member that comes back with another subscription needs a rebalance.
func TestStaticMemberChangesSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		require.NoError(t, b.CreateTopic("u", 1))
		r1, r2 := run(t, b, instance("one")), run(t, b, instance("two"))
		r1.Close(t.Context())
		r1 = run(t, b, instance("one"), topics("u"))
		require.Equal(t, []string{"u/0"}, r1.held(), "itself")
		require.Equal(t, []string{"t/0", "t/1"}, r2.held(), "the other")
	})
}

// A static member that is away while the others rebalance keeps its place, and as
// much of its share as its strategy leaves it.
func TestStaticMemberAwayDuringRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 8)
		sticky := strategies(driver.Sticky)
		quick := func(cfg *driver.ConsumerConfig) { cfg.RebalanceTimeout = 6 * time.Second }
		r1 := run(t, b, sticky, quick, instance("one"))
		r2 := run(t, b, sticky, quick, instance("two"))
		had1, had2 := r1.held(), r2.held()
		r1.Close(t.Context())
		run(t, b, sticky, quick)
		time.Sleep(6 * time.Second)
		synctest.Wait()
		require.Len(t, b.Members("g"), 3, "members")
		r1 = run(t, b, sticky, quick, instance("one"))
		require.Equal(t, 6, len(r1.held())+len(r2.held()), "shares")
		require.Subset(t, slices.Concat(had1[:3], had2[:3]), append(r1.held(), r2.held()...), "no other partition has moved")
	})
}

func TestForcedRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		for range 3 {
			b.Rebalance("g")
			synctest.Wait()
		}
		require.Equal(t, 4, r.joins, "joins")
		require.Equal(t, int32(4), r.claim(0).Generation, "generation")
		require.Equal(t, "[{t 0}]", fmt.Sprint(b.Members("g")[0].Assignment), "members")
	})
}

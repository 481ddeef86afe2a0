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

	"github.com/aarontianqx/gopkg/driver"
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
			equal(t, "alone", r1.held(), []string{"t/0", "t/1", "t/2", "t/3"})
			generation := r1.claim(0).Generation
			r1.takeLog()

			r2 := run(t, b, strategies(s))
			equal(t, s.String()+": shares", []int{len(r1.held()), len(r2.held())}, []int{2, 2})
			equal(t, s.String()+": joins", []int{r1.joins, r2.joins}, []int{2, 1})
			equal(t, s.String()+": generation", r1.all[4].Generation, generation+1)
			equal(t, s.String()+": revoked", len(r1.takeLog()), 4+2)

			if err := r2.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			equal(t, s.String()+": alone again", len(r1.held()), 4)
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
		equal(t, "first member", r1.takeLog(), []string{"revoke t/2", "revoke t/3"})
		equal(t, "second member", r2.takeLog(), []string{"assign t/2", "assign t/3"})

		// A claim that stays outlives its generation, and still commits.
		send(t, b, 0, "a")
		synctest.Wait()
		equal(t, "the kept claim's values", r1.got(kept), []string{"a"})
		if err := r1.Commit(t.Context(), mark(kept, 1)); err != nil {
			t.Errorf("commit under the next generation: %v", err)
		}

		r2.Close(t.Context())
		synctest.Wait()
		equal(t, "after the second has left", r1.takeLog(), []string{"assign t/2", "assign t/3"})
	})
}

// One strategy that can not be cooperative makes a member eager, also when the
// group's choice is cooperative.
func TestMixedStrategies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1 := run(t, b, strategies(driver.CooperativeSticky, driver.Range))
		r1.takeLog()
		r2 := run(t, b, strategies(driver.CooperativeSticky))
		equal(t, "the eager member's claims", r1.takeLog(), []string{"assign t/0", "revoke t/0", "revoke t/1"})
		equal(t, "the other one's", r2.held(), []string{"t/1"})

		// Range is what all support now.
		r2.Close(t.Context())
		r3 := run(t, b, strategies(driver.Range, driver.RoundRobin))
		equal(t, "range", []any{r1.held(), r3.held()}, []any{[]string{"t/0"}, []string{"t/1"}})
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
		equal(t, "errors", []any{len(r2.errs), code(r2.errs[0])}, []any{1, "INCONSISTENT_GROUP_PROTOCOL"})
		if errors.Is(r2.errs[0], driver.ErrPermanent) {
			t.Errorf("%v is permanent, but passes when the other leaves", r2.errs[0])
		}
		equal(t, "held", []any{r1.held(), r2.held()}, []any{[]string{"t/0", "t/1"}, []string{}})
		if err := r1.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "held alone", r2.held(), []string{"t/0", "t/1"})
	})
}

func TestDifferingSubscriptions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		if err := b.CreateTopic("u", 2); err != nil {
			t.Fatal(err)
		}
		r1 := run(t, b, topics("t"))
		r2 := run(t, b, topics("t", "u"))
		equal(t, "t alone", r1.held(), []string{"t/0"})
		equal(t, "both", r2.held(), []string{"t/1", "u/0", "u/1"})
	})
}

// A member without partitions is told so.
func TestMoreMembersThanPartitions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r1, r2 := run(t, b), run(t, b)
		equal(t, "claims", len(r1.held())+len(r2.held()), 1)
		if r1.joins < 1 || r2.joins < 1 {
			t.Errorf("Assign calls: %d and %d, want at least one each", r1.joins, r2.joins)
		}
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
		equal(t, "before the window's end", r2.held(), []string{})
		time.Sleep(5 * time.Second)
		synctest.Wait()
		equal(t, "deadline", deadline, 5*time.Second)
		equal(t, "the group went on after", time.Since(begin), 5*time.Second)
		equal(t, "the other member", len(r2.held()), 1)
		if err := stuck.Commit(t.Context(), mark(c, 1)); !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit after the window: %v, want %v", err, driver.ErrClaimEnded)
		}

		// Run waits for the stuck handler; Close does not.
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := stuck.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close: %v", err)
		}
		select {
		case <-stuck.done:
			t.Error("Run returned while Revoke ran")
		default:
		}
		close(release)
		<-stuck.done
		if !errors.Is(late, driver.ErrClaimEnded) {
			t.Errorf("commit from a late Revoke: %v, want %v", late, driver.ErrClaimEnded)
		}
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
		equal(t, "time", time.Since(begin), 3*time.Second)
		equal(t, "cause", code(cause), "UNKNOWN_MEMBER_ID")
		equal(t, "Lost", len(r1.lost), 0)
		equal(t, "both are back", len(r1.held())+len(r2.held()), 2)
		equal(t, "members", len(b.Members("g")), 2)
	})
}

func TestMetadataChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, topics("t", "u"), func(cfg *driver.ConsumerConfig) { cfg.InitialOffset = driver.OffsetNewest })
		equal(t, "errors", code(r.errs[0]), "UNKNOWN_TOPIC_OR_PARTITION")
		send(t, b, 0, "before")

		if err := b.AddPartitions("t", 2); err != nil {
			t.Fatal(err)
		}
		send(t, b, 1, "early")
		synctest.Wait()
		equal(t, "partitions added", r.held(), []string{"t/0", "t/1"})
		equal(t, "a new partition is read from its beginning", r.got(r.claim(1)), []string{"early"})
		equal(t, "which is durable", b.Committed("g", "t", 1), 0)

		joins := r.joins
		if err := b.CreateTopic("v", 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "joins for a topic of others", r.joins-joins, 0)
		if err := b.CreateTopic("u", 1); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "topic created", r.held(), []string{"t/0", "t/1", "u/0"})

		old := r.claim(1)
		if err := b.DeleteTopic("t"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "topic deleted", r.held(), []string{"u/0"})
		equal(t, "what was committed for it", b.Committed("g", "t", 0), -1)
		if err := r.Commit(t.Context(), mark(old, 1)); !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit: %v", err)
		}
	})
}

// A deleted topic that is created anew before a cooperative member has noticed
// is another topic.
func TestTopicCreatedAnew(t *testing.T) {
	for _, s := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			r := run(t, b, strategies(s))
			send(t, b, 0, "a", "b")
			synctest.Wait()
			old := r.claim(0)
			if err := errors.Join(b.DeleteTopic("t"), b.CreateTopic("t", 1)); err != nil {
				t.Fatal(err)
			}
			send(t, b, 0, "c")
			synctest.Wait()
			if r.claim(0) == old {
				t.Fatalf("%v: the claim has survived its topic", s)
			}
			equal(t, s.String()+": values", r.got(r.claim(0)), []string{"c"})
		})
	}
}

func TestStaticMemberRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1, r2 := run(t, b, instance("one")), run(t, b, instance("two"))
		held := r1.held()
		r2.takeLog()

		if err := r1.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(9 * time.Second)
		r1 = run(t, b, instance("one"))
		equal(t, "its partitions", r1.held(), held)
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "the other member", r2.takeLog(), []string{})

		r1.Close(t.Context())
		time.Sleep(10 * time.Second)
		synctest.Wait()
		equal(t, "after the session timeout", r2.held(), []string{"t/0", "t/1"})
	})
}

func TestStaticMemberFencesOlder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r1 := run(t, b, instance("one"))
		c := r1.claim(0)
		r2 := run(t, b, instance("one"))
		<-r1.done
		equal(t, "code", code(r1.err), "FENCED_INSTANCE_ID")
		if !errors.Is(r1.err, driver.ErrPermanent) {
			t.Errorf("%v is not permanent", r1.err)
		}
		equal(t, "the older", r1.takeLog(), []string{"assign t/0", "lost t/0"})
		if err := r1.Commit(t.Context(), mark(c, 1)); !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit: %v", err)
		}
		if err := r1.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		equal(t, "the newer", r2.held(), []string{"t/0"})
	})
}

// A static member that comes back with another subscription needs a rebalance.
func TestStaticMemberChangesSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		if err := b.CreateTopic("u", 1); err != nil {
			t.Fatal(err)
		}
		r1, r2 := run(t, b, instance("one")), run(t, b, instance("two"))
		r1.Close(t.Context())
		r1 = run(t, b, instance("one"), topics("u"))
		equal(t, "itself", r1.held(), []string{"u/0"})
		equal(t, "the other", r2.held(), []string{"t/0", "t/1"})
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
		equal(t, "members", len(b.Members("g")), 3)
		r1 = run(t, b, sticky, quick, instance("one"))
		equal(t, "shares", len(r1.held())+len(r2.held()), 6)
		for _, p := range append(r1.held(), r2.held()...) {
			if !slices.Contains(slices.Concat(had1[:3], had2[:3]), p) {
				t.Errorf("%s has moved: before %v and %v, now %v and %v", p, had1, had2, r1.held(), r2.held())
			}
		}
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
		equal(t, "joins", r.joins, 4)
		equal(t, "generation", r.claim(0).Generation, 4)
		equal(t, "members", fmt.Sprint(b.Members("g")[0].Assignment), "[{t 0}]")
	})
}

package memory_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

func TestCommitNeverMovesBackwards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		if err := b.SetCommitted("g", "t", 0, 5); err != nil {
			t.Fatal(err)
		}
		r := run(t, b, func(cfg *driver.ConsumerConfig) { cfg.InitialOffset = driver.OffsetNewest })
		// The log is empty: the position is out of range, so nothing runs on.
		<-r.done
		equal(t, "committed beyond the log", code(r.err), "OFFSET_OUT_OF_RANGE")

		send(t, b, 0, "a", "b", "c", "d", "e", "f", "g", "h")
		r = run(t, b)
		c := r.claim(0)
		equal(t, "start", c.Start, 5)
		for _, step := range []struct{ commit, want int64 }{{7, 7}, {6, 7}, {7, 7}, {5, 7}, {3, 7}, {8, 8}} {
			if err := r.Commit(t.Context(), mark(c, step.commit)); err != nil {
				t.Errorf("commit %d: %v", step.commit, err)
			}
			equal(t, "committed", b.Committed("g", "t", 0), step.want)
		}
	})
}

func TestCommitAnswersByMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r := run(t, b)
		ended := r.claim(1)
		b.Rebalance("g")
		synctest.Wait()
		err := r.Commit(t.Context(), []driver.Mark{{Claim: ended, Offset: 1}, {Claim: r.claim(0), Offset: 1}})
		var ce *driver.CommitError
		if !errors.As(err, &ce) || len(ce.Failed) != 1 || ce.Failed[0].Mark.Claim != ended {
			t.Fatalf("commit: %v", err)
		}
		if !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit: %v, want %v", err, driver.ErrClaimEnded)
		}
		equal(t, "committed", []int64{b.Committed("g", "t", 0), b.Committed("g", "t", 1)}, []int64{1, -1})
		equal(t, "no marks", r.Commit(t.Context(), nil), error(nil))
	})
}

func TestCommitWithEndedContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		err := r.Commit(canceled(), mark(r.claim(0), 1))
		if !errors.Is(err, context.Canceled) {
			t.Errorf("commit: %v, want %v", err, context.Canceled)
		}
		equal(t, "committed", b.Committed("g", "t", 0), -1)
		if err := r.Commit(canceled(), mark(r.claim(0), 0)); err != nil {
			t.Errorf("a mark at Start asks for nothing: %v", err)
		}
	})
}

// Another consumer's claim is nothing that this one may commit.
func TestCommitOfForeignClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1, r2 := run(t, b), run(t, b)
		if err := r1.Commit(t.Context(), mark(r2.claims[0], 1)); !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit: %v", err)
		}
	})
}

func TestCommitDuringEagerRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a")
		rec := newRecorder(t)
		var r *runner
		rec.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			if err := r.Commit(ctx, mark(cs[0], 1)); err != nil {
				t.Errorf("commit in Revoke: %v", err)
			}
		}
		r = runWith(t, b, rec)
		b.Rebalance("g")
		synctest.Wait()
		equal(t, "committed", b.Committed("g", "t", 0), 1)
		equal(t, "start", r.claim(0).Start, 1)
	})
}

// A zombie's commit comes back to a broker that has given its partition away.
func TestCommitOfSupersededGenerationIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r *runner
		var refused error
		b := newBroker(t, 1)
		rec := newRecorder(t)
		rec.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			b.Members("g")[0].Expire()
			// The member has not been told yet, so the broker answers.
			refused = r.Commit(ctx, mark(cs[0], 1))
		}
		r = runWith(t, b, rec)
		b.Rebalance("g")
		synctest.Wait()
		var ce *driver.CommitError
		if !errors.As(refused, &ce) {
			t.Fatalf("commit: %v", refused)
		}
		if got := code(ce.Failed[0].Err); got != "UNKNOWN_MEMBER_ID" && !errors.Is(refused, driver.ErrClaimEnded) {
			t.Errorf("commit: %v", refused)
		}
		equal(t, "committed", b.Committed("g", "t", 0), -1)
	})
}

func TestCommitObserver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []memory.Commit
		b := newBroker(t, 1, memory.WithCommitObserver(func(c memory.Commit) { seen = append(seen, c) }))
		r := run(t, b)
		for _, o := range []int64{2, 1, 3} {
			if err := r.Commit(t.Context(), mark(r.claim(0), o)); err != nil {
				t.Fatal(err)
			}
		}
		m := b.Members("g")[0].ID
		tp := memory.TopicPartition{Topic: "t"}
		equal(t, "seen", seen, []memory.Commit{{"g", m, 1, tp, 2, false}, {"g", m, 1, tp, 3, false}})
	})
}

func TestWaitCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		begin := time.Now()
		time.AfterFunc(3*time.Second, func() { r.Commit(context.Background(), mark(r.claim(0), 1)) })
		time.AfterFunc(5*time.Second, func() { r.Commit(context.Background(), mark(r.claim(0), 2)) })
		equal(t, "WaitCommitted", b.WaitCommitted(t.Context(), "g", "t", 0, 2), error(nil))
		equal(t, "time", time.Since(begin), 5*time.Second)
		equal(t, "with an ended context", b.WaitCommitted(canceled(), "g", "t", 0, 9), context.Canceled)
	})
}

func TestSetCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c")
		r := run(t, b)
		equal(t, "with members", code(b.SetCommitted("g", "t", 0, 1)), "UNKNOWN_MEMBER_ID")
		equal(t, "unknown partition", code(b.SetCommitted("g", "t", 7, 1)), "UNKNOWN_TOPIC_OR_PARTITION")
		r.Close(t.Context())
		equal(t, "without", b.SetCommitted("g", "t", 0, 2), error(nil))
		r = run(t, b)
		synctest.Wait()
		equal(t, "values", r.got(r.claim(0)), []string{"c"})
	})
}

// A member that commits while the assignment of its generation is not there yet
// is put off, and then served (REBALANCE_IN_PROGRESS).
func TestCommitWhileCompleting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		coop := strategies(driver.CooperativeSticky)
		r1, r2 := run(t, b, coop), run(t, b, coop)
		_ = r1
		c := r2.claims[0]
		// Many rebalances, with commits at every moment of them.
		stop := make(chan struct{})
		go func() {
			defer close(stop)
			for range 50 {
				b.Rebalance("g")
			}
		}()
		for i := range int64(200) {
			if err := r2.Commit(t.Context(), mark(c, i+1)); err != nil {
				t.Fatalf("commit %d: %v", i+1, err)
			}
		}
		<-stop
		equal(t, "committed", b.Committed("g", "t", c.Partition), 200)
	})
}

// An observer that sleeps blocks those who commit in a way that virtual time sees.
func TestObserverMaySleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2, memory.WithCommitObserver(func(memory.Commit) { time.Sleep(time.Millisecond) }))
		send(t, b, 0, "a")
		send(t, b, 1, "a")
		r1 := run(t, b)
		r2 := run(t, b)
		time.Sleep(time.Second)
		var wg sync.WaitGroup
		for _, r := range []*runner{r1, r2} {
			for _, c := range r.claims {
				wg.Go(func() { r.Commit(t.Context(), mark(c, 1)) })
			}
		}
		wg.Wait()
	})
}

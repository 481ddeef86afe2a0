package memory_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// A member that is cut off goes on with what it has until its session has ended.
// Then it loses its claims by itself, before they go to another.
func TestZombie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r1 := run(t, b)
		r2 := run(t, b)
		zombie := b.Members("g")[0]
		c := r1.claim(r1.claims[0].Partition)
		zombie.Cut()
		send(t, b, c.Partition, "a")

		time.Sleep(10*time.Second - time.Nanosecond)
		synctest.Wait()
		equal(t, "before the session timeout", []int{len(r1.held()), len(r2.held())}, []int{1, 1})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		equal(t, "at the session timeout", []int{len(r1.held()), len(r2.held())}, []int{0, 1})
		if !errors.Is(r1.lost[0], driver.ErrMembershipLost) {
			t.Errorf("the cause is %v", r1.lost[0])
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		equal(t, "its partitions go to the other", len(r2.held()), 2)
		equal(t, "what the zombie gets", len(r1.got(c)), 0)
		if err := r1.Commit(t.Context(), mark(c, 1)); !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit of a zombie: %v", err)
		}
		equal(t, "errors told", []any{len(r1.errs), code(r1.errs[0]), code(r1.errs[1])}, []any{2, "CONNECTION_FAILED", "SESSION_TIMED_OUT"})

		zombie.Heal()
		synctest.Wait()
		equal(t, "back in the group", []int{len(r1.held()), len(r2.held())}, []int{1, 1})
		if err := r1.Commit(t.Context(), mark(c, 1)); !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit on the lost claim: %v", err)
		}
	})
}

// A cut that is shorter than the session leaves no trace.
func TestShortCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		c := r.claim(0)
		m := b.Members("g")[0]
		for range 3 {
			m.Cut()
			send(t, b, 0, "x")
			time.Sleep(9 * time.Second)
			synctest.Wait()
			m.Heal()
			synctest.Wait()
		}
		equal(t, "values", len(r.got(c)), 3)
		equal(t, "joins", r.joins, 1)
	})
}

// A commit that waits for the broker is sent when it is back.
func TestCommitOutlastsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		b.Stop()
		go func() {
			time.Sleep(3 * time.Second)
			b.Start()
		}()
		begin := time.Now()
		if err := r.Commit(t.Context(), mark(r.claim(0), 1)); err != nil {
			t.Error(err)
		}
		equal(t, "time", time.Since(begin), 3*time.Second)
		equal(t, "committed", b.Committed("g", "t", 0), 1)
	})
}

// Sequence: a commit waits for the broker; the session ends; the member is told,
// and joins anew. The mark must not be tried under the new identity.
func TestCommitDoesNotOutliveItsClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		c := r.claim(0)
		m := b.Members("g")[0]
		m.Cut()
		answer := make(chan error, 1)
		go func() { answer <- r.Commit(t.Context(), mark(c, 1)) }()
		time.Sleep(time.Minute)
		m.Heal()
		err := <-answer
		if got := code(errors.Unwrap(&driver.Error{Err: err})); got == "" || err == nil {
			t.Errorf("commit: %v", err)
		}
		equal(t, "committed", b.Committed("g", "t", 0), -1)
	})
}

func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		b.Members("g")[0].Expire()
		synctest.Wait()
		equal(t, "log", r.takeLog(), []string{"assign t/0", "assign t/0", "lost t/0"})
		equal(t, "error", code(r.errs[0]), "UNKNOWN_MEMBER_ID")

		// Cut and expired: a process that has crashed.
		m := b.Members("g")[0]
		m.Cut()
		m.Expire()
		r2 := run(t, b)
		equal(t, "another takes over at once", r2.held(), []string{"t/0"})
	})
}

// What is gone when Close begins can not be given back.
func TestCloseOfExpiredMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		b.Members("g")[0].Expire()
		equal(t, "Close", r.Close(t.Context()), error(nil))
		if log := r.takeLog(); !slices.Contains(log, "lost t/0") {
			t.Errorf("log: %v, without lost", log)
		}
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		b.Stop()
		_, err := b.OpenConsumer(t.Context(), consumerConfig())
		equal(t, "OpenConsumer", code(err), "CONNECTION_FAILED")
		_, err = b.OpenProducer(t.Context(), producerConfig())
		equal(t, "OpenProducer", code(err), "CONNECTION_FAILED")
		if errors.Is(err, driver.ErrPermanent) {
			t.Errorf("%v is permanent", err)
		}
		if _, err := b.OpenProducer(canceled(), producerConfig()); !errors.Is(err, context.Canceled) {
			t.Errorf("OpenProducer with an ended context: %v", err)
		}
		send(t, b, 0, "a")
		time.Sleep(gone)
		synctest.Wait()
		equal(t, "members", len(b.Members("g")), 0)
		equal(t, "held", r.held(), []string{})
		b.Start()
		synctest.Wait()
		equal(t, "log", r.takeLog(), []string{"assign t/0", "assign t/0", "lost t/0"})
		equal(t, "values", r.got(r.claim(0)), []string{"a"})
	})
}

// Close can not say good-bye to a broker that it can not reach: it waits until
// it can, until the session is over, or until its context ends.
func TestCloseWhileCut(t *testing.T) {
	tests := []struct {
		name    string
		timeout time.Duration // of Close
		heal    time.Duration
		took    time.Duration
		err     error
	}{
		{"healed", time.Minute, 4 * time.Second, 4 * time.Second, nil},
		{"session over", time.Minute, time.Hour, gone, nil},
		{"context ends", 2 * time.Second, time.Hour, 2 * time.Second, context.DeadlineExceeded},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			r := run(t, b)
			m := b.Members("g")[0]
			m.Cut()
			timer := time.AfterFunc(tt.heal, m.Heal)
			defer timer.Stop()
			begin := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
			defer cancel()
			err := r.Close(ctx)
			equal(t, tt.name+": error", err, tt.err)
			equal(t, tt.name+": time", time.Since(begin), tt.took)
			<-r.done
			equal(t, tt.name+": log", r.takeLog(), []string{"assign t/0", "revoke t/0"})
			equal(t, tt.name+": again", r.Close(t.Context()), tt.err)
		})
	}
}

// A consumer whose Close has been cut short is a member until its session ends.
func TestSeveredMemberExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		equal(t, "Close", r.Close(canceled()), context.Canceled)
		<-r.done
		equal(t, "log", r.takeLog(), []string{"assign t/0", "lost t/0"})
		equal(t, "members", len(b.Members("g")), 1)
		r2 := run(t, b)
		equal(t, "before", r2.held(), []string{})
		time.Sleep(gone)
		synctest.Wait()
		equal(t, "after", r2.held(), []string{"t/0"})
	})
}

func TestCloseWhileJoinIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r1 := run(t, b)
		b.Members("g")[0].Cut()
		r2 := run(t, b) // waits for the first member
		begin := time.Now()
		if err := r2.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		<-r2.done
		equal(t, "time", time.Since(begin), 0)
		equal(t, "the first member", r1.held(), []string{"t/0"})
	})
}

// The leader is closed when it has asked to join and the group is not complete
// yet. Nobody else decides the assignment, and so its last commit would wait
// until its time is up.
func TestLeaderClosesWhileJoining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, "a")
		send(t, b, 1, "b")
		coop := strategies(driver.CooperativeSticky)
		leader := newRecorder(t)
		release := make(chan struct{})
		var r1 *runner
		leader.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
			if len(leader.held()) == 2 {
				return // one of them goes to the other member
			}
			close(release)
			time.Sleep(time.Millisecond) // the group completes
			equal(t, "commit", r1.Commit(ctx, mark(cs[0], 1)), error(nil))
		}
		r1 = runWith(t, b, leader, coop)
		synctest.Wait()
		other := newRecorder(t)
		other.onAssign = func() { <-release }
		runWith(t, b, other, coop)
		time.Sleep(time.Millisecond)
		begin := time.Now()
		r1.Close(t.Context())
		equal(t, "time", time.Since(begin), time.Millisecond)
		synctest.Wait()
		equal(t, "other holds", len(other.held()), 2)
	})
}

// Close shortens the window of a Revoke that runs already.
func TestCloseDuringRevoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		rec := newRecorder(t)
		rec.onRevoke = func(ctx context.Context, _ []*driver.Claim) { <-ctx.Done() }
		r := runWith(t, b, rec)
		begin := time.Now()
		b.Rebalance("g")
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		equal(t, "Close", r.Close(ctx), context.DeadlineExceeded)
		<-r.done
		equal(t, "time", time.Since(begin), time.Second)
	})
}

// While Close drains, the window is as long as its context.
func TestCloseLengthensWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		rec := newRecorder(t)
		rec.onRevoke = func(context.Context, []*driver.Claim) { time.Sleep(20 * time.Second) }
		r := runWith(t, b, rec)
		c := r.claim(0)
		time.AfterFunc(19*time.Second, func() {
			if err := r.Commit(context.Background(), mark(c, 1)); err != nil {
				t.Errorf("commit in the window: %v", err)
			}
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		equal(t, "Close", r.Close(ctx), error(nil))
		equal(t, "committed", b.Committed("g", "t", 0), 1)
	})
}

func TestCloseWithoutRun(t *testing.T) {
	b := memory.NewBroker()
	c, err := b.OpenConsumer(t.Context(), consumerConfig())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "Close", c.Close(t.Context()), error(nil))
	equal(t, "again", c.Close(t.Context()), error(nil))
	rec := newRecorder(t)
	equal(t, "Run", c.Run(rec), error(nil))
	equal(t, "joins", rec.joins, 0)
}

// A cooperative member keeps its claims, and commits on them, while the group
// waits for one that is silent.
func TestSilentMemberHoldsRebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, "a")
		send(t, b, 1, "a")
		r1, r2 := run(t, b, strategies(driver.CooperativeSticky)), run(t, b, strategies(driver.CooperativeSticky))
		leader := b.Members("g")[0]
		leader.Cut()
		b.Rebalance("g")
		synctest.Wait()
		c := r2.claims[0]
		if err := r2.Commit(t.Context(), mark(c, 1)); err != nil {
			t.Errorf("commit while the group is preparing: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "the other member", r2.held(), []string{"t/0", "t/1"})
		equal(t, "its first claim", r2.claims[0] == c, true)
		leader.Heal()
		synctest.Wait()
		equal(t, "both", []int{len(r1.held()), len(r2.held())}, []int{1, 1})
	})
}

// A bypassed member is static and cooperative, and was cut off while two others
// joined: it stays in the group, which has gone on without it, and others have what
// it held.
type bypassed struct {
	*runner
	broker  *memory.Broker
	member  memory.Member
	others  []*runner
	closing bool // its Revokes commit from now on
	refused int  // commits of theirs
}

func newBypassed(t *testing.T) *bypassed {
	p := &bypassed{broker: newBroker(t, 6)}
	for partition := range int32(6) {
		send(t, p.broker, partition, "a", "b", "c", "d")
	}
	slow := func(cfg *driver.ConsumerConfig) {
		cfg.SessionTimeout, cfg.RebalanceTimeout = 10*time.Minute, 10*time.Second
	}
	static := func(cfg *driver.ConsumerConfig) { cfg.InstanceID = "a" }
	coop := strategies(driver.CooperativeSticky)
	rec := newRecorder(t)
	rec.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
		if !p.closing {
			p.broker.Members("g")[0].Cut()
			return
		}
		for _, c := range cs {
			if p.Commit(ctx, mark(c, 1)) != nil {
				p.refused++
			}
		}
	}
	p.runner = runWith(t, p.broker, rec, coop, slow, static)
	p.member = p.broker.Members("g")[0]
	for range 2 {
		p.others = append(p.others, run(t, p.broker, coop, slow))
		time.Sleep(30 * time.Second)
	}
	p.broker.Rebalance("g")
	time.Sleep(30 * time.Second)
	return p
}

// close closes the member, heals it after before, and wants no time to pass.
func (p *bypassed) close(t *testing.T, before func()) {
	p.closing = true
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	go p.Close(ctx)
	before()
	p.member.Heal()
	<-p.done
	if took := time.Since(began); took != 0 {
		t.Errorf("the end took %v", took)
	}
}

// goOn has the group go through another generation without the member, and the
// others commit what they have. It returns what is committed then.
func (p *bypassed) goOn(t *testing.T) (committed []int64) {
	p.broker.Rebalance("g")
	time.Sleep(30 * time.Second)
	for _, o := range p.others {
		for _, c := range o.claims {
			if err := o.Commit(t.Context(), mark(c, 4)); err != nil {
				t.Error(err)
			}
		}
	}
	return p.committed()
}

func (p *bypassed) committed() (offsets []int64) {
	for partition := range int32(6) {
		offsets = append(offsets, p.broker.Committed("g", "t", partition))
	}
	return offsets
}

// wantNotBefore holds that no position lies before what it was.
func (p *bypassed) wantNotBefore(t *testing.T, before []int64) {
	t.Helper()
	for partition, now := range p.committed() {
		if now < before[partition] {
			t.Errorf("t/%d went back from %d to %d", partition, before[partition], now)
		}
	}
}

// The last commit of a member that the group has passed by must not go back behind
// those of the others: it never joined their generation.
func TestNoCommitUnderAGenerationThatWasNotJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newBypassed(t)
		before := p.goOn(t)
		p.close(t, func() {}) // healed and closed at the same moment
		p.wantNotBefore(t, before)
	})
}

// A member that the group has passed by, and that comes back, has lost its claims:
// it does not give them up under the next generation.
func TestBypassedMemberLosesItsClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newBypassed(t)
		before := p.goOn(t)
		p.closing = true
		p.member.Heal()
		time.Sleep(time.Minute)
		p.wantNotBefore(t, before)
		if len(p.lost) == 0 {
			t.Error("no claim was lost")
		}
	})
}

// The same while the group, which the others have left, waits for it to join.
func TestCloseWhileTheGroupPrepares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newBypassed(t)
		for _, o := range p.others {
			go o.Close(context.Background())
		}
		synctest.Wait()
		p.close(t, synctest.Wait)
		if p.refused == 0 {
			t.Error("no commit was refused, though the generation was not joined")
		}
	})
}

// A member that was thrown out while it drained a claim that had lost its place
// leaves the group's position alone.
func TestExpelledMemberMovesNoPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c")
		if err := b.SetCommitted("g", "t", 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := b.DeleteRecords("t", 0, 2); err != nil {
			t.Fatal(err)
		}
		rec := newRecorder(t)
		once := false
		rec.onRevoke = func(context.Context, []*driver.Claim) {
			if !once {
				once = true
				m := b.Members("g")[0]
				m.Cut()
				m.Expire()
			}
		}
		runWith(t, b, rec, func(cfg *driver.ConsumerConfig) { cfg.OutOfRange = driver.OutOfRangeOldest })
		time.Sleep(time.Second)
		if b.Committed("g", "t", 0) != 0 {
			t.Error("a member that is cut and expelled has moved the group's position")
		}
	})
}

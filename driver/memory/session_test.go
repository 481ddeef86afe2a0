package memory_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A member that is cut off keeps its claims until its session has ended.
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
		require.Equal(t, []int{1, 1}, []int{len(r1.held()), len(r2.held())}, "before the session timeout")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, []int{0, 1}, []int{len(r1.held()), len(r2.held())}, "at the session timeout")
		assert.ErrorIs(t, r1.lost[0], driver.ErrMembershipLost, "the cause")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		require.Len(t, r2.held(), 2, "its partitions go to the other")
		require.Empty(t, r1.got(c), "what the zombie gets")
		assert.ErrorIs(t, r1.Commit(t.Context(), mark(c, 1)), driver.ErrClaimEnded, "commit of a zombie")
		require.Len(t, r1.errs, 2)
		require.Equal(t, "CONNECTION_FAILED", testkit.Code(r1.errs[0]))
		require.Equal(t, "SESSION_TIMED_OUT", testkit.Code(r1.errs[1]))

		zombie.Heal()
		synctest.Wait()
		require.Equal(t, []int{1, 1}, []int{len(r1.held()), len(r2.held())}, "back in the group")
		assert.ErrorIs(t, r1.Commit(t.Context(), mark(c, 1)), driver.ErrClaimEnded, "commit on the lost claim")
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
		require.Len(t, r.got(c), 3, "values")
		require.Equal(t, 1, r.joins, "joins")
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
		assert.NoError(t, r.Commit(t.Context(), mark(r.claim(0), 1)))
		require.Equal(t, 3*time.Second, time.Since(begin), "time")
		require.Equal(t, int64(1), b.Committed("g", "t", 0), "committed")
	})
}

// Sequence: a commit waits for the broker; the session ends; the member learns of it and
// rejoins. The mark must not be tried under the new identity.
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
		require.ErrorIs(t, <-answer, driver.ErrClaimEnded)
		require.Equal(t, int64(-1), b.Committed("g", "t", 0), "committed")
	})
}

func TestExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		b.Members("g")[0].Expire()
		synctest.Wait()
		require.Equal(t, []string{"assign t/0", "assign t/0", "lost t/0"}, r.takeLog(), "log")
		require.Equal(t, "UNKNOWN_MEMBER_ID", testkit.Code(r.errs[0]), "error")

		// Cut and expired: a process that has crashed.
		m := b.Members("g")[0]
		m.Cut()
		m.Expire()
		r2 := run(t, b)
		require.Equal(t, []string{"t/0"}, r2.held(), "another takes over at once")
	})
}

// A claim that is lost when Close begins cannot be given back.
func TestCloseOfExpiredMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		b.Members("g")[0].Expire()
		require.NoError(t, r.Close(t.Context()), "Close")
		require.Contains(t, r.takeLog(), "lost t/0")
	})
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		b.Stop()
		_, err := b.OpenConsumer(t.Context(), consumerConfig())
		require.Equal(t, "CONNECTION_FAILED", testkit.Code(err), "OpenConsumer")
		_, err = b.OpenProducer(t.Context(), producerConfig())
		require.Equal(t, "CONNECTION_FAILED", testkit.Code(err), "OpenProducer")
		assert.NotErrorIs(t, err, driver.ErrPermanent)
		_, err = b.OpenProducer(testkit.Ended(), producerConfig())
		require.ErrorIs(t, err, context.Canceled)
		send(t, b, 0, "a")
		time.Sleep(gone)
		synctest.Wait()
		require.Empty(t, b.Members("g"), "members")
		require.Empty(t, r.held(), "held")
		b.Start()
		synctest.Wait()
		require.Equal(t, []string{"assign t/0", "assign t/0", "lost t/0"}, r.takeLog(), "log")
		require.Equal(t, []string{"a"}, r.got(r.claim(0)), "values")
	})
}

// Close cannot leave the group while the broker is unreachable: it waits until
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
			require.ErrorIs(t, err, tt.err, tt.name+": error")
			require.Equal(t, tt.took, time.Since(begin), tt.name+": time")
			<-r.done
			require.Equal(t, []string{"assign t/0", "revoke t/0"}, r.takeLog(), tt.name+": log")
			require.ErrorIs(t, r.Close(t.Context()), tt.err, tt.name+": again")
		})
	}
}

// A consumer whose Close has been cut short is a member until its session ends.
func TestSeveredMemberExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		require.ErrorIs(t, r.Close(testkit.Ended()), context.Canceled, "Close")
		<-r.done
		require.Equal(t, []string{"assign t/0", "lost t/0"}, r.takeLog(), "log")
		require.Len(t, b.Members("g"), 1, "members")
		r2 := run(t, b)
		require.Empty(t, r2.held(), "before")
		time.Sleep(gone)
		synctest.Wait()
		require.Equal(t, []string{"t/0"}, r2.held(), "after")
	})
}

func TestCloseWhileJoinIsPending(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r1 := run(t, b)
		b.Members("g")[0].Cut()
		r2 := run(t, b) // waits for the first member
		begin := time.Now()
		assert.NoError(t, r2.Close(t.Context()), "close")
		<-r2.done
		require.Zero(t, time.Since(begin), "time")
		require.Equal(t, []string{"t/0"}, r1.held(), "the first member")
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
			assert.NoError(t, r1.Commit(ctx, mark(cs[0], 1)), "commit")
		}
		r1 = runWith(t, b, leader, coop)
		synctest.Wait()
		other := newRecorder(t)
		other.onAssign = func() { <-release }
		runWith(t, b, other, coop)
		time.Sleep(time.Millisecond)
		begin := time.Now()
		r1.Close(t.Context())
		require.Equal(t, time.Millisecond, time.Since(begin), "time")
		synctest.Wait()
		require.Len(t, other.held(), 2, "other holds")
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
		require.ErrorIs(t, r.Close(ctx), context.DeadlineExceeded, "Close")
		<-r.done
		require.Equal(t, time.Second, time.Since(begin), "time")
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
			assert.NoError(t, r.Commit(context.Background(), mark(c, 1)), "commit in the window")
		})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		require.NoError(t, r.Close(ctx), "Close")
		require.Equal(t, int64(1), b.Committed("g", "t", 0), "committed")
	})
}

func TestCloseWithoutRun(t *testing.T) {
	b := memory.NewBroker()
	c, err := b.OpenConsumer(t.Context(), consumerConfig())
	require.NoError(t, err)
	require.NoError(t, c.Close(t.Context()), "Close")
	require.NoError(t, c.Close(t.Context()), "again")
	rec := newRecorder(t)
	require.NoError(t, c.Run(rec), "Run")
	require.Zero(t, rec.joins, "joins")
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
		assert.NoError(t, r2.Commit(t.Context(), mark(c, 1)), "commit while the group is preparing")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []string{"t/0", "t/1"}, r2.held(), "the other member")
		require.True(t, r2.claims[0] == c, "its first claim")
		leader.Heal()
		synctest.Wait()
		require.Equal(t, []int{1, 1}, []int{len(r1.held()), len(r2.held())}, "both")
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
	require.Zero(t, time.Since(began), "the time until the end")
}

// goOn has the group go through another generation without the member, and the
// others commit what they have. It returns what is committed then.
func (p *bypassed) goOn(t *testing.T) (committed []int64) {
	p.broker.Rebalance("g")
	time.Sleep(30 * time.Second)
	for _, o := range p.others {
		for _, c := range o.claims {
			assert.NoError(t, o.Commit(t.Context(), mark(c, 4)))
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
		require.GreaterOrEqualf(t, now, before[partition], "the position of t/%d", partition)
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
		require.NotEmpty(t, p.lost, "lost claims")
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
		require.NotZero(t, p.refused, "commits that were refused because the generation was not joined")
	})
}

// A member that was thrown out while it drained a claim that had lost its place
// leaves the group's position alone.
func TestExpelledMemberMovesNoPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c")
		require.NoError(t, b.SetCommitted("g", "t", 0, 0))
		require.NoError(t, b.DeleteRecords("t", 0, 2))
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
		assert.Zero(t, b.Committed("g", "t", 0), "a member that is cut and expelled has moved the group's position")
	})
}

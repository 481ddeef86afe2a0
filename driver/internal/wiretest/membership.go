package wiretest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// SessionEndsByItsDeadline takes the coordinator away from a member in
// three ways. The partition is led by another broker, so records keep coming.
func (s Suite) SessionEndsByItsDeadline(t *testing.T) {
	testkit.Slow(t, "waits for session timeouts")
	t.Parallel()
	for _, c := range []struct {
		name   string
		others bool // these, too
		away   func(*Gate) (heal func())
	}{
		{"frozen coordinator", false, (*Gate).Stall},
		{"black hole", true, (*Gate).Stall},
		{"refused connections", true, (*Gate).Cut},
	} {
		for _, way := range s.with(Cooperative, Classic, Epochs) {
			t.Run(fmt.Sprintf("%s/%s", c.name, way.Name), func(t *testing.T) {
				t.Parallel()
				cluster, gates := s.GatedBrokers(t, EpochBrokers(4*time.Second))
				heard := arrivals(cluster)
				cfg := s.Config(cluster.ListenAddrs())
				cfg.SessionTimeout = 4 * time.Second
				interval := cfg.HeartbeatInterval
				way.Set(&cfg)
				coordinator := cluster.CoordinatorFor("g")
				require.NoError(t, cluster.MoveTopicPartition("t", 0, (coordinator+1)%3))
				r := s.open(t, cfg)
				var lostAt, lastRecord atomic.Int64
				r.onRecord = func(driver.Record) { lastRecord.Store(time.Now().UnixNano()) }
				r.onLost = func() { lostAt.CompareAndSwap(0, time.Now().UnixNano()) }
				r.run(r)
				m := r.Consumer.(driver.SessionDeadliner)
				r.waitFor(t, soon, "the assignment", func() bool { return len(r.live) == 1 })
				if !c.others { // a record now and then
					var sending sync.WaitGroup
					defer sending.Wait()
					sending.Go(func() {
						for t.Context().Err() == nil && lostAt.Load() == 0 {
							err := outside.Of(cluster.ListenAddrs()[(coordinator+1)%3]).Send(t.Context(), "t", 0, numbered("v", 1)...)
							if !assert.NoError(t, err) {
								return
							}
							time.Sleep(20 * time.Millisecond)
						}
					})
				}
				time.Sleep(time.Second)
				var heals []func()
				for node, g := range gates {
					if c.others || int32(node) == coordinator {
						heals = append(heals, c.away(g))
					}
				}
				defer func() {
					for _, heal := range heals {
						heal()
					}
				}()
				deadline := m.SessionDeadline()
				require.NotZero(t, deadline, "a member without a deadline")
				r.waitFor(t, soon, "the loss", func() bool { return len(r.lost) == 1 })
				removed := heard.last().Add(cfg.SessionTimeout) // when the coordinator gives the member up
				assert.LessOrEqual(t, time.Unix(0, lostAt.Load()).Sub(removed), interval+time.Second,
					"time from the coordinator giving the member up to the loss")
				assert.LessOrEqual(t, time.Unix(0, lastRecord.Load()).Sub(removed), 100*time.Millisecond,
					"time from the coordinator giving the member up to the last record")
				assert.Zero(t, m.SessionDeadline(), "the deadline after the membership is over")
				r.mu.Lock()
				assert.ErrorIs(t, r.causes[0], driver.ErrMembershipLost)
				r.mu.Unlock()
				for _, heal := range heals {
					heal()
				}
				heals = nil
				r.waitFor(t, soon, "another assignment", func() bool { return len(r.live) == 1 })
			})
		}
	}
}

// An arrival is the time at which the coordinator last got a request that renews a
// session.
type arrival struct{ at atomic.Int64 }

func (a *arrival) last() time.Time { return time.Unix(0, a.at.Load()) }

func arrivals(cluster *kfake.Cluster) *arrival {
	a := new(arrival)
	for _, key := range []kmsg.Key{kmsg.Heartbeat, kmsg.SyncGroup, kmsg.ConsumerGroupHeartbeat} {
		cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			a.at.Store(time.Now().UnixNano())
			return nil, nil, false
		})
	}
	return a
}

// LostMembershipIsReported: without a claim, only Error can say that the
// cluster has been away for longer than the session, and only Assign that it is back.
func (s Suite) LostMembershipIsReported(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	for _, way := range s.with(Classic, Epochs) {
		for _, claims := range []int{0, 1} {
			t.Run(fmt.Sprintf("with %d claims/%s", claims, way.Name), func(t *testing.T) {
				t.Parallel()
				cluster, gates := s.GatedBrokers(t, EpochBrokers(2*time.Second))
				cfg := s.Config(cluster.ListenAddrs())
				cfg.SessionTimeout = 2 * time.Second
				way.Set(&cfg)
				if claims == 0 { // another member holds the partition
					other := s.start(t, cfg, nil)
					other.waitFor(t, soon, "the first assignment", func() bool { return len(other.live) == 1 })
				}
				r := s.start(t, cfg, nil)
				r.waitFor(t, soon, "the assignment", func() bool { return r.joins > 0 })
				var heals []func()
				for _, g := range gates {
					heals = append(heals, g.Cut())
				}
				lost := func(err error) bool { return errors.Is(err, driver.ErrMembershipLost) }
				r.waitFor(t, soon, "the report", func() bool { return slices.ContainsFunc(r.errs, lost) })
				r.mu.Lock()
				joins := r.joins
				r.mu.Unlock()
				for _, heal := range heals {
					heal()
				}
				r.waitFor(t, soon, "the next Assign", func() bool { return r.joins > joins })
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, cause := range r.causes {
					assert.ErrorIs(t, cause, driver.ErrMembershipLost)
				}
			})
		}
	}
}

// RefusedJoinsArePaced: a coordinator refuses every join.
func (s Suite) RefusedJoinsArePaced(t *testing.T) {
	testkit.Slow(t, "waits for joins that are paced")
	t.Parallel()
	for _, c := range []struct {
		key  kmsg.Key
		code *kerr.Error
	}{
		{kmsg.JoinGroup, kerr.MemberIDRequired}, {kmsg.JoinGroup, kerr.UnknownMemberID},
		{kmsg.JoinGroup, kerr.IllegalGeneration}, {kmsg.SyncGroup, kerr.UnknownMemberID},
	} {
		t.Run(c.key.Name()+" "+c.code.Message, func(t *testing.T) {
			t.Parallel()
			cluster := s.Fake(t)
			var joins atomic.Int32
			cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				joins.Add(1)
				return nil, nil, false
			})
			refusal := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{c.key}, Err: c.code, Count: -1})
			cfg := s.Config(cluster.ListenAddrs())
			cfg.RebalanceTimeout, cfg.DrainTimeout = time.Second, 500*time.Millisecond // the broker waits for members that it has forgotten
			r := s.start(t, cfg, nil)
			began := time.Now()
			r.waitFor(t, soon, "an error", func() bool {
				return slices.ContainsFunc(r.errs, func(err error) bool {
					return errors.Is(err, s.JoinRefused) || slices.Contains(s.SpacedOut, c.code) && testkit.Code(err) == c.code.Message
				})
			})
			n, took := joins.Load(), time.Since(began)
			assert.LessOrEqual(t, n, int32(10+10*took.Seconds()), "joins within %v", took)
			refusal.Remove()
			r.waitFor(t, soon, "the assignment", func() bool { return len(r.live) == 1 })
		})
	}
}

// PendingJoinCostsNoSession: another member drains for longer than the
// session while a cooperative join is pending, in which neither client sends heartbeats.
func (s Suite) PendingJoinCostsNoSession(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	cluster := s.Fake(t, kfake.SeedTopics(4, "coop"))
	cfg := s.Config(cluster.ListenAddrs())
	cfg.Topics, cfg.BalanceStrategies = []string{"coop"}, []driver.BalanceStrategy{driver.CooperativeSticky}
	cfg.SessionTimeout, cfg.DrainTimeout = 2*time.Second, 10*time.Second
	join := func(r *member) {
		r.run(r)
		r.waitFor(t, soon, "an assignment", func() bool { return len(r.live) > 0 })
	}
	// The strategy chooses the member that gives a partition to the third one: that
	// member drains.
	var begin sync.Once
	var late atomic.Bool
	draining := make(chan struct{})
	drain := func(context.Context) {
		if late.Load() {
			begin.Do(func() {
				close(draining)
				time.Sleep(2 * cfg.SessionTimeout)
			})
		}
	}
	first, second := s.open(t, cfg), s.open(t, cfg)
	first.onRevoke, second.onRevoke = drain, drain
	join(first)
	join(second)
	for _, r := range []*member{first, second} {
		r.waitFor(t, soon, "half of the partitions", func() bool { return len(r.live) == 2 })
	}
	late.Store(true)
	s.start(t, cfg, nil)
	select {
	case <-draining:
	case <-time.After(soon):
		require.FailNow(t, "nothing is revoked")
	}
	join(s.open(t, cfg)) // the join that this makes the others send waits for the one that drains
	for _, r := range []*member{first, second} {
		r.mu.Lock()
		assert.Empty(t, r.lost, "claims lost, for %v", r.causes)
		assert.Empty(t, r.errs)
		r.mu.Unlock()
	}
}

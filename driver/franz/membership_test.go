package franz

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
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestFault_E1_SessionEndsByItsDeadline takes the coordinator away from a member in
// three ways. The partition is led by another broker, so records keep coming.
func TestFault_E1_SessionEndsByItsDeadline(t *testing.T) {
	testkit.Slow(t, "waits for session timeouts")
	t.Parallel()
	for _, c := range []struct {
		name   string
		others bool // these, too
		away   func(*gate) (heal func())
	}{
		{"frozen coordinator", false, (*gate).stall},
		{"black hole", true, (*gate).stall},
		{"refused connections", true, (*gate).cut},
	} {
		for _, way := range ways {
			t.Run(fmt.Sprintf("%s/%s", c.name, way.name), func(t *testing.T) {
				t.Parallel()
				cluster, gates := gatedBrokers(t, epochBrokers(4*time.Second))
				heard := arrivals(cluster)
				cfg := consumerConfig(cluster.ListenAddrs())
				cfg.SessionTimeout = 4 * time.Second
				interval := cfg.HeartbeatInterval
				way.set(&cfg)
				coordinator := cluster.CoordinatorFor("g")
				require.NoError(t, cluster.MoveTopicPartition("t", 0, (coordinator+1)%3))
				r := newRecorder()
				var lostAt, lastRecord atomic.Int64
				r.onRecord = func(*driver.Claim, driver.Record) { lastRecord.Store(time.Now().UnixNano()) }
				r.onLost = func() { lostAt.CompareAndSwap(0, time.Now().UnixNano()) }
				m := start(t, Driver{}, cfg, r)
				r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
				if !c.others { // a record now and then
					var sending sync.WaitGroup
					defer sending.Wait()
					sending.Go(func() {
						for i := 0; t.Context().Err() == nil && lostAt.Load() == 0; i++ {
							err := write(t.Context(), cluster.ListenAddrs()[(coordinator+1)%3:][:1], "t", 0, fmt.Sprint(i))
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
				r.wait(t, "the loss", func() bool { return len(r.lost) == 1 })
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
				r.wait(t, "another assignment", func() bool { return len(r.live) == 1 })
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

// TestFault_D2_LostMembershipIsReported: without a claim, only Error can say that the
// cluster has been away for longer than the session, and only Assign that it is back.
func TestFault_D2_LostMembershipIsReported(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	for _, way := range ways[1:] {
		for _, claims := range []int{0, 1} {
			t.Run(fmt.Sprintf("with %d claims/%s", claims, way.name), func(t *testing.T) {
				t.Parallel()
				cluster, gates := gatedBrokers(t, epochBrokers(2*time.Second))
				cfg := consumerConfig(cluster.ListenAddrs())
				cfg.SessionTimeout = 2 * time.Second
				way.set(&cfg)
				if claims == 0 { // another member holds the partition
					other := newRecorder()
					start(t, Driver{}, cfg, other)
					other.wait(t, "the first assignment", func() bool { return len(other.live) == 1 })
				}
				r := newRecorder()
				start(t, Driver{}, cfg, r)
				r.wait(t, "the assignment", func() bool { return r.joins > 0 })
				var heals []func()
				for _, g := range gates {
					heals = append(heals, g.cut())
				}
				lost := func(err error) bool { return errors.Is(err, driver.ErrMembershipLost) }
				r.wait(t, "the report", func() bool { return slices.ContainsFunc(r.errs, lost) })
				r.mu.Lock()
				joins := r.joins
				r.mu.Unlock()
				for _, heal := range heals {
					heal()
				}
				r.wait(t, "the next Assign", func() bool { return r.joins > joins })
				r.mu.Lock()
				defer r.mu.Unlock()
				for _, cause := range r.causes {
					assert.ErrorIs(t, cause, driver.ErrMembershipLost)
				}
			})
		}
	}
}

// TestFault_H3_RefusedJoinsArePaced: a coordinator refuses every join.
func TestFault_H3_RefusedJoinsArePaced(t *testing.T) {
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
			cluster := fake(t)
			var joins atomic.Int32
			cluster.ControlKey(int16(kmsg.JoinGroup), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				joins.Add(1)
				return nil, nil, false
			})
			refusal := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{c.key}, Err: c.code, Count: -1})
			r := newRecorder()
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.RebalanceTimeout, cfg.DrainTimeout = time.Second, 500*time.Millisecond // the broker waits for members that it has forgotten
			start(t, Driver{}, cfg, r)
			began := time.Now()
			r.wait(t, "an error", func() bool {
				return slices.ContainsFunc(r.errs, func(err error) bool {
					// Kgo itself spaces out joins that end with this one.
					return errors.Is(err, errJoinRefused) || c.code == kerr.IllegalGeneration && isCode(err, c.code)
				})
			})
			n, took := joins.Load(), time.Since(began)
			assert.LessOrEqual(t, n, int32(10+10*took.Seconds()), "joins within %v", took)
			refusal.Remove()
			r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
		})
	}
}

// TestFault_E1_PendingJoinCostsNoSession: another member drains for longer than the
// session while a cooperative join is pending, in which kgo sends no heartbeats.
func TestFault_E1_PendingJoinCostsNoSession(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(4, "coop"))
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics, cfg.BalanceStrategies = []string{"coop"}, []driver.BalanceStrategy{driver.CooperativeSticky}
	cfg.SessionTimeout, cfg.DrainTimeout = 2*time.Second, 10*time.Second
	join := func(r *recorder) *recorder {
		start(t, Driver{}, cfg, r)
		r.wait(t, "an assignment", func() bool { return len(r.live) > 0 })
		return r
	}
	// The strategy chooses the member that gives a partition to the third one: that
	// member drains.
	var begin sync.Once
	var late atomic.Bool
	draining := make(chan struct{})
	drain := func(context.Context, []*driver.Claim) {
		if late.Load() {
			begin.Do(func() {
				close(draining)
				time.Sleep(2 * cfg.SessionTimeout)
			})
		}
	}
	first, second := newRecorder(), newRecorder()
	first.onRevoke, second.onRevoke = drain, drain
	join(first)
	join(second)
	for _, r := range []*recorder{first, second} {
		r.wait(t, "half of the partitions", func() bool { return len(r.live) == 2 })
	}
	late.Store(true)
	third := newRecorder()
	start(t, Driver{}, cfg, third)
	select {
	case <-draining:
	case <-time.After(patienceTest):
		require.FailNow(t, "nothing is revoked")
	}
	join(newRecorder()) // the join that this makes the others send waits for the one that drains
	for _, r := range []*recorder{first, second} {
		r.mu.Lock()
		assert.Empty(t, r.lost, "claims lost, for %v", r.causes)
		assert.Empty(t, r.errs)
		r.mu.Unlock()
	}
}

// TestLateJoinBringsNoMembership: kgo calls back for a join while the session leaves, or after
// it has left.
func TestLateJoinBringsNoMembership(t *testing.T) {
	m := newMembership(driver.ConsumerConfig{SessionTimeout: time.Minute}, new(core.Calls), nil)
	old, next := new(session), new(session)
	m.enter(old)
	m.joined(old)
	require.NotZero(t, m.deadline(), "the deadline of a member")
	m.leave()
	m.joined(old)
	assert.Zero(t, m.deadline(), "the deadline of a session that has left")
	m.enter(next)
	m.joined(old)
	assert.Zero(t, m.deadline(), "the deadline of a session that has not joined")
	m.joined(next)
	assert.False(t, m.endMembership(old), "a session that has left was a member")
	assert.NotZero(t, m.deadline(), "the deadline of a member")
	assert.True(t, m.endMembership(next))
	assert.Zero(t, m.deadline(), "the deadline after the membership is over")
}

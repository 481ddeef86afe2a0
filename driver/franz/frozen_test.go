package franz

import (
	"context"
	"errors"
	"net"
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
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// gatedBrokers returns a cluster of three brokers, each behind a gate of its own.
func gatedBrokers(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, []*gate) {
	t.Helper()
	var mu sync.Mutex
	byAddr := map[string]*gate{}
	cluster := fake(t, append(opts, kfake.NumBrokers(3), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		g := newGate()
		l, err := listenGated(g, network, address)
		if err == nil {
			mu.Lock()
			byAddr[l.Addr().String()] = g
			mu.Unlock()
		}
		return l, err
	}))...)
	var gates []*gate
	for _, addr := range cluster.ListenAddrs() {
		gates = append(gates, byAddr[addr])
	}
	return cluster, gates
}

// moveCoordinator lets another broker than from coordinate the group.
func moveCoordinator(cluster *kfake.Cluster, group string, from int32) {
	for cluster.CoordinatorFor(group) == from {
		cluster.RehashCoordinators()
	}
}

// TestFrozenCoordinatorKeepsTheSession freezes the coordinator with its
// connections open, and lets another broker take the group over. The handler does not
// notice: heartbeats and commits find the new coordinator in time.
func TestFrozenCoordinatorKeepsTheSession(t *testing.T) {
	testkit.Slow(t, "waits for a frozen coordinator")
	// A commit renews the session as a heartbeat does, so each is looked at alone.
	for _, way := range ways[1:] {
		t.Run("Heartbeats/"+way.name, func(t *testing.T) {
			t.Parallel()
			freezeCoordinator(t, way, func(*running, *driver.Claim) {})
		})
		t.Run("Commits/"+way.name, func(t *testing.T) {
			t.Parallel()
			freezeCoordinator(t, way, func(m *running, claim *driver.Claim) {
				began := time.Now()
				require.NoError(t, m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 10}}))
				assert.LessOrEqual(t, time.Since(began), m.consumer.cfg.SessionTimeout, "the commit took longer than the session")
			})
		})
	}
}

// freezeCoordinator freezes the coordinator to which both heartbeats and commits
// are connected, calls meanwhile, and checks that the one session goes on.
func freezeCoordinator(t *testing.T, way way, meanwhile func(*running, *driver.Claim)) {
	cluster, gates := gatedBrokers(t, epochBrokers(6*time.Second))
	brokers := cluster.ListenAddrs()
	cfg := consumerConfig(brokers)
	cfg.SessionTimeout = 6 * time.Second
	way.set(&cfg)
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	claim := r.claim(0)

	frozen := cluster.CoordinatorFor("g")
	require.NoError(t, cluster.MoveTopicPartition("t", 0, (frozen+1)%3))
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r.waitRecords(t, 10)
	require.NoError(t, m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 5}}))
	thaw := gates[frozen].stall()
	defer thaw()
	began := time.Now()
	moveCoordinator(cluster, "g", frozen)
	meanwhile(m, claim)
	time.Sleep(cfg.SessionTimeout + time.Second - time.Since(began)) // until the broker would have given the member up
	thaw()
	seed(t, brokers, "t", 0, "10")
	r.waitRecords(t, 11)
	assert.NoError(t, m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 11}}), "after the session timeout")
	wantOneSession(t, r)
	assert.Equal(t, int64(11), cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
}

// TestNoCoordinatorForAWhile lets the coordinator resign while no broker takes over,
// for less than a session.
func TestNoCoordinatorForAWhile(t *testing.T) {
	testkit.Slow(t, "waits for an absent coordinator")
	t.Parallel()
	for _, way := range ways[1:] {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets"), epochBrokers(30*time.Second))
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.SessionTimeout = 30 * time.Second
			way.set(&cfg)
			r := newRecorder()
			start(t, Driver{}, cfg, r)
			r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
			back, heartbeats := resign(cluster)
			time.Sleep(6 * time.Second)
			back.Store(true)
			require.Eventually(t, func() bool { return heartbeats.Load() >= 2 }, patienceTest, 10*time.Millisecond, "heartbeats")
			wantOneSession(t, r)
		})
	}
}

// resign lets the coordinator resign while no broker takes over, until it is back.
// Heartbeats are those that were answered since.
func resign(cluster *kfake.Cluster) (back *atomic.Bool, heartbeats *atomic.Int32) {
	back, heartbeats = new(atomic.Bool), new(atomic.Int32)
	for _, key := range []kmsg.Key{kmsg.Heartbeat, kmsg.ConsumerGroupHeartbeat} {
		cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
			cluster.KeepControl()
			if back.Load() {
				heartbeats.Add(1)
				return nil, nil, false
			}
			resp := req.ResponseKind()
			switch resp := resp.(type) {
			case *kmsg.HeartbeatResponse:
				resp.ErrorCode = kerr.NotCoordinator.Code
			case *kmsg.ConsumerGroupHeartbeatResponse:
				resp.ErrorCode = kerr.NotCoordinator.Code
			}
			return resp, nil, true
		})
	}
	hideCoordinator(cluster, back)
	return back, heartbeats
}

// hideCoordinator lets no broker name the coordinator of a group, until it is back.
// It counts the requests.
func hideCoordinator(cluster *kfake.Cluster, back *atomic.Bool) (asked *atomic.Int32) {
	asked = new(atomic.Int32)
	cluster.ControlKey(int16(kmsg.FindCoordinator), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if back.Load() {
			return nil, nil, false
		}
		asked.Add(1)
		resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		return resp, nil, true
	})
	return asked
}

// wantOneSession checks that the first session is the only one, and goes on.
func wantOneSession(t *testing.T, r *recorder) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 1, r.joins, "joins")
	assert.Empty(t, r.revoked, "claims revoked")
	assert.Empty(t, r.lost, "claims lost, for %v", r.causes)
}

// TestNoCoordinatorForASession: a member whose coordinator has resigned, and which
// finds no other for the session timeout, has lost its claims; others may have them.
func TestNoCoordinatorForASession(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	for _, way := range ways[1:] {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets"), epochBrokers(3*time.Second))
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.SessionTimeout = 3 * time.Second
			way.set(&cfg)
			r := newRecorder()
			start(t, Driver{}, cfg, r)
			r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
			began := time.Now()
			back, _ := resign(cluster)
			defer back.Store(true)
			r.wait(t, "the loss", func() bool { return len(r.lost) == 1 })
			assert.LessOrEqual(t, time.Since(began), 2*cfg.SessionTimeout, "time until the loss")
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.ErrorIs(t, errors.Join(r.causes...), errSessionExpired)
		})
	}
}

// TestJoinReportsItsReason: a join that has found no coordinator in time reports that,
// and not only that it was cut short.
func TestJoinReportsItsReason(t *testing.T) {
	testkit.Slow(t, "waits for joins to time out")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets"))
	back, _ := resign(cluster)
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.SessionTimeout = 2 * time.Second
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "a reason", func() bool {
		return slices.ContainsFunc(r.errs, func(err error) bool { return errors.Is(err, errSessionExpired) })
	})
	back.Store(true)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.NotErrorIs(t, errors.Join(r.errs...), context.Canceled)
}

// TestJoinMayTakeLongerThanAHeartbeat: a join waits for another member that drains, for
// longer than an answer to a heartbeat is waited for.
func TestJoinMayTakeLongerThanAHeartbeat(t *testing.T) {
	testkit.Slow(t, "waits for a join of several seconds")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(2, "two"))
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics, cfg.SessionTimeout, cfg.DrainTimeout = []string{"two"}, 3*time.Second, 10*time.Second
	drain := 2 * heartbeatWait(cfg.SessionTimeout, cfg.HeartbeatInterval)
	slow := newRecorder()
	slow.onRevoke = func(context.Context, []*driver.Claim) { time.Sleep(drain) }
	start(t, Driver{}, cfg, slow)
	slow.wait(t, "the first assignment", func() bool { return len(slow.live) == 2 })

	second := newRecorder()
	start(t, Driver{}, cfg, second)
	second.wait(t, "an assignment of the second member", func() bool { return len(second.live) == 1 })
	second.mu.Lock()
	defer second.mu.Unlock()
	assert.Empty(t, second.errs, "the join failed")
}

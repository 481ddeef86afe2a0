package wiretest

import (
	"context"
	"errors"
	"slices"
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

// soon bounds what must happen within a session or two.
const soon = 15 * time.Second

// MoveCoordinator lets another broker than from coordinate the group.
func MoveCoordinator(cluster *kfake.Cluster, group string, from int32) {
	for cluster.CoordinatorFor(group) == from {
		cluster.RehashCoordinators()
	}
}

// FrozenCoordinatorKeepsTheSession freezes the coordinator with its
// connections open, and lets another broker take the group over. The handler does not
// notice: heartbeats and commits find the new coordinator in time.
func (s Suite) FrozenCoordinatorKeepsTheSession(t *testing.T) {
	testkit.Slow(t, "waits for a frozen coordinator")
	// A commit renews the session as a heartbeat does, so each is looked at alone.
	for _, way := range s.with(Classic, Epochs) {
		t.Run("Heartbeats/"+way.Name, func(t *testing.T) {
			t.Parallel()
			s.freezeCoordinator(t, way, func(*member, *driver.Claim) {})
		})
		t.Run("Commits/"+way.Name, func(t *testing.T) {
			t.Parallel()
			s.freezeCoordinator(t, way, func(m *member, claim *driver.Claim) {
				began := time.Now()
				require.NoError(t, m.Commit(testkit.Within(t, soon), []driver.Mark{{Claim: claim, Offset: 10}}))
				assert.LessOrEqual(t, time.Since(began), frozenSession, "the commit took longer than the session")
			})
		})
	}
}

const frozenSession = 6 * time.Second

// freezeCoordinator freezes the coordinator to which both heartbeats and commits
// are connected, calls meanwhile, and checks that the one session goes on.
func (s Suite) freezeCoordinator(t *testing.T, way Way, meanwhile func(*member, *driver.Claim)) {
	cluster, gates := s.GatedBrokers(t, EpochBrokers(frozenSession))
	brokers := cluster.ListenAddrs()
	cfg := s.Config(brokers)
	cfg.SessionTimeout = frozenSession
	way.Set(&cfg)
	m := s.start(t, cfg, nil)
	m.waitFor(t, soon, "the assignment", func() bool { return len(m.live) == 1 })
	claim := m.claim(t, 0)

	frozen := cluster.CoordinatorFor("g")
	require.NoError(t, cluster.MoveTopicPartition("t", 0, (frozen+1)%3))
	require.NoError(t, outside.Of(brokers...).Send(testkit.Within(t, soon), "t", 0, numbered("v", 10)...))
	m.waitRecordsFor(t, soon, 10)
	require.NoError(t, m.Commit(testkit.Within(t, soon), []driver.Mark{{Claim: claim, Offset: 5}}))
	thaw := gates[frozen].Stall()
	defer thaw()
	began := time.Now()
	MoveCoordinator(cluster, "g", frozen)
	meanwhile(m, claim)
	time.Sleep(cfg.SessionTimeout + time.Second - time.Since(began)) // until the broker would have given the member up
	thaw()
	require.NoError(t, outside.Of(brokers...).Send(testkit.Within(t, soon), "t", 0, numbered("later", 1)...))
	m.waitRecordsFor(t, soon, 11)
	assert.NoError(t, m.Commit(testkit.Within(t, soon), []driver.Mark{{Claim: claim, Offset: 11}}), "after the session timeout")
	wantOneSession(t, m)
	assert.Equal(t, int64(11), cluster.GroupInfo("g").Commits["t"][0].Offset, "committed")
}

// NoCoordinatorForAWhile lets the coordinator resign while no broker takes over,
// for less than a session, and for longer than the ten attempts of Sarama last.
func (s Suite) NoCoordinatorForAWhile(t *testing.T) {
	testkit.Slow(t, "waits for an absent coordinator")
	t.Parallel()
	for _, way := range s.with(Classic, Epochs) {
		t.Run(way.Name, func(t *testing.T) {
			t.Parallel()
			cluster := s.Fake(t, kfake.SeedTopics(1, "__consumer_offsets"), EpochBrokers(30*time.Second)) // without the topic Sarama sleeps
			cfg := s.Config(cluster.ListenAddrs())
			cfg.SessionTimeout = 30 * time.Second
			way.Set(&cfg)
			r := s.start(t, cfg, nil)
			r.waitFor(t, soon, "the assignment", func() bool { return len(r.live) == 1 })
			back, heartbeats := resign(cluster)
			time.Sleep(6 * time.Second)
			back.Store(true)
			require.Eventually(t, func() bool { return heartbeats.Load() >= 2 }, soon, 10*time.Millisecond, "heartbeats")
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
	HideCoordinator(cluster, back)
	return back, heartbeats
}

// HideCoordinator lets no broker name the coordinator of a group, until it is back.
// It counts the requests.
func HideCoordinator(cluster *kfake.Cluster, back *atomic.Bool) (asked *atomic.Int32) {
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
func wantOneSession(t *testing.T, r *member) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 1, r.joins, "joins")
	assert.Empty(t, r.revoked, "claims revoked")
	assert.Empty(t, r.lost, "claims lost, for %v", r.causes)
}

// NoCoordinatorForASession: a member whose coordinator has resigned, and which
// finds no other for the session timeout, has lost its claims; others may have them.
func (s Suite) NoCoordinatorForASession(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	for _, way := range s.with(Classic, Epochs) {
		t.Run(way.Name, func(t *testing.T) {
			t.Parallel()
			cluster := s.Fake(t, kfake.SeedTopics(1, "__consumer_offsets"), EpochBrokers(3*time.Second))
			cfg := s.Config(cluster.ListenAddrs())
			cfg.SessionTimeout = 3 * time.Second
			way.Set(&cfg)
			r := s.start(t, cfg, nil)
			r.waitFor(t, soon, "the assignment", func() bool { return len(r.live) == 1 })
			began := time.Now()
			back, _ := resign(cluster)
			defer back.Store(true)
			r.waitFor(t, soon, "the loss", func() bool { return len(r.lost) == 1 })
			assert.LessOrEqual(t, time.Since(began), 2*cfg.SessionTimeout, "time until the loss")
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.ErrorIs(t, errors.Join(r.causes...), s.SessionExpired)
		})
	}
}

// JoinReportsItsReason: a join that has found no coordinator in time reports that,
// and not only that it was cut short.
func (s Suite) JoinReportsItsReason(t *testing.T) {
	testkit.Slow(t, "waits for joins to time out")
	t.Parallel()
	cluster := s.Fake(t, kfake.SeedTopics(1, "__consumer_offsets"))
	back, _ := resign(cluster)
	cfg := s.Config(cluster.ListenAddrs())
	cfg.SessionTimeout = 2 * time.Second
	r := s.start(t, cfg, nil)
	r.waitFor(t, soon, "a reason", func() bool {
		return slices.ContainsFunc(r.errs, func(err error) bool { return errors.Is(err, s.SessionExpired) })
	})
	back.Store(true)
	r.waitFor(t, soon, "the assignment", func() bool { return len(r.live) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.NotErrorIs(t, errors.Join(r.errs...), context.Canceled)
}

// JoinMayTakeLongerThanAHeartbeat: a join waits for another member that drains, for
// longer than an answer to a heartbeat is waited for.
func (s Suite) JoinMayTakeLongerThanAHeartbeat(t *testing.T) {
	testkit.Slow(t, "waits for a join of several seconds")
	t.Parallel()
	cluster := s.Fake(t, kfake.SeedTopics(2, "two"))
	cfg := s.Config(cluster.ListenAddrs())
	cfg.Topics, cfg.SessionTimeout, cfg.DrainTimeout = []string{"two"}, 3*time.Second, 10*time.Second
	drain := 2 * s.HeartbeatWait(cfg.SessionTimeout, cfg.HeartbeatInterval)
	slow := s.open(t, cfg)
	slow.onRevoke = func(context.Context) { time.Sleep(drain) }
	slow.run(slow)
	slow.waitFor(t, soon, "the first assignment", func() bool { return len(slow.live) == 2 })

	second := s.start(t, cfg, nil)
	second.waitFor(t, soon, "an assignment of the second member", func() bool { return len(second.live) == 1 })
	second.mu.Lock()
	defer second.mu.Unlock()
	assert.Empty(t, second.errs, "the join failed")
}

package sarama

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
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
// connections open, and lets another broker take the group over. Nobody has to
// hear of that: the heartbeats find the new one in time, and the commits, too.
func TestFrozenCoordinatorKeepsTheSession(t *testing.T) {
	testkit.Slow(t, "waits for a frozen coordinator")
	// A commit renews the session as a heartbeat does, so each is looked at alone.
	t.Run("Heartbeats", func(t *testing.T) {
		t.Parallel()
		freezeCoordinator(t, func(*running, *driver.Claim) {})
	})
	t.Run("Commits", func(t *testing.T) {
		t.Parallel()
		freezeCoordinator(t, func(m *running, claim *driver.Claim) {
			began := time.Now()
			if err := m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 10}}); err != nil {
				t.Fatalf("Commit = %v", err)
			}
			if took := time.Since(began); took > m.consumer.cfg.SessionTimeout {
				t.Errorf("the commit took %v, longer than the session", took)
			}
		})
	})
}

// freezeCoordinator freezes the coordinator to which both heartbeats and commits
// are connected, calls meanwhile, and wants the one session to go on.
func freezeCoordinator(t *testing.T, meanwhile func(*running, *driver.Claim)) {
	cluster, gates := gatedBrokers(t)
	brokers := cluster.ListenAddrs()
	cfg := consumerConfig(brokers)
	cfg.SessionTimeout = 6 * time.Second
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	claim := r.claim(0)

	frozen := cluster.CoordinatorFor("g")
	if err := cluster.MoveTopicPartition("t", 0, (frozen+1)%3); err != nil {
		t.Fatal(err)
	}
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r.waitRecords(t, 10)
	if err := m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 5}}); err != nil {
		t.Fatalf("Commit = %v", err)
	}
	thaw := gates[frozen].stall()
	defer thaw()
	began := time.Now()
	moveCoordinator(cluster, "g", frozen)
	meanwhile(m, claim)
	time.Sleep(cfg.SessionTimeout + time.Second - time.Since(began)) // until the broker would have given the member up
	thaw()
	seed(t, brokers, "t", 0, "10")
	r.waitRecords(t, 11)
	if err := m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 11}}); err != nil {
		t.Errorf("Commit after the session timeout = %v", err)
	}
	wantOneSession(t, r)
	if got := cluster.GroupInfo("g").Commits["t"][0].Offset; got != 11 {
		t.Errorf("committed %d, want 11", got)
	}
}

// TestNoCoordinatorForAWhile lets the coordinator resign while nobody takes over,
// for longer than Sarama's ten attempts last and for less than a session.
func TestNoCoordinatorForAWhile(t *testing.T) {
	testkit.Slow(t, "waits for an absent coordinator")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets")) // without it Sarama sleeps
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.SessionTimeout = 30 * time.Second
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	back, heartbeats := resign(cluster)
	time.Sleep(6 * time.Second)
	back.Store(true)
	for since := time.Now(); heartbeats.Load() < 2; time.Sleep(10 * time.Millisecond) {
		if time.Since(since) > patienceTest {
			t.Fatal("no heartbeat")
		}
	}
	wantOneSession(t, r)
}

// resign lets the coordinator resign while nobody takes over, until it is back.
// Heartbeats are those that were answered since.
func resign(cluster *kfake.Cluster) (back *atomic.Bool, heartbeats *atomic.Int32) {
	back, heartbeats = new(atomic.Bool), new(atomic.Int32)
	cluster.ControlKey(int16(kmsg.Heartbeat), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if back.Load() {
			heartbeats.Add(1)
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.HeartbeatResponse)
		resp.ErrorCode = kerr.NotCoordinator.Code
		return resp, nil, true
	})
	hideCoordinator(cluster, back)
	return back, heartbeats
}

// hideCoordinator lets nobody say who coordinates a group, until it is back. It
// counts who asks.
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

// wantOneSession holds that there has been no session but the first, which goes on.
func wantOneSession(t *testing.T, r *recorder) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joins != 1 || len(r.revoked)+len(r.lost) > 0 {
		t.Errorf("%d joins, %d claims revoked, %d lost (%v); want the one session to go on", r.joins, len(r.revoked), len(r.lost), r.causes)
	}
}

// TestNoCoordinatorForASession: a member whose coordinator has resigned, and which
// finds no other for the session timeout, has lost its claims; others may have them.
func TestNoCoordinatorForASession(t *testing.T) {
	testkit.Slow(t, "waits for a session timeout")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets")) // without it Sarama sleeps
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.SessionTimeout = 3 * time.Second
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	began := time.Now()
	back, _ := resign(cluster)
	defer back.Store(true)
	r.wait(t, "the loss", func() bool { return len(r.lost) == 1 })
	if took := time.Since(began); took > 2*cfg.SessionTimeout {
		t.Errorf("lost after %v, a session lasts %v", took, cfg.SessionTimeout)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.causes, func(err error) bool { return errors.Is(err, errSessionExpired) }) {
		t.Errorf("lost for %v, want %v", r.causes, errSessionExpired)
	}
}

// TestJoinTellsWhy: a join that has waited in vain for a coordinator tells that, and
// not only that it was cut short.
func TestJoinTellsWhy(t *testing.T) {
	testkit.Slow(t, "waits for joins to time out")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets")) // without it Sarama sleeps
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
	for _, err := range r.errs {
		if errors.Is(err, context.Canceled) {
			t.Errorf("told %v", err)
		}
	}
}

// TestLateAnswerCostsNoSession: an answer has come too late, and nobody can say who
// coordinates the group. The one that did still does.
func TestLateAnswerCostsNoSession(t *testing.T) {
	testkit.Slow(t, "waits for late answers")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets")) // without it Sarama sleeps
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.SessionTimeout = 3 * time.Second
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	asked := hideCoordinator(cluster, new(atomic.Bool))
	m.split.doubt()
	time.Sleep(cfg.SessionTimeout + time.Second)
	if asked.Load() == 0 {
		t.Error("nobody was asked for the coordinator")
	}
	wantOneSession(t, r)
}

// TestNothingAskedIsNoBadConnection: a commit that has found out that there is
// nothing to commit any more leaves the connection alone, which others need.
func TestNothingAskedIsNoBadConnection(t *testing.T) {
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	var asked *ibm.Broker
	_, err := exchange(t.Context(), m.committer, func(b *ibm.Broker) (struct{}, error) {
		asked = b
		return struct{}{}, driver.ErrClaimEnded
	})
	if err != driver.ErrClaimEnded {
		t.Fatal(err)
	}
	if ok, err := asked.Connected(); !ok || err != nil {
		t.Errorf("the coordinator is connected: %v, %v", ok, err)
	}
}

// TestJoinIsWaitedFor holds that the short wait for a heartbeat is not that for a
// join: here it takes longer, as another member drains.
func TestJoinIsWaitedFor(t *testing.T) {
	testkit.Slow(t, "waits for a join of several seconds")
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
	if len(second.errs) > 0 {
		t.Errorf("the join was told to fail: %v", second.errs)
	}
}

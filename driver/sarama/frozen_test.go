package sarama

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
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
// hear of that: the heartbeats and the commits find the new one in time.
func TestFrozenCoordinatorKeepsTheSession(t *testing.T) {
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
	thaw := gates[frozen].stall()
	defer thaw()
	began := time.Now()
	moveCoordinator(cluster, "g", frozen)
	if err := m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 10}}); err != nil {
		t.Fatalf("Commit = %v", err)
	}
	if took := time.Since(began); took > cfg.SessionTimeout {
		t.Errorf("the commit took %v, longer than the session", took)
	}
	time.Sleep(cfg.SessionTimeout + time.Second - time.Since(began)) // until the broker would have given the member up
	thaw()
	seed(t, brokers, "t", 0, "10")
	r.waitRecords(t, 11)
	if err := m.Commit(within(t, patienceTest), []driver.Mark{{Claim: claim, Offset: 11}}); err != nil {
		t.Errorf("Commit after the session timeout = %v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.joins != 1 || len(r.revoked)+len(r.lost) > 0 {
		t.Errorf("%d joins, %d claims revoked, %d lost (%v); want the one session to go on", r.joins, len(r.revoked), len(r.lost), r.causes)
	}
	if got := cluster.GroupInfo("g").Commits["t"][0].Offset; got != 11 {
		t.Errorf("committed %d, want 11", got)
	}
}

// TestJoinIsWaitedFor holds that the short wait for a heartbeat is not that for a
// join: here it takes longer, as another member drains.
func TestJoinIsWaitedFor(t *testing.T) {
	cluster := fake(t, kfake.SeedTopics(2, "two"))
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics, cfg.SessionTimeout, cfg.DrainTimeout = []string{"two"}, 3*time.Second, 10*time.Second
	drain := 2 * heartbeatWait(cfg.SessionTimeout)
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

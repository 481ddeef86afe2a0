package memory_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// A simulation is a group whose members come, go, are cut off and drain slowly,
// in virtual time.
type simulation struct {
	t       *rapid.T
	b       *memory.Broker
	drawn   []driver.BalanceStrategy // none with the ConsumerProtocol
	members []*simulated
	started int
	down    atomic.Bool

	mu        sync.Mutex
	committed map[int32]int64
	rewound   bool
}

type simulated struct {
	*recorder
	driver.Consumer
	client   string
	instance string
	cut      atomic.Bool
	done     chan struct{}
	err      error
}

func newSimulation(t *rapid.T) *simulation {
	s := &simulation{t: t, committed: map[int32]int64{}}
	s.b = memory.NewBroker(memory.WithCommitObserver(s.observe), memory.WithConsumerGroups(memory.ConsumerGroups{
		SessionTimeout: 10 * time.Second, HeartbeatInterval: 3 * time.Second,
		Assignor: rapid.SampledFrom([]memory.Assignor{memory.Uniform, memory.RangeAssign}).Draw(t, "assignor"),
	}))
	s.drawn = rapid.SampledFrom([][]driver.BalanceStrategy{
		{driver.RoundRobin}, {driver.Range}, {driver.Sticky}, {driver.CooperativeSticky},
		{driver.CooperativeSticky, driver.Sticky}, nil, nil, nil,
	}).Draw(t, "strategies")
	require.NoError(t, s.b.CreateTopic("t", rapid.IntRange(1, 5).Draw(t, "partitions")))
	return s
}

// observe sees all commits that the broker applies.
func (s *simulation) observe(c memory.Commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Offset < s.committed[c.Partition] {
		s.rewound = true
	}
	s.committed[c.Partition] = c.Offset
}

func (s *simulation) start(t *rapid.T) {
	if len(s.members) == 5 {
		t.Skip("enough members")
	}
	drain := time.Duration(rapid.IntRange(0, 8000).Draw(t, "drain ms")) * time.Millisecond
	s.started++
	m := &simulated{
		recorder: newRecorder(t), client: fmt.Sprint("client", s.started), instance: s.drawInstance(t),
		done: make(chan struct{}),
	}
	cfg := consumerConfig(strategies(s.drawn...))
	if len(s.drawn) == 0 {
		cfg.GroupProtocol, cfg.HeartbeatInterval = driver.ConsumerProtocol, 0
	}
	cfg.ClientID, cfg.InstanceID = m.client, m.instance
	cfg.RebalanceTimeout = time.Duration(rapid.SampledFrom([]int{6, 60}).Draw(t, "rebalance timeout")) * time.Second
	c, err := s.b.OpenConsumer(t.Context(), cfg)
	if err != nil {
		t.Skip("the broker is stopped")
	}
	m.Consumer = c
	m.onRevoke = func(ctx context.Context, cs []*driver.Claim) {
		select {
		case <-time.After(drain):
			m.commit(ctx, cs)
		case <-ctx.Done():
		}
	}
	go func() {
		defer close(m.done)
		m.err = c.Run(m)
	}()
	s.members = append(s.members, m)
}

// drawInstance returns an instance ID that no running member has, or none. As in Kafka, a
// static member that comes back between the two steps of a cooperative rebalance leaves the
// partitions that it gave up without an owner until the next rebalance.
func (s *simulation) drawInstance(t *rapid.T) string {
	if len(s.drawn) == 1 && s.drawn[0] == driver.CooperativeSticky {
		return ""
	}
	id := rapid.SampledFrom([]string{"", "", "one", "two"}).Draw(t, "instance")
	for _, m := range s.members {
		if m.instance == id {
			return ""
		}
	}
	return id
}

// commit commits all that was delivered.
func (m *simulated) commit(ctx context.Context, cs []*driver.Claim) error {
	var marks []driver.Mark
	for _, c := range cs {
		marks = append(marks, driver.Mark{Claim: c, Offset: m.position(c)})
	}
	return m.Commit(ctx, marks)
}

func (m *simulated) live() []*driver.Claim {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.claims)
}

func (s *simulation) one(t *rapid.T) *simulated {
	if len(s.members) == 0 {
		t.Skip("no members")
	}
	return rapid.SampledFrom(s.members).Draw(t, "member")
}

func (s *simulation) commitOne(t *rapid.T) {
	m := s.one(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	m.commit(ctx, m.live()) // may fail: then the records come again
}

func (s *simulation) stop(t *rapid.T) {
	m := s.one(t)
	timeout := time.Duration(rapid.SampledFrom([]int{0, 1, 20}).Draw(t, "seconds")) * time.Second
	s.close(m, timeout)
}

func (s *simulation) close(m *simulated, timeout time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	begin := time.Now()
	m.Close(ctx)
	require.False(s.t, time.Since(begin) > timeout, "Close overran its context")
	<-m.done
	require.Empty(s.t, m.live(), "Run returned with live claims")
	s.members = slices.DeleteFunc(s.members, func(o *simulated) bool { return o == m })
}

func (s *simulation) anyMember(t *rapid.T) memory.Member {
	ms := s.b.Members("g")
	if len(ms) == 0 {
		t.Skip("no members")
	}
	return ms[rapid.IntRange(0, len(ms)-1).Draw(t, "member")]
}

func (s *simulation) cut(t *rapid.T) {
	m := s.anyMember(t)
	i := slices.IndexFunc(s.members, func(o *simulated) bool { return o.client == m.ClientID })
	if i < 0 || s.members[i].cut.Load() {
		t.Skip("closed, or cut already")
	}
	sim := s.members[i]
	sim.cut.Store(true)
	m.Cut()
	time.AfterFunc(time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds"))*time.Second, func() {
		m.Heal()
		sim.cut.Store(false)
	})
}

func (s *simulation) outage(t *rapid.T) {
	if s.down.Load() {
		t.Skip("down already")
	}
	s.down.Store(true)
	s.b.Stop()
	time.AfterFunc(time.Duration(rapid.IntRange(1, 30).Draw(t, "seconds"))*time.Second, func() {
		s.b.Start()
		s.down.Store(false)
	})
}

func (s *simulation) addPartition(t *rapid.T) {
	n := s.b.Partitions("t")
	if n == 8 {
		t.Skip("enough partitions")
	}
	require.NoError(t, s.b.AddPartitions("t", n+1))
}

func (s *simulation) send(t *rapid.T) {
	for range rapid.IntRange(1, 20).Draw(t, "records") {
		require.NoError(t, s.b.Send("t", nil, nil))
	}
}

func (s *simulation) sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.IntRange(1, 15000).Draw(t, "ms")) * time.Millisecond)
}

// check holds what must hold at any moment.
func (s *simulation) check(t *rapid.T) {
	synctest.Wait()
	s.mu.Lock()
	rewound := s.rewound
	s.mu.Unlock()
	require.False(t, rewound, "a committed offset has moved backwards")
	owner := make(map[int32]bool)
	for _, m := range s.members {
		select {
		case <-m.done:
			require.Fail(t, "Run returned before Close")
		default:
		}
		if m.cut.Load() || s.down.Load() {
			continue // may be a zombie
		}
		for _, c := range m.live() {
			require.False(t, owner[c.Partition], "two members hold one partition")
			owner[c.Partition] = true
		}
	}
}

// settle heals everything and checks that the group finds its feet: each
// partition has one owner, shares differ by one at most, and all is delivered.
func (s *simulation) settle(t *rapid.T) {
	time.Sleep(2 * time.Minute)
	s.check(t)
	if len(s.members) == 0 {
		s.start(t)
		synctest.Wait()
	}
	owners, least, most := 0, 1<<30, 0
	for _, m := range s.members {
		n := len(m.live())
		owners, least, most = owners+n, min(least, n), max(most, n)
		require.NoError(t, m.commit(t.Context(), m.live()), "a settled group does not commit")
	}
	n := s.b.Partitions("t")
	t.Logf("%d partitions, %d owners, shares from %d to %d", n, owners, least, most)
	require.True(t, owners == n && most-least <= 1, "the group has not settled")
	for p := range int32(n) {
		_, end, err := s.b.Offsets("t", p)
		require.NoError(t, err)
		require.True(t, max(0, s.b.Committed("g", "t", p)) == end, "not everything was delivered and committed")
	}
}

func TestSimulation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			s := newSimulation(t)
			t.Cleanup(func() {
				s.b.Start()
				for len(s.members) > 0 {
					s.close(s.members[0], 0)
				}
			})
			t.Repeat(map[string]func(*rapid.T){
				"":              s.check,
				"start":         s.start,
				"stop":          s.stop,
				"commit":        s.commitOne,
				"cut":           s.cut,
				"expire":        func(t *rapid.T) { s.anyMember(t).Expire() },
				"fence":         func(t *rapid.T) { s.anyMember(t).Fence() },
				"outage":        s.outage,
				"rebalance":     func(*rapid.T) { s.b.Rebalance("g") },
				"add partition": s.addPartition,
				"send":          s.send,
				"sleep":         s.sleep,
			})
			s.settle(t)
		})
	})
}

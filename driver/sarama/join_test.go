package sarama

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// openIdle opens a consumer that a test changes before it runs.
func openIdle(t *testing.T, cfg driver.ConsumerConfig) *consumer {
	t.Helper()
	c, err := Driver{}.OpenConsumer(within(t, patienceTest), cfg)
	require.NoError(t, err)
	return c.(*consumer)
}

// TestJoinThatItsOwnLookEnds: a look at the topics ends a join before its session. Nothing
// is reported, as after a session that a look ends.
func TestJoinThatItsOwnLookEnds(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	commitAsNoMember(t, cluster.ListenAddrs(), 0) // a new group has no positions that can be refused
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.InitialOffset = driver.OffsetNewest
	c := openIdle(t, cfg)
	ended := cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: "t", Err: kerr.UnstableOffsetCommit, Count: 1,
		When: func(kmsg.Request) bool { c.membership.end(errTopicsChanged); return true },
	})
	r := newRecorder()
	run(t, c, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 1, ended.Hits())
	assert.Empty(t, r.errs)
}

// TestBecause: the driver's own reason to end a join goes before the one that Sarama or a
// context gives.
func TestBecause(t *testing.T) {
	late := ibm.ErrTopicAuthorizationFailed // of the session before
	for _, c := range []struct {
		name       string
		err, cause error
		want       string
	}{
		{name: "none"},
		{"no error", nil, late, ""},
		{"by no one", ibm.ErrOutOfBrokers, nil, ibm.ErrOutOfBrokers.Error()},
		{"expired", context.Canceled, errSessionExpired, errSessionExpired.Error()},
		{"topics changed", context.Canceled, errTopicsChanged, ""},
		{"created again", fmt.Errorf("look-up: %w", context.Canceled), recreated("t"), ""},
		{"late", context.Canceled, late, "join: context canceled: " + late.Error()},
	} {
		err := because(c.err, c.cause)
		if c.want == "" {
			assert.NoError(t, err, c.name)
			continue
		}
		assert.EqualError(t, err, c.want, c.name)
		assert.False(t, isPermanent(wrap(err)), c.name)
	}
}

// A pausingGroup knows whether Sarama is to pause a partition, and calls found once, when a
// claim begins.
type pausingGroup struct {
	ibm.ConsumerGroup
	found  func()
	once   sync.Once
	paused atomic.Bool
}

func (g *pausingGroup) Pause(p map[string][]int32) {
	g.ConsumerGroup.Pause(p)
	g.paused.Store(true)
}

func (g *pausingGroup) Resume(p map[string][]int32) {
	g.once.Do(g.found)
	g.ConsumerGroup.Resume(p)
	g.paused.Store(false)
}

// TestDamageThatIsFoundAsAClaimBegins stands: the pause of an earlier claim is undone
// before the claim can be found.
func TestDamageThatIsFoundAsAClaimBegins(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	c := openIdle(t, consumerConfig(cluster.ListenAddrs()))
	g := &pausingGroup{ConsumerGroup: c.group}
	g.found = func() {
		f := c.inspector.feed([]byte("t"), 0)
		f.mu.Lock()
		f.damage = &recordbatch.Damage{Err: recordbatch.Corrupt("damaged")}
		f.mu.Unlock()
		c.mender.inTrouble(f)
	}
	c.group = g
	r := newRecorder()
	var standing, paused atomic.Bool
	r.onAssign = func(cs []*driver.Claim) {
		standing.Store(cs[0].Backend.(*claim).isStanding())
		paused.Store(g.paused.Load())
	}
	run(t, c, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	assert.True(t, standing.Load(), "the claim stands")
	assert.True(t, paused.Load(), "Sarama does not fetch it")
}

// TestPanicInAssignIsReported: also where a rejoin brings nothing new.
func TestPanicInAssignIsReported(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	r := newRecorder()
	r.onAssign = func(cs []*driver.Claim) {
		if len(cs) == 0 {
			panic("no claims")
		}
	}
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	m.onAssignment(map[string][]int32{"t": {0}}, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	if assert.Len(t, r.errs, 1) {
		assert.Equal(t, "HANDLER_PANIC", testkit.Code(r.errs[0]))
	}
}

// TestCloseWaitsForTheLastQuestion: the goroutine that reads Sarama's errors has brokers
// asked when all else has ended. Close waits for that, too.
func TestCloseWaitsForTheLastQuestion(t *testing.T) {
	cluster := fake(t)
	c := openIdle(t, consumerConfig(cluster.ListenAddrs()))
	var over atomic.Bool
	c.drained.Go(func() {
		<-c.closing
		time.Sleep(100 * time.Millisecond) // by then Close waits
		c.topics.asking.Go(func() {
			time.Sleep(100 * time.Millisecond)
			over.Store(true)
		})
	})
	require.NoError(t, c.Close(within(t, patienceTest)))
	assert.True(t, over.Load())
}

// TestAnotherTopicIsNoBadConnection: the answer to a commit is about a topic that was
// created again. The connection is good.
func TestAnotherTopicIsNoBadConnection(t *testing.T) {
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	var used *ibm.Broker
	_, err := exchange(t.Context(), m.coordinator, func(b *ibm.Broker) (struct{}, error) {
		used = b
		_, err := askTopics(b, m.conf.Version, []string{"t"})
		assert.NoError(t, err)
		return struct{}{}, recreated("t")
	})
	require.ErrorIs(t, err, errRecreated)
	m.coordinator.lane <- struct{}{}
	defer func() { <-m.coordinator.lane }()
	assert.False(t, m.coordinator.stale, "the coordinator is looked up again")
	ok, err := used.Connected()
	assert.NoError(t, err)
	assert.True(t, ok, "the connection was closed")
}

// TestDeadlineOfAnEarlierSession: the deadline of a session passes as another one begins.
func TestDeadlineOfAnEarlierSession(t *testing.T) {
	m := &membership{timeout: time.Minute, base: time.Now(), begun: make(chan struct{}, 1)}
	earlier, now := new(session), new(session)
	m.enter(earlier)
	m.enter(now)
	assert.False(t, m.outlive(earlier))
	assert.NotZero(t, m.deadline(), "of the session")
	assert.True(t, m.outlive(now))
	assert.Zero(t, m.deadline())
}

// TestClaimThatEndsLate: its partition has another claim by then.
func TestClaimThatEndsLate(t *testing.T) {
	cs := newClaims()
	p := partition{Topic: "t"}
	earlier, now := &claim{where: p}, &claim{where: p}
	require.True(t, cs.admit(earlier))
	require.True(t, cs.admit(now))
	cs.remove(earlier)
	assert.Same(t, now, cs.at(p))
	cs.close()
	cs.remove(now)
	cs.remove(now)
	<-cs.empty
}

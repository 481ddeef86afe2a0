package sarama

import (
	"fmt"
	"sync"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
)

// remembered returns how many topics and workers p has.
func (p *producer) remembered() (topics, workers int) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.topics), len(p.workers)
}

// TestIdleTopicsAreForgotten: a process sends to many short-lived topics. What is sent
// to one of them again is stored, in order: the broker, which remembers the numbers of
// what came before, must not take it for that.
func TestIdleTopicsAreForgotten(t *testing.T) {
	for _, idempotent := range []bool{true, false} {
		t.Run(fmt.Sprintf("idempotent=%v", idempotent), func(t *testing.T) {
			const topics = 20
			h, _ := fakeHarness(t)
			cfg := producerConfig(h.brokers)
			cfg.Idempotent = idempotent
			p := openProducer(t, cfg)
			message := func(i int, value string) *driver.Message {
				return &driver.Message{Topic: fmt.Sprint("short-", i), Partition: 0, Value: []byte(value)}
			}
			for i := range topics {
				require.NoError(t, h.CreateTopic(t.Context(), fmt.Sprint("short-", i), 1))
			}
			for round := range 3 {
				for i := range topics {
					require.NoError(t, send(t, p, message(i, fmt.Sprint(round))))
				}
				known, workers := p.remembered()
				require.Equal(t, topics, known)
				require.Equal(t, 1, workers)
				p.sweep() // they have been used since the sweep before
				known, _ = p.remembered()
				require.Equal(t, topics, known)
				require.Eventually(t, func() bool { // what has just become idle may not look so yet
					p.sweep()
					known, workers := p.remembered()
					return known == 0 && workers == 0
				}, patienceTest, time.Millisecond, "topics and workers that are idle stay")
			}
			for i := range topics {
				records, err := h.Read(t.Context(), fmt.Sprint("short-", i), 0)
				require.NoError(t, err)
				assert.Equal(t, []string{"0", "1", "2"}, valuesOf(records), "topic %d", i)
			}
		})
	}
}

// TestWhatIsUnderWayIsNotForgotten: messages that wait for a broker, or for a topic,
// are sent however often what is idle is looked for.
func TestWhatIsUnderWayIsNotForgotten(t *testing.T) {
	h, _ := fakeHarness(t)
	cfg := producerConfig(h.brokers)
	cfg.DeliveryTimeout = patienceTest
	p := openProducer(t, cfg)
	require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	before := p.line.Produces(h.brokers[0])
	heal := h.gate.Stall()
	stalled := hand(t, p, sized("t", 1, 1)...)
	require.Eventually(t, func() bool { return p.line.Produces(h.brokers[0]) > before }, patienceTest, time.Millisecond)
	missing := hand(t, p, &driver.Message{Topic: "late", Partition: 0, Value: []byte("v")})
	for range 3 {
		p.sweep()
	}
	known, workers := p.remembered()
	assert.Equal(t, 2, known)
	assert.Equal(t, 1, workers)
	heal()
	require.NoError(t, h.CreateTopic(t.Context(), "late", 1))
	require.NoError(t, p.Flush(within(t, patienceTest)))
	assert.Equal(t, []error{nil}, stalled.of(0))
	assert.Equal(t, []error{nil}, missing.of(0))
}

// TestForgettingBesideSending: topics and workers are forgotten again and again while
// several goroutines send. Nothing is lost, stored twice or out of order.
func TestForgettingBesideSending(t *testing.T) {
	const goroutines, each = 4, 300
	h, _ := fakeHarness(t, kfake.NumBrokers(2), kfake.SeedTopics(goroutines, "busy"))
	p := openProducer(t, producerConfig(h.brokers))
	stop := make(chan struct{})
	var sweeps, sends sync.WaitGroup
	sweeps.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				p.sweep()
				p.sweep()
			}
		}
	})
	answers := newAcks()
	for g := range goroutines {
		sends.Go(func() {
			for i := range each {
				m := &driver.Message{Topic: "busy", Partition: int32(g), Value: fmt.Append(nil, i), Acker: ack{answers, g*each + i}}
				if !assert.NoError(t, p.Produce(within(t, patienceTest), m)) {
					return
				}
				if i%3 == 0 { // so that a lane is idle at times
					assert.NoError(t, p.Flush(within(t, patienceTest)))
				}
			}
		})
	}
	sends.Wait()
	close(stop)
	sweeps.Wait()
	require.NoError(t, p.Flush(within(t, patienceTest)))
	for i := range goroutines * each {
		require.Equal(t, []error{nil}, answers.of(i), "message %d", i)
	}
	for g := range goroutines {
		records, err := h.Read(t.Context(), "busy", int32(g))
		require.NoError(t, err)
		assert.Equal(t, numbered(0, each), valuesOf(records), "partition %d", g)
	}
}

// TestEpochAfterForgetting: who asks for the identity after a lane was forgotten gets a
// later epoch than that lane had, and none once the epochs are used up.
func TestEpochAfterForgetting(t *testing.T) {
	ids := producerIDs{now: identity{7, 2}}
	for _, c := range []struct{ old, want identity }{
		{noIdentity, identity{7, 2}},
		{identity{6, 9}, identity{7, 2}}, // of a producer ID that was given up
		{identity{7, 1}, identity{7, 2}},
		{identity{7, 2}, identity{7, 3}},
		{identity{7, 8}, identity{7, 9}},
		{identity{7, 32767}, noIdentity},
		{identity{7, 32767}, noIdentity},
	} {
		ids.leave(c.old)
		assert.Equal(t, c.want, ids.current(), "after %v", c.old)
	}
}

// TestBusyWorkersAreNotForgotten: a worker puts lanes back into its own list while it
// serves others, so it takes lanes until it has nothing left to do.
func TestBusyWorkersAreNotForgotten(t *testing.T) {
	for name, w := range map[string]*worker{
		"serves":    {serving: true},
		"has lanes": {lanes: []*lane{{}}},
		"was used":  {used: true},
	} {
		w.wake = make(chan struct{}, 1)
		w.forgetIfIdle()
		assert.True(t, w.push(&lane{}), name)
	}
	idle := &worker{wake: make(chan struct{}, 1)}
	idle.forgetIfIdle()
	assert.False(t, idle.push(&lane{}))
	assert.Len(t, idle.wake, 1, "it must hear of its end")
}

// TestNextWorkerWaitsForTheOneBefore: both use one connection, which the one before
// closes at its end.
func TestNextWorkerWaitsForTheOneBefore(t *testing.T) {
	p := newProducer(producerConfig([]string{"127.0.0.1:1"}), testConfig(t))
	broker := ibm.NewBroker("127.0.0.1:1")
	before := p.workerOf(broker)
	require.Same(t, before, p.workerOf(broker))
	ended := make(chan struct{})
	p.mu.Lock()
	p.workers[broker.ID()] = &worker{p: p, done: ended, forgotten: true}
	p.mu.Unlock()
	next := p.workerOf(broker)
	require.NotSame(t, before, next)
	close(p.stopped)
	<-before.done
	time.Sleep(20 * time.Millisecond) // what should not happen can only be waited for
	select {
	case <-next.done:
		t.Error("the next worker has run before the one before had ended")
	default:
	}
	close(ended)
	p.tasks.Wait()
	p.line.Sever()
}

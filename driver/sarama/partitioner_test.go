package sarama

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// A slowPartitioner waits until it may go on. It notes whether it was called by two
// goroutines at once.
type slowPartitioner struct {
	began chan struct{} // gets one value for each call
	goOn  chan struct{}
	inUse *atomic.Bool
	mixed *atomic.Bool
}

func (s slowPartitioner) Partition(*ibm.ProducerMessage, int32) (int32, error) {
	if s.inUse.Swap(true) {
		s.mixed.Store(true)
	}
	defer s.inUse.Store(false)
	s.began <- struct{}{}
	<-s.goOn
	return 0, nil
}

func (slowPartitioner) RequiresConsistency() bool { return true }

func openSlow(t *testing.T) (*harness, *producer, slowPartitioner) {
	t.Helper()
	h, _ := fakeHarness(t)
	s := slowPartitioner{make(chan struct{}, 1000), make(chan struct{}), new(atomic.Bool), new(atomic.Bool)}
	p := openWith(t, producerConfig(h.brokers), func(c *ibm.Config) {
		c.Producer.Partitioner = func(topic string) ibm.Partitioner {
			if topic == "t" {
				return s
			}
			return newPartitioner(topic)
		}
	})
	return h, p, s
}

// TestNoLockOverThePartitioner: while a partitioner of the user's does not return, what
// is sent to the same topic is accepted, answers of the broker are taken, and Flush ends
// with its context. When it returns, all is sent in order.
func TestNoLockOverThePartitioner(t *testing.T) {
	h, p, slow := openSlow(t)
	require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("first")}))
	answers := newAcks()
	produce := func(id int, partition int32) {
		m := &driver.Message{Topic: "t", Partition: partition, Value: fmt.Append(nil, id), Acker: ack{answers, id}}
		assert.NoError(t, p.Produce(within(t, patienceTest), m))
	}
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		produce(0, -1)
	}()
	<-slow.began
	for id := 1; id < 10; id++ {
		began := time.Now()
		produce(id, int32(id%2)-1)
		assert.Less(t, time.Since(began), time.Second, "message %d waits for the partitioner", id)
	}
	assert.ErrorIs(t, p.Flush(within(t, 100*time.Millisecond)), within(t, 0).Err())
	close(slow.goOn)
	require.NoError(t, p.Flush(within(t, patienceTest)))
	<-returned
	for id := range 10 {
		assert.Equal(t, []error{nil}, answers.of(id), "message %d", id)
	}
	records, err := h.Read(t.Context(), "t", 0)
	require.NoError(t, err)
	assert.Equal(t, append([]string{"first"}, numbered(0, 10)...), valuesOf(records))
	assert.False(t, slow.mixed.Load(), "the partitioner was used by two goroutines at once")
}

// TestCloseBesideAPartitionerThatHangs: Close ends with its context, and each message
// is acknowledged once, as one that was not sent.
func TestCloseBesideAPartitionerThatHangs(t *testing.T) {
	_, p, slow := openSlow(t)
	require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("first")}))
	answers := newAcks()
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		assert.NoError(t, p.Produce(within(t, patienceTest), &driver.Message{Topic: "t", Partition: -1, Acker: ack{answers, 0}}))
	}()
	<-slow.began
	assert.NoError(t, p.Produce(within(t, patienceTest), &driver.Message{Topic: "t", Partition: 0, Acker: ack{answers, 1}}))
	began := time.Now()
	assert.Error(t, p.Close(within(t, 100*time.Millisecond)))
	assert.Less(t, time.Since(began), 5*time.Second)
	close(slow.goOn)
	<-returned
	for id := range 2 {
		got := answers.of(id)
		if assert.Len(t, got, 1, "message %d", id) {
			assert.Error(t, got[0])
		}
	}
}

// TestPartitionerConstructorMayPanic: the message fails, and another topic is served.
func TestPartitionerConstructorMayPanic(t *testing.T) {
	h, _ := fakeHarness(t)
	require.NoError(t, h.CreateTopic(t.Context(), "other", 1))
	p := openWith(t, producerConfig(h.brokers), func(c *ibm.Config) {
		c.Producer.Partitioner = func(topic string) ibm.Partitioner {
			if topic == "t" {
				panic("no idea")
			}
			return newPartitioner(topic)
		}
	})
	for range 2 {
		assert.ErrorContains(t, send(t, p, &driver.Message{Topic: "t", Partition: -1, Value: []byte("v")}), "panicked: no idea")
		assert.NoError(t, send(t, p, &driver.Message{Topic: "other", Partition: -1, Value: []byte("v")}))
	}
}

// TestNothingEntersALaneAfterTheEnd: a partitioner returns when Close has given up what
// waited. The message does not join lanes that nothing empties.
func TestNothingEntersALaneAfterTheEnd(t *testing.T) {
	p := newProducer(producerConfig([]string{"127.0.0.1:1"}), testConfig(t))
	tp := newTopic(p, "t")
	tp.update(view{all: []int32{0}, writable: []int32{0}})
	p.line.Sever()
	err := tp.chosen(messageSlot("v"), 0, nil)
	require.ErrorContains(t, err, "PRODUCER_CLOSED")
	assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
	assert.Empty(t, tp.lanes)
}

// TestProduceReturnsAfterItsOwnMessage: others wait behind it for a slow partitioner. One
// caller would otherwise place the messages of all others, as long as these go on.
func TestProduceReturnsAfterItsOwnMessage(t *testing.T) {
	h, p, slow := openSlow(t)
	require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("first")}))
	answers := newAcks()
	produce := func(id int) {
		m := &driver.Message{Topic: "t", Partition: -1, Value: fmt.Append(nil, id), Acker: ack{answers, id}}
		assert.NoError(t, p.Produce(within(t, patienceTest), m))
	}
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		produce(0)
	}()
	<-slow.began
	for id := 1; id < 10; id++ {
		produce(id)
	}
	slow.goOn <- struct{}{}
	select {
	case <-returned:
	case <-time.After(patienceTest):
		assert.Fail(t, "Produce places the messages behind its own")
	}
	close(slow.goOn)
	<-returned
	require.NoError(t, p.Flush(within(t, patienceTest)))
	records, err := h.Read(t.Context(), "t", 0)
	require.NoError(t, err)
	assert.Equal(t, append([]string{"first"}, numbered(0, 10)...), valuesOf(records))
	assert.False(t, slow.mixed.Load(), "the partitioner was used by two goroutines at once")
}

// TestExpiryUnderAPartitioner: a message expires while a partitioner has it. It is given up
// as soon as the partitioner returns.
func TestExpiryUnderAPartitioner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := producerConfig([]string{"127.0.0.1:1"})
		cfg.DeliveryTimeout = time.Minute
		p := newProducer(cfg, testConfig(t))
		defer p.line.Sever()
		tp := newTopic(p, "t")
		tp.update(view{all: []int32{0}, writable: []int32{0}})
		s := messageSlot("v")
		s.accepted = time.Now()
		tp.pending = []*slot{s}
		taken, _, _ := tp.next()
		require.Same(t, s, taken)
		time.Sleep(40 * time.Second)
		assert.Equal(t, s.accepted.Add(time.Minute), tp.expire(), "the next look, at its end")
		time.Sleep(20 * time.Second)
		assert.Equal(t, time.Now().Add(askAgain), tp.expire(), "the next look, while the partitioner has it")
		assert.True(t, s.pending.Load(), "the partitioner reads it")
		assert.ErrorContains(t, tp.chosen(s, 0, nil), "DeliveryTimeout has passed before it could be sent")
		assert.Empty(t, tp.lanes)
	})
}

package sarama

import (
	"net"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// TestRefusedSequencesEnd: a broker that keeps refusing the producer's numbers is tried
// as often as MaxRetries says, and not forever, though each attempt is another batch.
func TestRefusedSequencesEnd(t *testing.T) {
	cluster := fake(t)
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.MaxRetries, cfg.RetryBackoff = 2, 10*time.Millisecond
	p := openProducer(t, cfg)
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.OutOfOrderSequenceNumber, Count: 1000})
	err := send(t, p, sized("t", 1, 1)[0])
	require.Error(t, err)
	assert.ErrorContains(t, err, "OUT_OF_ORDER_SEQUENCE_NUMBER")
}

// TestPendingMessagesAreNotOvertaken: a topic's partitions become known while messages
// wait for that. Later messages go behind these.
func TestPendingMessagesAreNotOvertaken(t *testing.T) {
	p := newProducer(producerConfig([]string{"127.0.0.1:1"}), testConfig(t))
	tp := newTopic(p, "t")
	tp.looking = true // no look-up: the test plays it
	first, second := messageSlot("first"), messageSlot("second")
	admit := func(s *slot) {
		ahead, err := tp.admit(s)
		require.NoError(t, err)
		assert.NotZero(t, ahead)
	}
	admit(first)
	tp.update(view{all: []int32{0}, writable: []int32{0}}) // as refreshAll does
	admit(second)
	assert.Equal(t, []*slot{first, second}, tp.pending)
	accepted := first.accepted
	tp.placeAll()
	require.NotNil(t, tp.lanes[0])
	assert.Same(t, first, tp.lanes[0].queue.at(0))
	assert.Same(t, second, tp.lanes[0].queue.at(1))
	assert.Equal(t, accepted, first.accepted, "DeliveryTimeout counts from here")
}

// TestSlotsAreFreedOnce: a batch of which a message has expired frees its slot when it
// is done with, by the same answer that ends the others.
func TestSlotsAreFreedOnce(t *testing.T) {
	p := newProducer(producerConfig([]string{"127.0.0.1:1"}), testConfig(t))
	tp := newTopic(p, "t")
	l := &lane{topic: tp, known: true, producer: noIdentity, state: sent}
	expired, other := messageSlot("expired"), messageSlot("other")
	l.batch = newOutBatch(l, []*slot{expired, other}, 100)
	b := l.batch
	expired.pending.Store(false)
	b.parted = 1
	endings := b.fail(answer{err: kerrAnswer})
	require.Len(t, endings, 2)
	assert.Equal(t, []*slot{other}, endings[0].slots)
	assert.Equal(t, []*slot{expired}, endings[1].free)
	assert.Nil(t, l.batch)
}

func topicOf(t *testing.T, p *producer, name string) *topic {
	t.Helper()
	tp, err := p.topic(name)
	require.NoError(t, err)
	return tp
}

var kerrAnswer = refusal(ibm.ErrUnsupportedVersion, "refused")

func messageSlot(value string) *slot {
	s := new(slot)
	s.message.Value = s
	s.fill(&driver.Message{Topic: "t", Partition: 0, Value: []byte(value)})
	return s
}

func testConfig(t *testing.T) *ibm.Config {
	t.Helper()
	conf, err := Driver{}.producerConfig(producerConfig([]string{"127.0.0.1:1"}))
	require.NoError(t, err)
	return conf
}

// TestFlushSendsWhatWaitsBehindANewerMessage: two goroutines take their slots in one
// order and push them in the other, and a Flush begins in between. It waits for the
// message that lies behind, so none before it may linger.
func TestFlushSendsWhatWaitsBehindANewerMessage(t *testing.T) {
	cluster := fake(t)
	p := openWith(t, producerConfig(cluster.ListenAddrs()), lingerLong)
	require.NoError(t, p.client.RefreshMetadata("t"))
	answers := newAcks()
	take := func(id int) *slot {
		m := &driver.Message{Topic: "t", Partition: 0, Value: []byte("v"), Acker: ack{answers, id}}
		s, err := p.buffer.add(t.Context(), cost(m), p.hurry)
		require.NoError(t, err)
		s.fill(m)
		return s
	}
	older := take(0)
	flushed := make(chan error, 1)
	go func() { flushed <- p.Flush(within(t, patienceTest)) }()
	require.Eventually(t, func() bool { return p.buffer.due.Load() > older.epoch }, patienceTest, time.Millisecond)
	topicOf(t, p, "t").accept(take(1))
	topicOf(t, p, "t").accept(older)
	assert.NoError(t, <-flushed)
	assert.Equal(t, []error{nil}, answers.of(0))
}

// TestAnOlderRefreshClearsNoDoubt: a leader turns out to be wrong while the cluster is
// being asked for another reason. That answer may still be the wrong one.
func TestAnOlderRefreshClearsNoDoubt(t *testing.T) {
	p := newProducer(producerConfig([]string{"127.0.0.1:1"}), testConfig(t))
	tp := newTopic(p, "t")
	known := view{all: []int32{0}, writable: []int32{0}}
	tp.update(known)
	asOf, stale := tp.doubted()
	require.False(t, stale)
	tp.doubt()
	known.asOf = asOf
	tp.update(known) // the answer to what was asked before the doubt
	asOf, stale = tp.doubted()
	assert.True(t, stale, "the doubt is gone without a question")
	known.asOf = asOf
	tp.update(known)
	_, stale = tp.doubted()
	assert.False(t, stale, "the cluster was asked after the doubt")
}

// TestWhatOtherBrokersAreSentProvesNothing: a request that could not be written has
// certainly not been sent, though a request to another broker was written meanwhile.
func TestWhatOtherBrokersAreSentProvesNothing(t *testing.T) {
	hangUp := make(chan struct{})
	silent := func(net.Conn) { <-hangUp }
	addr, other := port(t, silent), port(t, silent)
	p := newProducer(producerConfig([]string{addr, other}), testConfig(t))
	defer p.line.Sever()
	l := &lane{topic: newTopic(p, "t"), producer: noIdentity}
	l.batch = newOutBatch(l, []*slot{messageSlot("v")}, 100)
	broker := ibm.NewBroker(addr)
	require.NoError(t, broker.Open(on(p.line, p.conf, patienceTest))) // waits for the broker's versions
	type result struct {
		err  error
		sent bool
	}
	done := make(chan result, 1)
	go func() {
		_, err, sent := (&worker{p: p}).ask(broker, []*outBatch{l.batch})
		done <- result{err, sent}
	}()
	settled(t, "waits for the connection", ".(*Broker).AsyncProduce(", 1)
	conn, err := p.line.Dial("tcp", other)
	require.NoError(t, err)
	_, err = conn.Write(append([]byte{0, 0, 0, 20, 0, 0, 0, 7, 0, 0, 0, 1, 0xff, 0xff}, make([]byte, 10)...)) // a request to append
	require.NoError(t, err)
	require.Equal(t, int64(1), p.line.Produces(other))
	close(hangUp)
	r := <-done
	assert.Error(t, r.err)
	assert.False(t, r.sent, "whether the request was sent is unknown")
}

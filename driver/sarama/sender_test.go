package sarama

import (
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
	require.NoError(t, tp.admit(first))
	tp.update(view{all: []int32{0}, writable: []int32{0}}) // as refreshAll does
	require.NoError(t, tp.admit(second))
	assert.Equal(t, []*slot{first, second}, tp.pending)
	accepted := first.accepted
	assert.Empty(t, tp.route(nil))
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

package sarama

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// TestFault_H11_BrokenProducerID: a producer without an ID would not be idempotent.
func TestFault_H11_BrokenProducerID(t *testing.T) {
	cluster := fake(t)
	cluster.ControlKey(int16(kmsg.InitProducerID), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := r.ResponseKind().(*kmsg.InitProducerIDResponse)
		resp.ProducerID, resp.ProducerEpoch = -1, -1
		return resp, nil, true
	})
	_, err := Driver{}.OpenProducer(within(t, patienceTest), producerConfig(cluster.ListenAddrs()))
	require.ErrorContains(t, err, "INVALID_RESPONSE")
	require.ErrorContains(t, err, "a negative identity, and no error")
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.Idempotent = false
	require.NoError(t, send(t, openProducer(t, cfg), sized("t", 1, 1)[0]), "without idempotence no ID is needed")
}

// TestUsedUpEpochs: when the epochs of a producer ID are used up, the producer asks for
// another ID, and sends nothing without one.
func TestUsedUpEpochs(t *testing.T) {
	h, cluster := fakeHarness(t)
	cfg := producerConfig(h.brokers)
	cfg.MaxRetries, cfg.RetryBackoff = 20, 10*time.Millisecond
	p := openProducer(t, cfg)
	require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	l := topicOf(t, p, "t").lanes[0]
	old := l.producer
	require.NotEqual(t, noIdentity, old)
	l.producer.epoch = 1<<15 - 1
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.UnknownServerError, Count: 1})
	require.ErrorIs(t, send(t, p, sized("t", 1, 1)[0]), driver.ErrUnknownOutcome)
	require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	assert.NotEqual(t, old.id, l.producer.id, "the producer ID")
	assert.Equal(t, int16(0), l.producer.epoch)
}

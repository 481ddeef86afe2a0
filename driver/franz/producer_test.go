package franz

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func openProducer(t testing.TB, cfg driver.ProducerConfig) *producer {
	t.Helper()
	p, err := Driver{}.OpenProducer(within(t, patienceTest), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := p.Close(within(t, 5*time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			assert.NoError(t, err)
		}
	})
	return p.(*producer)
}

// send sends one message and returns the error of its acknowledgement.
func send(t testing.TB, p *producer, m *driver.Message) error {
	t.Helper()
	answers := newAcks()
	m.Acker = ack{answers, 0}
	require.NoError(t, p.Produce(within(t, patienceTest), m))
	require.NoError(t, p.Flush(within(t, patienceTest)))
	got := answers.of(0)
	require.Len(t, got, 1, "acknowledgements")
	return got[0]
}

// errCertain stands for an error that is neither permanent nor of an unknown outcome.
var errCertain = errors.New("certain")

// TestOutcomes injects one answer of the broker for each way to fail.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	cases := []struct {
		fault *kerr.Error
		count int // -1 is forever
		code  string
		kind  error // nil is stored
	}{
		{kerr.NotLeaderForPartition, 3, "", nil},
		{kerr.RequestTimedOut, 2, "", nil},
		{kerr.NotEnoughReplicas, 3, "", nil},
		{kerr.NotEnoughReplicasAfterAppend, 2, "", nil},
		{kerr.KafkaStorageError, 3, "", nil},
		{kerr.MessageTooLarge, 1, "MESSAGE_TOO_LARGE", driver.ErrPermanent},
		{kerr.TopicAuthorizationFailed, 1, "TOPIC_AUTHORIZATION_FAILED", driver.ErrPermanent},
		{kerr.InvalidRecord, 1, "INVALID_RECORD", driver.ErrPermanent},
		{kerr.InvalidTimestamp, 1, "INVALID_TIMESTAMP", driver.ErrPermanent},
		{kerr.UnknownServerError, 1, "UNKNOWN_SERVER_ERROR", driver.ErrUnknownOutcome},
		{kerr.RequestTimedOut, -1, "REQUEST_TIMED_OUT", driver.ErrUnknownOutcome},
		{kerr.NotEnoughReplicas, -1, "NOT_ENOUGH_REPLICAS", errCertain}, // refused before it was appended, each time
		{kerr.NotLeaderForPartition, -1, "NOT_LEADER_OR_FOLLOWER", driver.ErrUnknownOutcome},
	}
	for _, idempotent := range []bool{true, false} {
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s/%d/idempotent=%v", c.fault.Message, c.count, idempotent), func(t *testing.T) {
				cluster := fake(t)
				cfg := producerConfig(cluster.ListenAddrs())
				cfg.Idempotent, cfg.MaxRetries, cfg.RetryBackoff = idempotent, 4, 5*time.Millisecond
				p := openProducer(t, cfg)
				h := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: c.fault, Count: c.count})
				err := send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("v")})
				h.Remove()
				switch c.kind {
				case nil:
					assert.NoError(t, err)
				case errCertain:
					wantError(t, err, c.code, false)
					assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
				default:
					assert.ErrorIs(t, err, c.kind)
					assert.Equal(t, c.code, testkit.Code(err), "code of %v", err)
				}
				// The message after it succeeds.
				assert.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("next")}))
			})
		}
	}
}

// TestRefusalAfterAnUnknownAttemptIsUnknown: a broker refuses a message, but an earlier
// attempt may have stored it.
func TestRefusalAfterAnUnknownAttemptIsUnknown(t *testing.T) {
	cluster := fake(t)
	p := openProducer(t, producerConfig(cluster.ListenAddrs()))
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge, Count: 1},
	)
	err := send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("v")})
	assert.ErrorIs(t, err, driver.ErrUnknownOutcome)
}

func TestOutcomeOfAMessageThatWasNotSentIsCertain(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.MaxMessageBytes = 1000
	p := openProducer(t, cfg)
	cases := []struct {
		name string
		m    driver.Message
		code string
	}{
		{"too large", driver.Message{Topic: "t", Partition: -1, Value: make([]byte, 2000)}, "MESSAGE_TOO_LARGE"},
		{"unknown topic", driver.Message{Topic: "missing", Partition: -1}, "UNKNOWN_TOPIC_OR_PARTITION"},
		{"unknown partition", driver.Message{Topic: "t", Partition: 7}, "UNKNOWN_TOPIC_OR_PARTITION"},
		{"no topic", driver.Message{Partition: -1}, "INVALID_TOPIC_EXCEPTION"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := send(t, p, &c.m)
			assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
			assert.Equal(t, c.code, testkit.Code(err), "code of %v", err)
		})
	}
}

// TestRetriesOutlastAnOutage: retries that go on for longer than an outage lose
// nothing, and the first message after it succeeds, once there is a
// broker.
func TestRetriesOutlastAnOutage(t *testing.T) {
	testkit.Slow(t, "waits for an outage to end")
	t.Parallel()
	h, cluster := fakeHarness(t, kfake.SeedTopics(4, "out"))
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.MaxRetries, cfg.RetryBackoff = 500, 20*time.Millisecond
	p := openProducer(t, cfg)
	answers := newAcks()
	const n = 400
	for i := range n {
		if i == n/4 {
			heal := h.gate.Cut()
			time.AfterFunc(2*time.Second, heal)
		}
		m := &driver.Message{Topic: "out", Partition: int32(i % 4), Value: fmt.Append(nil, i), Acker: ack{answers, i}}
		require.NoError(t, p.Produce(within(t, patienceTest), m))
		time.Sleep(5 * time.Millisecond)
	}
	require.NoError(t, p.Flush(within(t, patienceTest)))
	for i := range n {
		require.Equal(t, []error{nil}, answers.of(i), "acknowledgements of message %d", i)
	}
	for id := range int32(4) {
		records, err := h.Read(t.Context(), "out", id)
		require.NoError(t, err)
		last := -1
		for _, r := range records {
			var i int
			fmt.Sscan(string(r.Value), &i)
			require.Greater(t, i, last, "order of partition %d", id)
			last = i
		}
		assert.Len(t, records, n/4, "records of partition %d", id)
	}
}

// TestSendSucceedsAsSoonAsABrokerIsTrusted: while no broker can be trusted, a message
// fails with that reason and a certain outcome. The first one after that is sent.
func TestSendSucceedsAsSoonAsABrokerIsTrusted(t *testing.T) {
	t.Parallel()
	good, pool := certificate(t)
	foreign, _ := certificate(t)
	var shown atomic.Pointer[tls.Certificate]
	shown.Store(&good)
	h, _ := fakeHarness(t, kfake.TLS(&tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return shown.Load(), nil },
	}))
	cfg := producerConfig(h.brokers)
	cfg.TLS, cfg.MaxRetries = &tls.Config{RootCAs: pool}, 2
	p := openProducer(t, cfg)
	message := func() *driver.Message { return &driver.Message{Topic: "t", Partition: 0, Value: []byte("v")} }
	require.NoError(t, send(t, p, message()))
	shown.Store(&foreign)
	h.gate.Cut()()
	_ = send(t, p, message()) // this one may have been on the connection
	for i := range 5 {
		err := send(t, p, message())
		assert.Equal(t, "TLS_HANDSHAKE_FAILED", testkit.Code(err), "code of message %d: %v", i, err)
		assert.NotErrorIs(t, err, driver.ErrUnknownOutcome, "message %d", i)
	}
	shown.Store(&good)
	assert.NoError(t, send(t, p, message()), "the first message after that")
}

func TestNoResponseGivesNoOffset(t *testing.T) {
	cluster := fake(t)
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.Idempotent, cfg.RequiredAcks = false, driver.NoResponse
	m := &driver.Message{Topic: "t", Partition: -1, Value: []byte("v")}
	assert.NoError(t, send(t, openProducer(t, cfg), m))
	assert.Equal(t, int64(-1), m.Offset)
	assert.Zero(t, m.Partition)
}

// javaPartition is Java's BuiltInPartitioner.partitionForKey, written down from
// org.apache.kafka.common.utils.Utils.murmur2.
func javaPartition(key string, partitions int32) int32 {
	const m, r = 0x5bd1e995, 24
	data := []byte(key)
	h := uint32(0x9747b28c) ^ uint32(len(data))
	for len(data) >= 4 {
		k := uint32(data[0]) | uint32(data[1])<<8 | uint32(data[2])<<16 | uint32(data[3])<<24
		k *= m
		k ^= k >> r
		k *= m
		h = h*m ^ k
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return int32(h&0x7fffffff) % partitions
}

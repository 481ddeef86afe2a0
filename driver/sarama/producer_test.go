package sarama

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ibm "github.com/IBM/sarama"
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

// TestReasonOfAnOutage: the refusal of a topic does not explain why no broker can
// be reached. The refusal of a password does, until a broker has answered.
func TestReasonOfAnOutage(t *testing.T) {
	t.Parallel()
	m := &reasons{}
	for _, step := range []struct {
		noted     error
		permanent bool
	}{
		{ibm.ErrTopicAuthorizationFailed, false},
		{ibm.ErrInvalidTopic, false},
		{ibm.ErrOutOfBrokers, false},
		{ibm.ErrSASLAuthenticationFailed, true},
		{ibm.ErrOutOfBrokers, true}, // Sarama says why at the first attempt only
		{ibm.ErrTopicAuthorizationFailed, false},
		{ibm.ErrSASLAuthenticationFailed, true},
		{ibm.ErrUnknownTopicOrPartition, false}, // an answer
		{ibm.ErrSASLAuthenticationFailed, true},
		{nil, false},
	} {
		m.note(step.noted)
		assert.Equal(t, step.permanent, isPermanent(wrap(m.blame(ibm.ErrOutOfBrokers))), "an outage is permanent after %v", step.noted)
	}
}

// TestRetriesOutlastAnOutage: retries that go on for longer than an outage lose
// nothing, and the first message after it succeeds, in spite of Sarama's circuit
// breaker.
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
// Sarama's circuit breaker would be open for ten seconds.
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

func TestHeadersArriveWhole(t *testing.T) {
	cluster := fake(t)
	p := openProducer(t, producerConfig(cluster.ListenAddrs()))
	var headers []driver.Header
	for i := range 2000 {
		headers = append(headers, driver.Header{Key: fmt.Sprint("k", i%3), Value: bytes.Repeat([]byte{byte(i)}, i%50)})
	}
	headers = append(headers, driver.Header{Key: "", Value: nil}, driver.Header{Key: "big", Value: make([]byte, 500_000)})
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: -1, Headers: headers, Timestamp: at}))
	var got driver.Record
	r := newRecorder()
	r.onRecord = func(_ *driver.Claim, rec driver.Record) { got = rec }
	start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.waitRecords(t, 1)
	assert.Nil(t, got.Key)
	assert.Nil(t, got.Value)
	assert.WithinDuration(t, at, got.Timestamp, 0)
	require.Len(t, got.Headers, len(headers))
	for i, h := range headers {
		assert.Equal(t, h.Key, got.Headers[i].Key, "key of header %d", i)
		assert.True(t, bytes.Equal(h.Value, got.Headers[i].Value), "value of header %d", i)
	}
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

func TestPartitioner(t *testing.T) {
	p := newPartitioner("t")
	message := func(partition int32, key []byte, size int) *ibm.ProducerMessage {
		s := &slot{user: &driver.Message{Partition: partition, Key: key, Value: make([]byte, size)}}
		s.message.Value = s
		s.fill(s.user)
		return &s.message
	}
	for _, key := range []string{"", "1", "21", "foobar", "a-little-bit-long-string", "\xff\x00\xfe"} {
		got, err := p.Partition(message(-1, []byte(key), 1), 1000)
		assert.NoError(t, err, "key %q", key)
		assert.Equal(t, javaPartition(key, 1000), got, "key %q", key)
	}
	changes, last, seen := 0, int32(-1), map[int32]bool{}
	for range 16 * 100 {
		got, err := p.Partition(message(-1, nil, 1024), 8)
		require.NoError(t, err)
		require.GreaterOrEqual(t, got, int32(0))
		require.Less(t, got, int32(8))
		if got != last {
			changes++
		}
		last, seen[got] = got, true
	}
	assert.Len(t, seen, 8, "partitions used without a key")
	assert.LessOrEqual(t, changes, 100, "changes of the partition in 100 batches without a key")
	got, err := p.Partition(message(-1, nil, 1), 1)
	assert.NoError(t, err)
	assert.Zero(t, got, "with fewer partitions than before")
}

// TestBuffer fills the buffer in virtual time.
func TestBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer()
		full, err := b.add(t.Context(), bufferBytes+1, func() {})
		require.NoError(t, err, "a message that is larger than the buffer may pass alone")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = b.add(ctx, 1, func() {})
		assert.ErrorIs(t, err, context.DeadlineExceeded, "add to a full buffer")
		flushed := make(chan error, 1)
		go func() { flushed <- b.flush(t.Context(), func() {}) }()
		added := make(chan error, 2)
		for range 2 {
			go func() {
				_, err := b.add(t.Context(), 1, func() {})
				added <- err
			}()
		}
		synctest.Wait()
		full.fill(&driver.Message{Acker: ack{newAcks(), 0}})
		b.ack([]*slot{full}, func(int, *slot) error { return nil })
		assert.NoError(t, errors.Join(<-added, <-added, <-flushed))
		closing := make(chan struct{})
		assert.True(t, b.close(closing), "the first close")
		assert.False(t, b.close(closing), "the second close")
		_, err = b.add(t.Context(), 1, func() {})
		assert.ErrorIs(t, err, driver.ErrClosed, "add after close")
	})
}

// TestAbandonedMessagesAreAcknowledgedOnce lets answers come while the buffer is being
// abandoned.
func TestAbandonedMessagesAreAcknowledgedOnce(t *testing.T) {
	const n = 1000
	b := newBuffer()
	answers := newAcks()
	var drains sync.WaitGroup
	slots := make(chan *slot, n)
	for i := range n {
		m := &driver.Message{Acker: ack{answers, i}}
		s, err := b.add(t.Context(), cost(m), func() {})
		require.NoError(t, err)
		s.fill(m)
		slots <- s
	}
	close(slots)
	for range 2 {
		drains.Go(func() {
			for s := range slots {
				b.ack([]*slot{s}, func(int, *slot) error { return nil })
			}
		})
	}
	b.abandon(abandoned(context.DeadlineExceeded, true))
	total := 0
	for i := range n {
		total += len(answers.of(i))
	}
	assert.Equal(t, n, total, "acknowledgements when abandon had returned")
	drains.Wait()
	for i := range n {
		require.Len(t, answers.of(i), 1, "acknowledgements of message %d", i)
	}
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

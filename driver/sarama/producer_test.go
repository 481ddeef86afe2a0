package sarama

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func openProducer(t testing.TB, cfg driver.ProducerConfig) *producer {
	t.Helper()
	p, err := Driver{}.OpenProducer(within(t, patienceTest), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(within(t, 5*time.Second)); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close = %v", err)
		}
	})
	return p.(*producer)
}

// send sends one message and returns what its acknowledgement says.
func send(t testing.TB, p *producer, m *driver.Message) error {
	t.Helper()
	answers := newAcks()
	m.Acker = ack{answers, 0}
	if err := p.Produce(within(t, patienceTest), m); err != nil {
		t.Fatal(err)
	}
	if err := p.Flush(within(t, patienceTest)); err != nil {
		t.Fatal(err)
	}
	got := answers.of(0)
	if len(got) != 1 {
		t.Fatalf("%d acknowledgements", len(got))
	}
	return got[0]
}

// errCertain stands for an error that is neither permanent nor of an unknown outcome.
var errCertain = errors.New("certain")

// TestOutcomes injects one answer of the broker for each way to fail.
func TestOutcomes(t *testing.T) {
	cases := []struct {
		fault *kerr.Error
		count int // -1 is for ever
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
				var de *driver.Error
				switch {
				case c.kind == nil && err != nil:
					t.Errorf("ack = %v, want nil", err)
				case c.kind == errCertain:
					if errors.Is(err, driver.ErrUnknownOutcome) || errors.Is(err, driver.ErrPermanent) || !errors.As(err, &de) || de.Code != c.code {
						t.Errorf("ack = %v, want a certain %s that may pass", err, c.code)
					}
				case c.kind != nil && (!errors.Is(err, c.kind) || !errors.As(err, &de) || de.Code != c.code):
					t.Errorf("ack = %v, want %s (%v)", err, c.code, c.kind)
				}
				// What comes after is not harmed.
				if err := send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("next")}); err != nil {
					t.Errorf("the next message: ack = %v", err)
				}
			})
		}
	}
}

// TestATruthOfOneAttemptOnly: the last answer proves nothing when an earlier one
// was lost.
func TestATruthOfOneAttemptOnly(t *testing.T) {
	cluster := fake(t)
	p := openProducer(t, producerConfig(cluster.ListenAddrs()))
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.MessageTooLarge, Count: 1},
	)
	err := send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("v")})
	if !errors.Is(err, driver.ErrUnknownOutcome) {
		t.Errorf("ack = %v, want an unknown outcome", err)
	}
}

func TestNeverSentIsNeverUnknown(t *testing.T) {
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
			var de *driver.Error
			if errors.Is(err, driver.ErrUnknownOutcome) || !errors.As(err, &de) || de.Code != c.code {
				t.Errorf("ack = %v, want %s", err, c.code)
			}
		})
	}
}

// TestReasonOfAnOutage: that one topic is refused is no reason why brokers can not
// be reached; that they refuse the password is, until one has answered.
func TestReasonOfAnOutage(t *testing.T) {
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
		if got := isPermanent(wrap(m.blame(ibm.ErrOutOfBrokers))); got != step.permanent {
			t.Errorf("after %v an outage is permanent: %v, want %v", step.noted, got, step.permanent)
		}
	}
}

// TestRetriesOutlastAnOutage is about Sarama's circuit breaker: retries that go
// on for longer than an outage lose nothing, and the first message after it does
// not fail either.
func TestRetriesOutlastAnOutage(t *testing.T) {
	testkit.Slow(t, "waits for an outage to end")
	h, cluster := fakeHarness(t, kfake.SeedTopics(4, "out"))
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.MaxRetries, cfg.RetryBackoff = 500, 20*time.Millisecond
	p := openProducer(t, cfg)
	answers := newAcks()
	const n = 400
	for i := range n {
		if i == n/4 {
			heal := h.gate.cut()
			time.AfterFunc(2*time.Second, heal)
		}
		m := &driver.Message{Topic: "out", Partition: int32(i % 4), Value: fmt.Append(nil, i), Acker: ack{answers, i}}
		if err := p.Produce(within(t, patienceTest), m); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := p.Flush(within(t, patienceTest)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if got := answers.of(i); !slices.Equal(got, []error{nil}) {
			t.Fatalf("message %d: %v", i, got)
		}
	}
	for id := range int32(4) {
		records, err := h.Read(t.Context(), "out", id)
		if err != nil {
			t.Fatal(err)
		}
		last := -1
		for _, r := range records {
			var i int
			fmt.Sscan(string(r.Value), &i)
			if i <= last {
				t.Fatalf("partition %d: %d after %d", id, i, last)
			}
			last = i
		}
		if len(records) != n/4 {
			t.Errorf("partition %d has %d records, want %d", id, len(records), n/4)
		}
	}
}

// TestTrustThatComesBack: while the brokers can not be trusted a message fails
// with the reason, and certainly; and the first one after that is sent. Sarama's
// circuit breaker would be open for ten seconds.
func TestTrustThatComesBack(t *testing.T) {
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
	if err := send(t, p, message()); err != nil {
		t.Fatal(err)
	}
	shown.Store(&foreign)
	h.gate.cut()()
	_ = send(t, p, message()) // this one may have been on the connection
	for i := range 5 {
		err := send(t, p, message())
		var de *driver.Error
		if !errors.As(err, &de) || de.Code != "TLS_HANDSHAKE_FAILED" || errors.Is(err, driver.ErrUnknownOutcome) {
			t.Errorf("message %d: ack = %v, want a certain TLS_HANDSHAKE_FAILED", i, err)
		}
	}
	shown.Store(&good)
	if err := send(t, p, message()); err != nil {
		t.Errorf("the first message after that: ack = %v", err)
	}
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
	if err := send(t, p, &driver.Message{Topic: "t", Partition: -1, Headers: headers, Timestamp: at}); err != nil {
		t.Fatal(err)
	}
	var got driver.Record
	r := newRecorder()
	r.onRecord = func(_ *driver.Claim, rec driver.Record) { got = rec }
	start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.waitRecords(t, 1)
	if got.Key != nil || got.Value != nil || !got.Timestamp.Equal(at) {
		t.Errorf("key %v, value %v, timestamp %v", got.Key, got.Value, got.Timestamp)
	}
	same := func(a, b driver.Header) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }
	if !slices.EqualFunc(got.Headers, headers, same) {
		t.Errorf("%d headers arrived of %d, or other ones", len(got.Headers), len(headers))
	}
}

func TestNoResponseGivesNoOffset(t *testing.T) {
	cluster := fake(t)
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.Idempotent, cfg.RequiredAcks = false, driver.NoResponse
	m := &driver.Message{Topic: "t", Partition: -1, Value: []byte("v")}
	if err := send(t, openProducer(t, cfg), m); err != nil || m.Offset != -1 || m.Partition != 0 {
		t.Errorf("ack = %v, partition %d, offset %d", err, m.Partition, m.Offset)
	}
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
		if want := javaPartition(key, 1000); err != nil || got != want {
			t.Errorf("key %q goes to %d, %v, want %d", key, got, err, want)
		}
	}
	if got, err := p.Partition(message(3, []byte("k"), 1), 4); err != nil || got != 3 {
		t.Errorf("an explicit partition became %d, %v", got, err)
	}
	for _, none := range []int32{4, -2} {
		if got, err := p.Partition(message(none, []byte("k"), 1), 4); !errors.Is(err, ibm.ErrUnknownTopicOrPartition) {
			t.Errorf("partition %d, which does not exist, became %d, %v", none, got, err)
		}
	}
	changes, last, seen := 0, int32(-1), map[int32]bool{}
	for range 16 * 100 {
		got, err := p.Partition(message(-1, nil, 1024), 8)
		if err != nil || got < 0 || got >= 8 {
			t.Fatalf("Partition = %d, %v", got, err)
		}
		if got != last {
			changes++
		}
		last, seen[got] = got, true
	}
	if len(seen) != 8 || changes > 100 {
		t.Errorf("without a key %d partitions were used, changing %d times in 100 batches", len(seen), changes)
	}
	if got, err := p.Partition(message(-1, nil, 1), 1); err != nil || got != 0 {
		t.Errorf("with fewer partitions than before: %d, %v", got, err)
	}
}

// TestBuffer fills the buffer in virtual time.
func TestBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBuffer()
		full, err := b.add(t.Context(), bufferBytes+1, func() {})
		if err != nil {
			t.Fatal(err) // what is larger than the buffer may pass alone
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.add(ctx, 1, func() {}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("add to a full buffer = %v", err)
		}
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
		if err := errors.Join(<-added, <-added, <-flushed); err != nil {
			t.Error(err)
		}
		closing := make(chan struct{})
		if !b.close(closing) || b.close(closing) {
			t.Error("close does not tell the first time from the second")
		}
		if _, err := b.add(t.Context(), 1, func() {}); !errors.Is(err, driver.ErrClosed) {
			t.Errorf("add after close = %v", err)
		}
	})
}

// TestAbandonedOnce lets answers come while the buffer is being abandoned.
func TestAbandonedOnce(t *testing.T) {
	const n = 1000
	b := newBuffer()
	answers := newAcks()
	var drains sync.WaitGroup
	slots := make(chan *slot, n)
	for i := range n {
		m := &driver.Message{Acker: ack{answers, i}}
		s, err := b.add(t.Context(), cost(m), func() {})
		if err != nil {
			t.Fatal(err)
		}
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
	if total != n {
		t.Errorf("when abandon had returned, %d of %d were acknowledged", total, n)
	}
	drains.Wait()
	for i := range n {
		if got := answers.of(i); len(got) != 1 {
			t.Fatalf("message %d was acknowledged %d times", i, len(got))
		}
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

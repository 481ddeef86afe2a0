package sarama

import (
	"bytes"
	"fmt"
	"math"
	"slices"
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
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// produceTogether hands over all messages while no broker answers, so that they
// go in few and large batches, and returns the error of each acknowledgement.
func produceTogether(t testing.TB, h *harness, p *producer, messages ...*driver.Message) []error {
	t.Helper()
	// The first message goes alone, and holds up the others.
	first := newAcks()
	stalled := h.gate.Stall()
	require.NoError(t, p.Produce(within(t, patienceTest), &driver.Message{
		Topic: messages[0].Topic, Partition: 0, Value: []byte("first"), Key: []byte("k"), Acker: ack{first, 0},
	}))
	answers := newAcks()
	for i, m := range messages {
		m.Acker = ack{answers, i}
		require.NoError(t, p.Produce(within(t, patienceTest), m))
	}
	stalled()
	require.NoError(t, p.Flush(within(t, patienceTest)))
	require.Equal(t, []error{nil}, first.of(0), "the message before")
	var errs []error
	for i := range messages {
		got := answers.of(i)
		require.Len(t, got, 1, "acknowledgements of message %d", i)
		errs = append(errs, got[0])
	}
	return errs
}

// wantAllBut reports a message that was refused, or stored out of order, unless it
// is bad; and a bad one that was not refused permanently with code.
func wantAllBut(t testing.TB, h *harness, messages []*driver.Message, errs []error, code string, bad ...int) {
	t.Helper()
	want := []string{"first"}
	for i, err := range errs {
		if !slices.Contains(bad, i) {
			require.NoError(t, err, "message %d, which is good", i)
			want = append(want, string(messages[i].Value))
			continue
		}
		var de *driver.Error
		require.ErrorAs(t, err, &de, "message %d, which is bad", i)
		assert.Equal(t, code, de.Code)
		assert.ErrorIs(t, err, driver.ErrPermanent)
		assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
	}
	records, err := h.Read(t.Context(), messages[0].Topic, 0)
	require.NoError(t, err)
	var got []string
	for _, r := range records {
		got = append(got, string(r.Value))
	}
	require.Equal(t, len(want), len(got), "records in the log")
	assert.Equal(t, want, got, "the log")
	for i, m := range messages {
		if errs[i] == nil {
			require.Equal(t, string(m.Value), got[m.Offset], "the record at the offset of message %d", i)
		}
	}
}

// sized returns n messages of so many bytes.
func sized(topic string, n, bytes int) (messages []*driver.Message) {
	for i := range n {
		value := make([]byte, bytes)
		copy(value, fmt.Sprintf("%06d-", i))
		messages = append(messages, &driver.Message{Topic: topic, Partition: 0, Key: []byte("k"), Value: value})
	}
	return messages
}

const smallLimit = 65536

// wantSplit sends a batch that is too large for its topic, with two messages in it
// that are so alone.
func wantSplit(t *testing.T, h *harness, topic string, adapt func(*driver.ProducerConfig)) {
	cfg := producerConfig(h.brokers)
	adapt(&cfg)
	p := openProducer(t, cfg)
	messages := sized(topic, 3000, 1000)
	for _, i := range []int{700, 2999} {
		messages[i].Value = append(messages[i].Value, make([]byte, smallLimit)...)
	}
	wantAllBut(t, h, messages, produceTogether(t, h, p, messages...), "MESSAGE_TOO_LARGE", 700, 2999)
	require.NoError(t, send(t, p, &driver.Message{Topic: topic, Partition: 0, Key: []byte("k"), Value: []byte("after")}))
}

func splitVariants() map[string]func(*driver.ProducerConfig) {
	return map[string]func(*driver.ProducerConfig){
		"idempotent":     func(*driver.ProducerConfig) {},
		"not idempotent": func(cfg *driver.ProducerConfig) { cfg.Idempotent = false },
		"one retry":      func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1 },
	}
}

func TestFault_B4_RefusedBatchIsSplit(t *testing.T) {
	for name, adapt := range splitVariants() {
		t.Run(name, func(t *testing.T) {
			h, cluster := fakeHarness(t)
			require.NoError(t, h.CreateTopicWith(t.Context(), "small", 1, map[string]string{"max.message.bytes": fmt.Sprint(smallLimit)}))
			var requests atomic.Int64
			cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
				cluster.KeepControl()
				requests.Add(1)
				return nil, nil, false
			})
			wantSplit(t, h, "small", adapt)
			// 3,000 kB in batches of at most 64 KiB are 46; five refusals halve a
			// batch of 1 MiB to that.
			assert.Less(t, requests.Load(), int64(150), "requests: the topic's limit was not learned")
		})
	}
}

// MaxBatchBytes bounds batches of several messages, and lets a larger message go alone.
func TestMaxBatchBytes(t *testing.T) {
	h, cluster := fakeHarness(t)
	require.NoError(t, h.CreateTopicWith(t.Context(), "large", 1, map[string]string{"max.message.bytes": "4194304"}))
	var largest, requests atomic.Int64
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		requests.Add(1)
		for _, topic := range r.(*kmsg.ProduceRequest).Topics {
			for _, p := range topic.Partitions {
				if n := int64(len(p.Records)); n < 2<<20 { // else it is the large message
					largest.Store(max(largest.Load(), n))
				}
			}
		}
		return nil, nil, false
	})
	cfg := producerConfig(h.brokers)
	cfg.MaxMessageBytes, cfg.MaxBatchBytes = 100<<20, 64<<10
	p := openProducer(t, cfg)
	messages := sized("large", 500, 1000)
	messages[250].Value = make([]byte, 2<<20)
	for i, err := range produceTogether(t, h, p, messages...) {
		require.NoError(t, err, "message %d", i)
	}
	assert.LessOrEqual(t, largest.Load(), int64(64<<10))
	assert.Greater(t, requests.Load(), int64(7), "500 kB in batches of 64 KiB")
}

func TestFault_B4_RefusedBatchIsSplitReal(t *testing.T) {
	t.Parallel()
	h, _ := realHarness(t, 1)
	for name, adapt := range splitVariants() {
		t.Run(name, func(t *testing.T) {
			topic := fmt.Sprintf("small-%d", time.Now().UnixNano())
			require.NoError(t, h.CreateTopicWith(t.Context(), topic, 1, map[string]string{"max.message.bytes": fmt.Sprint(smallLimit)}))
			wantSplit(t, h, topic, adapt)
		})
	}
}

// TestFault_B4_LimitThatIsRaised: the limit that was learned of a topic is forgotten.
func TestFault_B4_LimitThatIsRaised(t *testing.T) {
	topic := newTopic(newProducer(producerConfig(nil), mustConfig(t)), "t")
	most := topic.batchBytes()
	topic.learn(1000)
	topic.learn(5000)
	assert.Equal(t, 500, topic.batchBytes())
	topic.limitSince = topic.limitSince.Add(-limitHolds - time.Second)
	assert.Equal(t, most, topic.batchBytes())
}

func mustConfig(t testing.TB) *ibm.Config {
	conf, err := Driver{}.producerConfig(producerConfig([]string{"localhost:1"}))
	require.NoError(t, err)
	return conf
}

// pickiness makes a cluster refuse a batch in which a value begins with "bad", with
// err, and name the records if it should.
func pickiness(cluster *kfake.Cluster, err *kerr.Error, names bool) {
	refuseRecords(cluster, err, names, func(_ string, _ kmsg.RecordBatch, r kmsg.Record) bool {
		return bytes.HasPrefix(r.Value, []byte("bad"))
	})
}

// refuseLater returns a function that makes cluster refuse batches of a topic in
// which a record is dated too far ahead, as Kafka does.
func refuseLater(cluster *kfake.Cluster) func(topic string, ahead time.Duration) {
	var limits sync.Map
	return func(topic string, ahead time.Duration) {
		if _, there := limits.Swap(topic, ahead); there {
			return
		}
		refuseRecords(cluster, kerr.InvalidTimestamp, true, func(of string, b kmsg.RecordBatch, r kmsg.Record) bool {
			return of == topic && time.UnixMilli(b.FirstTimestamp+r.TimestampDelta64).After(time.Now().Add(ahead))
		})
	}
}

// refuseRecords makes cluster refuse each batch that holds a bad record.
func refuseRecords(cluster *kfake.Cluster, err *kerr.Error, names bool, bad func(topic string, b kmsg.RecordBatch, r kmsg.Record) bool) {
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		req := r.(*kmsg.ProduceRequest)
		resp := req.ResponseKind().(*kmsg.ProduceResponse)
		refused := false
		for _, topic := range req.Topics {
			rt := kmsg.NewProduceResponseTopic()
			rt.Topic = topic.Topic
			for _, p := range topic.Partitions {
				rp := kmsg.NewProduceResponseTopicPartition()
				rp.Partition = p.Partition
				for _, i := range badRecords(topic.Topic, p.Records, bad) {
					refused = true
					rp.ErrorCode, rp.BaseOffset = err.Code, -1
					if names {
						re := kmsg.NewProduceResponseTopicPartitionErrorRecord()
						re.RelativeOffset = int32(i)
						rp.ErrorRecords = append(rp.ErrorRecords, re)
					}
				}
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, refused
	})
}

func badRecords(topic string, raw []byte, isBad func(string, kmsg.RecordBatch, kmsg.Record) bool) (bad []int) {
	var b kmsg.RecordBatch
	if b.ReadFrom(raw) != nil {
		return nil
	}
	rest := b.Records
	for i := range int(b.NumRecords) {
		length, n := kbinVarint(rest)
		var r kmsg.Record
		if r.ReadFrom(rest[:n+length]) == nil && isBad(topic, b, r) {
			bad = append(bad, i)
		}
		rest = rest[n+length:]
	}
	return bad
}

func kbinVarint(b []byte) (value, n int) {
	var u uint64
	for shift := 0; ; shift += 7 {
		u |= uint64(b[n]&0x7f) << shift
		n++
		if b[n-1] < 0x80 {
			return int(u>>1) ^ -int(u&1), n
		}
	}
}

func TestFault_B5_OneBadRecordFailsAlone(t *testing.T) {
	for _, refusal := range []*kerr.Error{kerr.InvalidTimestamp, kerr.InvalidRecord} {
		for _, names := range []bool{true, false} {
			for _, idempotent := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/named=%v/idempotent=%v", refusal.Message, names, idempotent), func(t *testing.T) {
					h, cluster := fakeHarness(t)
					pickiness(cluster, refusal, names)
					cfg := producerConfig(h.brokers)
					cfg.Idempotent = idempotent
					messages := sized("t", 500, 20)
					bad := []int{0, 1, 250, 499}
					for _, i := range bad {
						messages[i].Value = fmt.Appendf(nil, "bad-%d", i)
					}
					p := openProducer(t, cfg)
					wantAllBut(t, h, messages, produceTogether(t, h, p, messages...), refusal.Message, bad...)
					require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("after")}))
				})
			}
		}
	}
}

// TestFault_B5_OneBadRecordFailsAloneReal sends one message dated in two days, and
// one without a key, among good ones.
func TestFault_B5_OneBadRecordFailsAloneReal(t *testing.T) {
	t.Parallel()
	h, cluster := realHarness(t, 1)
	cases := []struct {
		code   string
		config map[string]string
		spoil  func(*driver.Message)
	}{
		{"INVALID_TIMESTAMP", map[string]string{"message.timestamp.after.max.ms": "3600000"}, func(m *driver.Message) { m.Timestamp = time.Now().Add(48 * time.Hour) }},
		{"INVALID_RECORD", map[string]string{"cleanup.policy": "compact"}, func(m *driver.Message) { m.Key = nil }},
	}
	for _, c := range cases {
		t.Run(c.code, func(t *testing.T) {
			topic := fmt.Sprintf("picky-%d", time.Now().UnixNano())
			require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, c.config))
			messages := sized(topic, 1146, 100)
			for i, m := range messages {
				m.Key = fmt.Append(nil, i) // compaction keeps them all
			}
			c.spoil(messages[0])
			c.spoil(messages[600])
			p := openProducer(t, producerConfig(h.brokers))
			wantAllBut(t, h, messages, produceTogether(t, h, p, messages...), c.code, 0, 600)
		})
	}
}

// TestFault_B6_DatesThatCannotBeWritten: a message with such a date is refused alone,
// wherever it stands in a batch.
func TestFault_B6_DatesThatCannotBeWritten(t *testing.T) {
	dates := map[string]time.Time{
		"1969":  time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC),
		"-1 ns": time.Unix(0, -1), "year 1": time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC),
		"2263": time.Date(2263, 1, 1, 0, 0, 0, 0, time.UTC), "year 9999": time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	for name, date := range dates {
		t.Run(name, func(t *testing.T) {
			h, _ := fakeHarness(t)
			p := openProducer(t, producerConfig(h.brokers))
			messages := sized("t", 141, 50)
			for _, i := range []int{0, 70, 140} {
				messages[i].Timestamp = date
			}
			wantAllBut(t, h, messages, produceTogether(t, h, p, messages...), "INVALID_TIMESTAMP", 0, 70, 140)
		})
	}
	t.Run("the ends", func(t *testing.T) {
		h, _ := fakeHarness(t)
		p := openProducer(t, producerConfig(h.brokers))
		messages := sized("t", 4, 50)
		messages[1].Timestamp, messages[2].Timestamp = time.Unix(0, 0), time.Unix(0, math.MaxInt64)
		wantAllBut(t, h, messages, produceTogether(t, h, p, messages...), "")
		records, err := h.Read(t.Context(), "t", 0)
		require.NoError(t, err)
		assert.Equal(t, int64(0), records[2].Timestamp.UnixMilli())
		assert.Equal(t, messages[2].Timestamp.UnixMilli(), records[3].Timestamp.UnixMilli())
	})
}

// TestFault_B7_HeadersWithoutAName: such headers are kept, and an empty value stays
// different from none, in both directions.
func TestFault_B7_HeadersWithoutAName(t *testing.T) {
	h, _ := fakeHarness(t)
	want := []driver.Header{{Key: "", Value: []byte("v")}, {Key: "", Value: nil}, {Key: "", Value: []byte{}}, {Key: "k", Value: nil}, {Key: "k", Value: []byte{}}}
	p := openProducer(t, producerConfig(h.brokers))
	require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("v"), Headers: want}))
	records, err := h.Read(t.Context(), "t", 0)
	require.NoError(t, err)
	require.Len(t, records, 1)
	assert.Equal(t, want, records[0].Headers, "in the log")

	var got driver.Record
	r := newRecorder()
	r.onRecord = func(_ *driver.Claim, rec driver.Record) { got = rec }
	start(t, Driver{}, consumerConfig(h.brokers), r)
	r.waitRecords(t, 1)
	assert.Equal(t, want, got.Headers, "as consumed")
}

func TestCutsCoverTheBatch(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, 50).Draw(rt, "n")
		block := &ibm.ProduceResponseBlock{}
		for _, i := range rapid.SliceOf(rapid.Int32Range(-3, 60)).Draw(rt, "named") { // a broker may name anything
			block.RecordErrors = append(block.RecordErrors, ibm.ProduceResponseRecordError{BatchIndex: i})
		}
		first := rapid.IntRange(0, 3).Draw(rt, "first")
		indexes := named(block, first, n)
		total, alone := 0, map[int]bool{}
		for _, k := range around(indexes, n) {
			require.Positive(rt, k, "size of a cut")
			if k == 1 {
				alone[total] = true
			}
			total += k
		}
		require.Equal(rt, n, total, "messages of the cuts")
		for _, i := range indexes {
			require.True(rt, alone[i], "%d is not alone", i)
		}
	})
}

// TestFifo compares the queue with a plain slice.
func TestFifo(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var q fifo
		var model, taken []*slot
		rt.Repeat(map[string]func(*rapid.T){
			"push": func(*rapid.T) {
				s := &slot{size: len(model) + 1}
				q.push(s)
				model = append(model, s)
			},
			"pop": func(rt *rapid.T) {
				n := rapid.IntRange(0, len(model)).Draw(rt, "n")
				taken = q.pop(n)
				require.True(rt, slices.Equal(taken, model[:n]), "other slots were taken")
				model = model[n:]
			},
			"unpop": func(*rapid.T) {
				q.unpop(taken)
				model = append(slices.Clone(taken), model...)
				taken = nil
			},
			"": func(rt *rapid.T) {
				bytes := 0
				for i, s := range model {
					require.Same(rt, s, q.at(i), "slot %d", i)
					bytes += s.size
				}
				require.Equal(rt, len(model), q.len(), "slots")
				require.Equal(rt, bytes, q.bytes, "bytes")
			},
		})
	})
}

// TestAnswerWithoutThePartitionIsUnknown: such an answer proves nothing.
func TestAnswerWithoutThePartitionIsUnknown(t *testing.T) {
	cluster := fake(t)
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.MaxRetries, cfg.RetryBackoff = 1, time.Millisecond
	p := openProducer(t, cfg)
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return r.(*kmsg.ProduceRequest).ResponseKind(), nil, true
	})
	err := send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("v")})
	require.ErrorIs(t, err, driver.ErrUnknownOutcome)
}

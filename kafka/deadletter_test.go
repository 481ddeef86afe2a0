package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

var errBad = errors.New("a bad record")

// forwarding is a consumer whose records of the value "bad" become dead letters after
// two attempts.
func forwarding(change func(*kafka.ConsumerConfig)) kafka.ConsumerConfig {
	cfg := orders()
	cfg.Backoff = kafka.Backoff{Jitter: kafka.NoJitter}
	cfg.Failure = kafka.FailurePolicy{
		Then: kafka.FailureDeadLetter, MaxAttempts: 2,
		DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.{group}.dlq"},
	}
	if change != nil {
		change(&cfg)
	}
	return cfg
}

const ordersDLQ = "orders.orders.dlq"

// A failingHandler fails the records of the value "bad", and counts the calls by value.
type failingHandler struct {
	mu    sync.Mutex
	calls map[string]int
	order []string
}

func (h *failingHandler) handle(_ context.Context, m *kafka.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.calls == nil {
		h.calls = map[string]int{}
	}
	h.calls[string(m.Value)]++
	h.order = append(h.order, string(m.Value))
	if strings.HasPrefix(string(m.Value), "bad") {
		return errBad
	}
	return nil
}

func (h *failingHandler) called(value string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[value]
}

func lettersIn(t testing.TB, b *memory.Broker, topic string) (all []driver.Record) {
	t.Helper()
	for p := range int32(b.Partitions(topic)) {
		records, err := b.Records(topic, p, driver.ReadCommitted)
		require.NoError(t, err)
		all = append(all, records...)
	}
	return all
}

// headerOf returns the text of a record's header.
func headerOf(r driver.Record, key string) string {
	m := kafka.Message{Headers: r.Headers}
	return string(m.Header(key))
}

// pass lets virtual time pass, and everything come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func status(t testing.TB, m *kafka.Manager) kafka.ConsumerStatus {
	t.Helper()
	s, err := m.Consumer("orders")
	require.NoError(t, err)
	return s
}

// A dead letter is the whole record: key, value, headers with repeats, nil and empty
// values. Its key decides the partition, though the dead-letter topic has fewer than the
// source. It is dated now. Records behind it are handled, and all is committed.
func TestDeadLetterIsTheWholeRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 8)
		require.NoError(t, b.CreateTopic(ordersDLQ, 2))
		made := time.Now().Add(-30 * 24 * time.Hour).Truncate(time.Millisecond)
		own := []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "a"}, {Key: "a", Value: []byte{}}, {Key: "", Value: []byte{0xff}}}
		cases := []struct {
			key, value []byte
			headers    []kafka.Header
		}{
			{[]byte("k"), []byte("bad"), own},
			{nil, []byte("bad 2"), nil},
			{[]byte{}, []byte("bad 3"), nil},
		}
		for i, c := range cases {
			require.NoError(t, b.Send("orders", c.key, c.value, memory.ToPartition(int32(7-i)), memory.Headers(c.headers...), memory.Timestamp(made)))
			require.NoError(t, b.Send("orders", nil, []byte("good"), memory.ToPartition(int32(7-i))))
		}
		h, rec := new(failingHandler), new(kafka.Recorder)
		launch(t, b, forwarding(nil), h.handle, kafka.WithHook(rec))
		pass(time.Minute)

		letters := lettersIn(t, b, ordersDLQ)
		require.Len(t, letters, len(cases))
		for i, c := range cases {
			j := slices.IndexFunc(letters, func(r driver.Record) bool { return string(r.Value) == string(c.value) })
			require.GreaterOrEqual(t, j, 0, "%s", c.value)
			l := letters[j]
			assert.Equal(t, c.key, l.Key)
			require.Len(t, l.Headers, len(c.headers)+10)
			for i, h := range c.headers {
				assert.Equal(t, h, l.Headers[i], "%s", c.value)
			}
			m := kafka.Message{Headers: l.Headers}
			assert.Equal(t, kafka.Source{Topic: "orders", Partition: int32(7 - i), Offset: 0, Timestamp: made}, m.Source())
			assert.Equal(t, "2", string(m.Header(kafka.HeaderErrorDeliveryCount)))
			assert.Equal(t, "orders", string(m.Header(kafka.HeaderErrorGroup)))
			assert.WithinDuration(t, time.Now(), l.Timestamp, time.Minute)
			assert.EqualValues(t, 1, h.called("good")/len(cases))
			assert.EqualValues(t, 2, b.Committed("orders", "orders", int32(7-i)))
		}
		events := kafka.EventsOf[kafka.RecordForwarded](rec)
		require.Len(t, events, len(cases))
		for _, e := range events {
			assert.Equal(t, ordersDLQ, e.To.Topic)
			assert.Equal(t, 2, e.Attempts)
			assert.Equal(t, kafka.DeadLetterReasonAttempts, e.Reason)
			assert.GreaterOrEqual(t, e.ToOffset, int64(0))
		}
	})
}

// What a publish comes to decides what happens to the record: it is done only with an
// acknowledgement, and its handler never runs again for the sake of a publish.
func TestPublishOfADeadLetter(t *testing.T) {
	dead := func(i fault.Injector) fault.Injector { return fault.Topic(ordersDLQ, fault.On(fault.Produce, i)) }
	unknown := fault.After(errors.New("no answer"))
	cases := []struct {
		name     string
		fault    fault.Injector
		fails    int // ForwardFailed
		letters  int
		disabled bool
		code     string
	}{
		{name: "acknowledged", letters: 1},
		{name: "transient, three times", fault: dead(fault.First(3, fault.Before(fault.Error("NOT_ENOUGH_REPLICAS")))), fails: 3, letters: 1, code: "NOT_ENOUGH_REPLICAS"},
		{name: "of unknown outcome, twice", fault: dead(fault.First(2, unknown)), fails: 2, letters: 3, code: "INJECTED"},
		{name: "not authorised", fault: dead(fault.Before(fault.Permanent("TOPIC_AUTHORIZATION_FAILED"))), fails: 1, disabled: true, code: "TOPIC_AUTHORIZATION_FAILED"},
		{name: "refused by a compacted topic, for want of a key", fault: dead(fault.Before(fault.Permanent("INVALID_RECORD"))), fails: 1, disabled: true, code: "INVALID_RECORD"},
		{name: "too large, once", fault: dead(fault.First(1, fault.Before(fault.Permanent("MESSAGE_TOO_LARGE")))), letters: 1},
		{name: "too large, with few headers too", fault: dead(fault.Before(fault.Permanent("MESSAGE_TOO_LARGE"))), fails: 1, disabled: true, code: "MESSAGE_TOO_LARGE"},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				require.NoError(t, b.CreateTopic(ordersDLQ, 1))
				require.NoError(t, b.Send("orders", []byte("k"), []byte("bad")))
				require.NoError(t, b.Send("orders", []byte("k"), []byte("good")))
				var d driver.Driver = b
				if tt.fault != nil {
					d = fault.Wrap(b, tt.fault)
				}
				h, rec := new(failingHandler), new(kafka.Recorder)
				m := launch(t, d, forwarding(nil), h.handle, kafka.WithHook(rec))
				pass(10 * time.Minute)

				assert.Equal(t, 2, h.called("bad"), "a failed publish does not run the handler")
				letters := lettersIn(t, b, ordersDLQ)
				assert.Len(t, letters, tt.letters)
				for _, l := range letters {
					assert.Equal(t, headerOf(letters[0], kafka.HeaderErrorFailed), headerOf(l, kafka.HeaderErrorFailed), "one decision, however often the copy is sent")
				}
				failed := kafka.EventsOf[kafka.ForwardFailed](rec)
				require.Len(t, failed, tt.fails)
				for _, e := range failed {
					assert.Equal(t, ordersDLQ, e.ToTopic)
					wantCode(t, e.Err, tt.code)
				}
				s := status(t, m)
				if tt.disabled {
					assert.Equal(t, kafka.StateDisabled, s.State)
					wantCode(t, s.Reason, tt.code)
					assert.Zero(t, h.called("good"))
					assert.LessOrEqual(t, b.Committed("orders", "orders", 0), int64(0), "the record is not done")
					return
				}
				assert.Equal(t, kafka.StateRunning, s.State)
				assert.Equal(t, 1, h.called("good"))
				assert.EqualValues(t, 2, b.Committed("orders", "orders", 0))
			})
		})
	}
}

// A record that is too large with all headers goes with the first five.
func TestDeadLetterThatIsTooLargeHasFewHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		value := append([]byte("bad"), make([]byte, 1000)...)
		require.NoError(t, b.Send("orders", nil, value))
		cfg := forwarding(func(c *kafka.ConsumerConfig) {
			c.Failure.DeadLetter.Producer = &kafka.ProducerConfig{MaxMessageBytes: 1003 + 190}
		})
		launch(t, b, cfg, new(failingHandler).handle)
		pass(time.Minute)
		letters := lettersIn(t, b, ordersDLQ)
		require.Len(t, letters, 1)
		assert.Len(t, letters[0].Headers, 5)
		assert.Equal(t, value, letters[0].Value)
	})
}

// The topic is deleted at run time: its consumer waits, and the copy is sent when the
// topic is there again.
func TestDeadLetterTopicThatIsDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		h, rec := new(failingHandler), new(kafka.Recorder)
		m := launch(t, b, forwarding(nil), h.handle, kafka.WithHook(rec))
		require.NoError(t, b.DeleteTopic(ordersDLQ))
		require.NoError(t, b.Send("orders", nil, []byte("bad"), memory.ToPartition(0)))
		require.NoError(t, b.Send("orders", nil, []byte("behind"), memory.ToPartition(0)))
		pass(5 * time.Hour)
		require.NoError(t, b.Send("orders", nil, []byte("beside"), memory.ToPartition(1)))
		pass(time.Minute)
		assert.Equal(t, 1, h.called("beside"), "other partitions go on")
		assert.Zero(t, h.called("behind"))
		assert.NotEmpty(t, kafka.EventsOf[kafka.ForwardFailed](rec), "after the driver's two hours")
		assert.Equal(t, kafka.StateRunning, status(t, m).State)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		pass(time.Minute)
		assert.Len(t, lettersIn(t, b, ordersDLQ), 1)
		assert.Equal(t, 2, h.called("bad"))
		assert.Equal(t, 1, h.called("behind"))
	})
}

// A dead-letter topic that does not exist when the consumer starts: the consumer waits,
// names the topic, joins nothing, creates nothing and is never disabled.
func TestMissingDeadLetterTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBroker(memory.WithAutoCreate(1))
		require.NoError(t, b.CreateTopic("orders", 1))
		require.NoError(t, b.Send("orders", nil, []byte("good")))
		h := new(failingHandler)
		m := launch(t, b, forwarding(nil), h.handle)
		pass(time.Hour)
		s := status(t, m)
		assert.Equal(t, kafka.StateBackingOff, s.State)
		assert.ErrorContains(t, s.Reason, `dead letters: topic "orders.orders.dlq" does not exist`)
		wantCode(t, s.Reason, "UNKNOWN_TOPIC_OR_PARTITION")
		assert.True(t, s.Switch)
		assert.Zero(t, s.Errors, "that is no failed start")
		assert.Equal(t, []string{"orders"}, b.Topics())
		assert.Zero(t, h.called("good"))
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		pass(time.Minute)
		assert.Equal(t, kafka.StateRunning, status(t, m).State)
		assert.Equal(t, 1, h.called("good"))
	})
}

// A failed start of the producer counts like one of the consumer.
func TestDeadLetterProducerThatCannotConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		d := fault.Wrap(b, fault.On(fault.OpenProducer, fault.Before(fault.Error("CONNECTION_FAILED"))))
		m := launch(t, d, forwarding(func(c *kafka.ConsumerConfig) { c.MaxConsecutiveErrors = 3 }), new(failingHandler).handle)
		pass(time.Minute)
		s := status(t, m)
		assert.Equal(t, kafka.StateDisabled, s.State)
		assert.ErrorContains(t, s.Reason, "dead letters: connect")
	})
}

// The look-up of a topic that may not be described disables the consumer at once.
func TestForbiddenDeadLetterTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		d := fault.Wrap(b, fault.On(fault.FindTopic, fault.Before(fault.Permanent("TOPIC_AUTHORIZATION_FAILED"))))
		m := launch(t, d, forwarding(nil), new(failingHandler).handle)
		pass(time.Second)
		assert.Equal(t, kafka.StateDisabled, status(t, m).State)
		assert.ErrorContains(t, status(t, m).Reason, `look up topic "orders.orders.dlq"`)
	})
}

// A switch-off ends a start that hangs at the producer, and a shutdown does.
func TestDeadLetterProducerThatHangs(t *testing.T) {
	for _, op := range []fault.Op{fault.OpenProducer, fault.FindTopic} {
		t.Run(op.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				require.NoError(t, b.CreateTopic(ordersDLQ, 1))
				d := fault.Wrap(b, fault.On(op, fault.Never()))
				m := launch(t, d, forwarding(nil), new(failingHandler).handle)
				pass(time.Second)
				require.Equal(t, kafka.StateStarting, status(t, m).State)
				require.NoError(t, m.SetConsumerSwitch("orders", false))
				synctest.Wait()
				assert.Equal(t, kafka.StateOff, status(t, m).State)
			})
		})
	}
}

// TopicFor chooses per record. An answer that cannot be used keeps the record, and is
// reported.
func TestTopicForADeadLetter(t *testing.T) {
	cases := []struct {
		name   string
		answer func() string
		want   string // the error; "" for none
	}{
		{"a topic", func() string { return "elsewhere" }, ""},
		{"nothing", func() string { return "" }, "is empty"},
		{"no valid name", func() string { return "a b" }, "a character outside"},
		{"a topic that is read", func() string { return "orders" }, "a topic that the consumer reads"},
		{"a topic of Kafka's own", func() string { return "__consumer_offsets" }, "internal to Kafka"},
		{"a panic", func() string { panic("oh") }, "panicked"},
		{"the end of the goroutine", func() string { runtime.Goexit(); return "" }, "ended its goroutine"},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				require.NoError(t, b.CreateTopic("elsewhere", 1))
				require.NoError(t, b.Send("orders", []byte("k"), []byte("bad")))
				h, rec := new(failingHandler), new(kafka.Recorder)
				m := launch(t, b, forwarding(func(c *kafka.ConsumerConfig) {
					c.Failure.DeadLetter = kafka.DeadLetterConfig{TopicFor: func(m *kafka.Message, err error) string {
						assert.Equal(t, "bad", string(m.Value))
						assert.Equal(t, "orders", m.Topic)
						assert.ErrorIs(t, err, errBad)
						return tt.answer()
					}}
				}), h.handle, kafka.WithHook(rec))
				pass(10 * time.Minute)
				assert.Equal(t, kafka.StateRunning, status(t, m).State)
				failed := kafka.EventsOf[kafka.ForwardFailed](rec)
				if tt.want == "" {
					assert.Len(t, lettersIn(t, b, "elsewhere"), 1)
					assert.Empty(t, failed)
					return
				}
				assert.Empty(t, lettersIn(t, b, "elsewhere"))
				require.NotEmpty(t, failed)
				assert.ErrorContains(t, failed[0].Err, tt.want)
				assert.Greater(t, h.called("bad"), 3, "the record is tried again")
				assert.Less(t, h.called("bad"), 20, "after a backoff")
				assert.LessOrEqual(t, b.Committed("orders", "orders", 0), int64(0))
			})
		})
	}
}

// Two topics have two dead-letter topics, each of which is looked up.
func TestDeadLetterTopicPerSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		cfg := forwarding(func(c *kafka.ConsumerConfig) { c.Topics = []string{"results"} })
		m := launch(t, b, cfg, new(failingHandler).handle)
		pass(time.Second)
		assert.ErrorContains(t, status(t, m).Reason, `"results.orders.dlq" does not exist`)
		require.NoError(t, b.CreateTopic("results.orders.dlq", 1))
		for _, topic := range []string{"orders", "results"} {
			require.NoError(t, b.Send(topic, nil, []byte("bad "+topic)))
		}
		pass(2 * time.Minute)
		for topic, dlq := range map[string]string{"orders": ordersDLQ, "results": "results.orders.dlq"} {
			letters := lettersIn(t, b, dlq)
			if assert.Len(t, letters, 1) {
				assert.Equal(t, "bad "+topic, string(letters[0].Value))
			}
		}
	})
}

func TestDeadLetterWithoutErrorText(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		launch(t, b, forwarding(func(c *kafka.ConsumerConfig) { c.Failure.DeadLetter.NoErrorText = true }), new(failingHandler).handle)
		pass(time.Minute)
		letters := lettersIn(t, b, ordersDLQ)
		require.Len(t, letters, 1)
		assert.NotContains(t, fmt.Sprintf("%s", letters[0].Headers), errBad.Error())
	})
}

// What cannot be decoded goes to the dead letters at once where there are any, unless
// Classify says otherwise, and is kept, visibly, where there are none.
func TestUndecodableRecord(t *testing.T) {
	type order struct{ ID int }
	cases := []struct {
		name     string
		change   func(*kafka.FailurePolicy)
		decode   kafka.Decoder[order]
		attempts int // of the bad record in a minute; 0 is many
		letters  int
		skipped  int
	}{
		{name: "dead letters", attempts: 1, letters: 1},
		{name: "no dead letters", change: func(f *kafka.FailurePolicy) { *f = kafka.FailurePolicy{} }},
		{name: "Classify skips it", attempts: 1, skipped: 1, change: func(f *kafka.FailurePolicy) {
			f.Classify = func(err error) kafka.Failure {
				if _, ok := errors.AsType[*kafka.DecodeError](err); ok {
					return kafka.FailureSkip
				}
				return kafka.FailureKeep
			}
		}},
		{name: "the decoder cannot decode now", decode: func(_ context.Context, m *kafka.Message) (order, error) {
			if m.Attempt < 2 {
				return order{}, kafka.Retry(errors.New("away"), 0)
			}
			return order{1}, nil
		}, attempts: 2},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				require.NoError(t, b.CreateTopic(ordersDLQ, 1))
				require.NoError(t, b.Send("orders", nil, []byte("{")))
				cfg := forwarding(nil)
				if tt.change != nil {
					tt.change(&cfg.Failure)
				}
				decode, attempts := tt.decode, 0
				if decode == nil {
					decode = kafka.JSON
				}
				rec := new(kafka.Recorder)
				m := newManager(t, b, kafka.WithHook(rec))
				require.NoError(t, m.RegisterConsumer(t.Context(), kafka.Handle(cfg, func(ctx context.Context, m *kafka.Message) (order, error) {
					attempts++
					return decode(ctx, m)
				}, func(context.Context, order, *kafka.Message) error { return nil })))
				require.NoError(t, m.SetConsumerSwitch("orders", true))
				require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
				pass(time.Minute)
				if tt.attempts > 0 {
					assert.Equal(t, tt.attempts, attempts)
					assert.EqualValues(t, 1, b.Committed("orders", "orders", 0))
				} else {
					assert.Greater(t, attempts, 3)
					ps := status(t, m).Partitions[0]
					assert.ErrorContains(t, ps.LastError, "decode: unexpected end")
					assert.NoError(t, status(t, m).PolicyError)
				}
				letters := lettersIn(t, b, ordersDLQ)
				require.Len(t, letters, tt.letters)
				if tt.letters > 0 {
					l := kafka.Message{Headers: letters[0].Headers}
					assert.Equal(t, kafka.DeadLetterReasonDecode, string(l.Header(kafka.HeaderErrorReason)))
					assert.Equal(t, "decode", string(l.Header(kafka.HeaderErrorException)))
				}
				assert.Len(t, kafka.EventsOf[kafka.RecordSkipped](rec), tt.skipped)
			})
		})
	}
}

// A copy that no broker answers for holds up neither a switch-off nor a shutdown: the
// record is not done, and its next owner handles it again.
func TestDeadLetterUnderWayAtTheEnd(t *testing.T) {
	ends := []struct {
		name string
		end  func(t *testing.T, m *kafka.Manager)
	}{
		{"switch-off", func(t *testing.T, m *kafka.Manager) {
			require.NoError(t, m.SetConsumerSwitch("orders", false))
			pass(time.Minute)
			assert.Equal(t, kafka.StateOff, status(t, m).State)
		}},
		{"shutdown", func(t *testing.T, m *kafka.Manager) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			assert.NoError(t, m.Shutdown(ctx))
		}},
	}
	for _, tt := range ends {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				require.NoError(t, b.CreateTopic(ordersDLQ, 1))
				h, rec := new(failingHandler), new(kafka.Recorder)
				m := launch(t, b, forwarding(nil), h.handle, kafka.WithHook(rec))
				require.NoError(t, b.DeleteTopic(ordersDLQ))
				require.NoError(t, b.Send("orders", nil, []byte("bad")))
				pass(time.Minute)
				require.Equal(t, 2, h.called("bad"))
				began := time.Now()
				tt.end(t, m)
				assert.LessOrEqual(t, time.Since(began), time.Minute)
				assert.Empty(t, kafka.EventsOf[kafka.RecordForwarded](rec))
				assert.LessOrEqual(t, b.Committed("orders", "orders", 0), int64(0), "the record is not done")
			})
		})
	}
}

// A copy that is acknowledged while its partition is being revoked is done: the next
// owner does not get the record.
func TestDeadLetterAcknowledgedDuringARebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		d := fault.Wrap(b, fault.Topic(ordersDLQ, fault.On(fault.Ack, fault.Delay(5*time.Second))))
		h, rec := new(failingHandler), new(kafka.Recorder)
		launch(t, d, forwarding(nil), h.handle, kafka.WithHook(rec))
		pass(2 * time.Second) // the second attempt has failed, and the copy is under way
		require.Equal(t, 2, h.called("bad"))
		b.Rebalance("orders")
		pass(time.Minute)
		assert.Len(t, kafka.EventsOf[kafka.RecordForwarded](rec), 1)
		assert.Len(t, lettersIn(t, b, ordersDLQ), 1)
		assert.Equal(t, 2, h.called("bad"))
		assert.EqualValues(t, 1, b.Committed("orders", "orders", 0))
	})
}

// An acknowledgement that comes after the drain window changes nothing: the record is
// handled again. The dead-letter topic then has two copies of the same source.
func TestDeadLetterAcknowledgedTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic(ordersDLQ, 1))
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		d := fault.Wrap(b, fault.Topic(ordersDLQ, fault.On(fault.Ack, fault.First(1, fault.Delay(2*time.Minute)))))
		h, rec := new(failingHandler), new(kafka.Recorder)
		launch(t, d, forwarding(nil), h.handle, kafka.WithHook(rec))
		pass(2 * time.Second)
		require.Equal(t, 2, h.called("bad"))
		b.Rebalance("orders") // its drain window is 30s
		pass(10 * time.Minute)
		letters := lettersIn(t, b, ordersDLQ)
		require.Len(t, letters, 2)
		for _, l := range letters {
			m := kafka.Message{Headers: l.Headers}
			assert.Equal(t, kafka.Source{Topic: "orders", Partition: 0, Offset: 0, Timestamp: m.Source().Timestamp}, m.Source())
		}
		assert.Len(t, kafka.EventsOf[kafka.RecordForwarded](rec), 1)
		assert.EqualValues(t, 1, b.Committed("orders", "orders", 0))
	})
}

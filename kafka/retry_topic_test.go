package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
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

// retrying is a consumer whose records of the value "bad" go to retry topics after two
// attempts, and then to the dead letters.
func retrying(delays ...time.Duration) kafka.ConsumerConfig {
	return forwarding(func(c *kafka.ConsumerConfig) {
		c.Order = kafka.OrderNone
		for _, d := range delays {
			c.Failure.RetryTopics = append(c.Failure.RetryTopics, kafka.RetryTopic{Delay: d})
		}
	})
}

// retryBroker has the topics that such a consumer needs.
func retryBroker(t *testing.T, partitions int, retry ...string) *memory.Broker {
	t.Helper()
	b := newBroker(t, partitions)
	require.NoError(t, b.CreateTopic(ordersDLQ, 1))
	for _, topic := range retry {
		require.NoError(t, b.CreateTopic(topic, partitions))
	}
	return b
}

// A call is one call of a handler.
type retryCall struct {
	at      time.Duration // since the start
	topic   string
	attempt int
	source  kafka.Source
	headers []kafka.Header
}

// A retryHandler notes each call, and fails records as long as fails says so.
type retryHandler struct {
	mu    sync.Mutex
	start time.Time
	fails func(m *kafka.Message, n int) bool // n counts its calls with that value, from 1
	calls map[string][]retryCall
}

func newRetryHandler(fails func(m *kafka.Message, n int) bool) *retryHandler {
	return &retryHandler{start: time.Now(), fails: fails, calls: map[string][]retryCall{}}
}

func (h *retryHandler) handle(_ context.Context, m *kafka.Message) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	v := string(m.Value)
	h.calls[v] = append(h.calls[v], retryCall{time.Since(h.start), m.Topic, m.Attempt, m.Source(), m.Headers})
	if h.fails(m, len(h.calls[v])) {
		return errBad
	}
	return nil
}

func (h *retryHandler) of(value string) []retryCall {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.calls[value]
}

// A record that fails goes to the retry topic, is handed out there when its delay has
// passed, without our headers, and is done. Records behind it do not wait. The position
// passes it when the copy is acknowledged.
func TestRetryTopicHandsOutWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retry = "orders.orders.retry.10s"
		b := retryBroker(t, 1, retry)
		made := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		own := []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "a"}}
		require.NoError(t, b.Send("orders", []byte("k"), []byte("bad"), memory.Headers(own...), memory.Timestamp(made)))
		require.NoError(t, b.Send("orders", []byte("k"), []byte("good")))
		h := newRetryHandler(func(m *kafka.Message, n int) bool { return string(m.Value) == "bad" && n < 3 })
		rec := new(kafka.Recorder)
		m := launch(t, b, retrying(10*time.Second), h.handle, kafka.WithHook(rec))

		assert.Len(t, h.of("good"), 1, "it does not wait for the one before")
		pass(2 * time.Second)
		require.Len(t, h.of("bad"), 2)
		assert.EqualValues(t, 2, b.Committed("orders", "orders", 0))
		letters := lettersIn(t, b, retry)
		require.Len(t, letters, 1)
		assert.Equal(t, "bad", string(letters[0].Value))
		assert.Equal(t, "k", string(letters[0].Key))
		sent := letters[0].Timestamp.Sub(h.start)
		assert.InDelta(t, time.Second, sent, float64(10*time.Millisecond))
		lags, err := m.Lag(t.Context(), "orders")
		require.NoError(t, err)
		assert.Equal(t, kafka.PartitionLag{Topic: retry, Committed: -1, End: 1, Lag: 1}, lags[1], "what waits counts")
		s := status(t, m)
		assert.EqualValues(t, 1, s.Retried)
		assert.Equal(t, []string{retry}, s.RetryTopics)
		for _, p := range s.Partitions {
			if p.Topic == retry {
				assert.Equal(t, 10*time.Second, p.Delay)
				assert.Equal(t, letters[0].Timestamp.Add(10*time.Second), p.Due)
				assert.Equal(t, p.Due, p.Oldest)
				assert.Zero(t, p.StandsSince)
				assert.False(t, p.Paused)
			} else {
				assert.Zero(t, p.Delay)
			}
		}

		pass(sent + 8*time.Second - time.Millisecond)
		require.Len(t, h.of("bad"), 2, "it is not due")
		pass(time.Second)
		calls := h.of("bad")
		require.Len(t, calls, 3)
		assert.Equal(t, sent+10*time.Second, calls[2].at)
		assert.Equal(t, retryCall{calls[2].at, retry, 3, kafka.Source{Topic: "orders", Timestamp: made}, own}, calls[2])
		assert.EqualValues(t, 1, b.Committed("orders", retry, 0))
		events := kafka.EventsOf[kafka.RecordRetried](rec)
		require.Len(t, events, 1)
		assert.Equal(t, kafka.RecordRetried{
			JobName: "orders", Group: "orders", TopicPartition: kafka.TopicPartition{Topic: "orders"}, Attempts: 2,
			Source: kafka.Source{Topic: "orders", Timestamp: made},
			To:     kafka.TopicPartition{Topic: retry}, Delay: 10 * time.Second, Err: errBad,
		}, events[0])
		assert.Empty(t, lettersIn(t, b, ordersDLQ))
	})
}

const (
	retry5s = "orders.orders.retry.5s"
	retry1m = "orders.orders.retry.1m"
)

func always(*kafka.Message, int) bool { return true }

// A record that fails in each tier is handed out once in each, and then dies, with the
// place where it first lay and all its attempts. The dead letter has no header of a retry
// topic.
func TestRetryTopicsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 2, retry5s, retry1m)
		own := []kafka.Header{{Key: "x", Value: []byte("1")}}
		require.NoError(t, b.Send("orders", []byte("k"), []byte("bad"), memory.ToPartition(1), memory.Headers(own...)))
		h, rec := newRetryHandler(always), new(kafka.Recorder)
		m := launch(t, b, retrying(5*time.Second, time.Minute), h.handle, kafka.WithHook(rec))
		pass(2 * time.Minute)

		calls := h.of("bad")
		require.Len(t, calls, 4)
		var topics []string
		for i, c := range calls {
			assert.Equal(t, i+1, c.attempt)
			assert.Equal(t, own, c.headers)
			assert.Equal(t, kafka.Source{Topic: "orders", Partition: 1, Timestamp: calls[0].source.Timestamp}, c.source)
			topics = append(topics, c.topic)
		}
		assert.Equal(t, []string{"orders", "orders", retry5s, retry1m}, topics)
		assert.Equal(t, []time.Duration{0, time.Second, 6 * time.Second, 66 * time.Second},
			[]time.Duration{calls[0].at, calls[1].at, calls[2].at, calls[3].at})
		letters := lettersIn(t, b, ordersDLQ)
		require.Len(t, letters, 1)
		assert.Equal(t, "orders", headerOf(letters[0], kafka.HeaderErrorTopic))
		assert.Equal(t, "1", headerOf(letters[0], kafka.HeaderErrorPartition))
		assert.Equal(t, "0", headerOf(letters[0], kafka.HeaderErrorOffset))
		assert.Equal(t, "4", headerOf(letters[0], kafka.HeaderErrorDeliveryCount))
		assert.Equal(t, kafka.DeadLetterReasonAttempts, headerOf(letters[0], kafka.HeaderErrorReason))
		for _, h := range letters[0].Headers {
			assert.NotContains(t, h.Key, "__retry.")
		}
		s := status(t, m)
		assert.EqualValues(t, 2, s.Retried)
		assert.EqualValues(t, 1, s.DeadLetters)
		assert.Zero(t, s.PassedOver+s.Unmarked)
		var next []kafka.Failure
		for _, e := range kafka.EventsOf[kafka.HandlerFailed](rec) {
			next = append(next, e.Next)
		}
		assert.Equal(t, []kafka.Failure{kafka.FailureKeep, kafka.FailureRetryTopic, kafka.FailureRetryTopic, kafka.FailureDeadLetter}, next)
		dead := kafka.EventsOf[kafka.RecordForwarded](rec)
		require.Len(t, dead, 1)
		assert.Equal(t, calls[0].source, dead[0].Source)
		for _, p := range s.Partitions {
			assert.Zero(t, p.Lag, "%v", p)
			assert.Equal(t, p.Position, p.Committed)
		}
	})
}

// A tier that is only drained is read and gets nothing. It need not exist.
func TestDrainedRetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s, retry1m)
		cfg := retrying(5*time.Second, time.Minute)
		cfg.Failure.RetryTopics[0].Drain = true
		cfg.Failure.RetryTopics = append(cfg.Failure.RetryTopics, kafka.RetryTopic{Delay: time.Hour, Drain: true})
		old := retryRecord("orders", 7, "orders", 3)
		require.NoError(t, b.Send(retry5s, nil, []byte("old"), memory.Headers(old...)))
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		h := newRetryHandler(always)
		m := launch(t, b, cfg, h.handle)
		pass(2 * time.Minute)
		assert.Equal(t, kafka.StateRunning, status(t, m).State)
		var topics []string
		for _, c := range append(h.of("old"), h.of("bad")...) {
			topics = append(topics, c.topic)
		}
		assert.Equal(t, []string{retry5s, retry1m, "orders", "orders", retry1m}, topics)
		assert.Equal(t, 4, h.of("old")[0].attempt)
		assert.Equal(t, kafka.Source{Topic: "orders", Offset: 7, Timestamp: time.UnixMilli(12345)}, h.of("old")[0].source)
		assert.Len(t, lettersIn(t, b, ordersDLQ), 2)
	})
}

// retryRecord returns the headers of a record in a retry topic.
func retryRecord(topic string, offset int, group string, attempts int) []kafka.Header {
	text := func(key, value string) kafka.Header { return kafka.Header{Key: key, Value: []byte(value)} }
	return []kafka.Header{
		text(kafka.HeaderRetryTopic, topic), text(kafka.HeaderRetryPartition, "0"), text(kafka.HeaderRetryOffset, fmt.Sprint(offset)),
		text(kafka.HeaderRetryTimestamp, "12345"), text(kafka.HeaderRetryGroup, group), text(kafka.HeaderRetryAttempts, fmt.Sprint(attempts)),
	}
}

// A record that another group has sent is passed over. One without headers, with broken
// ones or of a topic that is not the consumer's is handled as one that never failed, and
// goes to the next tier and never to an earlier one.
func TestStrangeRecordsInARetryTopic(t *testing.T) {
	without := func(key string) []kafka.Header {
		return slices.DeleteFunc(retryRecord("orders", 7, "orders", 3), func(h kafka.Header) bool { return h.Key == key })
	}
	with := func(key, value string) []kafka.Header {
		return append(without(key), kafka.Header{Key: key, Value: []byte(value)})
	}
	for _, batch := range []bool{false, true} {
		for name, tt := range map[string]struct {
			headers []kafka.Header
			foreign bool
			known   bool
		}{
			"known":                {headers: retryRecord("orders", 7, "orders", 3), known: true},
			"known, of a tier":     {headers: retryRecord(retry5s, 7, "orders", 3), known: true},
			"foreign":              {headers: retryRecord("orders", 7, "other", 3), foreign: true},
			"foreign, and broken":  {headers: with(kafka.HeaderRetryGroup, "other\x00"), foreign: true},
			"no headers":           {},
			"no group":             {headers: without(kafka.HeaderRetryGroup)},
			"no topic":             {headers: without(kafka.HeaderRetryTopic)},
			"no offset":            {headers: without(kafka.HeaderRetryOffset)},
			"no attempts":          {headers: without(kafka.HeaderRetryAttempts)},
			"no timestamp":         {headers: without(kafka.HeaderRetryTimestamp)},
			"a negative partition": {headers: with(kafka.HeaderRetryPartition, "-1")},
			"no number":            {headers: with(kafka.HeaderRetryOffset, "7x")},
			"too many attempts":    {headers: with(kafka.HeaderRetryAttempts, "1000001")},
			"another topic":        {headers: retryRecord("results", 7, "orders", 3)},
		} {
			t.Run(fmt.Sprintf("%s, batch %v", name, batch), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := retryBroker(t, 1, retry5s, retry1m)
					own := kafka.Header{Key: "own", Value: []byte("x")}
					require.NoError(t, b.Send(retry5s, []byte("k"), []byte("good"), memory.Headers(retryRecord("orders", 6, "orders", 2)...)))
					require.NoError(t, b.Send(retry5s, []byte("k"), []byte("bad"), memory.Headers(append(slices.Clone(tt.headers), own)...)))
					require.NoError(t, b.Send(retry5s, []byte("k"), []byte("good"), memory.Headers(retryRecord("orders", 8, "orders", 2)...)))
					h, rec := newRetryHandler(func(m *kafka.Message, _ int) bool { return string(m.Value) == "bad" }), new(kafka.Recorder)
					var m *kafka.Manager
					if batch {
						m = launchBatch(t, b, retrying(5*time.Second, time.Minute), h, kafka.WithHook(rec))
					} else {
						m = launch(t, b, retrying(5*time.Second, time.Minute), h.handle, kafka.WithHook(rec))
					}
					pass(5 * time.Minute)
					s := status(t, m)
					assert.Len(t, h.of("good"), 2)
					assert.EqualValues(t, 3, b.Committed("orders", retry5s, 0))
					passed := kafka.EventsOf[kafka.RecordPassedOver](rec)
					if tt.foreign {
						assert.Empty(t, h.of("bad"))
						assert.EqualValues(t, 1, s.PassedOver)
						require.Len(t, passed, 1)
						assert.Equal(t, kafka.TopicPartition{Topic: retry5s}, passed[0].TopicPartition)
						assert.EqualValues(t, 1, passed[0].Offset)
						assert.Empty(t, lettersIn(t, b, ordersDLQ))
						return
					}
					assert.Empty(t, passed)
					calls, letters := h.of("bad"), lettersIn(t, b, ordersDLQ)
					require.Len(t, calls, 2)
					require.Len(t, letters, 1)
					assert.Equal(t, []string{retry5s, retry1m}, []string{calls[0].topic, calls[1].topic})
					assert.Equal(t, []kafka.Header{own}, calls[0].headers)
					assert.Equal(t, []kafka.Header{own}, calls[1].headers)
					before := 0
					if tt.known {
						before = 3
						assert.EqualValues(t, 7, calls[0].source.Offset)
						assert.Zero(t, s.Unmarked)
					} else {
						assert.Equal(t, retry5s, calls[0].source.Topic)
						assert.EqualValues(t, 1, calls[0].source.Offset)
						assert.EqualValues(t, 1, s.Unmarked, "it is known from then on")
					}
					assert.Equal(t, calls[0].source, calls[1].source)
					assert.Equal(t, before+1, calls[0].attempt)
					assert.Equal(t, before+2, calls[1].attempt)
					assert.Equal(t, fmt.Sprint(before+2), headerOf(letters[0], kafka.HeaderErrorDeliveryCount))
					assert.Equal(t, calls[0].source.Topic, headerOf(letters[0], kafka.HeaderErrorTopic))
				})
			})
		}
	}
}

// launchBatch is launch for a consumer of batches, which names the records that fail.
func launchBatch(t *testing.T, b driver.Driver, cfg kafka.ConsumerConfig, h *retryHandler, opts ...kafka.Option) *kafka.Manager {
	t.Helper()
	m := newManager(t, b, opts...)
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewBatchConsumer(cfg, func(ctx context.Context, ms []*kafka.Message) error {
		var failed kafka.BatchError
		for _, m := range ms {
			if err := h.handle(ctx, m); err != nil {
				failed.Add(m, err)
			}
		}
		return failed.Err()
	})))
	require.NoError(t, m.SetConsumerSwitch(cfg.JobName, true))
	require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
	synctest.Wait()
	return m
}

// A batch of a retry topic holds what is due, and nothing else.
func TestBatchOfARetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		start := time.Now()
		for i := range 6 {
			require.NoError(t, b.Send(retry5s, nil, []byte("r"), memory.Timestamp(start.Add(time.Duration(i/2-2)*time.Second)),
				memory.Headers(retryRecord("orders", i, "orders", 1)...)))
		}
		var sizes []int
		var at []time.Duration
		m := newManager(t, b)
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewBatchConsumer(retrying(5*time.Second), func(_ context.Context, ms []*kafka.Message) error {
			sizes, at = append(sizes, len(ms)), append(at, time.Since(start))
			return nil
		})))
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
		pass(time.Minute)
		assert.Equal(t, []int{2, 2, 2}, sizes)
		assert.Equal(t, []time.Duration{3 * time.Second, 4 * time.Second, 5 * time.Second}, at)
		assert.EqualValues(t, 6, b.Committed("orders", retry5s, 0))
	})
}

// A sender's clock that is ahead costs nothing, one that is behind shortens the wait by as
// much, and a record without a time waits from when it came.
func TestClocksOfARetryTopic(t *testing.T) {
	for name, tt := range map[string]struct {
		ahead time.Duration
		due   time.Duration
		again bool // the consumer is switched off and on meanwhile
	}{
		"right":                  {0, time.Minute, false},
		"ahead":                  {time.Hour, time.Minute, false},
		"ahead, two claims":      {time.Hour, time.Minute, true},
		"behind":                 {-20 * time.Second, 40 * time.Second, false},
		"behind by more than it": {-time.Hour, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := retryBroker(t, 1, retry1m)
				h := newRetryHandler(func(*kafka.Message, int) bool { return false })
				m := launch(t, b, retrying(time.Minute), h.handle)
				pass(time.Minute)
				sent := time.Now()
				require.NoError(t, b.Send(retry1m, nil, []byte("r"), memory.Timestamp(sent.Add(tt.ahead)), memory.Headers(retryRecord("orders", 1, "orders", 1)...)))
				synctest.Wait()
				if tt.again {
					pass(30 * time.Second)
					require.NoError(t, m.SetConsumerSwitch("orders", false))
					synctest.Wait()
					require.NoError(t, m.SetConsumerSwitch("orders", true))
				}
				if tt.due > 0 {
					pass(time.Until(sent.Add(tt.due - time.Millisecond)))
					require.Empty(t, h.of("r"))
					p := partitionOf(t, m, retry1m)
					assert.Equal(t, sent.Add(tt.due), p.Due)
					assert.Equal(t, sent.Add(tt.due), p.Oldest)
					assert.NoError(t, m.Healthy())
				}
				pass(time.Millisecond)
				require.Len(t, h.of("r"), 1)
				assert.Zero(t, partitionOf(t, m, retry1m).Due)
			})
		})
	}
}

func partitionOf(t testing.TB, m *kafka.Manager, topic string) kafka.PartitionStatus {
	t.Helper()
	for _, p := range status(t, m).Partitions {
		if p.Topic == topic {
			return p
		}
	}
	require.Fail(t, "not owned", topic)
	return kafka.PartitionStatus{}
}

// A record that waits delays neither a switch-off nor a shutdown. Afterwards it is still
// there, due when it was, and with the same count.
func TestWaitOfARetryTopicEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const hour = "orders.orders.retry.1h"
		b := retryBroker(t, 1, hour)
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		h := newRetryHandler(func(_ *kafka.Message, n int) bool { return n < 3 })
		cfg := retrying(time.Hour)
		cfg.Parallelism = 10
		m := launch(t, b, cfg, h.handle)
		pass(time.Minute)
		require.Len(t, h.of("bad"), 2)
		began := time.Now()
		require.NoError(t, m.SetConsumerSwitch("orders", false))
		synctest.Wait()
		assert.Equal(t, kafka.StateOff, status(t, m).State)
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		pass(time.Minute)
		require.NoError(t, m.Shutdown(context.Background()))
		assert.Equal(t, time.Minute, time.Since(began))
		launch(t, b, cfg, h.handle)
		pass(2 * time.Hour)
		calls := h.of("bad")
		require.Len(t, calls, 3)
		assert.Equal(t, time.Hour+time.Second, calls[2].at)
		assert.Equal(t, 3, calls[2].attempt)
	})
}

// Retry topics are read from their oldest record, though the consumer begins at the
// newest.
func TestRetryTopicsBeginAtTheOldestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		require.NoError(t, b.Send(retry5s, nil, []byte("r"), memory.Headers(retryRecord("orders", 1, "orders", 1)...)))
		require.NoError(t, b.Send("orders", nil, []byte("r")))
		h := newRetryHandler(func(*kafka.Message, int) bool { return false })
		cfg := retrying(5 * time.Second)
		cfg.InitialOffset = kafka.OffsetNewest
		launch(t, b, cfg, h.handle)
		pass(time.Minute)
		require.Len(t, h.of("r"), 1)
		assert.Equal(t, retry5s, h.of("r")[0].topic)
	})
}

// A missing retry topic keeps the consumer waiting, with a reason that names it, and it is
// not created.
func TestMissingRetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1)
		h := newRetryHandler(always)
		m := launch(t, b, retrying(5*time.Second), h.handle)
		pass(time.Hour)
		s := status(t, m)
		assert.Equal(t, kafka.StateBackingOff, s.State)
		assert.ErrorContains(t, s.Reason, `retry topics: topic "orders.orders.retry.5s" does not exist`)
		assert.Zero(t, b.Partitions(retry5s))
		require.NoError(t, b.CreateTopic(retry5s, 1))
		pass(2 * time.Minute)
		assert.Equal(t, kafka.StateRunning, status(t, m).State)
	})
}

// What the publish to a retry topic comes to decides, as with a dead letter.
func TestPublishToARetryTopic(t *testing.T) {
	to := func(i fault.Injector) fault.Injector { return fault.Topic(retry5s, fault.On(fault.Produce, i)) }
	for name, tt := range map[string]struct {
		fault    fault.Injector
		fails    int
		copies   int
		disabled bool
	}{
		"transient, three times":    {to(fault.First(3, fault.Before(fault.Error("NOT_ENOUGH_REPLICAS")))), 3, 1, false},
		"of unknown outcome, twice": {to(fault.First(2, fault.After(errors.New("no answer")))), 2, 3, false},
		"not authorised":            {to(fault.Before(fault.Permanent("TOPIC_AUTHORIZATION_FAILED"))), 1, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := retryBroker(t, 1, retry5s)
				require.NoError(t, b.Send("orders", nil, []byte("bad")))
				h, rec := newRetryHandler(func(m *kafka.Message, _ int) bool { return m.Topic == "orders" }), new(kafka.Recorder)
				m := launch(t, fault.Wrap(b, tt.fault), retrying(5*time.Second), h.handle, kafka.WithHook(rec))
				pass(10 * time.Minute)
				assert.Len(t, kafka.EventsOf[kafka.ForwardFailed](rec), tt.fails)
				assert.Len(t, lettersIn(t, b, retry5s), tt.copies)
				if tt.disabled {
					assert.Equal(t, kafka.StateDisabled, status(t, m).State)
					assert.LessOrEqual(t, b.Committed("orders", "orders", 0), int64(0))
					return
				}
				assert.Len(t, h.of("bad"), 2+tt.copies)
				assert.EqualValues(t, 1, b.Committed("orders", "orders", 0))
			})
		})
	}
}

// A record that is too large for a retry topic goes on to what comes after the last one, at
// once. It stops nothing, unless that is what the policy asks for.
func TestRecordThatIsTooLargeForARetryTopic(t *testing.T) {
	for _, then := range []kafka.Failure{kafka.FailureDeadLetter, kafka.FailureSkip, kafka.FailureStop} {
		for _, batch := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v, batch %v", then, batch), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := retryBroker(t, 1, retry5s, retry1m)
					for _, v := range []string{"good", "bad", "good"} {
						require.NoError(t, b.Send("orders", nil, []byte(v)))
					}
					cfg := retrying(5*time.Second, time.Minute)
					cfg.Failure.Then = then
					refused := fault.Topic(retry5s, fault.On(fault.Produce, fault.Before(fault.Permanent("MESSAGE_TOO_LARGE"))))
					h, rec := newRetryHandler(func(m *kafka.Message, _ int) bool { return string(m.Value) == "bad" }), new(kafka.Recorder)
					var m *kafka.Manager
					if batch {
						m = launchBatch(t, fault.Wrap(b, refused), cfg, h, kafka.WithHook(rec))
					} else {
						m = launch(t, fault.Wrap(b, refused), cfg, h.handle, kafka.WithHook(rec))
					}
					pass(10 * time.Second)
					require.Len(t, h.of("bad"), 2)
					require.Len(t, h.of("good"), 2)
					failed := kafka.EventsOf[kafka.ForwardFailed](rec)
					require.Len(t, failed, 1)
					assert.Equal(t, retry5s, failed[0].ToTopic)
					assert.ErrorContains(t, failed[0].Err, "MESSAGE_TOO_LARGE")
					assert.Empty(t, lettersIn(t, b, retry1m), "no other tier takes it")
					s, letters := status(t, m), lettersIn(t, b, ordersDLQ)
					if then == kafka.FailureStop {
						assert.Equal(t, kafka.StateDisabled, s.State)
						assert.ErrorContains(t, s.Reason, "record orders/0 at offset 1: "+errBad.Error())
						return
					}
					assert.Equal(t, kafka.StateRunning, s.State)
					assert.EqualValues(t, 3, b.Committed("orders", "orders", 0))
					if then == kafka.FailureSkip {
						assert.EqualValues(t, 1, s.Skipped)
						assert.Empty(t, letters)
						return
					}
					require.Len(t, letters, 1)
					assert.Equal(t, kafka.DeadLetterReasonAttempts, headerOf(letters[0], kafka.HeaderErrorReason))
					assert.Equal(t, "2", headerOf(letters[0], kafka.HeaderErrorDeliveryCount))
				})
			})
		}
	}
}

// A record of a retry topic that has nowhere to go is kept. Its wait grows by the attempts
// there, and not by those in other topics.
func TestRecordOfARetryTopicThatHasNowhereToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		require.NoError(t, b.Send(retry5s, nil, []byte("bad"), memory.Headers(retryRecord("orders", 1, "orders", 9)...)))
		cfg := retrying(5 * time.Second)
		cfg.Failure.DeadLetter = kafka.DeadLetterConfig{TopicFor: func(*kafka.Message, error) string { return "" }}
		h := newRetryHandler(always)
		launch(t, b, cfg, h.handle)
		pass(13 * time.Second)
		var at []time.Duration
		for _, c := range h.of("bad") {
			at = append(at, c.at)
		}
		assert.Equal(t, []time.Duration{5 * time.Second, 6 * time.Second, 8 * time.Second, 12 * time.Second}, at)
	})
}

// Marks decide in a retry topic as elsewhere. Retry has no attempt left there.
func TestMarksInARetryTopic(t *testing.T) {
	for name, tt := range map[string]struct {
		mark  func(error) error
		calls int
		dead  int
		state kafka.State
	}{
		"DeadLetter": {kafka.DeadLetter, 1, 1, kafka.StateRunning},
		"Skip":       {kafka.Skip, 1, 0, kafka.StateRunning},
		"Retry":      {func(err error) error { return kafka.Retry(err, time.Millisecond) }, 2, 1, kafka.StateRunning},
		"Hold":       {func(err error) error { return kafka.Hold(err, time.Hour) }, 1, 0, kafka.StateRunning},
		"Stop":       {kafka.Stop, 1, 0, kafka.StateDisabled},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := retryBroker(t, 1, retry5s, retry1m)
				require.NoError(t, b.Send(retry5s, nil, []byte("bad"), memory.Headers(retryRecord("orders", 1, "orders", 1)...)))
				h := newRetryHandler(always)
				m := launch(t, b, retrying(5*time.Second, time.Minute), func(ctx context.Context, m *kafka.Message) error {
					return tt.mark(h.handle(ctx, m))
				})
				pass(2 * time.Minute)
				assert.Len(t, h.of("bad"), tt.calls)
				assert.Len(t, lettersIn(t, b, ordersDLQ), tt.dead)
				assert.Equal(t, tt.state, status(t, m).State)
				if name == "Stop" {
					assert.LessOrEqual(t, b.Committed("orders", retry5s, 0), int64(0))
					require.NoError(t, m.SetConsumerSwitch("orders", true))
					pass(time.Minute)
					assert.Len(t, h.of("bad"), 2, "it comes first again")
				}
				if name == "Hold" {
					require.NoError(t, m.SetConsumerSwitch("orders", false))
				}
			})
		})
	}
}

// What has failed in the last retry topic can switch the consumer off, and comes there again
// when it is switched on.
func TestStopAfterTheLastRetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		cfg := retrying(5 * time.Second)
		cfg.Failure.Then = kafka.FailureStop
		h := newRetryHandler(func(_ *kafka.Message, n int) bool { return n < 4 })
		m := launch(t, b, cfg, h.handle)
		pass(time.Minute)
		s := status(t, m)
		assert.Equal(t, kafka.StateDisabled, s.State)
		assert.ErrorContains(t, s.Reason, "record "+retry5s+"/0 at offset 0: "+errBad.Error())
		require.Len(t, h.of("bad"), 3)
		assert.EqualValues(t, 1, b.Committed("orders", "orders", 0))
		assert.LessOrEqual(t, b.Committed("orders", retry5s, 0), int64(0))
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		pass(time.Minute)
		require.Len(t, h.of("bad"), 4)
		assert.Equal(t, retry5s, h.of("bad")[3].topic)
		assert.EqualValues(t, 1, b.Committed("orders", retry5s, 0))
	})
}

// An operator can send a record to the dead letters whose copy does not arrive in its
// retry topic.
func TestResolveARecordOnItsWayToARetryTopic(t *testing.T) {
	for _, do := range []kafka.Failure{kafka.FailureDeadLetter, kafka.FailureSkip, kafka.FailureKeep} {
		t.Run(do.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := retryBroker(t, 1, retry5s)
				require.NoError(t, b.Send("orders", nil, []byte("bad")))
				away := fault.Topic(retry5s, fault.On(fault.Produce, fault.First(5, fault.Before(fault.Error("NOT_ENOUGH_REPLICAS")))))
				h := newRetryHandler(func(m *kafka.Message, _ int) bool { return m.Topic == "orders" })
				m := launch(t, fault.Wrap(b, away), retrying(5*time.Second), h.handle)
				pass(3 * time.Second)
				require.NoError(t, m.Resolve(t.Context(), "orders", kafka.TopicPartition{Topic: "orders"}, 0, do))
				pass(10 * time.Minute)
				dead, retried := 0, 1
				switch do {
				case kafka.FailureDeadLetter:
					dead, retried = 1, 0
				case kafka.FailureSkip:
					retried = 0
				}
				assert.Len(t, lettersIn(t, b, ordersDLQ), dead)
				assert.Len(t, lettersIn(t, b, retry5s), retried)
				assert.EqualValues(t, 1, b.Committed("orders", "orders", 0))
			})
		})
	}
}

// While the copy is on its way to a retry topic, an operator can have it go to the dead
// letters instead.
func TestResolveDuringASendToARetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		require.NoError(t, b.Send("orders", nil, []byte("bad")))
		silent := fault.Topic(retry5s, fault.On(fault.Produce, fault.Delay(time.Hour)))
		h := newRetryHandler(always)
		m := launch(t, fault.Wrap(b, silent), retrying(5*time.Second), h.handle)
		pass(10 * time.Second)
		p := kafka.TopicPartition{Topic: "orders"}
		require.NoError(t, m.Resolve(t.Context(), "orders", p, 0, kafka.FailureKeep), "it is under way")
		synctest.Wait()
		assert.Empty(t, lettersIn(t, b, ordersDLQ))
		require.NoError(t, m.Resolve(t.Context(), "orders", p, 0, kafka.FailureDeadLetter))
		pass(time.Minute)
		require.Len(t, lettersIn(t, b, ordersDLQ), 1)
		assert.Equal(t, kafka.DeadLetterReasonOperator, headerOf(lettersIn(t, b, ordersDLQ)[0], kafka.HeaderErrorReason))
		assert.EqualValues(t, 1, b.Committed("orders", "orders", 0))
	})
}

// A paused retry topic hands out nothing, though records become due.
func TestPausedRetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		h := newRetryHandler(func(*kafka.Message, int) bool { return false })
		m := launch(t, b, retrying(5*time.Second), h.handle)
		p := kafka.TopicPartition{Topic: retry5s}
		require.NoError(t, b.Send(retry5s, nil, []byte("r"), memory.Headers(retryRecord("orders", 1, "orders", 1)...)))
		synctest.Wait()
		require.NoError(t, m.Pause("orders", p))
		pass(time.Minute)
		assert.Empty(t, h.of("r"))
		require.NoError(t, m.Resume("orders", p))
		synctest.Wait()
		assert.Len(t, h.of("r"), 1)
	})
}

// In a topic that is no retry topic of the consumer its headers are data.
func TestRetryHeadersAreDataElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		hs := retryRecord("other", 7, "other", 3)
		require.NoError(t, b.Send("orders", nil, []byte("bad"), memory.Headers(hs...)))
		h := newRetryHandler(always)
		launch(t, b, retrying(5*time.Second), h.handle)
		pass(time.Minute)
		calls := h.of("bad")
		require.Len(t, calls, 3)
		assert.Equal(t, hs, calls[0].headers)
		assert.Equal(t, "orders", calls[0].source.Topic)
		assert.Empty(t, calls[2].headers, "its copy has ours in their place")
		assert.Equal(t, calls[0].source, calls[2].source)
	})
}

// exitingAt ends the goroutine of a RecordPassedOver: of the one of which that many come
// before it.
type exitingAt struct {
	kafka.NopHook
	before int32
	seen   atomic.Int32
}

func (h *exitingAt) Event(e kafka.Event) {
	if _, passed := e.(kafka.RecordPassedOver); passed && h.seen.Add(1) == h.before+1 {
		runtime.Goexit()
	}
}

// A hook that ends the goroutine when it hears of a record of another group does not make
// the record come to the handler. Hooks hear of that record again, and of no other one.
func TestHookThatExitsAtARecordPassedOver(t *testing.T) {
	for _, batch := range []bool{false, true} {
		for before, want := range [][]int64{{1, 1, 3}, {1, 3, 3}} {
			synctest.Test(t, func(t *testing.T) {
				b := retryBroker(t, 1, retry5s)
				for i, group := range []string{"orders", "other", "orders", "other"} {
					require.NoError(t, b.Send(retry5s, nil, []byte(group), memory.Headers(retryRecord("orders", i, group, 1)...)))
				}
				h, rec, hook := newRetryHandler(func(*kafka.Message, int) bool { return false }), new(kafka.Recorder), &exitingAt{before: int32(before)}
				run := launch
				if batch {
					run = func(t *testing.T, d driver.Driver, cfg kafka.ConsumerConfig, _ func(context.Context, *kafka.Message) error, opts ...kafka.Option) *kafka.Manager {
						return launchBatch(t, d, cfg, h, opts...)
					}
				}
				run(t, b, retrying(5*time.Second), h.handle, kafka.WithHook(rec, hook))
				pass(time.Minute)
				var passed []int64
				for _, e := range kafka.EventsOf[kafka.RecordPassedOver](rec) {
					passed = append(passed, e.Offset)
				}
				assert.Equal(t, want, passed, "batch %v", batch)
				assert.Len(t, h.of("orders"), 2)
				assert.Empty(t, h.of("other"))
				assert.EqualValues(t, 4, b.Committed("orders", retry5s, 0))
			})
		}
	}
}

// A batch of a retry topic that fails as a whole comes record by record, and only those
// that fail again go on.
func TestBatchOfARetryTopicThatFailsAsAWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		for i, v := range []string{"good", "bad", "good"} {
			require.NoError(t, b.Send(retry5s, nil, []byte(v), memory.Headers(retryRecord("orders", i, "orders", 2)...)))
		}
		var calls [][]string
		m := newManager(t, b)
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewBatchConsumer(retrying(5*time.Second), func(_ context.Context, ms []*kafka.Message) error {
			var values []string
			for _, m := range ms {
				values = append(values, string(m.Value))
			}
			calls = append(calls, values)
			if slices.Contains(values, "bad") {
				return errBad
			}
			return nil
		})))
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
		pass(time.Minute)
		assert.Equal(t, [][]string{{"good", "bad", "good"}, {"good"}, {"bad"}, {"good"}}, calls)
		letters := lettersIn(t, b, ordersDLQ)
		require.Len(t, letters, 1)
		assert.Equal(t, "bad", string(letters[0].Value))
		assert.EqualValues(t, 3, b.Committed("orders", retry5s, 0))
	})
}

// A batch that lingers holds what is due when the linger ends, and nothing else.
func TestBatchOfARetryTopicLingers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		start := time.Now()
		for _, after := range []time.Duration{0, time.Second, 1500 * time.Millisecond} {
			require.NoError(t, b.Send(retry5s, nil, []byte("r"), memory.Timestamp(start.Add(after-4*time.Second)),
				memory.Headers(retryRecord("orders", 1, "orders", 1)...)))
		}
		cfg := retrying(5 * time.Second)
		cfg.BatchLinger = 2 * time.Second
		var sizes []int
		var at []time.Duration
		m := newManager(t, b)
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewBatchConsumer(cfg, func(_ context.Context, ms []*kafka.Message) error {
			for _, m := range ms {
				assert.False(t, m.Timestamp.Add(5*time.Second).After(time.Now()), "it is due")
			}
			sizes, at = append(sizes, len(ms)), append(at, time.Since(start))
			return nil
		})))
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
		pass(2 * time.Second)
		require.NoError(t, b.Send(retry5s, nil, []byte("r"), memory.Headers(retryRecord("orders", 1, "orders", 1)...)))
		pass(time.Minute)
		assert.Equal(t, []int{3, 1}, sizes)
		assert.Equal(t, []time.Duration{3 * time.Second, 9 * time.Second}, at)
	})
}

// A record that is not due takes nothing from the rate, and records of another group do
// not: those that are due are handed out as fast as the rate allows.
func TestRateOfARetryTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retryBroker(t, 1, retry5s)
		cfg := retrying(5 * time.Second)
		cfg.MaxRate = 1
		h := newRetryHandler(func(*kafka.Message, int) bool { return false })
		launch(t, b, cfg, h.handle)
		pass(10 * time.Second)
		for i := range 6 {
			group := "orders"
			if i%3 == 1 {
				group = "other"
			}
			require.NoError(t, b.Send(retry5s, nil, []byte(group), memory.Headers(retryRecord("orders", i, group, 1)...)))
		}
		pass(time.Second)
		require.NoError(t, b.Send("orders", nil, []byte("source")))
		pass(time.Minute)
		require.Len(t, h.of("source"), 1)
		assert.Equal(t, 11*time.Second, h.of("source")[0].at, "those that are not due take nothing")
		var at []time.Duration
		for _, c := range h.of("orders") {
			at = append(at, c.at)
		}
		assert.Equal(t, []time.Duration{15 * time.Second, 16 * time.Second, 17 * time.Second, 18 * time.Second}, at)
		assert.EqualValues(t, 6, b.Committed("orders", retry5s, 0))
	})
}

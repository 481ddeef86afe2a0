package kafka_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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
			To: kafka.TopicPartition{Topic: retry}, Delay: 10 * time.Second, Err: errBad,
		}, events[0])
		assert.Empty(t, lettersIn(t, b, ordersDLQ))
	})
}

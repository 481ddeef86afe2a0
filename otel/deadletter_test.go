package otelkafka

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// A28: the library's own forward. The send of a dead letter is a child of the delivery
// and linked to the origin; it carries its own context and the baggage of none. The
// delivery has failed, though its record is safe.
func TestA28_DeadLetter(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		cfg := orders()
		cfg.Failure = kafka.FailurePolicy{
			Then: kafka.FailureDeadLetter, MaxAttempts: 3,
			DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.dlq"},
		}
		r.Start(kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { return errors.New("no paper") }))
		hs, original := remoteHeaders(5, true)
		dead := r.WaitDead(r.SendMessage(&kafka.ProducerMessage{Topic: "orders", Key: []byte("k"), Headers: hs}))
		synctest.Wait()
		delivery, send := r.one("process orders"), r.one("send orders.dlq")
		assert.Equal(t, delivery.SpanContext().SpanID(), send.Parent().SpanID())
		assert.Equal(t, trace.SpanKindProducer, send.SpanKind())
		wantLinks(t, send, original)
		assert.Equal(t, send.SpanContext().SpanID(), r.hook.spans.propagate().remote(dead.Letter.Headers).SpanID())
		assert.Equal(t, codes.Error, delivery.Status().Code)
		assert.Equal(t, "no paper", delivery.Status().Description)
		assert.Equal(t, "dead_letter", textOf(delivery, outcomeKey))
		assert.Equal(t, int64(3), numberOf(delivery, attemptsKey))
		failed := semconv.ErrorTypeKey.String("*errors.errorString")
		group := semconv.MessagingConsumerGroupName("shop")
		assert.Equal(t, 1.0, r.total("kafka.consumer.dead_letters", failed, group, semconv.MessagingDestinationName("orders")))
		assert.Equal(t, 2.0, r.total("kafka.consumer.retries"), "the third failure is followed by no attempt")
		r.wantCounts("messaging.process.duration", 1)
		assert.Empty(t, r.series("kafka.consumer.skipped"))
		r.balanced()
	})
}

// A record that goes to a retry topic ends its delivery, which has failed. The copy is
// sent within it, and handled in a delivery of its own.
func TestRetriedRecordIsCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		cfg := orders()
		cfg.Order = kafka.OrderNone
		cfg.Failure = kafka.FailurePolicy{
			Then: kafka.FailureSkip, MaxAttempts: 1,
			RetryTopics: []kafka.RetryTopic{{Delay: time.Minute}},
		}
		handled := make(chan int, 1)
		r.Start(kafka.NewConsumer(cfg, func(_ context.Context, m *kafka.Message) error {
			if m.Attempt == 1 {
				return errors.New("no paper")
			}
			handled <- m.Attempt
			return nil
		}))
		r.Send("orders", "k", "v")
		assert.Equal(t, 2, <-handled)
		synctest.Wait()
		const retry = "orders.shop.retry.1m"
		delivery, send, second := r.one("process orders"), r.one("send "+retry), r.one("process "+retry)
		assert.Equal(t, delivery.SpanContext().SpanID(), send.Parent().SpanID())
		assert.Equal(t, codes.Error, delivery.Status().Code)
		assert.Equal(t, "retry_topic", textOf(delivery, outcomeKey))
		assert.Equal(t, "ack", textOf(second, outcomeKey))
		group := semconv.MessagingConsumerGroupName("shop")
		assert.Equal(t, 1.0, r.total("kafka.consumer.retried", group, semconv.MessagingDestinationName("orders")))
		assert.Zero(t, r.total("kafka.consumer.retries"))
		assert.Empty(t, r.series("kafka.consumer.dead_letters"))
		assert.Empty(t, r.series("kafka.consumer.passed_over"))
		r.balanced()
	})
}

func TestSkippedRecordIsCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(context.Context, *kafka.Message) error { return kafka.Skip(errors.New("not ours")) })
		require.EqualError(t, r.WaitSkipped(r.Send("orders", "k", "v")), "not ours")
		synctest.Wait()
		delivery := r.one("process orders")
		assert.Equal(t, codes.Error, delivery.Status().Code)
		assert.Equal(t, "skip", textOf(delivery, outcomeKey))
		assert.Equal(t, 1.0, r.total("kafka.consumer.skipped", semconv.MessagingConsumerGroupName("shop")))
		assert.Zero(t, r.total("kafka.consumer.retries"))
		r.balanced()
	})
}

// The gauge is 1 while a consumer is held.
func TestHeldConsumerShows(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		away := true
		r.consume(func(context.Context, *kafka.Message) error {
			if away {
				return kafka.Hold(errors.New("the database is down"), time.Minute)
			}
			return nil
		})
		held := func() float64 { return r.total("kafka.consumer.held", consumerKey.String("orders")) }
		assert.Zero(t, held())
		m := r.Send("orders", "k", "v")
		r.WaitAttempts(m, 1)
		synctest.Wait()
		assert.Equal(t, 1.0, held())
		away = false
		r.WaitHandled(m)
		synctest.Wait()
		assert.Zero(t, held())
	})
}

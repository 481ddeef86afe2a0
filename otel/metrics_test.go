package otelkafka

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// everything makes each metric and each kind of span at least once, by sends that
// succeed and fail, deliveries that are retried or given up, and a rebalance.
func everything(t *testing.T, r *rig) {
	p := r.Producer()
	r.consume(func(ctx context.Context, m *kafka.Message) error {
		if m.Attempt == 1 {
			return errors.New("no")
		}
		return p.Send(ctx, "results", []byte("k"), []byte("secret value"))
	})
	require.NoError(t, p.Send(t.Context(), "orders", []byte("k"), []byte("secret value")))
	assert.Error(t, p.Send(t.Context(), "no topic", nil, nil), "an invalid topic")
	r.WaitHandled(&kafka.Message{Topic: "orders"})
	doubts := orders()
	doubts.JobName, doubts.Topic, doubts.ConsumerGroup = "doubts", "doubts", "doubts"
	doubts.Order = kafka.OrderNone
	doubts.Failure = kafka.FailurePolicy{
		Then: kafka.FailureSkip, MaxAttempts: 1, DeadLetter: kafka.DeadLetterConfig{Topic: "doubts.dlq"},
		RetryTopics: []kafka.RetryTopic{{Delay: time.Second}},
	}
	r.Start(kafka.NewConsumer(doubts, func(_ context.Context, m *kafka.Message) error {
		switch {
		case m.Topic != "doubts":
			return nil
		case m.Offset == 0:
			return kafka.DeadLetter(errors.New("no"))
		case m.Offset == 1:
			return kafka.Skip(errors.New("no"))
		}
		return errors.New("no")
	}))
	r.WaitDead(r.Kafka.Send("doubts", "k", "secret value"))
	r.WaitSkipped(r.Kafka.Send("doubts", "k", "secret value"))
	r.WaitHandled(r.Kafka.Send("doubts", "k", "secret value"))
	r.Kafka.SendMessage(&kafka.ProducerMessage{
		Topic: "doubts.doubts.retry.1s", Value: []byte("secret value"),
		Headers: []kafka.Header{{Key: kafka.HeaderRetryGroup, Value: []byte("other")}},
	})
	r.Rebalance("orders")
	time.Sleep(5 * time.Second)
}

var everySpan = []Option{WithReceiveSpans(true), WithAttemptSpans(true), WithCommitSpans(CommitSpansAll)}

func TestA33_Instruments(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		var all metricdata.ResourceMetrics
		require.NoError(t, r.reader.Collect(t.Context(), &all))
		require.Len(t, all.ScopeMetrics, 1)
		scope := all.ScopeMetrics[0]
		assert.Equal(t, ScopeName, scope.Scope.Name)
		assert.Equal(t, Version, scope.Scope.Version)
		assert.Equal(t, semconv.SchemaURL, scope.Scope.SchemaURL)
		assert.Equal(t, scope.Scope, r.one("process orders").InstrumentationScope(), "scope of spans")
		missing := instrumentsByName() // checkMetric checks their units, buckets and attributes
		for _, m := range scope.Metrics {
			delete(missing, m.Name)
		}
		assert.Empty(t, missing)
	}, everySpan...)
}

// A34: a metric and its span measure with one clock.
func TestA34_DurationsAreThoseOfTheSpans(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(context.Context, *kafka.Message) error { time.Sleep(1500 * time.Millisecond); return nil })
		r.handled(with(nil))
		s := r.one("process orders")
		got := r.series("messaging.process.duration")
		require.Len(t, got, 1)
		assert.Equal(t, 1.5, got[0].value)
		assert.Equal(t, 1500*time.Millisecond, s.EndTime().Sub(s.StartTime()))
	})
	// The same with a real clock.
	c := newTelemetry(t)
	require.NoError(t, (&cluster{}).sender(t, c.hook).Send(t.Context(), "orders", nil, nil))
	s := c.one("send orders")
	assert.Equal(t, s.EndTime().Sub(s.StartTime()).Seconds(), c.series("messaging.client.operation.duration")[0].value)
}

// A36 for handlers. TestA03_A04_FailedSend checks it for sends.
func TestA36_OneErrorType(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(context.Context, *kafka.Message) error { return typed("OUT_OF_STOCK") })
		r.failTenTimes(r.Kafka.SendMessage(with(nil)))
		synctest.Wait()
		failed := attribute.String("error.type", "OUT_OF_STOCK")
		s := r.one("process orders")
		assert.Equal(t, "OUT_OF_STOCK", textOf(s, "error.type"))
		assert.Equal(t, "retry", textOf(s, outcomeKey), "the next owner handles the record again")
		durations := r.series("messaging.process.duration")
		require.Len(t, durations, 1)
		assert.Contains(t, durations[0].attrs.ToSlice(), failed)
		assert.Equal(t, 10.0, r.total("kafka.consumer.retries", failed))
	})
}

// A37, A43: every kind of span and metric, gauges included, keeps the conventions
// and shows no record's value.
func TestA37_A43_AttributesAreTheConventions(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		r.balanced()
		kinds := map[string]bool{}
		for _, s := range r.recorder.Ended() {
			kinds[strings.Fields(s.Name())[0]] = true
			for _, a := range s.Attributes() {
				assert.NotContains(t, a.Value.String(), "secret", "%s of %s", a.Key, s.Name())
			}
		}
		assert.Equal(t, map[string]bool{"send": true, "poll": true, "process": true, "attempt": true, "commit": true}, kinds)
		r.seen = r.collect() // the gauges do not outlive the manager
	}, everySpan...)
}

// Records that are handled many at once: one fails, one of its key waits behind it, one is
// with a handler, and one is done.
func TestGaugesOfManyRecordsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTelemetry(t)
		k := kafkatest.New(t, kafka.WithHook(c.hook))
		k.CreateTopic("orders", 1)
		cfg := orders()
		cfg.Order, cfg.Parallelism = kafka.OrderByKey, 4
		k.Start(kafka.NewConsumer(cfg, func(ctx context.Context, m *kafka.Message) error {
			switch string(m.Key) {
			case "fails":
				return errors.New("fails")
			case "slow":
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}))
		for _, key := range []string{"fails", "fails", "slow", "good"} {
			k.Send("orders", key, "v")
		}
		time.Sleep(10 * time.Second)
		for name, want := range map[string]float64{
			"kafka.consumer.waiting_messages": 1, "kafka.consumer.backing_off_messages": 1,
			"kafka.consumer.workers": 1, "kafka.consumer.done_above_position_messages": 1,
			"kafka.consumer.inflight_messages": 2, "kafka.consumer.buffered_messages": 3,
		} {
			assert.Equal(t, want, c.total(name), name)
		}
	})
}

func TestA38_LagGauges(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.CreateTopic("orders", 2)
		let := make(chan struct{})
		r.consume(func(context.Context, *kafka.Message) error { <-let; return nil })
		for range 5 {
			r.Kafka.SendMessage(&kafka.ProducerMessage{Topic: "orders", ToPartition: new(int32)})
		}
		time.Sleep(3 * time.Second)
		for range 2 {
			let <- struct{}{}
		}
		time.Sleep(7 * time.Second)
		partition := attribute.String("messaging.destination.partition.id", "0")
		want := map[string]float64{
			"kafka.consumer.records_lag": 3, "kafka.consumer.committed_lag": 3, "kafka.consumer.committed_offset": 2, "kafka.consumer.lag_time": 10,
		}
		for name, want := range want {
			assert.Equal(t, want, r.total(name, partition), name)
			assert.Len(t, r.series(name), 2, "%s: one series per partition", name)
		}
		group := map[string]float64{
			"kafka.consumer.assigned_partitions": 2, "kafka.consumer.paused_partitions": 0, "kafka.consumer.inflight_messages": 1,
		}
		for name, want := range group {
			assert.Equal(t, want, r.total(name, attribute.String("messaging.consumer.group.name", "shop")), name)
		}
		running := attribute.String("kafka.consumer.state", "running")
		assert.Equal(t, 1.0, r.total("kafka.consumer.state", running))
		assert.Equal(t, 1.0, r.total("kafka.consumer.state"), "one state only")
		assert.Len(t, r.series("kafka.consumer.state"), 7)

		close(let)
		time.Sleep(5 * time.Second)
		assert.Zero(t, r.total("kafka.consumer.lag_time"))
		assert.Zero(t, r.total("kafka.consumer.records_lag"))
		require.NoError(t, r.SetConsumerSwitch("orders", false))
		r.WaitState("orders", kafka.StateOff)
		assert.Empty(t, r.series("kafka.consumer.records_lag"), "after the revocation")
		assert.Equal(t, 1.0, r.total("kafka.consumer.state", attribute.String("kafka.consumer.state", "off")))
		require.NoError(t, r.Manager.Shutdown(context.Background()))
		assert.Nil(t, r.metric("kafka.consumer.state"), "after the shutdown")
	})
}

func TestProducerGauges(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{}
	d.produce = d.hold
	p := d.sender(t, c.hook)
	for range 4 {
		p.SendAsync(t.Context(), "orders", nil, []byte("value"), nil)
	}
	client := attribute.String("messaging.client.id", "checkout")
	assert.Equal(t, 4.0, c.total("kafka.producer.buffered_messages", client))
	assert.Equal(t, 20.0, c.total("kafka.producer.buffered_bytes", client))
	d.release(nil)
	assert.Zero(t, c.total("kafka.producer.buffered_messages", client), "after the acknowledgements")
	// A producer of another manager with that client ID: the gauges add the two.
	other := d.sender(t, c.hook)
	heard := func(*kafka.ProducerMessage, error) {}
	p.SendAsync(t.Context(), "orders", nil, []byte("value"), heard)
	other.SendAsync(t.Context(), "orders", nil, []byte("value"), heard)
	assert.Equal(t, 2.0, c.total("kafka.producer.buffered_messages", client), "two producers")
	assert.Equal(t, 10.0, c.total("kafka.producer.buffered_bytes", client), "two producers")
	require.NoError(t, p.Close())
	require.NoError(t, other.Close())
	assert.Empty(t, c.series("kafka.producer.buffered_messages"), "after Close")
}

func TestA39_TemplateReplacesTheName(t *testing.T) {
	opts := []Option{WithDestinationTemplate(func(string) string { return "orders-{id}" }), WithoutPartitionAttribute()}
	c := newTelemetry(t, opts...)
	require.NoError(t, (&cluster{}).sender(t, c.hook).Send(t.Context(), "orders-17", nil, []byte("v")))
	s := c.one("send orders-{id}")
	assert.Equal(t, "orders-17", textOf(s, "messaging.destination.name"))
	for _, name := range []string{"messaging.client.operation.duration", "messaging.client.sent.messages"} {
		a := c.series(name)[0].attrs
		assert.False(t, a.HasValue("messaging.destination.name"), name)
		assert.False(t, a.HasValue("messaging.destination.partition.id"), name)
		assert.Contains(t, a.ToSlice(), attribute.String("messaging.destination.template", "orders-{id}"), name)
	}
}

func TestRebalancesAndLatency(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.Kafka.SendMessage(&kafka.ProducerMessage{Topic: "orders", Timestamp: time.Now().Add(-2 * time.Second)})
		r.Kafka.SendMessage(&kafka.ProducerMessage{Topic: "orders", Timestamp: time.Now().Add(time.Hour)})
		r.consume(done)
		r.WaitCommitted("orders")
		// A sender whose clock is ahead adds nothing.
		latency := r.series("kafka.consumer.delivery.latency")
		require.Len(t, latency, 1)
		assert.Equal(t, uint64(2), latency[0].count)
		assert.GreaterOrEqual(t, latency[0].value, 2.0)
		assert.LessOrEqual(t, latency[0].value, 3.0)
		r.Rebalance("orders")
		r.Crash("orders")
		for kind, want := range map[string]float64{"assigned": 3, "revoked": 1, "lost": 1} {
			assert.Equal(t, want, r.total("kafka.consumer.rebalances", attribute.String("kafka.consumer.rebalance.type", kind)), kind)
		}
		r.wantCounts("kafka.consumer.rebalance.duration", 1)
	})
}

func TestCache(t *testing.T) {
	c := newCache[int, int](10)
	for i := range 1000 {
		require.Equal(t, i, c.put(i, i))
		if i > 0 && i%10 == 0 { // a full cache starts again, empty
			_, ok := c.get(i - 1)
			require.False(t, ok, "%d is still cached", i-1)
		}
		for range 30 {
			v, ok := c.get(i)
			require.True(t, ok, "get %d", i)
			require.Equal(t, i, v)
		}
		require.Contains(t, *c.read.Load(), i, "readable without the lock")
		require.LessOrEqual(t, len(c.all), 10)
		require.LessOrEqual(t, len(*c.read.Load()), 10)
	}
	assert.Equal(t, 999, c.put(999, -1), "put keeps an entry that exists")
}

package otelkafka

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
)

// everything makes each metric and each kind of span once: sends that succeed
// and fail, deliveries that are retried, a rebalance.
func everything(t *testing.T, r *rig) {
	p := r.Producer()
	r.consume(func(ctx context.Context, m *kafka.Message) error {
		if m.Attempt == 1 {
			return errors.New("no")
		}
		return p.Send(ctx, "results", []byte("k"), []byte("secret value"))
	})
	require.NoError(t, p.Send(t.Context(), "orders", []byte("k"), []byte("secret value")))
	if p.Send(t.Context(), "no topic", nil, nil) == nil {
		t.Error("an invalid topic was accepted")
	}
	r.WaitHandled(&kafka.Message{Topic: "orders"})
	r.Rebalance("orders")
	time.Sleep(5 * time.Second)
}

var everySpan = []Option{WithReceiveSpans(true), WithAttemptSpans(true), WithCommitSpans(CommitSpansAll)}

func TestA33_Instruments(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		var all metricdata.ResourceMetrics
		require.NoError(t, r.reader.Collect(t.Context(), &all))
		if len(all.ScopeMetrics) != 1 {
			t.Fatalf("%d scopes", len(all.ScopeMetrics))
		}
		scope := all.ScopeMetrics[0]
		if s := scope.Scope; s.Name != ScopeName || s.Version != Version || s.SchemaURL != semconv.SchemaURL {
			t.Errorf("scope %+v", s)
		}
		if s := r.one("process orders").InstrumentationScope(); s != scope.Scope {
			t.Errorf("scope of spans %+v", s)
		}
		names := instrumentsByName() // with units, buckets and attributes, which checkMetric holds
		for _, m := range scope.Metrics {
			delete(names, m.Name)
		}
		if len(names) != 0 {
			t.Errorf("not emitted: %v", names)
		}
	}, everySpan...)
}

// A34: the clock of a metric is that of its span.
func TestA34_DurationsAreThoseOfTheSpans(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(context.Context, *kafka.Message) error { time.Sleep(1500 * time.Millisecond); return nil })
		r.handled(with(nil))
		s := r.one("process orders")
		got := r.series("messaging.process.duration")
		if len(got) != 1 || got[0].value != 1.5 || s.EndTime().Sub(s.StartTime()) != 1500*time.Millisecond {
			t.Errorf("measured %v, span %v", got, s.EndTime().Sub(s.StartTime()))
		}
	})
	// And with a real one.
	c := newTelemetry(t)
	require.NoError(t, (&cluster{}).sender(t, c.hook).Send(t.Context(), "orders", nil, nil))
	s := c.one("send orders")
	if got := c.series("messaging.client.operation.duration"); got[0].value != s.EndTime().Sub(s.StartTime()).Seconds() {
		t.Errorf("measured %v, span %v", got[0].value, s.EndTime().Sub(s.StartTime()))
	}
}

// A36 of handlers; TestA03_A04_FailedSend has it of sends.
func TestA36_OneErrorType(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(context.Context, *kafka.Message) error { return typed("OUT_OF_STOCK") })
		r.failTenTimes(r.Kafka.SendMessage(with(nil)))
		synctest.Wait()
		failed := attribute.String("error.type", "OUT_OF_STOCK")
		s := r.one("process orders")
		if v, _ := attr(s, "error.type"); v.AsString() != "OUT_OF_STOCK" {
			t.Errorf("span: %q", v.AsString())
		}
		if v, _ := attr(s, outcomeKey); v.AsString() != "retry" {
			t.Errorf("outcome %q, want retry: the record is left to its next owner", v.AsString())
		}
		if got := r.series("messaging.process.duration"); len(got) != 1 || !hasAll(got[0].attrs, []attribute.KeyValue{failed}) {
			t.Errorf("durations: %v", got)
		}
		if n := r.total("kafka.consumer.retries", failed); n != 10 {
			t.Errorf("%v retries, want 10", n)
		}
	})
}

// A37, A43: every kind of span and metric at once, gauges included, is as the
// conventions say, and shows no record's value.
func TestA37_A43_AttributesAreTheConventions(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		r.balanced()
		kinds := map[string]bool{}
		for _, s := range r.recorder.Ended() {
			kinds[strings.Fields(s.Name())[0]] = true
			for _, a := range s.Attributes() {
				if strings.Contains(a.Value.String(), "secret") {
					t.Errorf("%s shows a value in %s", s.Name(), a.Key)
				}
			}
		}
		if len(kinds) != 5 {
			t.Errorf("spans of %v, want send, poll, process, attempt and commit", kinds)
		}
		r.seen = r.collect() // the gauges, which will be gone
	}, everySpan...)
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
			if got := r.total(name, partition); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
			if n := len(r.series(name)); n != 2 {
				t.Errorf("%s has %d series, want one for each partition", name, n)
			}
		}
		group := map[string]float64{
			"kafka.consumer.assigned_partitions": 2, "kafka.consumer.paused_partitions": 0, "kafka.consumer.inflight_messages": 1,
		}
		for name, want := range group {
			if got := r.total(name, attribute.String("messaging.consumer.group.name", "shop")); got != want {
				t.Errorf("%s is %v, want %v", name, got, want)
			}
		}
		running := attribute.String("kafka.consumer.state", "running")
		if r.total("kafka.consumer.state", running) != 1 || r.total("kafka.consumer.state") != 1 || len(r.series("kafka.consumer.state")) != 7 {
			t.Errorf("states: %v", r.series("kafka.consumer.state"))
		}

		close(let)
		time.Sleep(5 * time.Second)
		if got := r.total("kafka.consumer.lag_time") + r.total("kafka.consumer.records_lag"); got != 0 {
			t.Errorf("lag of what is caught up: %v", got)
		}
		require.NoError(t, r.SetConsumerSwitch("orders", false))
		r.WaitState("orders", kafka.StateOff)
		if s := r.series("kafka.consumer.records_lag"); len(s) != 0 {
			t.Errorf("revoked partitions are reported: %v", s)
		}
		if r.total("kafka.consumer.state", attribute.String("kafka.consumer.state", "off")) != 1 {
			t.Error("the consumer is not off")
		}
		require.NoError(t, r.Manager.Shutdown(context.Background()))
		if m := r.metric("kafka.consumer.state"); m != nil {
			t.Errorf("reported after the shutdown: %v", m)
		}
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
	if n, b := c.total("kafka.producer.buffered_messages", client), c.total("kafka.producer.buffered_bytes", client); n != 4 || b != 20 {
		t.Errorf("%v messages, %v bytes; want 4 and 20", n, b)
	}
	d.release(nil)
	if n := c.total("kafka.producer.buffered_messages", client); n != 0 {
		t.Errorf("%v messages after the acknowledgements", n)
	}
	// Another one of that client, of another manager: together they are the client.
	other := d.sender(t, c.hook)
	heard := func(*kafka.ProducerMessage, error) {}
	p.SendAsync(t.Context(), "orders", nil, []byte("value"), heard)
	other.SendAsync(t.Context(), "orders", nil, []byte("value"), heard)
	if n, b := c.total("kafka.producer.buffered_messages", client), c.total("kafka.producer.buffered_bytes", client); n != 2 || b != 10 {
		t.Errorf("two producers: %v messages, %v bytes; want 2 and 10", n, b)
	}
	require.NoError(t, p.Close())
	require.NoError(t, other.Close())
	if s := c.series("kafka.producer.buffered_messages"); len(s) != 0 {
		t.Errorf("a closed producer is reported: %v", s)
	}
}

func TestA39_TemplateReplacesTheName(t *testing.T) {
	opts := []Option{WithDestinationTemplate(func(string) string { return "orders-{id}" }), WithoutPartitionAttribute()}
	c := newTelemetry(t, opts...)
	require.NoError(t, (&cluster{}).sender(t, c.hook).Send(t.Context(), "orders-17", nil, []byte("v")))
	s := c.one("send orders-{id}")
	if v, _ := attr(s, "messaging.destination.name"); v.AsString() != "orders-17" {
		t.Errorf("the span names %q", v.AsString())
	}
	for _, name := range []string{"messaging.client.operation.duration", "messaging.client.sent.messages"} {
		a := c.series(name)[0].attrs
		v, _ := a.Value("messaging.destination.template")
		if a.HasValue("messaging.destination.name") || a.HasValue("messaging.destination.partition.id") || v.AsString() != "orders-{id}" {
			t.Errorf("%s has %v", name, a)
		}
	}
}

func TestRebalancesAndLatency(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.Kafka.SendMessage(&kafka.ProducerMessage{Topic: "orders", Timestamp: time.Now().Add(-2 * time.Second)})
		r.Kafka.SendMessage(&kafka.ProducerMessage{Topic: "orders", Timestamp: time.Now().Add(time.Hour)})
		r.consume(done)
		r.WaitCommitted("orders")
		// A sender whose clock is ahead adds nothing.
		if got := r.series("kafka.consumer.delivery.latency"); len(got) != 1 || got[0].count != 2 || got[0].value < 2 || got[0].value > 3 {
			t.Errorf("latency: %v", got)
		}
		r.Rebalance("orders")
		r.Crash("orders")
		for kind, want := range map[string]float64{"assigned": 3, "revoked": 1, "lost": 1} {
			if n := r.total("kafka.consumer.rebalances", attribute.String("kafka.consumer.rebalance.type", kind)); n != want {
				t.Errorf("%v %s, want %v", n, kind, want)
			}
		}
		if got := r.series("kafka.consumer.rebalance.duration"); len(got) != 1 || got[0].count != 1 {
			t.Errorf("durations: %v", got)
		}
	})
}

func TestCache(t *testing.T) {
	c := newCache[int, int](10)
	for i := range 1000 {
		if v := c.put(i, i); v != i {
			t.Fatalf("put %d gave %d", i, v)
		}
		if i > 0 && i%10 == 0 { // full: it starts anew
			if _, ok := c.get(i - 1); ok {
				t.Fatalf("%d is still there", i-1)
			}
		}
		for range 30 {
			if v, ok := c.get(i); !ok || v != i {
				t.Fatalf("get %d gave %d, %v", i, v, ok)
			}
		}
		if _, fast := (*c.read.Load())[i]; !fast {
			t.Fatalf("%d is still behind the lock", i)
		}
		if len(c.all) > 10 || len(*c.read.Load()) > 10 {
			t.Fatalf("%d entries", len(c.all))
		}
	}
	if v := c.put(999, -1); v != 999 {
		t.Errorf("put replaced what is there by %d", v)
	}
}

package benchmarks

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/dnwe/otelsarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kotel"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	otelkafka "github.com/aarontianqx/gopkg/otel"
)

// These benchmarks measure what the instrumentation of one message costs, beside
// the two that others use. Each is called as its client calls it, without the
// client: no message is sent. A message is new and has no headers. A delivery has
// the sender's traceparent.

// A setting is a destination of spans and the context of a message.
type setting struct {
	name    string
	tracers trace.TracerProvider
	parent  trace.SpanContext
}

func settings() []setting {
	context := func(flags trace.TraceFlags) trace.SpanContext {
		return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: flags, Remote: true})
	}
	sdk := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.AlwaysSample())), sdktrace.WithSpanProcessor(sink{}))
	return []setting{
		{"off", noop.NewTracerProvider(), trace.SpanContext{}},
		{"unsampled", sdk, context(0)},
		{"sampled", sdk, context(trace.FlagsSampled)},
	}
}

func (s setting) ctx() context.Context {
	return trace.ContextWithRemoteSpanContext(context.Background(), s.parent)
}

// traceparent returns the header of a record that was sent with s's context.
func (s setting) traceparent() []byte {
	c := propagation.MapCarrier{}
	w3c.Inject(s.ctx(), c)
	return []byte(c["traceparent"])
}

var w3c = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})

// A sink is a processor that keeps nothing, so that no exporter's cost is counted.
type sink struct{}

func (sink) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (sink) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (sink) Shutdown(context.Context) error                  { return nil }
func (sink) ForceFlush(context.Context) error                { return nil }

// An instrumentation makes, for a setting, a func that sends one message and
// one that handles one. The others have no metrics of operations.
type instrumentation struct {
	name    string
	send    func(testing.TB, setting) func()
	process func(testing.TB, setting) func()
}

var instrumentations = []instrumentation{
	{"ours", oursSend(false), oursProcess(false)},
	{"ours+metrics", oursSend(true), oursProcess(true)},
	{"kotel", kotelSend, kotelProcess},
	{"otelsarama", otelsaramaSend, otelsaramaProcess},
}

func ourHook(s setting, metrics bool) *otelkafka.Hook {
	meters := otelkafka.WithMeterProvider(metricnoop.NewMeterProvider())
	if metrics {
		meters = otelkafka.WithMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader())))
	}
	return otelkafka.New(otelkafka.WithTracerProvider(s.tracers), otelkafka.WithPropagators(w3c), meters)
}

// An instant is a driver whose producer acknowledges at once.
type instant struct{ driver.Driver }

func (i instant) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return i, nil
}

func (instant) Produce(_ context.Context, m *driver.Message) error {
	m.Partition, m.Offset = 3, 42
	m.Acker.Ack(nil)
	return nil
}

func (instant) Flush(context.Context) error { return nil }
func (instant) Close(context.Context) error { return nil }

// oursSend makes a whole send, without the client below the driver.
func oursSend(metrics bool) func(testing.TB, setting) func() {
	return func(t testing.TB, s setting) func() {
		m := kafka.New(instant{}, kafka.WithHook(ourHook(s, metrics)))
		t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.Background())) })
		p, err := m.RegisterProducer(context.Background(), kafka.ProducerConfig{BootstrapServers: "kafka:9092", ClientID: "c"})
		require.NoError(t, err)
		ctx, msg := s.ctx(), &kafka.ProducerMessage{Topic: topic, Key: []byte("key"), Value: []byte("value")}
		return func() {
			if err := p.SendMessage(ctx, msg); err != nil { // measured: require costs more than a send
				require.NoError(t, err)
			}
		}
	}
}

// oursProcess calls the hook for a delivery as a partition's worker does. A worker
// uses one operation's memory for all deliveries.
func oursProcess(metrics bool) func(testing.TB, setting) func() {
	return func(_ testing.TB, s setting) func() {
		hook := ourHook(s, metrics)
		op := &kafka.Op{
			Kind: kafka.OpProcess, Client: &kafka.Client{ID: "c", Group: "g", Bootstrap: []string{"kafka:9092"}}, Topic: topic, Partition: 3,
			Records: []kafka.Record{{Offset: 42, Timestamp: time.Now(), Key: []byte("key"), Value: []byte("value")}},
		}
		if s.parent.IsValid() {
			op.Records[0].Headers = []kafka.Header{{Key: "traceparent", Value: s.traceparent()}}
		}
		return func() {
			op.Start = time.Now()
			_, token := hook.Start(context.Background(), op)
			op.Attempt = 1
			if token != nil {
				hook.End(token, op)
			}
		}
	}
}

func kotelTracer(s setting) *kotel.Tracer {
	return kotel.NewTracer(kotel.TracerProvider(s.tracers), kotel.TracerPropagator(w3c), kotel.ClientID("c"), kotel.ConsumerGroup("g"))
}

func kotelSend(_ testing.TB, s setting) func() {
	tracer, ctx := kotelTracer(s), s.ctx()
	r := &kgo.Record{Topic: topic, Partition: 3, Offset: 42, Key: []byte("key"), Value: []byte("value")}
	return func() {
		r.Context, r.Headers = ctx, nil
		tracer.OnProduceRecordBuffered(r)
		tracer.OnProduceRecordUnbuffered(r, nil)
	}
}

func kotelProcess(_ testing.TB, s setting) func() {
	tracer := kotelTracer(s)
	r := &kgo.Record{Topic: topic, Partition: 3, Offset: 42, Key: []byte("key"), Value: []byte("value")}
	if s.parent.IsValid() {
		r.Headers = []kgo.RecordHeader{{Key: "traceparent", Value: s.traceparent()}}
	}
	return func() {
		r.Context = context.Background()
		tracer.OnFetchRecordBuffered(r)
		tracer.OnFetchRecordUnbuffered(r, true)
		_, span := tracer.WithProcessSpan(r)
		span.End()
	}
}

func otelsaramaOptions(s setting) []otelsarama.Option {
	return []otelsarama.Option{otelsarama.WithTracerProvider(s.tracers), otelsarama.WithPropagators(w3c)}
}

// instantSarama is a producer that has sent everything at once.
type instantSarama struct{ ibm.SyncProducer }

func (instantSarama) SendMessage(*ibm.ProducerMessage) (int32, int64, error) { return 3, 42, nil }

// otelsaramaSend: its only way to give a message a parent is a header.
func otelsaramaSend(t testing.TB, s setting) func() {
	cfg := ibm.NewConfig()
	cfg.Version = ibm.V2_1_0_0 // headers
	p := otelsarama.WrapSyncProducer(cfg, instantSarama{}, otelsaramaOptions(s)...)
	m := &ibm.ProducerMessage{Topic: topic, Key: ibm.StringEncoder("key"), Value: ibm.StringEncoder("value")}
	var headers []ibm.RecordHeader
	if s.parent.IsValid() {
		headers = []ibm.RecordHeader{{Key: []byte("traceparent"), Value: s.traceparent()}}
	}
	return func() {
		m.Headers = headers
		if _, _, err := p.SendMessage(m); err != nil { // measured: require costs more than a send
			require.NoError(t, err)
		}
	}
}

// A claim hands out what is pushed into it.
type claim struct {
	ibm.ConsumerGroupClaim
	messages chan *ibm.ConsumerMessage
}

func (c claim) Messages() <-chan *ibm.ConsumerMessage { return c.messages }

// A taker is a handler that shows the claim that it was given.
type taker struct {
	rawHandler
	given ibm.ConsumerGroupClaim
}

func (h *taker) ConsumeClaim(_ ibm.ConsumerGroupSession, c ibm.ConsumerGroupClaim) error {
	h.given = c
	return nil
}

func otelsaramaProcess(t testing.TB, s setting) func() {
	pushed, h := claim{messages: make(chan *ibm.ConsumerMessage)}, &taker{}
	require.NoError(t, otelsarama.WrapConsumerGroupHandler(h, otelsaramaOptions(s)...).ConsumeClaim(nil, pushed))
	t.Cleanup(func() {
		close(pushed.messages)
		for range h.given.Messages() {
			assert.Fail(t, "a message too many")
		}
	})
	m := &ibm.ConsumerMessage{Topic: topic, Partition: 3, Offset: 42, Key: []byte("key"), Value: []byte("value")}
	var header ibm.RecordHeader
	if s.parent.IsValid() {
		header = ibm.RecordHeader{Key: []byte("traceparent"), Value: s.traceparent()}
	}
	var headers [1]*ibm.RecordHeader
	return func() {
		if s.parent.IsValid() {
			// otelsarama writes into the record. Without a reset, a delivery would belong to the one before.
			headers[0] = &header
			m.Headers = headers[:]
		} else {
			m.Headers = nil
		}
		pushed.messages <- m
		<-h.given.Messages()
	}
}

// In every row ours makes fewer allocations than both of the others, also with
// metrics.
func TestTracingAllocatesLeast(t *testing.T) {
	var table strings.Builder
	for _, op := range []string{"send", "process"} {
		for _, s := range settings() {
			fmt.Fprintf(&table, "%-8s %-10s", op, s.name)
			var most float64 // of ours
			for _, in := range instrumentations {
				do := in.send
				if op == "process" {
					do = in.process
				}
				n := testing.AllocsPerRun(1000, do(t, s))
				fmt.Fprintf(&table, " %s %2v", in.name, n)
				if strings.HasPrefix(in.name, "ours") {
					most = max(most, n)
				} else {
					assert.Greater(t, n, most, "allocations of %s, more than of ours: %s, %s", in.name, op, s.name)
				}
			}
			table.WriteByte('\n')
		}
	}
	t.Logf("allocations:\n%s", &table)
}

func BenchmarkTracing(b *testing.B) {
	for _, s := range settings() {
		for _, in := range instrumentations {
			b.Run("send/"+s.name+"/"+in.name, func(b *testing.B) {
				send := in.send(b, s)
				b.ReportAllocs()
				for b.Loop() {
					send()
				}
			})
			b.Run("process/"+s.name+"/"+in.name, func(b *testing.B) {
				process := in.process(b, s)
				b.ReportAllocs()
				for b.Loop() {
					process()
				}
			})
		}
	}
}

package otelkafka

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// A setting is one way to use a hook.
type setting struct {
	name string
	hook func() *Hook
	ctx  context.Context // of a send
	hs   []kafka.Header  // of a record
	send float64         // most allocations of one send
	recv float64         // and of one delivery
}

// settings are the rows of the cost table in doc.go. Sampled spans go nowhere,
// so that no exporter's cost is counted.
func settings() []setting {
	none := noop.NewTracerProvider()
	sdk := func(s sdktrace.Sampler) *sdktrace.TracerProvider {
		return sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.ParentBased(s)), sdktrace.WithSpanProcessor(sink{}))
	}
	always, never := sdk(sdktrace.AlwaysSample()), sdk(sdktrace.NeverSample())
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	hook := func(t trace.TracerProvider, metrics bool) func() *Hook {
		return func() *Hook {
			opts := []Option{WithTracerProvider(t)}
			if metrics {
				opts = append(opts, WithMeterProvider(meters))
			}
			return New(opts...)
		}
	}
	with := func(sampled bool) (context.Context, []kafka.Header) {
		hs, sc := remoteHeaders(1, sampled)
		return trace.ContextWithRemoteSpanContext(context.Background(), sc), hs
	}
	background := context.Background()
	unsampled, unsampledHeaders := with(false)
	sampled, sampledHeaders := with(true)
	return []setting{
		{"off", hook(none, false), background, nil, 0, 0},
		{"metrics", hook(none, true), background, nil, 0, 0},
		{"unsampled", hook(always, true), unsampled, unsampledHeaders, 0, 3},
		{"root-not-sampled", hook(never, true), background, nil, 6, 6},
		{"sampled", hook(always, true), sampled, sampledHeaders, 13, 17},
	}
}

// A sink is a processor that keeps nothing.
type sink struct{}

func (sink) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (sink) OnEnd(sdktrace.ReadOnlySpan)                     {}
func (sink) Shutdown(context.Context) error                  { return nil }
func (sink) ForceFlush(context.Context) error                { return nil }

var testClient = &kafka.Client{ID: "c", Group: "g", Bootstrap: []string{"kafka:9092"}}

// An instant is a driver whose producer acknowledges at once and keeps nothing.
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

// newSend returns a send of one message through the core.
func newSend(t testing.TB, h *Hook, ctx context.Context) func() {
	m := kafka.New(instant{}, kafka.WithHook(h))
	t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.Background())) })
	p, err := m.RegisterProducer(context.Background(), kafka.ProducerConfig{BootstrapServers: "kafka:9092"})
	require.NoError(t, err)
	msg := &kafka.ProducerMessage{Topic: "orders", Key: []byte("key"), Value: []byte("value")}
	return func() {
		if err := p.SendMessage(ctx, msg); err != nil { // measured: require itself costs more than a send
			require.NoError(t, err)
		}
	}
}

func processOnce(h *Hook, op *kafka.Op) {
	op.Start = time.Now()
	_, token := h.Start(context.Background(), op)
	op.Attempt = 1
	if token != nil {
		h.End(token, op)
	}
}

func newProcess(hs []kafka.Header) *kafka.Op {
	return &kafka.Op{Kind: kafka.OpProcess, Client: testClient, Topic: "orders", Partition: 3, Records: []kafka.Record{
		{Offset: 42, Timestamp: time.Now(), Key: []byte("key"), Value: []byte("value"), Headers: hs},
	}}
}

// A42: no row makes more allocations than its budget.
func TestA42_AllocationBudgets(t *testing.T) {
	if raceEnabled {
		t.Skip("skipped: under the race detector the program allocates more, and pools drop their contents")
	}
	for _, s := range settings() {
		h := s.hook()
		got := testing.AllocsPerRun(1000, newSend(t, h, s.ctx))
		t.Logf("%s: send %v, budget %v", s.name, got, s.send)
		assert.LessOrEqual(t, got, s.send, "%s: allocations of a send", s.name)
		process := newProcess(s.hs)
		got = testing.AllocsPerRun(1000, func() { processOnce(h, process) })
		t.Logf("%s: process %v, budget %v", s.name, got, s.recv)
		assert.LessOrEqual(t, got, s.recv, "%s: allocations of a delivery", s.name)
	}
}

func BenchmarkHook(b *testing.B) {
	for _, s := range settings() {
		b.Run("send/"+s.name, func(b *testing.B) {
			send := newSend(b, s.hook(), s.ctx)
			b.ReportAllocs()
			for b.Loop() {
				send()
			}
		})
		b.Run("process/"+s.name, func(b *testing.B) {
			h, op := s.hook(), newProcess(s.hs)
			b.ReportAllocs()
			for b.Loop() {
				processOnce(h, op)
			}
		})
	}
}

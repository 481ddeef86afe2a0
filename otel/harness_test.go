package otelkafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// The tests are numbered by the assertions that they check; doc.go lists them.

// A telemetry collects what a hook emits.
type telemetry struct {
	t        testing.TB
	recorder *tracetest.SpanRecorder
	tracers  *sdktrace.TracerProvider
	reader   *sdkmetric.ManualReader
	meters   *sdkmetric.MeterProvider
	hook     *Hook
	seen     []metricdata.Metrics // those that the test has read
}

func newTelemetry(t testing.TB, opts ...Option) *telemetry {
	return newSampled(t, sdktrace.ParentBased(sdktrace.AlwaysSample()), opts...)
}

func newSampled(t testing.TB, s sdktrace.Sampler, opts ...Option) *telemetry {
	c := &telemetry{t: t, recorder: tracetest.NewSpanRecorder(), reader: sdkmetric.NewManualReader()}
	c.tracers = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(c.recorder), sdktrace.WithSampler(s))
	c.meters = sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.reader))
	c.hook = New(append([]Option{WithTracerProvider(c.tracers), WithMeterProvider(c.meters)}, opts...)...)
	t.Cleanup(c.checkConventions)
	return c
}

// checkConventions fails the test unless every span and metric keeps the
// conventions. It runs in Cleanup.
func (c *telemetry) checkConventions() {
	var own []attribute.Key
	for _, a := range c.hook.events.attributes {
		own = append(own, a.Key)
	}
	wrong := map[string]bool{} // each mistake once
	for _, s := range c.recorder.Ended() {
		if s.InstrumentationScope().Name == ScopeName {
			for _, w := range checkSpan(s, own...) {
				wrong[w] = true
			}
		}
	}
	for _, m := range append(c.collect(), c.seen...) {
		for _, w := range checkMetric(m, own...) {
			wrong[w] = true
		}
	}
	assert.Empty(c.t, slices.Sorted(maps.Keys(wrong)))
}

// ended returns the spans of a name that have ended.
func (c *telemetry) ended(name string) []sdktrace.ReadOnlySpan {
	c.t.Helper()
	var spans []sdktrace.ReadOnlySpan
	for _, s := range c.recorder.Ended() {
		if s.Name() == name {
			spans = append(spans, s)
		}
	}
	return spans
}

// one returns the only span of that name.
func (c *telemetry) one(name string) sdktrace.ReadOnlySpan {
	c.t.Helper()
	spans := c.ended(name)
	require.Len(c.t, spans, 1, "spans named %q among %q", name, c.names())
	return spans[0]
}

func (c *telemetry) names() (names []string) {
	for _, s := range c.recorder.Ended() {
		names = append(names, s.Name())
	}
	return names
}

// balanced fails the test unless every span that was started has ended once.
func (c *telemetry) balanced() {
	c.t.Helper()
	assert.Len(c.t, c.recorder.Ended(), len(c.recorder.Started()), "spans that ended, of those that started")
}

// collect returns the metrics as they are now. It also runs in Cleanup.
func (c *telemetry) collect() []metricdata.Metrics {
	c.t.Helper()
	var all metricdata.ResourceMetrics
	assert.NoError(c.t, c.reader.Collect(context.Background(), &all))
	var metrics []metricdata.Metrics
	for _, scope := range all.ScopeMetrics {
		metrics = append(metrics, scope.Metrics...)
	}
	return metrics
}

// metric collects one metric, or nil.
func (c *telemetry) metric(name string) *metricdata.Metrics {
	c.t.Helper()
	for _, m := range c.collect() {
		if m.Name == name {
			c.seen = append(c.seen, m)
			return &m
		}
	}
	return nil
}

// A series is one time series of any kind of metric.
type series struct {
	attrs attribute.Set
	value float64 // of a histogram: its sum
	count uint64  // of a histogram
}

func (c *telemetry) series(name string) (all []series) {
	c.t.Helper()
	m := c.metric(name)
	if m == nil {
		return nil
	}
	switch d := m.Data.(type) {
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			all = append(all, series{p.Attributes, p.Sum, p.Count})
		}
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			all = append(all, series{p.Attributes, float64(p.Value), 0})
		}
	case metricdata.Gauge[int64]:
		for _, p := range d.DataPoints {
			all = append(all, series{p.Attributes, float64(p.Value), 0})
		}
	case metricdata.Gauge[float64]:
		for _, p := range d.DataPoints {
			all = append(all, series{p.Attributes, p.Value, 0})
		}
	default:
		require.Fail(c.t, "unknown kind of metric", "%s is a %T", name, d)
	}
	return all
}

// total adds up the values of a metric's series that have all of attrs.
func (c *telemetry) total(name string, attrs ...attribute.KeyValue) (sum float64) {
	c.t.Helper()
	for _, s := range c.series(name) {
		if hasAll(s.attrs, attrs) {
			sum += s.value
		}
	}
	return sum
}

func hasAll(set attribute.Set, attrs []attribute.KeyValue) bool {
	return !slices.ContainsFunc(attrs, func(a attribute.KeyValue) bool {
		v, ok := set.Value(a.Key)
		return !ok || v != a.Value
	})
}

// wantAttrs fails the test unless a span has exactly these attributes, each
// with its type.
func wantAttrs(t testing.TB, s sdktrace.ReadOnlySpan, want ...attribute.KeyValue) {
	t.Helper()
	got, set := attribute.NewSet(s.Attributes()...), attribute.NewSet(want...)
	assert.Equal(t, set.ToSlice(), got.ToSlice(), s.Name())
	assert.Len(t, s.Attributes(), got.Len(), "%s has an attribute twice", s.Name())
}

func show(s attribute.Set) string {
	var all []string
	for _, kv := range s.ToSlice() {
		all = append(all, fmt.Sprintf("%s=%s(%v)", kv.Key, kv.Value.Type(), kv.Value.AsInterface()))
	}
	return strings.Join(all, " ")
}

func attr(s sdktrace.ReadOnlySpan, k attribute.Key) (attribute.Value, bool) {
	set := attribute.NewSet(s.Attributes()...)
	return set.Value(k)
}

// wantNo fails the test if a span has an attribute.
func wantNo(t testing.TB, s sdktrace.ReadOnlySpan, k attribute.Key) {
	t.Helper()
	_, ok := attr(s, k)
	assert.False(t, ok, "%s has %s", s.Name(), k)
}

// textOf returns a span's attribute of type string, or "".
func textOf(s sdktrace.ReadOnlySpan, k attribute.Key) string {
	v, _ := attr(s, k)
	return v.AsString()
}

// numberOf returns a span's attribute of type int, or 0.
func numberOf(s sdktrace.ReadOnlySpan, k attribute.Key) int64 {
	v, _ := attr(s, k)
	return v.AsInt64()
}

// wantLinks fails the test unless a span has exactly these links, in this order.
func wantLinks(t testing.TB, s sdktrace.ReadOnlySpan, want ...trace.SpanContext) {
	t.Helper()
	assert.Equal(t, spanIDs(want...), linked(s), "links of %s", s.Name())
}

// linked returns the spans that a span's links name.
func linked(s sdktrace.ReadOnlySpan) []trace.SpanID {
	var contexts []trace.SpanContext
	for _, l := range s.Links() {
		contexts = append(contexts, l.SpanContext)
	}
	return spanIDs(contexts...)
}

func spanIDs(contexts ...trace.SpanContext) (ids []trace.SpanID) {
	for _, sc := range contexts {
		ids = append(ids, sc.SpanID())
	}
	return ids
}

// wantCounts fails the test unless a histogram has one series per count, in any order.
func (c *telemetry) wantCounts(name string, want ...uint64) {
	c.t.Helper()
	var got []uint64
	for _, s := range c.series(name) {
		got = append(got, s.count)
	}
	assert.ElementsMatch(c.t, want, got, "counts of the series of %s", name)
}

// A rig is a manager on a broker in memory, watched by a hook, in a bubble.
type rig struct {
	*telemetry
	*kafkatest.Kafka
}

func inBubble(t *testing.T, f func(*testing.T, *rig), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newTelemetry(t, opts...)
		f(t, &rig{c, kafkatest.New(t, kafka.WithHook(loud{c.hook, t}))})
	})
}

// A loud hook fails the test if the hook panics. The core only logs such a panic.
type loud struct {
	*Hook
	t testing.TB
}

func (l loud) failOnPanic() {
	if v := recover(); v != nil {
		assert.Fail(l.t, "the hook panicked", "%v\n%s", v, debug.Stack())
	}
}

func (l loud) Event(e kafka.Event) {
	defer l.failOnPanic()
	l.Hook.Event(e)
}

func (l loud) Start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	defer l.failOnPanic()
	return l.Hook.Start(ctx, op)
}

func (l loud) End(t kafka.OpToken, op *kafka.Op) {
	defer l.failOnPanic()
	l.Hook.End(t, op)
}

func orders() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", BootstrapServers: "localhost:9092", ConsumerGroup: "shop",
		InitialOffset: kafka.OffsetOldest,
	}
}

func (r *rig) consume(handle func(context.Context, *kafka.Message) error) {
	r.Start(kafka.NewConsumer(orders(), handle))
}

func done(context.Context, *kafka.Message) error { return nil }

// A batcher is a batch consumer.
type batcher struct {
	cfg    kafka.ConsumerConfig
	handle func(context.Context, []*kafka.Message) error
}

func (b *batcher) GetConfig() *kafka.ConsumerConfig     { return &b.cfg }
func (b *batcher) Handle(context.Context, []byte) error { return errors.New("not a batch") }
func (b *batcher) HandleBatch(ctx context.Context, ms []*kafka.Message) error {
	return b.handle(ctx, ms)
}

// remoteHeaders returns headers with the context of a span of another process.
func remoteHeaders(n byte, sampled bool) ([]kafka.Header, trace.SpanContext) {
	cfg := trace.SpanContextConfig{TraceID: trace.TraceID{n, 1}, SpanID: trace.SpanID{n, 2}, Remote: true}
	if sampled {
		cfg.TraceFlags = trace.FlagsSampled
	}
	sc := trace.NewSpanContext(cfg)
	var b [traceparentSize]byte
	putTraceparent(b[:], sc)
	return []kafka.Header{{Key: "traceparent", Value: b[:]}}, sc
}

// A cluster is a driver whose producer calls produce, or else acknowledges at once.
type cluster struct {
	driver.Driver
	produce func(ctx context.Context, m *driver.Message) error
	offset  atomic.Int64
	mu      sync.Mutex
	pending []*driver.Message
	sent    []driver.Message
}

func (c *cluster) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return c, nil
}

func (c *cluster) Produce(ctx context.Context, m *driver.Message) error {
	c.mu.Lock()
	kept := *m
	kept.Headers = slices.Clone(m.Headers)
	for i, h := range kept.Headers {
		kept.Headers[i].Value = slices.Clone(h.Value)
	}
	c.sent = append(c.sent, kept)
	c.mu.Unlock()
	if c.produce != nil {
		return c.produce(ctx, m)
	}
	m.Partition, m.Offset = 3, c.offset.Add(1)
	m.Acker.Ack(nil)
	return nil
}

func (c *cluster) hold(_ context.Context, m *driver.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = append(c.pending, m)
	return nil
}

func (c *cluster) release(err error) {
	c.mu.Lock()
	pending := c.pending
	c.pending = nil
	c.mu.Unlock()
	for _, m := range pending {
		m.Partition, m.Offset = 3, c.offset.Add(1)
		m.Acker.Ack(err)
	}
}

func (c *cluster) Flush(context.Context) error { return nil }

func (c *cluster) Close(context.Context) error {
	c.release(driver.ErrUnknownOutcome)
	return nil
}

// sender returns a producer on c that h watches.
func (c *cluster) sender(t testing.TB, h *Hook) *kafka.Producer {
	t.Helper()
	m := kafka.New(c, kafka.WithHook(loud{h, t}))
	t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.Background())) })
	p, err := m.RegisterProducer(context.Background(), kafka.ProducerConfig{
		BootstrapServers: "kafka.test:9092", ClientID: "checkout", EnableAsyncProducer: kafka.BoolPtr(true)})
	require.NoError(t, err)
	return p
}

// noFields is a propagator that carries nothing.
type noFields struct{ propagation.TextMapPropagator }

func (noFields) Fields() []string                                   { return nil }
func (noFields) Inject(context.Context, propagation.TextMapCarrier) {}
func (noFields) Extract(ctx context.Context, _ propagation.TextMapCarrier) context.Context {
	return ctx
}

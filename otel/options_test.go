package otelkafka

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// A user's own attributes are on every span and every time series.
func TestOwnAttributesAreEverywhere(t *testing.T) {
	own := attribute.String("team", "a")
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		for _, s := range r.recorder.Ended() {
			assert.Contains(t, s.Attributes(), own, s.Name())
		}
		for _, m := range r.collect() {
			_, _, sets := pointsOf(m)
			for _, set := range sets {
				assert.Contains(t, set.ToSlice(), own, m.Name)
			}
		}
	}, append(slices.Clone(everySpan), WithAttributes(own))...)
}

func TestWithoutLag(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		for _, m := range r.collect() {
			kind, _, _ := pointsOf(m)
			assert.NotEqual(t, gauge, kind, m.Name)
		}
	}, WithoutLag())
}

// With tracing off, no kind of span begins, whatever the options ask for.
func TestTracingOffAllTheWay(t *testing.T) {
	off := append(slices.Clone(everySpan), WithTracerProvider(noop.NewTracerProvider()))
	inBubble(t, everything, off...)
	inBubble(t, everything, append(off, WithProcessParent(ParentNone))...)
}

// A span that starts its own trace asks the sampler, whatever the producer's decided.
func TestParentNoneIsNotBoundByTheProducer(t *testing.T) {
	hs, sc := remoteHeaders(1, false)
	c := newTelemetry(t, WithProcessParent(ParentNone))
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders", Headers: hs})
	end(nil)
	s := c.one("process orders")
	assert.False(t, s.Parent().IsValid())
	assert.NotEqual(t, sc.TraceID(), s.SpanContext().TraceID())
}

// The span of a commit of several partitions has neither a partition nor an
// offset. That of several topics has no topic.
func TestCommitOfSeveralPartitions(t *testing.T) {
	for _, topic := range []string{"orders", ""} {
		c := newTelemetry(t)
		op := &kafka.Op{Kind: kafka.OpCommit, Client: testClient, Topic: topic, Partition: -1, Awaited: true, Start: time.Now(), Marks: []kafka.OpMark{
			{Topic: "orders", Partition: 0, Offset: 4}, {Topic: "orders", Partition: 1, Offset: 7}}}
		_, token := c.hook.Start(t.Context(), op)
		c.hook.End(token, op)
		s := c.recorder.Ended()[0]
		for _, k := range []attribute.Key{"messaging.kafka.offset", "messaging.destination.partition.id"} {
			wantNo(t, s, k)
		}
		assert.Equal(t, strings.TrimSpace("commit "+topic), s.Name())
	}
}

// A counting is a meter that counts registered callbacks.
type counting struct {
	metricnoop.Meter
	metricnoop.Registration
	live int
}

func (r *counting) RegisterCallback(metric.Callback, ...metric.Observable) (metric.Registration, error) {
	r.live++
	return r, nil
}

func (r *counting) Unregister() error {
	r.live--
	return nil
}

// The gauges register one callback for all managers, and none without a manager.
func TestGaugesAreRegisteredOnce(t *testing.T) {
	r := &counting{}
	g := newGauges(newTopics(nil), nil, r)
	for i := range 3 {
		first, second := g.attach(kafka.View{}), g.attach(kafka.View{})
		assert.Equal(t, 1, r.live, "round %d: two managers", i)
		first()
		assert.Equal(t, 1, r.live, "round %d: the second manager", i)
		second()
		assert.Zero(t, r.live, "round %d: no manager", i)
	}
}

func TestPausedPartitions(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		cfg := orders()
		cfg.MaxBufferedMessages = 2
		let := make(chan struct{})
		r.Start(kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { <-let; return nil }))
		for range 10 {
			r.Kafka.Send("orders", "k", "v")
		}
		time.Sleep(time.Second)
		assert.Equal(t, 1.0, r.total("kafka.consumer.paused_partitions"))
		close(let)
	})
}

// An operator's pause shows by partition, under the attributes that its lag has.
func TestOperatorPaused(t *testing.T) {
	const name = "kafka.consumer.operator_paused"
	inBubble(t, func(t *testing.T, r *rig) {
		r.CreateTopic("orders", 2)
		r.consume(func(context.Context, *kafka.Message) error { return nil })
		paused := func() [2]float64 {
			time.Sleep(time.Second)
			assert.Len(t, r.series(name), 2)
			return [2]float64{
				r.total(name, attribute.String("messaging.destination.partition.id", "0")),
				r.total(name, attribute.String("messaging.destination.partition.id", "1")),
			}
		}
		assert.Equal(t, [2]float64{0, 0}, paused())
		require.NoError(t, r.Manager.Pause("orders", kafka.TopicPartition{Topic: "orders", Partition: 1}))
		assert.Equal(t, [2]float64{0, 1}, paused())
		require.NoError(t, r.Manager.Pause("orders"))
		assert.Equal(t, [2]float64{1, 1}, paused())
		require.NoError(t, r.Manager.Resume("orders"))
		assert.Equal(t, [2]float64{0, 0}, paused())
	})
}

func TestNilOptionsChangeNothing(t *testing.T) {
	c := newTelemetry(t, Option{}, WithTracerProvider(nil), WithMeterProvider(nil), WithPropagators(nil),
		WithDestinationTemplate(nil), WithMaxLinks(-1), WithMaxLinks(0))
	hs, _ := remoteHeaders(1, true)
	m := &kafka.Message{Topic: "orders", Headers: hs}
	_, end := c.hook.StartProcess(t.Context(), m, m)
	end(nil)
	assert.Len(t, c.one("process orders").Links(), 2)
	ctx, end := c.hook.StartProcess(t.Context())
	end(nil)
	assert.Same(t, t.Context(), ctx, "nothing starts for no message")
	assert.Len(t, c.recorder.Started(), 1, "nothing starts for no message")
}

func TestMaxLinks(t *testing.T) {
	c := newTelemetry(t, WithMaxLinks(3))
	var ms []*kafka.Message
	for i := range 10 {
		hs, _ := remoteHeaders(byte(i+1), true)
		ms = append(ms, &kafka.Message{Topic: "orders", Headers: hs})
	}
	_, end := c.hook.StartProcess(t.Context(), ms...)
	end(nil)
	_, first := remoteHeaders(1, true)
	_, second := remoteHeaders(2, true)
	_, third := remoteHeaders(3, true)
	wantLinks(t, c.one("process orders"), first, second, third)
}

// A span that is recorded but not sampled has children. A processor that makes
// metrics of spans needs them.
func TestRecordOnlySpanHasChildren(t *testing.T) {
	c := newSampled(t, recordOnly{})
	ctx, parent := c.tracers.Tracer("test").Start(t.Context(), "request")
	require.NoError(t, (&cluster{}).sender(t, c.hook).Send(ctx, "orders", nil, nil))
	parent.End()
	assert.Equal(t, parent.SpanContext().SpanID(), c.one("send orders").Parent().SpanID())
}

type recordOnly struct{}

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}
func (recordOnly) Description() string { return "record only" }

// Under a parent that is not sampled, no kind of span begins.
func TestNothingUnderAnUnsampledParent(t *testing.T) {
	_, sc := remoteHeaders(1, false)
	c := newSampled(t, sdktrace.AlwaysSample(), everySpan...)
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), sc)
	m := &kafka.Message{Topic: "orders"}
	for _, ms := range [][]*kafka.Message{{m}, {m, m}} {
		inside, end := c.hook.StartProcess(ctx, ms...)
		end(nil)
		assert.Equal(t, sc.SpanID(), trace.SpanContextFromContext(inside).SpanID(), "%d messages", len(ms))
	}
	for _, kind := range []kafka.OpKind{kafka.OpCommit, kafka.OpAttempt} {
		op := &kafka.Op{Kind: kind, Client: testClient, Topic: "orders", Awaited: true}
		if _, token := c.hook.Start(ctx, op); token != nil {
			c.hook.End(token, op)
		}
	}
	assert.Empty(t, c.recorder.Started(), "among them %q", c.names())
}

// An unsampled send keeps the context that its message has.
func TestUnsampledSendKeepsAContext(t *testing.T) {
	hs, kept := remoteHeaders(7, true)
	_, sc := remoteHeaders(1, false)
	c := newTelemetry(t)
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).SendMessage(trace.ContextWithRemoteSpanContext(t.Context(), sc), &kafka.ProducerMessage{Topic: "orders", Headers: hs}))
	assert.Equal(t, kept.SpanID(), c.hook.spans.propagate().remote(d.sent[0].Headers).SpanID())
}

// Without acknowledgements a record's partition and offset are unknown.
func TestUnknownOffsetIsNotShown(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{produce: func(_ context.Context, m *driver.Message) error {
		m.Partition, m.Offset = -1, -1
		m.Acker.Ack(nil)
		return nil
	}}
	require.NoError(t, d.sender(t, c.hook).Send(t.Context(), "orders", nil, nil))
	s := c.one("send orders")
	for _, k := range []attribute.Key{"messaging.kafka.offset", "messaging.destination.partition.id"} {
		wantNo(t, s, k)
	}
}

// A span names the server's address if the bootstrap list has exactly one.
func TestServerAddress(t *testing.T) {
	for _, test := range []struct {
		bootstrap []string
		want      string
		port      int64
	}{
		{[]string{"kafka:9092"}, "kafka", 9092},
		{[]string{"[::1]:9092"}, "::1", 9092},
		{[]string{"kafka:9092", "kafka2:9092"}, "", 0},
		{[]string{"kafka"}, "", 0},
		{nil, "", 0},
	} {
		set := attribute.NewSet(serverOf(&kafka.Client{Bootstrap: test.bootstrap})...)
		address, _ := set.Value("server.address")
		port, _ := set.Value("server.port")
		assert.Equal(t, test.want, address.AsString(), "%q", test.bootstrap)
		assert.Equal(t, test.port, port.AsInt64(), "%q", test.bootstrap)
	}
}

// Baggage and tracestate travel with a message and arrive.
func TestBaggageAndStateAreSent(t *testing.T) {
	state, err := trace.ParseTraceState("vendor=1")
	require.NoError(t, err)
	luggage, err := baggage.Parse("a=1")
	require.NoError(t, err)
	_, sc := remoteHeaders(1, true)
	sc = sc.WithTraceState(state)
	for _, test := range []struct {
		name           string
		ctx            context.Context
		tracing        bool
		state, luggage string
	}{
		{"state", trace.ContextWithRemoteSpanContext(t.Context(), sc), true, "vendor=1", ""},
		{"state, tracing off", trace.ContextWithRemoteSpanContext(t.Context(), sc), false, "vendor=1", ""},
		{"both", baggage.ContextWithBaggage(trace.ContextWithRemoteSpanContext(t.Context(), sc), luggage), true, "vendor=1", "a=1"},
		{"baggage alone, tracing off", baggage.ContextWithBaggage(t.Context(), luggage), false, "", "a=1"},
	} {
		c := newTelemetry(t)
		if !test.tracing {
			c = newTelemetry(t, WithTracerProvider(noop.NewTracerProvider()))
		}
		d := &cluster{}
		require.NoError(t, d.sender(t, c.hook).Send(test.ctx, "orders", nil, nil))
		hs := d.sent[0].Headers
		gotState, _ := last(hs, "tracestate")
		gotBaggage, _ := last(hs, "baggage")
		assert.Equal(t, test.state, string(gotState), "%s: tracestate that was sent", test.name)
		assert.Equal(t, test.luggage, string(gotBaggage), "%s: baggage that was sent", test.name)
		inside := c.hook.Context(context.Background(), &kafka.Message{Topic: "orders", Headers: hs})
		assert.Equal(t, test.state, trace.SpanContextFromContext(inside).TraceState().String(), "%s: tracestate that arrived", test.name)
		assert.Equal(t, test.luggage, baggage.FromContext(inside).String(), "%s: baggage that arrived", test.name)
	}
}

// Flags that W3C defines are passed on. Unknown flags are not.
func TestTraceparentFlags(t *testing.T) {
	for flags, want := range map[trace.TraceFlags]string{0: "00", 1: "01", 2: "02", 3: "03", 0xff: "03"} {
		var b [traceparentSize]byte
		putTraceparent(b[:], trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: flags}))
		assert.Equal(t, want, string(b[53:]), "flags %02x", byte(flags))
	}
}

// inkBlot is a propagator that is not W3C's. It has a field of its own, or writes
// W3C's field in another format.
type inkBlot struct{ field string }

func (p inkBlot) Fields() []string { return []string{p.field} }

func (p inkBlot) Inject(ctx context.Context, c propagation.TextMapCarrier) {
	w := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, w)
	if v := w["traceparent"]; v != "" {
		c.Set(p.field, "blot:"+v)
	}
}

func (p inkBlot) Extract(ctx context.Context, c propagation.TextMapCarrier) context.Context {
	v := c.Get(p.field)
	if len(v) < 5 {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": v[5:]})
}

func TestOtherPropagators(t *testing.T) {
	for _, field := range []string{"blot", "traceparent"} {
		c := newTelemetry(t, WithPropagators(inkBlot{field}))
		d := &cluster{}
		require.NoError(t, d.sender(t, c.hook).Send(t.Context(), "orders", nil, nil))
		hs := d.sent[0].Headers
		require.Len(t, hs, 1, field)
		require.Equal(t, field, hs[0].Key)
		require.True(t, bytes.HasPrefix(hs[0].Value, []byte("blot:")), "%s: %q", field, hs[0].Value)
		_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders", Headers: hs})
		end(nil)
		assert.Equal(t, c.one("send orders").SpanContext().SpanID(), c.one("process orders").Parent().SpanID(), field)
	}
}

// A composite propagator also writes its fields that are not W3C's.
func TestCompositePropagator(t *testing.T) {
	c := newTelemetry(t, WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, inkBlot{"blot"})))
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).Send(t.Context(), "orders", nil, nil))
	for _, field := range []string{"traceparent", "blot"} {
		_, ok := last(d.sent[0].Headers, field)
		assert.True(t, ok, "%s is missing in %q", field, d.sent[0].Headers)
	}
}

// tenant is a propagator that writes nothing for most messages.
type tenant struct{}

func (tenant) Fields() []string { return []string{"tenant"} }

func (tenant) Inject(ctx context.Context, c propagation.TextMapCarrier) {
	if name, ok := ctx.Value(tenant{}).(string); ok {
		c.Set("tenant", name)
	}
}

func (tenant) Extract(ctx context.Context, c propagation.TextMapCarrier) context.Context {
	if name := c.Get("tenant"); name != "" {
		return context.WithValue(ctx, tenant{}, name)
	}
	return ctx
}

// The fast path for W3C's fields is not taken with another propagator beside it.
func TestPropagatorThatWritesNowAndThen(t *testing.T) {
	c := newTelemetry(t, WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, tenant{})))
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).Send(context.WithValue(t.Context(), tenant{}, "a"), "orders", nil, nil))
	inside := c.hook.Context(t.Context(), &kafka.Message{Headers: d.sent[0].Headers})
	assert.Equal(t, "a", inside.Value(tenant{}))
	assert.Len(t, d.sent[0].Headers, 2)
}

// A record with baggage alone has no sender to link to, also under an ambient span.
func TestBaggageIsNoSender(t *testing.T) {
	c := newTelemetry(t)
	ctx, ambient := c.tracers.Tracer("test").Start(t.Context(), "loop")
	_, end := c.hook.StartProcess(ctx, &kafka.Message{Topic: "orders", Headers: []kafka.Header{{Key: "baggage", Value: []byte("a=1")}}})
	end(nil)
	ambient.End()
	s := c.one("process orders")
	wantLinks(t, s)
	assert.Equal(t, ambient.SpanContext().SpanID(), s.Parent().SpanID())
}

// Templates have the same limit as topics.
func TestTemplatesAreBounded(t *testing.T) {
	c := newSampled(t, sdktrace.NeverSample(), WithDestinationTemplate(func(topic string) string { return topic + "?" }))
	for i := range 1500 {
		_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: strconv.Itoa(i)})
		end(nil)
	}
	assert.Len(t, c.series("messaging.process.duration"), 1001, "a thousand, and one for the rest")
}

// The hook takes the global propagator if it is set when the first message comes,
// and else W3C's.
func TestGlobalPropagator(t *testing.T) {
	assert.Len(t, newPropagator(nil).fields, 3, "unset")
	otel.SetTextMapPropagator(inkBlot{"blot"})
	defer otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator())
	assert.Equal(t, []string{"blot"}, newPropagator(nil).fields, "set")
}

// One hook may serve two managers, also of one group. The gauges add their numbers
// and show each manager until it has shut down.
func TestTwoManagers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTelemetry(t)
		var ks []*kafkatest.Kafka
		for range 2 {
			k := kafkatest.New(t, kafka.WithHook(loud{c.hook, t}))
			k.CreateTopic("orders", 3)
			k.Start(kafka.NewConsumer(orders(), func(ctx context.Context, _ *kafka.Message) error { <-ctx.Done(); return ctx.Err() }))
			k.Send("orders", "k", "v")
			k.Send("orders", "k", "v")
			_, err := k.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092", ClientID: "same"})
			require.NoError(t, err)
			ks = append(ks, k)
		}
		time.Sleep(time.Second)
		for name, want := range map[string]float64{
			"kafka.consumer.assigned_partitions": 6, "kafka.consumer.inflight_messages": 2, "kafka.consumer.buffered_messages": 4,
		} {
			assert.Equal(t, want, c.total(name), name)
			assert.Len(t, c.series(name), 1, name)
		}
		assert.Len(t, c.series("kafka.producer.buffered_messages"), 1, "two producers of one client")
		require.NoError(t, shutDown(ks[0]))
		assert.Equal(t, 3.0, c.total("kafka.consumer.assigned_partitions"), "after the first shutdown")
		require.NoError(t, shutDown(ks[1]))
		assert.Nil(t, c.metric("kafka.consumer.assigned_partitions"), "after both shutdowns")
	})
}

// shutDown ends a manager whose handler waits for its context.
func shutDown(k *kafkatest.Kafka) error {
	if err := k.SetConsumerSwitch("orders", false); err != nil {
		return err
	}
	k.WaitState("orders", kafka.StateOff)
	return k.Manager.Shutdown(context.Background())
}

// An observed keeps the values that gauges report.
type observed struct {
	metric.Observer
	g      *gauges
	values map[string]float64
	sets   []attribute.Set
}

func (o *observed) ObserveInt64(i metric.Int64Observable, v int64, opts ...metric.ObserveOption) {
	name := map[metric.Int64Observable]string{
		o.g.recordsLag: "lag", o.g.committedLag: "committed lag", o.g.committedOffset: "committed", o.g.operatorPaused: "paused",
	}[i]
	o.values[name] = float64(v)
	o.sets = append(o.sets, metric.NewObserveConfig(opts).Attributes())
}

func (o *observed) ObserveFloat64(_ metric.Float64Observable, v float64, _ ...metric.ObserveOption) {
	o.values["time"] = v
}

// An unknown property of a partition has no series.
func TestUnknownPartitionPropertiesAreNotReported(t *testing.T) {
	c := newTelemetry(t, WithDestinationTemplate(func(string) string { return "all" }))
	now := time.Now()
	for _, test := range []struct {
		name string
		p    kafka.PartitionStatus
		want map[string]float64
	}{
		{"nothing", kafka.PartitionStatus{Lag: -1, Committed: -1, HighWatermark: -1}, map[string]float64{"paused": 0}},
		{"committed", kafka.PartitionStatus{Lag: -1, Committed: 7, HighWatermark: -1}, map[string]float64{"committed": 7, "paused": 0}},
		{"paused", kafka.PartitionStatus{Lag: -1, Committed: -1, HighWatermark: -1, PausedBy: []kafka.PauseReason{kafka.PausedByQueue, kafka.PausedByOperator}}, map[string]float64{"paused": 1}},
		{"all", kafka.PartitionStatus{Lag: 2, Committed: 7, HighWatermark: 10, Oldest: now.Add(-time.Minute)},
			map[string]float64{"lag": 2, "committed": 7, "committed lag": 3, "time": 60, "paused": 0}},
		{"an end of before", kafka.PartitionStatus{Lag: 0, Committed: 7, HighWatermark: 5},
			map[string]float64{"lag": 0, "committed": 7, "committed lag": 0, "time": 0, "paused": 0}},
		{"a clock ahead", kafka.PartitionStatus{Lag: 1, Committed: -1, HighWatermark: 5, Oldest: now.Add(time.Minute)},
			map[string]float64{"lag": 1, "time": 0, "paused": 0}},
		{"an unknown age", kafka.PartitionStatus{Lag: 1, Committed: -1, HighWatermark: 5}, map[string]float64{"lag": 1, "paused": 0}},
	} {
		test.p.Topic = "orders"
		o := &observed{g: c.hook.gauges, values: map[string]float64{}}
		c.hook.gauges.collectPartition(o, "g", test.p, now)
		assert.Equal(t, test.want, o.values, test.name)
		// Partitions of several topics of one template do not hide each other.
		for _, set := range o.sets {
			assert.Subset(t, set.ToSlice(), []attribute.KeyValue{
				attribute.String("messaging.destination.name", "orders"), attribute.String("messaging.destination.template", "all"),
			}, test.name)
		}
	}
}

// The reason of a loss, and a handler that held up a revocation, are an error.type.
func TestRebalancesThatWentWrong(t *testing.T) {
	c := newTelemetry(t)
	c.hook.Event(kafka.PartitionsRevoked{Group: "g", Stuck: []kafka.TopicPartition{{Topic: "orders", Partition: 1}}})
	c.hook.Event(kafka.PartitionsLost{Group: "g", Err: typed("ILLEGAL_GENERATION")})
	for kind, failure := range map[string]string{"revoked": "timeout", "lost": "ILLEGAL_GENERATION"} {
		n := c.total("kafka.consumer.rebalances", attribute.String("kafka.consumer.rebalance.type", kind), attribute.String("error.type", failure))
		assert.Equal(t, 1.0, n, "%s with error.type %s", kind, failure)
	}
}

// A record without a timestamp has no latency.
func TestNoTimestampNoLatency(t *testing.T) {
	c := newTelemetry(t)
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders"})
	end(nil)
	assert.Empty(t, c.series("kafka.consumer.delivery.latency"))
}

// A span's memory is empty before it is used again.
func TestPooledSpansAreEmpty(t *testing.T) {
	c := newTelemetry(t)
	_, sc := remoteHeaders(1, true)
	s := c.hook.spans.newSpan(nil)
	s.link(sc, nil)
	s.opts = append(s.opts, trace.WithAttributes(attribute.String("a", "b")))
	s.begin(t.Context(), "test", time.Now())
	s.attrs = append(s.attrs, attribute.String("c", "d"))
	s.end(time.Now(), nil, "")
	assert.Empty(t, s.attrs)
	assert.Empty(t, s.links)
	assert.Empty(t, s.opts)
	assert.Nil(t, s.Span)
	assert.Nil(t, s.ctx)
	c.recorder.Reset() // the test's span is none of the conventions'
}

func TestNames(t *testing.T) {
	n := newNames(2)
	for _, test := range []struct {
		name string
		want bool
	}{{"a", true}, {"b", true}, {"c", false}, {"a", true}, {"b", true}} {
		assert.Equal(t, test.want, n.allow(test.name), test.name)
	}
}

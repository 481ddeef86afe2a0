package otelkafka

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// All that a user has added is on every span and every time series.
func TestOwnAttributesAreEverywhere(t *testing.T) {
	own := attribute.String("team", "a")
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		for _, s := range r.recorder.Ended() {
			if v, _ := attr(s, own.Key); v != own.Value {
				t.Errorf("%s lacks it", s.Name())
			}
		}
		for _, m := range r.collect() {
			_, _, sets := pointsOf(m)
			for _, set := range sets {
				if v, _ := set.Value(own.Key); v != own.Value {
					t.Errorf("%s lacks it: %v", m.Name, show(set))
				}
			}
		}
	}, append(slices.Clone(everySpan), WithAttributes(own))...)
}

func TestWithoutLag(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		everything(t, r)
		for _, m := range r.collect() {
			if kind, _, _ := pointsOf(m); kind == gauge {
				t.Errorf("%s is there", m.Name)
			}
		}
	}, WithoutLag())
}

// With tracing off, no kind of span is begun, whatever is asked for.
func TestTracingOffAllTheWay(t *testing.T) {
	off := append(slices.Clone(everySpan), WithTracerProvider(noop.NewTracerProvider()))
	inBubble(t, everything, off...)
	inBubble(t, everything, append(off, WithProcessParent(ParentNone))...)
}

// What starts a trace of its own asks the sampler, whatever the producer's said.
func TestParentNoneIsNotBoundByTheProducer(t *testing.T) {
	hs, sc := remoteHeaders(1, false)
	c := newTelemetry(t, WithProcessParent(ParentNone))
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders", Headers: hs})
	end(nil)
	if s := c.one("process orders"); s.Parent().IsValid() || s.SpanContext().TraceID() == sc.TraceID() {
		t.Errorf("parent %v", s.Parent())
	}
}

// A commit of several partitions has neither a partition nor an offset, and of
// several topics no topic.
func TestCommitOfSeveralPartitions(t *testing.T) {
	for _, topic := range []string{"orders", ""} {
		c := newTelemetry(t)
		op := &kafka.Op{Kind: kafka.OpCommit, Client: testClient, Topic: topic, Partition: -1, Awaited: true, Start: time.Now(), Marks: []kafka.OpMark{
			{Topic: "orders", Partition: 0, Offset: 4}, {Topic: "orders", Partition: 1, Offset: 7}}}
		_, token := c.hook.Start(t.Context(), op)
		c.hook.End(token, op)
		s := c.recorder.Ended()[0]
		for _, k := range []attribute.Key{"messaging.kafka.offset", "messaging.destination.partition.id"} {
			if v, ok := attr(s, k); ok {
				t.Errorf("%s: %s is %v", s.Name(), k, v.AsInterface())
			}
		}
		if want := strings.TrimSpace("commit " + topic); s.Name() != want {
			t.Errorf("named %q, want %q", s.Name(), want)
		}
	}
}

// A counting is a meter that counts the callbacks that are registered.
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

// There is one callback while there is a manager, and none otherwise.
func TestGaugesAreRegisteredOnce(t *testing.T) {
	r := &counting{}
	g := newGauges(New(), r)
	for i := range 3 {
		first, second := g.attach(kafka.View{}), g.attach(kafka.View{})
		if r.live != 1 {
			t.Errorf("round %d: %d callbacks for two managers", i, r.live)
		}
		first()
		if r.live != 1 {
			t.Errorf("round %d: %d callbacks after the first is gone", i, r.live)
		}
		second()
		if r.live != 0 {
			t.Errorf("round %d: %d callbacks for nobody", i, r.live)
		}
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
		if n := r.total("kafka.consumer.paused_partitions"); n != 1 {
			t.Errorf("%v paused, want 1", n)
		}
		close(let)
	})
}

func TestNothingIsNoOption(t *testing.T) {
	c := newTelemetry(t, Option{}, WithTracerProvider(nil), WithMeterProvider(nil), WithPropagators(nil),
		WithDestinationTemplate(nil), WithMaxLinks(-1), WithMaxLinks(0))
	hs, _ := remoteHeaders(1, true)
	m := &kafka.Message{Topic: "orders", Headers: hs}
	_, end := c.hook.StartProcess(t.Context(), m, m)
	end(nil)
	if s := c.one("process orders"); len(s.Links()) != 2 {
		t.Errorf("links %v", s.Links())
	}
	if ctx, end := c.hook.StartProcess(t.Context()); ctx != t.Context() {
		t.Error("something was started for no message")
	} else {
		end(nil)
	}
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
	s := c.one("process orders")
	if _, first := remoteHeaders(1, true); len(s.Links()) != 3 || s.Links()[0].SpanContext.SpanID() != first.SpanID() {
		t.Errorf("links %v, want the first three", s.Links())
	}
}

// A span that is recorded and not sampled, as for metrics made of spans, has
// children.
func TestChildrenOfWhatIsOnlyRecorded(t *testing.T) {
	c := newSampled(t, recordOnly{})
	ctx, parent := c.tracers.Tracer("test").Start(t.Context(), "request")
	require.NoError(t, (&cluster{}).sender(t, c.hook).Send(ctx, "orders", nil, nil))
	parent.End()
	if s := c.one("send orders"); s.Parent().SpanID() != parent.SpanContext().SpanID() {
		t.Errorf("parent %v", s.Parent())
	}
}

type recordOnly struct{}

func (recordOnly) ShouldSample(sdktrace.SamplingParameters) sdktrace.SamplingResult {
	return sdktrace.SamplingResult{Decision: sdktrace.RecordOnly}
}
func (recordOnly) Description() string { return "record only" }

// Under a parent that is not sampled there is no span of any kind.
func TestNothingUnderAnUnsampledParent(t *testing.T) {
	_, sc := remoteHeaders(1, false)
	c := newSampled(t, sdktrace.AlwaysSample(), everySpan...)
	ctx := trace.ContextWithRemoteSpanContext(t.Context(), sc)
	m := &kafka.Message{Topic: "orders"}
	for _, ms := range [][]*kafka.Message{{m}, {m, m}} {
		inside, end := c.hook.StartProcess(ctx, ms...)
		end(nil)
		if trace.SpanContextFromContext(inside).SpanID() != sc.SpanID() {
			t.Error("the context was lost")
		}
	}
	for _, kind := range []kafka.OpKind{kafka.OpCommit, kafka.OpAttempt} {
		op := &kafka.Op{Kind: kind, Client: testClient, Topic: "orders", Awaited: true}
		if _, token := c.hook.Start(ctx, op); token != nil {
			c.hook.End(token, op)
		}
	}
	if n := len(c.recorder.Started()); n != 0 {
		t.Errorf("spans %v", c.names())
	}
}

// An unsampled send keeps the context that its message has.
func TestUnsampledSendKeepsAContext(t *testing.T) {
	hs, kept := remoteHeaders(7, true)
	_, sc := remoteHeaders(1, false)
	c := newTelemetry(t)
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).SendMessage(trace.ContextWithRemoteSpanContext(t.Context(), sc), &kafka.ProducerMessage{Topic: "orders", Headers: hs}))
	if got := c.hook.propagate().remote(d.sent[0].Headers); got.SpanID() != kept.SpanID() {
		t.Errorf("carries %v, want %v", got, kept)
	}
}

// Without acknowledgements nobody knows where a record lies.
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
		if v, ok := attr(s, k); ok {
			t.Errorf("%s is %v", k, v.AsInterface())
		}
	}
}

// The cluster has an address if there is one to name.
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
		if address.AsString() != test.want || port.AsInt64() != test.port {
			t.Errorf("%v: %v", test.bootstrap, show(set))
		}
	}
}

// Baggage and tracestate travel with what is sent, and arrive.
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
		if string(gotState) != test.state || string(gotBaggage) != test.luggage {
			t.Errorf("%s: headers %v", test.name, hs)
		}
		inside := c.hook.Context(context.Background(), &kafka.Message{Topic: "orders", Headers: hs})
		if got := trace.SpanContextFromContext(inside).TraceState().String(); got != test.state {
			t.Errorf("%s: state %q arrived", test.name, got)
		}
		if got := baggage.FromContext(inside).String(); got != test.luggage {
			t.Errorf("%s: baggage %q arrived", test.name, got)
		}
	}
}

// Flags that W3C does not know are not passed on, those that it does are.
func TestTraceparentFlags(t *testing.T) {
	for flags, want := range map[trace.TraceFlags]string{0: "00", 1: "01", 2: "02", 3: "03", 0xff: "03"} {
		var b [traceparentSize]byte
		putTraceparent(b[:], trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: flags}))
		if got := string(b[53:]); got != want {
			t.Errorf("flags %02x became %s, want %s", byte(flags), got, want)
		}
	}
}

// inkBlot is a propagator that is not W3C's: a field of its own, or W3C's field
// in an order of its own.
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
		if len(hs) != 1 || hs[0].Key != field || string(hs[0].Value[:5]) != "blot:" {
			t.Fatalf("headers %v", hs)
		}
		_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders", Headers: hs})
		end(nil)
		if p := c.one("process orders").Parent(); p.SpanID() != c.one("send orders").SpanContext().SpanID() {
			t.Errorf("%s: parent %v", field, p)
		}
	}
}

// Besides W3C's fields, others of a composite are written, too.
func TestCompositePropagator(t *testing.T) {
	c := newTelemetry(t, WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, inkBlot{"blot"})))
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).Send(t.Context(), "orders", nil, nil))
	for _, field := range []string{"traceparent", "blot"} {
		if _, ok := last(d.sent[0].Headers, field); !ok {
			t.Errorf("%s is missing in %v", field, d.sent[0].Headers)
		}
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

// Nor is W3C's short way taken where somebody else might write, or read.
func TestPropagatorThatWritesNowAndThen(t *testing.T) {
	c := newTelemetry(t, WithPropagators(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, tenant{})))
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).Send(context.WithValue(t.Context(), tenant{}, "a"), "orders", nil, nil))
	inside := c.hook.Context(t.Context(), &kafka.Message{Headers: d.sent[0].Headers})
	if name := inside.Value(tenant{}); name != "a" || len(d.sent[0].Headers) != 2 {
		t.Errorf("tenant %v arrived by %v", name, d.sent[0].Headers)
	}
}

// A record with baggage alone has no sender to be linked, wherever it is handled.
func TestBaggageIsNoSender(t *testing.T) {
	c := newTelemetry(t)
	ctx, ambient := c.tracers.Tracer("test").Start(t.Context(), "loop")
	_, end := c.hook.StartProcess(ctx, &kafka.Message{Topic: "orders", Headers: []kafka.Header{{Key: "baggage", Value: []byte("a=1")}}})
	end(nil)
	ambient.End()
	if s := c.one("process orders"); len(s.Links()) != 0 || s.Parent().SpanID() != ambient.SpanContext().SpanID() {
		t.Errorf("links %v, parent %v", s.Links(), s.Parent())
	}
}

// Templates are as many as topics may be, and no more.
func TestTemplatesAreBounded(t *testing.T) {
	c := newSampled(t, sdktrace.NeverSample(), WithDestinationTemplate(func(topic string) string { return topic + "?" }))
	for i := range 1500 {
		_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: strconv.Itoa(i)})
		end(nil)
	}
	if n := len(c.series("messaging.process.duration")); n != 1001 {
		t.Errorf("%d series, want a thousand and one for the rest", n)
	}
}

// The global propagator is taken if there is one when the first message comes,
// and W3C's else.
func TestGlobalPropagator(t *testing.T) {
	if got := newPropagator(nil).fields; len(got) != 3 {
		t.Errorf("unset: fields %v", got)
	}
	otel.SetTextMapPropagator(inkBlot{"blot"})
	defer otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator())
	if got := newPropagator(nil).fields; len(got) != 1 || got[0] != "blot" {
		t.Errorf("set: fields %v", got)
	}
}

// One hook may serve two managers, also of one group: their numbers add up, and
// each is shown until it has shut down.
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
			if got := c.total(name); got != want || len(c.series(name)) != 1 {
				t.Errorf("%s is %v in %d series, want %v in one", name, got, len(c.series(name)), want)
			}
		}
		if n := len(c.series("kafka.producer.buffered_messages")); n != 1 {
			t.Errorf("%d producers, want the two of one client together", n)
		}
		require.NoError(t, shutDown(ks[0]))
		if got := c.total("kafka.consumer.assigned_partitions"); got != 3 {
			t.Errorf("%v partitions after the first shutdown, want 3", got)
		}
		require.NoError(t, shutDown(ks[1]))
		if m := c.metric("kafka.consumer.assigned_partitions"); m != nil {
			t.Errorf("%v after both", m)
		}
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

// An observed keeps what a gauge tells.
type observed struct {
	metric.Observer
	g      *gauges
	values map[string]float64
	sets   []attribute.Set
}

func (o *observed) ObserveInt64(i metric.Int64Observable, v int64, opts ...metric.ObserveOption) {
	name := map[metric.Int64Observable]string{
		o.g.recordsLag: "lag", o.g.committedLag: "committed lag", o.g.committedOffset: "committed",
	}[i]
	o.values[name] = float64(v)
	o.sets = append(o.sets, metric.NewObserveConfig(opts).Attributes())
}

func (o *observed) ObserveFloat64(_ metric.Float64Observable, v float64, _ ...metric.ObserveOption) {
	o.values["time"] = v
}

// What is not known of a partition is not told.
func TestPartitionsOfWhichLittleIsKnown(t *testing.T) {
	c := newTelemetry(t, WithDestinationTemplate(func(string) string { return "all" }))
	now := time.Now()
	for _, test := range []struct {
		name string
		p    kafka.PartitionStatus
		want map[string]float64
	}{
		{"nothing", kafka.PartitionStatus{Lag: -1, Committed: -1, HighWatermark: -1}, map[string]float64{}},
		{"committed", kafka.PartitionStatus{Lag: -1, Committed: 7, HighWatermark: -1}, map[string]float64{"committed": 7}},
		{"all", kafka.PartitionStatus{Lag: 2, Committed: 7, HighWatermark: 10, Oldest: now.Add(-time.Minute)},
			map[string]float64{"lag": 2, "committed": 7, "committed lag": 3, "time": 60}},
		{"an end of before", kafka.PartitionStatus{Lag: 0, Committed: 7, HighWatermark: 5},
			map[string]float64{"lag": 0, "committed": 7, "committed lag": 0, "time": 0}},
		{"a clock ahead", kafka.PartitionStatus{Lag: 1, Committed: -1, HighWatermark: 5, Oldest: now.Add(time.Minute)},
			map[string]float64{"lag": 1, "time": 0}},
		{"an unknown age", kafka.PartitionStatus{Lag: 1, Committed: -1, HighWatermark: 5}, map[string]float64{"lag": 1}},
	} {
		test.p.Topic = "orders"
		o := &observed{g: c.hook.gauges, values: map[string]float64{}}
		c.hook.gauges.collectPartition(o, "g", test.p, now)
		if len(o.values) != len(test.want) {
			t.Errorf("%s: %v, want %v", test.name, o.values, test.want)
		}
		for k, v := range test.want {
			if o.values[k] != v {
				t.Errorf("%s: %s is %v, want %v", test.name, k, o.values[k], v)
			}
		}
		// Partitions of several topics of one template do not hide each other.
		for _, set := range o.sets {
			if !hasAll(set, []attribute.KeyValue{attribute.String("messaging.destination.name", "orders"), attribute.String("messaging.destination.template", "all")}) {
				t.Errorf("%s: %v", test.name, show(set))
			}
		}
	}
}

// Why partitions went, and that a handler held them up, is an error.type.
func TestRebalancesThatWentWrong(t *testing.T) {
	c := newTelemetry(t)
	c.hook.Event(kafka.PartitionsRevoked{Group: "g", Stuck: []kafka.TopicPartition{{Topic: "orders", Partition: 1}}})
	c.hook.Event(kafka.PartitionsLost{Group: "g", Err: typed("ILLEGAL_GENERATION")})
	for kind, failure := range map[string]string{"revoked": "timeout", "lost": "ILLEGAL_GENERATION"} {
		if n := c.total("kafka.consumer.rebalances", attribute.String("kafka.consumer.rebalance.type", kind), attribute.String("error.type", failure)); n != 1 {
			t.Errorf("%s: %v, want 1 with error.type %s", kind, c.series("kafka.consumer.rebalances"), failure)
		}
	}
}

// A record without a timestamp has no latency.
func TestNoTimestampNoLatency(t *testing.T) {
	c := newTelemetry(t)
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders"})
	end(nil)
	if s := c.series("kafka.consumer.delivery.latency"); len(s) != 0 {
		t.Errorf("latency %v", s)
	}
}

// A span's memory is used again only when it is empty.
func TestPooledSpansAreEmpty(t *testing.T) {
	c := newTelemetry(t)
	_, sc := remoteHeaders(1, true)
	s := c.hook.newSpan()
	s.link(sc, nil)
	s.opts = append(s.opts, trace.WithAttributes(attribute.String("a", "b")))
	s.begin(t.Context(), "test", time.Now())
	s.attrs = append(s.attrs, attribute.String("c", "d"))
	s.end(time.Now(), nil, "")
	if len(s.attrs) != 0 || len(s.links) != 0 || len(s.opts) != 0 || s.Span != nil || s.ctx != nil {
		t.Errorf("it holds %v, %v, %v, %v", s.attrs, s.links, s.opts, s.Span)
	}
	c.recorder.Reset() // it was nobody's span
}

func TestNames(t *testing.T) {
	n := newNames(2)
	for _, test := range []struct {
		name string
		want bool
	}{{"a", true}, {"b", true}, {"c", false}, {"a", true}, {"b", true}} {
		if got := n.allow(test.name); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

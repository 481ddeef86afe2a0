package otelkafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

func message(key, value string) *kafka.ProducerMessage {
	return &kafka.ProducerMessage{Topic: "orders", Key: []byte(key), Value: []byte(value)}
}

func TestA01_SendSpan(t *testing.T) {
	c := newTelemetry(t, WithMessageSizes(true), WithConversationID("conversation"), WithPeerService("bus"),
		WithAttributes(attribute.Bool("test", true)))
	m := message("k", "value")
	m.Headers = []kafka.Header{{Key: "conversation", Value: []byte("c1")}}
	require.NoError(t, (&cluster{}).sender(t, c.hook).SendMessage(t.Context(), m))
	s := c.one("send orders")
	if s.SpanKind() != trace.SpanKindProducer || s.Status().Code != codes.Unset {
		t.Errorf("kind %v, status %v", s.SpanKind(), s.Status())
	}
	wantAttrs(t, s,
		attribute.String("messaging.system", "kafka"),
		attribute.String("messaging.operation.name", "send"),
		attribute.String("messaging.operation.type", "send"),
		attribute.String("messaging.destination.name", "orders"),
		attribute.String("messaging.destination.partition.id", "3"),
		attribute.Int64("messaging.kafka.offset", 1),
		attribute.String("messaging.kafka.message.key", "k"),
		attribute.String("messaging.client.id", "checkout"),
		attribute.String("server.address", "kafka.test"),
		attribute.Int("server.port", 9092),
		attribute.String("messaging.message.conversation_id", "c1"),
		attribute.Int("messaging.message.body.size", 5),
		attribute.Int("messaging.message.envelope.size", 5+1+len("conversation")+2),
		attribute.String("service.peer.name", "bus"),
		attribute.Bool("test", true),
	)
}

func TestA02_AsyncSpanEndsWithItsAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTelemetry(t)
		d := &cluster{}
		d.produce = d.hold
		p := d.sender(t, c.hook)
		p.SendAsync(t.Context(), "orders", nil, []byte("v"), nil)
		time.Sleep(3 * time.Second)
		if n := len(c.recorder.Ended()); n != 0 {
			t.Fatalf("%d spans ended before the acknowledgement", n)
		}
		d.release(nil)
		s := c.one("send orders")
		if took := s.EndTime().Sub(s.StartTime()); took != 3*time.Second {
			t.Errorf("took %v, want 3s", took)
		}
		require.NoError(t, p.Close())
		c.balanced()
	})
}

// A03, A04: what a failed send shows, however its error is wrapped.
func TestA03_A04_FailedSend(t *testing.T) {
	code := &driver.Error{Code: "NOT_ENOUGH_REPLICAS"}
	for _, err := range []error{code, fmt.Errorf("wrapped: %w", code), errors.Join(errors.New("first"), fmt.Errorf("joined: %w", code))} {
		c := newTelemetry(t)
		d := &cluster{}
		d.produce = func(_ context.Context, m *driver.Message) error {
			m.Partition, m.Offset = 0, 0
			m.Acker.Ack(err)
			return nil
		}
		if d.sender(t, c.hook).Send(t.Context(), "orders", nil, []byte("v")) == nil {
			t.Fatal("no error")
		}
		s := c.one("send orders")
		if s.Status().Code != codes.Error || !strings.Contains(s.Status().Description, "NOT_ENOUGH_REPLICAS") || len(s.Events()) != 0 {
			t.Errorf("status %+v, events %v", s.Status(), s.Events())
		}
		wantAttrs(t, s,
			attribute.String("messaging.system", "kafka"),
			attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.name", "orders"),
			attribute.String("messaging.client.id", "checkout"),
			attribute.String("server.address", "kafka.test"),
			attribute.Int("server.port", 9092),
			attribute.String("error.type", "NOT_ENOUGH_REPLICAS"),
		)
		// A36: the same type on the metrics.
		failed := attribute.String("error.type", "NOT_ENOUGH_REPLICAS")
		if n := c.total("messaging.client.sent.messages", failed); n != 1 {
			t.Errorf("%v sent messages with that type, want 1", n)
		}
		if all := c.series("messaging.client.operation.duration"); len(all) != 1 || !hasAll(all[0].attrs, []attribute.KeyValue{failed}) {
			t.Errorf("durations: %v", all)
		}
	}
}

func TestA05_CloseEndsPendingSends(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{}
	d.produce = d.hold
	p := d.sender(t, c.hook)
	for range 20 {
		p.SendAsync(t.Context(), "orders", nil, []byte("v"), func(*kafka.ProducerMessage, error) {})
	}
	require.NoError(t, p.Close())
	c.balanced()
	for _, s := range c.ended("send orders") {
		if v, _ := attr(s, "error.type"); v.AsString() != "unknown_outcome" {
			t.Errorf("error.type %q", v.AsString())
		}
	}
	if err := p.Send(t.Context(), "orders", nil, []byte("v")); !errors.Is(err, kafka.ErrClosed) {
		t.Error(err)
	}
	if n := c.total("messaging.client.sent.messages"); n != 20 {
		t.Errorf("%v sent, want 20: what was sent after Close was not", n)
	}
	if got := c.series("messaging.client.operation.duration"); len(got) != 2 {
		t.Errorf("durations: %v", got)
	}
}

func TestA06_WithoutBufferSpaceNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTelemetry(t)
		d := &cluster{produce: func(ctx context.Context, _ *driver.Message) error { <-ctx.Done(); return ctx.Err() }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.sender(t, c.hook).Send(ctx, "orders", nil, []byte("v")); err != context.DeadlineExceeded {
			t.Errorf("the sender got %v, want its context's error as it is", err)
		}
		all := c.series("messaging.client.operation.duration")
		if len(all) != 1 || !hasAll(all[0].attrs, []attribute.KeyValue{attribute.String("error.type", "buffer_full")}) {
			t.Errorf("durations: %v", all)
		}
		if s := c.series("messaging.client.sent.messages"); len(s) != 0 {
			t.Errorf("sent messages: %v", s)
		}
		if v, _ := attr(c.one("send orders"), "error.type"); v.AsString() != "buffer_full" {
			t.Errorf("error.type %q", v.AsString())
		}
	})
}

func TestA07_KeysAndTombstones(t *testing.T) {
	const key, tombstone = "messaging.kafka.message.key", "messaging.kafka.message.tombstone"
	send := func(m *kafka.ProducerMessage, opts ...Option) (shown string, dead bool) {
		c := newTelemetry(t, opts...)
		require.NoError(t, (&cluster{}).sender(t, c.hook).SendMessage(t.Context(), m))
		s := c.one("send orders")
		v, ok := attr(s, key)
		if ok {
			shown = v.AsString()
		}
		_, dead = attr(s, tombstone)
		return shown, dead
	}
	for _, test := range []struct {
		name string
		m    *kafka.ProducerMessage
		opts []Option
		want string
		dead bool
	}{
		{"text", message("k", "v"), nil, "k", false},
		{"none", &kafka.ProducerMessage{Topic: "orders", Value: []byte("v")}, nil, "", false},
		{"binary", message("\xff\x00", "v"), nil, "", false},
		{"long", message(strings.Repeat("k", 129), "v"), nil, "", false},
		{"tombstone", &kafka.ProducerMessage{Topic: "orders", Key: []byte("k")}, nil, "k", true},
		{"empty value", message("k", ""), nil, "k", false},
		{"off", message("k", "v"), []Option{WithMessageKey(nil)}, "", false},
		{"own", message("k", "v"), []Option{WithMessageKey(func(m *kafka.Message) (string, bool) { return "#" + string(m.Key), true })}, "#k", false},
		{"panicking", message("k", "v"), []Option{WithMessageKey(func(*kafka.Message) (string, bool) { panic("no") })}, "", false},
	} {
		if shown, dead := send(test.m, test.opts...); shown != test.want || dead != test.dead {
			t.Errorf("%s: key %q, tombstone %v; want %q, %v", test.name, shown, dead, test.want, test.dead)
		}
	}
}

func TestA08_HeaderIsTheSpans(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).Send(t.Context(), "orders", nil, []byte("v")))
	sc, want := (&propagator{w3c: true}).remote(d.sent[0].Headers), c.one("send orders").SpanContext()
	if sc.TraceID() != want.TraceID() || sc.SpanID() != want.SpanID() || sc.TraceFlags() != want.TraceFlags() || len(d.sent[0].Headers) != 1 {
		t.Errorf("headers %v, span %v", d.sent[0].Headers, want)
	}
}

// A09: many messages share one slice that has room; nobody writes into it, and
// each gets a header of its own.
func TestA09_SharedHeadersAreNotTouched(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{}
	p := d.sender(t, c.hook)
	shared := append(make([]kafka.Header, 0, 16), kafka.Header{Key: "app", Value: []byte("1")})
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for range 50 {
				require.NoError(t, p.SendMessage(context.Background(), &kafka.ProducerMessage{Topic: "orders", Headers: shared}))
				p.SendMessageAsync(context.Background(), &kafka.ProducerMessage{Topic: "orders", Headers: shared}, nil)
			}
		})
	}
	senders.Wait()
	require.NoError(t, p.Close())
	if len(shared) != 1 || cap(shared) != 16 || shared[:16][1].Key != "" || string(shared[0].Value) != "1" {
		t.Errorf("the slice became %v", shared[:16])
	}
	seen := map[string]bool{}
	for _, m := range d.sent {
		v, _ := last(m.Headers, "traceparent")
		seen[string(v)] = true
		if len(m.Headers) != 2 {
			t.Fatalf("headers %v", m.Headers)
		}
	}
	if len(seen) != 800 {
		t.Errorf("%d different contexts in 800 messages", len(seen))
	}
}

func TestA10_AMessageThatIsSentAgainBelongsToItsSecondSend(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{}
	p := d.sender(t, c.hook)
	m := message("k", "v")
	var parents []trace.Span
	for range 2 {
		ctx, span := c.tracers.Tracer("test").Start(t.Context(), "request")
		require.NoError(t, p.SendMessage(ctx, m))
		span.End()
		parents = append(parents, span)
	}
	for i, s := range c.ended("send orders") {
		if s.Parent().SpanID() != parents[i].SpanContext().SpanID() {
			t.Errorf("send %d has parent %v", i, s.Parent())
		}
		if sc := c.hook.propagate().remote(d.sent[i].Headers); sc.TraceID() != parents[i].SpanContext().TraceID() {
			t.Errorf("send %d carries %v", i, sc)
		}
	}
	if m.Headers != nil {
		t.Errorf("the message got headers %v", m.Headers)
	}
}

func TestA11_AContextInTheHeaders(t *testing.T) {
	hs, foreign := remoteHeaders(7, true)
	hs = append(hs, kafka.Header{Key: "tracestate", Value: []byte("vendor=1")})
	send := func(opts ...Option) (*telemetry, driver.Message) {
		c := newTelemetry(t, opts...)
		d := &cluster{}
		require.NoError(t, d.sender(t, c.hook).SendMessage(t.Context(), &kafka.ProducerMessage{Topic: "orders", Headers: hs}))
		return c, d.sent[0]
	}
	c, m := send()
	s := c.one("send orders")
	if s.SpanKind() != trace.SpanKindClient || len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != foreign.SpanID() {
		t.Errorf("kept: kind %v, links %v", s.SpanKind(), s.Links())
	}
	if v, _ := last(m.Headers, "traceparent"); len(m.Headers) != 2 || string(v) != string(hs[0].Value) {
		t.Errorf("kept: headers %v", m.Headers)
	}
	c, m = send(WithExistingContext(ReplaceContext))
	s = c.one("send orders")
	if s.SpanKind() != trace.SpanKindProducer || len(s.Links()) != 0 {
		t.Errorf("replaced: kind %v, links %v", s.SpanKind(), s.Links())
	}
	if sc := c.hook.propagate().remote(m.Headers); sc.SpanID() != s.SpanContext().SpanID() || len(m.Headers) != 1 {
		t.Errorf("replaced: headers %v; a tracestate of another trace must not stay", m.Headers)
	}
}

// A12: tracing off leaves the user's headers and callback alone, and passes a
// context on that is not its own.
func TestA12_TracingOff(t *testing.T) {
	c := newTelemetry(t, WithTracerProvider(noop.NewTracerProvider()))
	d := &cluster{}
	p := d.sender(t, c.hook)
	hs := []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "traceparent", Value: []byte("not one")}}
	called := make(chan *kafka.ProducerMessage, 1)
	m := &kafka.ProducerMessage{Topic: "orders", Headers: hs}
	p.SendMessageAsync(t.Context(), m, func(m *kafka.ProducerMessage, err error) { called <- m })
	if <-called != m || !slices.EqualFunc(d.sent[0].Headers, hs, equalHeaders) {
		t.Errorf("headers became %v", d.sent[0].Headers)
	}
	_, sc := remoteHeaders(9, true)
	require.NoError(t, p.Send(trace.ContextWithRemoteSpanContext(t.Context(), sc), "orders", nil, nil))
	if got := c.hook.propagate().remote(d.sent[1].Headers); got.SpanID() != sc.SpanID() {
		t.Errorf("carries %v, want %v", got, sc)
	}
	if n := len(c.recorder.Started()); n != 0 {
		t.Errorf("%d spans", n)
	}
}

func equalHeaders(a, b kafka.Header) bool {
	return a.Key == b.Key && string(a.Value) == string(b.Value)
}

func TestA13_TheUsersSpanGoesOn(t *testing.T) {
	c := newTelemetry(t)
	p := (&cluster{}).sender(t, c.hook)
	ctx, span := c.tracers.Tracer("test").Start(t.Context(), "request")
	require.NoError(t, p.Send(ctx, "orders", nil, nil))
	if !span.IsRecording() {
		t.Error("the user's span was ended")
	}
	span.End()
	_, sc := remoteHeaders(1, false)
	ctx = trace.ContextWithRemoteSpanContext(t.Context(), sc)
	require.NoError(t, p.Send(ctx, "orders", nil, nil))
	if trace.SpanContextFromContext(ctx).SpanID() != sc.SpanID() {
		t.Error("the user's context was changed")
	}
	c.balanced()
}

// A28, as far as the core goes today: a user's forward of a consumed record.
func TestA28_Forward(t *testing.T) {
	hs, original := remoteHeaders(5, true)
	consumed := &kafka.Message{Topic: "orders", Headers: append(hs, kafka.Header{Key: "app", Value: []byte("1")})}
	for _, opts := range [][]Option{nil, {WithExistingContext(ReplaceContext)}} {
		c := newTelemetry(t, opts...)
		d := &cluster{}
		p := d.sender(t, c.hook)
		ctx, parent := c.tracers.Tracer("test").Start(t.Context(), "handler")
		require.NoError(t, p.SendMessage(kafka.WithOrigin(ctx, consumed), &kafka.ProducerMessage{Topic: "orders.dlq", Headers: consumed.Headers}))
		parent.End()
		s := c.one("send orders.dlq")
		if s.Parent().SpanID() != parent.SpanContext().SpanID() || s.SpanKind() != trace.SpanKindProducer {
			t.Errorf("parent %v, kind %v", s.Parent(), s.SpanKind())
		}
		if len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != original.SpanID() {
			t.Errorf("links %v", s.Links())
		}
		if sc := c.hook.propagate().remote(d.sent[0].Headers); sc.SpanID() != s.SpanContext().SpanID() || len(d.sent[0].Headers) != 2 {
			t.Errorf("headers %v", d.sent[0].Headers)
		}
	}
}

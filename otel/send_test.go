package otelkafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
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
	assert.Equal(t, trace.SpanKindProducer, s.SpanKind())
	assert.Equal(t, codes.Unset, s.Status().Code)
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
		require.Empty(t, c.recorder.Ended(), "spans that ended before the acknowledgement")
		d.release(nil)
		s := c.one("send orders")
		assert.Equal(t, 3*time.Second, s.EndTime().Sub(s.StartTime()))
		require.NoError(t, p.Close())
		c.balanced()
	})
}

// A03, A04: the span of a failed send names the error's code, however the error is wrapped.
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
		require.ErrorIs(t, d.sender(t, c.hook).Send(t.Context(), "orders", nil, []byte("v")), err)
		s := c.one("send orders")
		assert.Equal(t, codes.Error, s.Status().Code)
		assert.Contains(t, s.Status().Description, "NOT_ENOUGH_REPLICAS")
		assert.Empty(t, s.Events())
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
		// A36: the metrics have the same type.
		failed := attribute.String("error.type", "NOT_ENOUGH_REPLICAS")
		assert.Equal(t, 1.0, c.total("messaging.client.sent.messages", failed))
		durations := c.series("messaging.client.operation.duration")
		require.Len(t, durations, 1)
		assert.Contains(t, durations[0].attrs.ToSlice(), failed)
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
		assert.Equal(t, "unknown_outcome", textOf(s, "error.type"))
	}
	assert.ErrorIs(t, p.Send(t.Context(), "orders", nil, []byte("v")), kafka.ErrClosed)
	assert.Equal(t, 20.0, c.total("messaging.client.sent.messages"), "without the send after Close")
	assert.Len(t, c.series("messaging.client.operation.duration"), 2)
}

func TestA06_WithoutBufferSpaceNothingIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTelemetry(t)
		d := &cluster{produce: func(ctx context.Context, _ *driver.Message) error { <-ctx.Done(); return ctx.Err() }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := d.sender(t, c.hook).Send(ctx, "orders", nil, []byte("v"))
		assert.Equal(t, context.DeadlineExceeded, err, "the context's own error, not wrapped")
		durations := c.series("messaging.client.operation.duration")
		require.Len(t, durations, 1)
		assert.Contains(t, durations[0].attrs.ToSlice(), attribute.String("error.type", "buffer_full"))
		assert.Empty(t, c.series("messaging.client.sent.messages"))
		assert.Equal(t, "buffer_full", textOf(c.one("send orders"), "error.type"))
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
		shown, dead := send(test.m, test.opts...)
		assert.Equal(t, test.want, shown, "%s: key", test.name)
		assert.Equal(t, test.dead, dead, "%s: tombstone", test.name)
	}
}

func TestA08_HeaderIsTheSpans(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{}
	require.NoError(t, d.sender(t, c.hook).Send(t.Context(), "orders", nil, []byte("v")))
	sc, want := (&propagator{w3c: true}).remote(d.sent[0].Headers), c.one("send orders").SpanContext()
	assert.Equal(t, want.TraceID(), sc.TraceID())
	assert.Equal(t, want.SpanID(), sc.SpanID())
	assert.Equal(t, want.TraceFlags(), sc.TraceFlags())
	assert.Len(t, d.sent[0].Headers, 1)
}

// A09: many messages share one slice that has room. The hook does not write into
// it, and each message gets its own header.
func TestA09_SharedHeadersAreNotTouched(t *testing.T) {
	c := newTelemetry(t)
	d := &cluster{}
	p := d.sender(t, c.hook)
	shared := append(make([]kafka.Header, 0, 16), kafka.Header{Key: "app", Value: []byte("1")})
	var senders sync.WaitGroup
	for range 8 {
		senders.Go(func() {
			for range 50 {
				assert.NoError(t, p.SendMessage(context.Background(), &kafka.ProducerMessage{Topic: "orders", Headers: shared}))
				p.SendMessageAsync(context.Background(), &kafka.ProducerMessage{Topic: "orders", Headers: shared}, nil)
			}
		})
	}
	senders.Wait()
	require.NoError(t, p.Close())
	untouched := make([]kafka.Header, 16)
	untouched[0] = kafka.Header{Key: "app", Value: []byte("1")}
	assert.Equal(t, untouched, shared[:cap(shared)])
	seen := map[string]bool{}
	for _, m := range d.sent {
		v, _ := last(m.Headers, "traceparent")
		seen[string(v)] = true
		require.Len(t, m.Headers, 2)
	}
	assert.Len(t, seen, 800, "different contexts in 800 messages")
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
	sends := c.ended("send orders")
	require.Len(t, sends, 2)
	for i, s := range sends {
		parent := parents[i].SpanContext()
		assert.Equal(t, parent.SpanID(), s.Parent().SpanID(), "parent of send %d", i)
		assert.Equal(t, parent.TraceID(), c.hook.spans.propagate().remote(d.sent[i].Headers).TraceID(), "headers of send %d", i)
	}
	assert.Nil(t, m.Headers)
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
	assert.Equal(t, trace.SpanKindClient, s.SpanKind(), "kept")
	wantLinks(t, s, foreign)
	v, _ := last(m.Headers, "traceparent")
	assert.Equal(t, hs[0].Value, v, "kept")
	assert.Len(t, m.Headers, 2, "kept")
	c, m = send(WithExistingContext(ReplaceContext))
	s = c.one("send orders")
	assert.Equal(t, trace.SpanKindProducer, s.SpanKind(), "replaced")
	wantLinks(t, s)
	assert.Equal(t, s.SpanContext().SpanID(), c.hook.spans.propagate().remote(m.Headers).SpanID(), "replaced")
	assert.Len(t, m.Headers, 1, "replaced: a tracestate of another trace must not stay")
}

// A12: with tracing off, the user's headers and callback stay as they are, and a
// context from outside is passed on.
func TestA12_TracingOff(t *testing.T) {
	c := newTelemetry(t, WithTracerProvider(noop.NewTracerProvider()))
	d := &cluster{}
	p := d.sender(t, c.hook)
	hs := []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "traceparent", Value: []byte("not one")}}
	called := make(chan *kafka.ProducerMessage, 1)
	m := &kafka.ProducerMessage{Topic: "orders", Headers: hs}
	p.SendMessageAsync(t.Context(), m, func(m *kafka.ProducerMessage, err error) { called <- m })
	assert.Same(t, m, <-called)
	assert.Equal(t, []driver.Header(hs), d.sent[0].Headers)
	_, sc := remoteHeaders(9, true)
	require.NoError(t, p.Send(trace.ContextWithRemoteSpanContext(t.Context(), sc), "orders", nil, nil))
	assert.Equal(t, sc.SpanID(), c.hook.spans.propagate().remote(d.sent[1].Headers).SpanID())
	assert.Empty(t, c.recorder.Started())
}

func TestA13_TheUsersSpanGoesOn(t *testing.T) {
	c := newTelemetry(t)
	p := (&cluster{}).sender(t, c.hook)
	ctx, span := c.tracers.Tracer("test").Start(t.Context(), "request")
	require.NoError(t, p.Send(ctx, "orders", nil, nil))
	assert.True(t, span.IsRecording(), "the user's span goes on")
	span.End()
	_, sc := remoteHeaders(1, false)
	ctx = trace.ContextWithRemoteSpanContext(t.Context(), sc)
	require.NoError(t, p.Send(ctx, "orders", nil, nil))
	assert.Equal(t, sc.SpanID(), trace.SpanContextFromContext(ctx).SpanID(), "the user's context")
	c.balanced()
}

// A28: a user's own forward of a consumed record.
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
		assert.Equal(t, parent.SpanContext().SpanID(), s.Parent().SpanID())
		assert.Equal(t, trace.SpanKindProducer, s.SpanKind())
		wantLinks(t, s, original)
		assert.Equal(t, s.SpanContext().SpanID(), c.hook.spans.propagate().remote(d.sent[0].Headers).SpanID())
		assert.Len(t, d.sent[0].Headers, 2)
	}
}

package otelkafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// handled sends messages and waits until they are done and told.
func (r *rig) handled(ms ...*kafka.ProducerMessage) {
	for _, m := range ms {
		r.WaitHandled(r.Kafka.SendMessage(m))
	}
	synctest.Wait()
}

func with(hs []kafka.Header) *kafka.ProducerMessage {
	return &kafka.ProducerMessage{Topic: "orders", Key: []byte("k"), Value: []byte("v"), Headers: hs}
}

func TestA19_ProducerIsParentAndLink(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(done)
		hs, sent := remoteHeaders(1, true)
		r.handled(with(hs))
		if len(r.recorder.Started()) != 1 {
			t.Errorf("spans %v, want no other by default", r.names())
		}
		s := r.one("process orders")
		if s.SpanKind() != trace.SpanKindConsumer || s.Status().Code != codes.Unset {
			t.Errorf("kind %v, status %v", s.SpanKind(), s.Status())
		}
		if s.Parent().SpanID() != sent.SpanID() || !s.Parent().IsRemote() || len(s.Links()) != 1 ||
			s.Links()[0].SpanContext.SpanID() != sent.SpanID() || !s.Links()[0].SpanContext.IsRemote() {
			t.Errorf("parent %v, links %v", s.Parent(), s.Links())
		}
		wantAttrs(t, s,
			attribute.String("messaging.system", "kafka"),
			attribute.String("messaging.operation.name", "process"),
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.name", "orders"),
			attribute.String("messaging.destination.partition.id", "0"),
			attribute.String("messaging.consumer.group.name", "shop"),
			attribute.String("messaging.client.id", filepath.Base(os.Args[0])+"-orders"),
			attribute.String("server.address", "localhost"),
			attribute.Int("server.port", 9092),
			attribute.Int64("messaging.kafka.offset", 0),
			attribute.String("messaging.kafka.message.key", "k"),
			attribute.Int("kafka.consumer.attempts", 1),
			attribute.String("kafka.consumer.outcome", "ack"),
		)
	})
}

func TestA20_AmbientSpanIsTheParent(t *testing.T) {
	c := newTelemetry(t)
	hs, sent := remoteHeaders(1, true)
	ctx, ambient := c.tracers.Tracer("test").Start(t.Context(), "loop")
	inside, end := c.hook.StartProcess(ctx, &kafka.Message{Topic: "orders", Headers: hs})
	end(nil)
	ambient.End()
	s := c.one("process orders")
	if s.Parent().SpanID() != ambient.SpanContext().SpanID() || len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != sent.SpanID() {
		t.Errorf("parent %v, links %v", s.Parent(), s.Links())
	}
	if trace.SpanContextFromContext(inside).SpanID() != s.SpanContext().SpanID() {
		t.Error("the context is not the span's")
	}
}

func TestA21_ParentNone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(done)
		hs, sent := remoteHeaders(1, true)
		r.handled(with(hs))
		s := r.one("process orders")
		if s.Parent().IsValid() || s.SpanContext().TraceID() == sent.TraceID() || len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != sent.SpanID() {
			t.Errorf("parent %v, links %v", s.Parent(), s.Links())
		}
	}, WithProcessParent(ParentNone))
}

func TestA22_HeadersThatCarryNothing(t *testing.T) {
	good, sent := remoteHeaders(1, true)
	value := string(good[0].Value)
	header := func(values ...string) (hs []kafka.Header) {
		for _, v := range values {
			hs = append(hs, kafka.Header{Key: "traceparent", Value: []byte(v)})
		}
		return hs
	}
	for _, test := range []struct {
		name   string
		hs     []kafka.Header
		parent bool
	}{
		{"none", nil, false},
		{"nil value", []kafka.Header{{Key: "traceparent"}}, false},
		{"not one", header("00-nonsense"), false},
		{"no dashes", header(strings.ReplaceAll(value, "-", "_")), false},
		{"one dash", header(value[:35] + "_" + value[36:]), false},
		{"the other", header(value[:52] + "_" + value[53:]), false},
		{"upper case", header("00-ABCDEF00000000000000000000000000-0100000000000000-01"), false},
		{"zero trace", header("00-00000000000000000000000000000000-0100000000000000-01"), false},
		{"reserved flags", header(value[:53] + "ff"), false},
		{"too long for its version", header(value + "-more"), false},
		{"longer flags", header(value + "01"), false},
		{"version ff", header("ff" + value[2:]), false},
		{"a later version", header("01" + value[2:] + "-more"), true},
		{"twice, the last good", header("nonsense", value), true},
		{"twice, the last bad", header(value, "nonsense"), false},
		{"bad tracestate", append(header(value), kafka.Header{Key: "tracestate", Value: []byte("=,=")}), true},
	} {
		c := newTelemetry(t)
		_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders", Headers: test.hs})
		end(nil)
		s := c.one("process orders")
		if got := s.Parent().SpanID() == sent.SpanID(); got != test.parent || len(s.Links()) == 1 != test.parent || s.Parent().IsValid() != test.parent {
			t.Errorf("%s: parent %v, links %v", test.name, s.Parent(), s.Links())
		}
	}
}

func TestA23_Baggage(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		seen := map[string]string{}
		r.consume(func(ctx context.Context, m *kafka.Message) error {
			for _, key := range []string{"a", "b"} {
				seen[key] += baggage.FromContext(ctx).Member(key).Value()
			}
			return nil
		})
		hs, _ := remoteHeaders(1, true)
		hs = append(hs, kafka.Header{Key: "baggage", Value: []byte("a=1")}, kafka.Header{Key: "baggage", Value: []byte("b=2")})
		r.handled(with(hs))
		if seen["a"] != "1" || seen["b"] != "2" {
			t.Errorf("the handler saw %v", seen)
		}
		if s := r.one("process orders"); len(s.Links()) != 1 {
			t.Errorf("links %v", s.Links())
		}
	})
	// A batch has the baggage of none of its records; Context gives a record's own.
	c := newTelemetry(t)
	m := &kafka.Message{Topic: "orders", Headers: []kafka.Header{{Key: "baggage", Value: []byte("a=1")}}}
	inside, end := c.hook.StartProcess(t.Context(), m, m)
	if n := baggage.FromContext(inside).Len(); n != 0 {
		t.Errorf("a batch got %d members", n)
	}
	if v := baggage.FromContext(c.hook.Context(inside, m)).Member("a").Value(); v != "1" {
		t.Errorf("Context gave %q", v)
	}
	end(nil)
}

func TestA24_ANestedSendIsAChild(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		p := r.Producer()
		var inHandler trace.SpanContext
		r.consume(func(ctx context.Context, m *kafka.Message) error {
			inHandler = trace.SpanContextFromContext(ctx)
			return p.Send(ctx, "results", nil, []byte("r"))
		})
		require.NoError(t, p.Send(t.Context(), "orders", nil, []byte("v")))
		r.WaitHandled(&kafka.Message{Topic: "orders"})
		synctest.Wait()
		first, process, second := r.one("send orders"), r.one("process orders"), r.one("send results")
		if inHandler.SpanID() != process.SpanContext().SpanID() {
			t.Error("the handler's context is not the process span's")
		}
		if process.Parent().SpanID() != first.SpanContext().SpanID() || second.Parent().SpanID() != process.SpanContext().SpanID() {
			t.Errorf("parents %v, %v", process.Parent(), second.Parent())
		}
		if first.SpanContext().TraceID() != second.SpanContext().TraceID() {
			t.Error("two traces")
		}
	})
}

// A25: what was fetched and is revoked before its turn has no span.
func TestA25_PrefetchedAndRevoked(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		for range 10 {
			r.Kafka.Send("orders", "", "v")
		}
		entered := make(chan struct{})
		r.consume(func(ctx context.Context, m *kafka.Message) error {
			close(entered)
			<-ctx.Done()
			return ctx.Err()
		})
		<-entered
		require.NoError(t, r.SetConsumerSwitch("orders", false))
		r.WaitState("orders", kafka.StateOff)
		synctest.Wait()
		r.balanced()
		// A30: nor is the one that was interrupted an error.
		s := r.one("process orders")
		if v, _ := attr(s, outcomeKey); s.Status().Code != codes.Unset || v.AsString() != "interrupted" {
			t.Errorf("status %v, outcome %q", s.Status(), v.AsString())
		}
		for _, m := range r.series("messaging.process.duration") {
			if m.attrs.HasValue("error.type") {
				t.Errorf("measured as an error: %v", m.attrs)
			}
		}
		if n := r.total("messaging.client.consumed.messages"); n != 1 {
			t.Errorf("%v consumed, want 1", n)
		}
	}, WithAttemptSpans(true))
}

func TestA26_ABatch(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		var first []kafka.Header
		for i := range 200 {
			hs, _ := remoteHeaders(byte(i+1), true)
			if i == 0 {
				first = hs
			}
			r.Kafka.SendMessage(with(hs))
		}
		cfg := orders()
		cfg.MaxBatchSize = 500
		r.Start(&batcher{cfg, func(ctx context.Context, ms []*kafka.Message) error {
			// One span a record, for who wants it: A20 inside a batch.
			_, end := r.hook.StartProcess(ctx, ms[0])
			end(nil)
			return nil
		}})
		r.WaitCommitted("orders")
		synctest.Wait()
		s := r.ended("process orders")
		if len(s) != 2 {
			t.Fatalf("%d spans, want the record's and the batch's", len(s))
		}
		batch, record := s[1], s[0]
		if n, _ := attr(batch, "messaging.batch.message_count"); n.AsInt64() != 200 || len(batch.Links()) != 128 || batch.Parent().IsValid() {
			t.Errorf("count %v, %d links, parent %v", n.AsInt64(), len(batch.Links()), batch.Parent())
		}
		link := batch.Links()[0]
		if sc := r.hook.propagate().remote(first); link.SpanContext.SpanID() != sc.SpanID() {
			t.Error("the first links were dropped")
		}
		set := attribute.NewSet(link.Attributes...)
		if !hasAll(set, []attribute.KeyValue{attribute.Int64("messaging.kafka.offset", 0), attribute.String("messaging.kafka.message.key", "k")}) || set.Len() != 2 {
			t.Errorf("the link has %v", link.Attributes)
		}
		for _, key := range []attribute.Key{"messaging.kafka.offset", "messaging.kafka.message.key"} {
			if _, ok := attr(batch, key); ok {
				t.Errorf("the batch has %s", key)
			}
		}
		if record.Parent().SpanID() != batch.SpanContext().SpanID() {
			t.Error("the record's span is not a child of the batch's")
		}
		if n := r.total("messaging.client.consumed.messages"); n != 200 {
			t.Errorf("%v consumed, want 200: the record's own span is of one that has been counted", n)
		}
		if got := r.series("messaging.process.duration"); len(got) != 1 || got[0].count != 1 {
			t.Errorf("durations: %v", got)
		}
	})
}

// A16: a batch of one says so, and a single record never does.
func TestA16_MessageCount(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.Start(&batcher{orders(), func(context.Context, []*kafka.Message) error { return nil }})
		r.handled(with(nil))
		if n, ok := attr(r.one("process orders"), "messaging.batch.message_count"); !ok || n.AsInt64() != 1 {
			t.Errorf("count %v, %v", n.AsInt64(), ok)
		}
	})
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(done)
		r.handled(with(nil))
		if _, ok := attr(r.one("process orders"), "messaging.batch.message_count"); ok {
			t.Error("a single record has a count")
		}
	})
}

func TestA17_RecordsOfSeveralTopics(t *testing.T) {
	c := newTelemetry(t)
	a, _ := remoteHeaders(1, true)
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "a", Headers: a}, &kafka.Message{Topic: "b", Partition: 1})
	end(nil)
	// And of one topic, from several partitions; in a loop of the user's own, which is counted.
	_, end = c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "a", Partition: 1}, &kafka.Message{Topic: "a", Partition: 2})
	end(nil)
	if v, ok := attr(c.one("process a"), "messaging.destination.partition.id"); ok {
		t.Errorf("several partitions are %q", v.AsString())
	}
	if n, d := c.total("messaging.client.consumed.messages"), c.series("messaging.process.duration"); n != 4 || len(d) != 2 {
		t.Errorf("%v consumed, durations %v", n, d)
	}
	s := c.one("process")
	for _, key := range []attribute.Key{"messaging.destination.name", "messaging.destination.partition.id"} {
		if _, ok := attr(s, key); ok {
			t.Errorf("has %s", key)
		}
	}
}

// A27: one span for a delivery, whatever its attempts; their own spans on request.
func TestA27_RetryThenSuccess(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(ctx context.Context, m *kafka.Message) error {
			if m.Attempt < 3 {
				return fmt.Errorf("attempt %d", m.Attempt)
			}
			return nil
		})
		began := time.Now()
		r.handled(with(nil))
		s := r.one("process orders")
		if v, _ := attr(s, attemptsKey); s.Status().Code != codes.Unset || v.AsInt64() != 3 || len(s.Events()) != 0 {
			t.Errorf("status %v, attempts %v, events %v", s.Status(), v.AsInt64(), s.Events())
		}
		if took := s.EndTime().Sub(s.StartTime()); took != time.Since(began) || took < 2*time.Second {
			t.Errorf("took %v, want both backoffs, %v", took, time.Since(began))
		}
		attempts := r.ended("attempt orders")
		if len(attempts) != 3 {
			t.Fatalf("%d attempts", len(attempts))
		}
		for i, a := range attempts {
			n, _ := attr(a, attemptKey)
			if n.AsInt64() != int64(i+1) || (a.Status().Code == codes.Error) != (i < 2) || a.SpanKind() != trace.SpanKindInternal || a.Parent().SpanID() != s.SpanContext().SpanID() {
				t.Errorf("attempt %d: %v, status %v, kind %v", i+1, n.AsInt64(), a.Status(), a.SpanKind())
			}
		}
		if n := r.total("kafka.consumer.retries"); n != 2 {
			t.Errorf("%v retries, want 2", n)
		}
		if got := r.series("messaging.process.duration"); len(got) != 1 || got[0].count != 1 {
			t.Errorf("durations: %v", got)
		}
		if n := r.total("messaging.client.consumed.messages"); n != 1 {
			t.Errorf("%v consumed, want 1", n)
		}
	}, WithAttemptSpans(true))
}

func TestA29_PanicIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(context.Context, *kafka.Message) error { panic("no") })
		r.failTenTimes(r.Kafka.SendMessage(with(nil)))
		synctest.Wait()
		s := r.one("process orders")
		v, _ := attr(s, "error.type")
		n, _ := attr(s, attemptsKey)
		if s.Status().Code != codes.Error || v.AsString() != "panic" || n.AsInt64() != 10 {
			t.Errorf("status %v, error.type %q, attempts %v", s.Status(), v.AsString(), n.AsInt64())
		}
		r.balanced()
	})
}

// failTenTimes waits for the tenth failure of a record, after which it is left to
// its next owner.
func (r *rig) failTenTimes(m *kafka.Message) {
	r.WaitFailed(m, 10)
	r.SetConsumerSwitch("orders", false)
	r.WaitState("orders", kafka.StateOff)
}

// A31: commits are made in the background here, so none is the child of a
// process span. Those that somebody waits for have one; all are measured.
func TestA31_Commits(t *testing.T) {
	run := func(opts ...Option) (spans []sdktrace.ReadOnlySpan, measured int) {
		inBubble(t, func(t *testing.T, r *rig) {
			r.consume(func(ctx context.Context, m *kafka.Message) error {
				if m.Offset == 2 {
					<-ctx.Done() // handled in the revocation, which waits for its commit
				}
				return nil
			})
			r.handled(with(nil), with(nil))
			r.Kafka.SendMessage(with(nil))
			time.Sleep(5 * time.Second) // the background has committed the first two
			require.NoError(t, r.SetConsumerSwitch("orders", false))
			r.WaitState("orders", kafka.StateOff)
			synctest.Wait()
			spans = r.ended("commit orders")
			for _, s := range r.series("messaging.client.operation.duration") {
				if v, _ := s.attrs.Value("messaging.operation.name"); v.AsString() == "commit" {
					measured += int(s.count)
				}
			}
		}, opts...)
		return spans, measured
	}
	for _, test := range []struct {
		name string
		opts []Option
		want func(measured int) int
	}{
		{"all", []Option{WithCommitSpans(CommitSpansAll)}, func(m int) int { return m }},
		{"awaited", nil, func(int) int { return 1 }},
		{"none", []Option{WithCommitSpans(CommitSpansNone)}, func(int) int { return 0 }},
	} {
		spans, measured := run(test.opts...)
		if len(spans) != test.want(measured) || measured < 2 {
			t.Errorf("%s: %d spans, %d measured", test.name, len(spans), measured)
		}
		for _, s := range spans {
			if typ, _ := attr(s, "messaging.operation.type"); s.SpanKind() != trace.SpanKindClient || s.Parent().IsValid() || typ.AsString() != "settle" {
				t.Errorf("%s: kind %v, parent %v, type %q", test.name, s.SpanKind(), s.Parent(), typ.AsString())
			}
		}
		if len(spans) > 0 {
			if offset, _ := attr(spans[len(spans)-1], "messaging.kafka.offset"); offset.AsInt64() != 2 {
				t.Errorf("%s: the last commit has offset %d, want that of the last record", test.name, offset.AsInt64())
			}
		}
	}
}

// A32, A35: waiting makes no span and no measurement; what was received is
// counted where it is processed.
func TestA32_A35_Receive(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(done)
		time.Sleep(time.Hour)
		if n := len(r.names()); n != 0 {
			t.Errorf("an idle consumer made %v", r.names())
		}
		hs, sent := remoteHeaders(1, true)
		r.handled(with(hs))
		s := r.one("poll orders")
		if s.SpanKind() != trace.SpanKindClient || s.Parent().IsValid() || len(s.Links()) != 1 || s.Links()[0].SpanContext.SpanID() != sent.SpanID() {
			t.Errorf("kind %v, parent %v, links %v", s.SpanKind(), s.Parent(), s.Links())
		}
		if n, _ := attr(s, "messaging.batch.message_count"); n.AsInt64() != 1 {
			t.Errorf("count %v", n.AsInt64())
		}
		if n := r.total("messaging.client.consumed.messages"); n != 1 {
			t.Errorf("%v consumed, want 1", n)
		}
		require.NoError(t, r.SetConsumerSwitch("orders", false)) // ends a wait that brought nothing
		r.WaitState("orders", kafka.StateOff)
		r.one("poll orders")
		polls := 0
		for _, s := range r.series("messaging.client.operation.duration") {
			if v, _ := s.attrs.Value("messaging.operation.name"); v.AsString() == "poll" {
				polls += int(s.count)
			}
		}
		if polls != 1 {
			t.Errorf("%d polls measured, want 1", polls)
		}
	}, WithReceiveSpans(true))
}

// A hook whose propagator carries nothing says so, once.
func TestNoPropagatorIsTold(t *testing.T) {
	c := newTelemetry(t, WithPropagators(noFields{}))
	var log bytes.Buffer
	m := kafka.New(&cluster{}, kafka.WithHook(c.hook), kafka.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "kafka.test:9092"})
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, p.Send(t.Context(), "orders", nil, nil))
	}
	require.NoError(t, m.Shutdown(t.Context()))
	if n := strings.Count(log.String(), "propagator has no fields"); n != 1 || len(c.ended("send orders")) != 2 {
		t.Errorf("told %d times:\n%s", n, &log)
	}
}

// Errors of handlers have the names of their types, never their texts.
func TestErrorTypes(t *testing.T) {
	h := New()
	for _, test := range []struct {
		err  error
		want string
	}{
		{context.Canceled, "canceled"},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), "timeout"},
		{kafka.ErrClosed, "client_closed"},
		{kafka.ErrNotEnabled, "not_enabled"},
		{fmt.Errorf("%w: %w", kafka.ErrUnknownOutcome, context.Canceled), "canceled"},
		{kafka.ErrUnknownOutcome, "unknown_outcome"},
		{&driver.Error{Code: "NOT_LEADER_OR_FOLLOWER", Kind: kafka.ErrUnknownOutcome}, "NOT_LEADER_OR_FOLLOWER"},
		{&kafka.PanicError{}, "panic"},
		{errors.New("secret"), "*errors.errorString"},
		{typed("has blanks"), otherError},
		{typed(""), otherError},
		{typed(strings.Repeat("N", 128)), strings.Repeat("N", 128)},
		{typed(strings.Repeat("N", 129)), otherError},
		{panicking{}, otherError},
		{typed("\n"), otherError},
	} {
		if got := h.errorType(test.err); got != test.want {
			t.Errorf("%v has type %q, want %q", test.err, got, test.want)
		}
	}
}

type typed string

func (e typed) Error() string     { return "typed" }
func (e typed) ErrorType() string { return string(e) }

// panicking is an error whose methods do.
type panicking struct{}

func (panicking) Error() string     { panic("Error") }
func (panicking) ErrorType() string { panic("ErrorType") }

func TestDescriptions(t *testing.T) {
	for _, test := range []struct {
		err  error
		want string
	}{
		{errors.New("text"), "text"},
		{errors.New("\xff"), "\uFFFD"},
		{errors.New(strings.Repeat("a", 2000)), strings.Repeat("a", 1024)},
		{errors.New(strings.Repeat("a", 1023) + "é"), strings.Repeat("a", 1023)},
		{panicking{}, "otelkafka.panicking, whose Error panicked"},
	} {
		if got := describe(test.err); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

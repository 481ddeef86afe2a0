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

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// handled sends messages and waits until they are handled and recorded.
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
		assert.Len(t, r.recorder.Started(), 1, "no other span by default, but %q", r.names())
		s := r.one("process orders")
		assert.Equal(t, trace.SpanKindConsumer, s.SpanKind())
		assert.Equal(t, codes.Unset, s.Status().Code)
		assert.Equal(t, sent.SpanID(), s.Parent().SpanID())
		assert.True(t, s.Parent().IsRemote())
		wantLinks(t, s, sent)
		assert.True(t, s.Links()[0].SpanContext.IsRemote())
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
	assert.Equal(t, ambient.SpanContext().SpanID(), s.Parent().SpanID())
	wantLinks(t, s, sent)
	assert.Equal(t, s.SpanContext().SpanID(), trace.SpanContextFromContext(inside).SpanID())
}

func TestA21_ParentNone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(done)
		hs, sent := remoteHeaders(1, true)
		r.handled(with(hs))
		s := r.one("process orders")
		assert.False(t, s.Parent().IsValid())
		assert.NotEqual(t, sent.TraceID(), s.SpanContext().TraceID())
		wantLinks(t, s, sent)
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
		var want []trace.SpanID
		if test.parent {
			want = []trace.SpanID{sent.SpanID()}
		}
		assert.Equal(t, test.parent, s.Parent().SpanID() == sent.SpanID(), "%s: the sender is the parent", test.name)
		assert.Equal(t, test.parent, s.Parent().IsValid(), "%s: a parent", test.name)
		assert.Equal(t, want, linked(s), "%s: links", test.name)
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
		assert.Equal(t, map[string]string{"a": "1", "b": "2"}, seen)
		assert.Len(t, r.one("process orders").Links(), 1)
	})
	// A batch has the baggage of none of its records. Context gives a record's own.
	c := newTelemetry(t)
	m := &kafka.Message{Topic: "orders", Headers: []kafka.Header{{Key: "baggage", Value: []byte("a=1")}}}
	inside, end := c.hook.StartProcess(t.Context(), m, m)
	assert.Zero(t, baggage.FromContext(inside).Len(), "members of a batch")
	assert.Equal(t, "1", baggage.FromContext(c.hook.Context(inside, m)).Member("a").Value())
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
		assert.Equal(t, process.SpanContext().SpanID(), inHandler.SpanID(), "the handler's context")
		assert.Equal(t, first.SpanContext().SpanID(), process.Parent().SpanID())
		assert.Equal(t, process.SpanContext().SpanID(), second.Parent().SpanID())
		assert.Equal(t, first.SpanContext().TraceID(), second.SpanContext().TraceID())
	})
}

// A25: a record that is revoked before its turn has no span.
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
		// A30: an interrupted record is no error.
		s := r.one("process orders")
		assert.Equal(t, codes.Unset, s.Status().Code)
		assert.Equal(t, "interrupted", textOf(s, outcomeKey))
		for _, m := range r.series("messaging.process.duration") {
			assert.False(t, m.attrs.HasValue("error.type"), "measured as an error: %v", m.attrs)
		}
		assert.Equal(t, 1.0, r.total("messaging.client.consumed.messages"))
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
			// A user may begin a span per record: A20 inside a batch.
			_, end := r.hook.StartProcess(ctx, ms[0])
			end(nil)
			return nil
		}})
		r.WaitCommitted("orders")
		synctest.Wait()
		s := r.ended("process orders")
		require.Len(t, s, 2, "the record's and the batch's")
		batch, record := s[1], s[0]
		assert.Equal(t, int64(200), numberOf(batch, "messaging.batch.message_count"))
		assert.False(t, batch.Parent().IsValid())
		require.Len(t, batch.Links(), 128)
		link := batch.Links()[0]
		assert.Equal(t, r.hook.spans.propagate().remote(first).SpanID(), link.SpanContext.SpanID(), "the first links are kept")
		assert.ElementsMatch(t, []attribute.KeyValue{
			attribute.Int64("messaging.kafka.offset", 0), attribute.String("messaging.kafka.message.key", "k"),
		}, link.Attributes)
		for _, key := range []attribute.Key{"messaging.kafka.offset", "messaging.kafka.message.key"} {
			wantNo(t, batch, key)
		}
		assert.Equal(t, batch.SpanContext().SpanID(), record.Parent().SpanID())
		assert.Equal(t, 200.0, r.total("messaging.client.consumed.messages"), "the record with its own span counts once")
		r.wantCounts("messaging.process.duration", 1)
	})
}

// A16: a batch of one has a message count, a single record has none.
func TestA16_MessageCount(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.Start(&batcher{orders(), func(context.Context, []*kafka.Message) error { return nil }})
		r.handled(with(nil))
		assert.Equal(t, int64(1), numberOf(r.one("process orders"), "messaging.batch.message_count"))
	})
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(done)
		r.handled(with(nil))
		wantNo(t, r.one("process orders"), "messaging.batch.message_count")
	})
}

func TestA17_RecordsOfSeveralTopics(t *testing.T) {
	c := newTelemetry(t)
	a, _ := remoteHeaders(1, true)
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "a", Headers: a}, &kafka.Message{Topic: "b", Partition: 1})
	end(nil)
	// The same for several partitions of one topic. Records of a user's own loop are counted.
	_, end = c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "a", Partition: 1}, &kafka.Message{Topic: "a", Partition: 2})
	end(nil)
	wantNo(t, c.one("process a"), "messaging.destination.partition.id")
	assert.Equal(t, 4.0, c.total("messaging.client.consumed.messages"))
	assert.Len(t, c.series("messaging.process.duration"), 2)
	s := c.one("process")
	for _, key := range []attribute.Key{"messaging.destination.name", "messaging.destination.partition.id"} {
		wantNo(t, s, key)
	}
}

// A27: a delivery has one span, whatever the number of attempts. Attempts have spans on request.
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
		assert.Equal(t, codes.Unset, s.Status().Code)
		assert.Equal(t, int64(3), numberOf(s, attemptsKey))
		assert.Empty(t, s.Events())
		took := s.EndTime().Sub(s.StartTime())
		assert.Equal(t, time.Since(began), took)
		assert.GreaterOrEqual(t, took, 2*time.Second, "both backoffs")
		attempts := r.ended("attempt orders")
		require.Len(t, attempts, 3)
		for i, a := range attempts {
			assert.Equal(t, int64(i+1), numberOf(a, attemptKey), "attempt %d", i+1)
			assert.Equal(t, i < 2, a.Status().Code == codes.Error, "attempt %d: failed, status %v", i+1, a.Status())
			assert.Equal(t, trace.SpanKindInternal, a.SpanKind(), "attempt %d", i+1)
			assert.Equal(t, s.SpanContext().SpanID(), a.Parent().SpanID(), "attempt %d: parent", i+1)
		}
		assert.Equal(t, 2.0, r.total("kafka.consumer.retries"))
		r.wantCounts("messaging.process.duration", 1)
		assert.Equal(t, 1.0, r.total("messaging.client.consumed.messages"))
	}, WithAttemptSpans(true))
}

func TestA29_PanicIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(func(context.Context, *kafka.Message) error { panic("no") })
		r.failTenTimes(r.Kafka.SendMessage(with(nil)))
		synctest.Wait()
		s := r.one("process orders")
		assert.Equal(t, codes.Error, s.Status().Code)
		assert.Equal(t, "panic", textOf(s, "error.type"))
		assert.Equal(t, int64(10), numberOf(s, attemptsKey))
		r.balanced()
	})
}

// failTenTimes waits for the tenth failure of a record and leaves the record to
// its partition's next owner.
func (r *rig) failTenTimes(m *kafka.Message) {
	r.WaitFailed(m, 10)
	r.SetConsumerSwitch("orders", false)
	r.WaitState("orders", kafka.StateOff)
}

// A31: no commit's span is the child of a process span. By default a commit that
// a revocation waits for has a span, a commit in the background has none. All are
// measured.
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
		assert.Len(t, spans, test.want(measured), test.name)
		assert.GreaterOrEqual(t, measured, 2, "%s: measured commits", test.name)
		for _, s := range spans {
			assert.Equal(t, trace.SpanKindClient, s.SpanKind(), test.name)
			assert.False(t, s.Parent().IsValid(), "%s: a parent", test.name)
			assert.Equal(t, "settle", textOf(s, "messaging.operation.type"), test.name)
		}
		if len(spans) > 0 {
			offset := numberOf(spans[len(spans)-1], "messaging.kafka.offset")
			assert.Equal(t, int64(2), offset, "%s: the last commit has the last record's offset", test.name)
		}
	}
}

// A32, A35: waiting for records makes no span and no measurement. A received
// record is counted when it is processed.
func TestA32_A35_Receive(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.consume(done)
		time.Sleep(time.Hour)
		assert.Empty(t, r.names(), "spans of an idle consumer")
		hs, sent := remoteHeaders(1, true)
		r.handled(with(hs))
		s := r.one("poll orders")
		assert.Equal(t, trace.SpanKindClient, s.SpanKind())
		assert.False(t, s.Parent().IsValid())
		wantLinks(t, s, sent)
		assert.Equal(t, int64(1), numberOf(s, "messaging.batch.message_count"))
		assert.Equal(t, 1.0, r.total("messaging.client.consumed.messages"))
		require.NoError(t, r.SetConsumerSwitch("orders", false)) // ends a wait without a record
		r.WaitState("orders", kafka.StateOff)
		r.one("poll orders")
		polls := 0
		for _, s := range r.series("messaging.client.operation.duration") {
			if v, _ := s.attrs.Value("messaging.operation.name"); v.AsString() == "poll" {
				polls += int(s.count)
			}
		}
		assert.Equal(t, 1, polls, "measured polls")
	}, WithReceiveSpans(true))
}

// A hook whose propagator has no fields logs that once.
func TestMissingPropagatorIsLoggedOnce(t *testing.T) {
	c := newTelemetry(t, WithPropagators(noFields{}))
	var log bytes.Buffer
	m := kafka.New(&cluster{}, kafka.WithHook(c.hook), kafka.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "kafka.test:9092"})
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, p.Send(t.Context(), "orders", nil, nil))
	}
	require.NoError(t, m.Shutdown(t.Context()))
	assert.Equal(t, 1, strings.Count(log.String(), "propagator has no fields"), "log:\n%s", &log)
	assert.Len(t, c.ended("send orders"), 2)
}

// An error.type is a code or the name of a type, never an error's text.
func TestErrorTypes(t *testing.T) {
	types := newErrorTypes()
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
		assert.Equal(t, test.want, types.of(test.err), "%T %+q", test.err, test.want)
	}
}

type typed string

func (e typed) Error() string     { return "typed" }
func (e typed) ErrorType() string { return string(e) }

// panicking is an error whose methods panic.
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
		assert.Equal(t, test.want, describe(test.err))
	}
}

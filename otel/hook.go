package otelkafka

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/aarontianqx/gopkg/kafka"
)

const (
	// ScopeName is the instrumentation scope of everything that is emitted.
	ScopeName = "github.com/aarontianqx/gopkg/otel"

	// Version is the version of that scope.
	Version = "0.1.0"
)

// A Hook is the kafka.Hook that traces and measures. One may serve several
// managers. Make it with New.
type Hook struct {
	cfg     config
	tracer  trace.Tracer // nil: tracing is off
	metrics *instruments
	gauges  *gauges

	propagate func() *propagator // chosen at first use
	lines     *cache[lineKey, *line]
	topics    *names
	errors    *names
	spans     sync.Pool // of *span
	warned    sync.Once
	log       atomic.Pointer[slog.Logger] // of the latest manager
}

var _ kafka.Hook = (*Hook)(nil)

// New returns a hook for kafka.WithHook.
func New(opts ...Option) *Hook {
	cfg := newConfig(opts)
	h := &Hook{
		cfg:    cfg,
		lines:  newCache[lineKey, *line](4096),
		topics: newNames(1000),
		errors: newNames(100),
	}
	tracer := cfg.tracers.Tracer(ScopeName, trace.WithInstrumentationVersion(Version), trace.WithSchemaURL(semconv.SchemaURL))
	if _, off := tracer.(noop.Tracer); !off {
		h.tracer = tracer
	}
	meter := cfg.meters.Meter(ScopeName, metric.WithInstrumentationVersion(Version), metric.WithSchemaURL(semconv.SchemaURL))
	h.metrics = newInstruments(meter)
	if !cfg.withoutLag {
		h.gauges = newGauges(h, meter)
	}
	h.propagate = sync.OnceValue(func() *propagator { return newPropagator(cfg.propagator) })
	h.spans.New = func() any { return &span{h: h} }
	return h
}

// Attach lets the gauges show the manager until it has shut down.
func (h *Hook) Attach(v kafka.View) (detach func()) {
	h.log.Store(v.Logger())
	if h.gauges == nil {
		return nil
	}
	return h.gauges.attach(v)
}

// Start begins the spans and measurements of an operation.
func (h *Hook) Start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	switch op.Kind {
	case kafka.OpSend:
		return h.startSend(ctx, op)
	case kafka.OpProcess, kafka.OpProcessBatch:
		return h.startProcess(ctx, op)
	case kafka.OpAttempt:
		return h.startAttempt(ctx, op)
	case kafka.OpCommit:
		return h.startCommit(ctx, op)
	case kafka.OpReceive:
		if h.cfg.receiveSpans && h.tracer != nil {
			return ctx, h
		}
	}
	return ctx, nil
}

// End ends them. The token is the operation's span, or h where there is none.
func (h *Hook) End(t kafka.OpToken, op *kafka.Op) {
	s, _ := t.(*span)
	switch op.Kind {
	case kafka.OpSend:
		h.endSend(s, op)
	case kafka.OpProcess, kafka.OpProcessBatch:
		h.endProcess(s, op)
	case kafka.OpAttempt:
		s.end(time.Now(), op.Err, h.typeOf(op.Err))
	case kafka.OpCommit:
		h.endCommit(s, op)
	case kafka.OpReceive:
		h.receive(op)
	}
}

// decides reports whether a span must be started to know whether it is
// recorded. Otherwise what is in ctx is passed on as it is.
func (h *Hook) decides(ctx context.Context) bool {
	if h.tracer == nil || !h.cfg.passthrough {
		return h.tracer != nil
	}
	parent := trace.SpanFromContext(ctx)
	sc := parent.SpanContext()
	return !sc.IsValid() || sc.IsSampled() || parent.IsRecording()
}

func (h *Hook) typeOf(err error) string {
	if err == nil {
		return ""
	}
	return h.errorType(err)
}

// A span is one span under way, and the memory that it takes to make one.
type span struct {
	trace.Span
	h     *Hook
	ctx   context.Context
	attrs []attribute.KeyValue
	links []trace.Link
	opts  []trace.SpanStartOption
	endAt [1]trace.SpanEndOption
}

// newSpan returns a span that begin is to start. What describes it is appended
// to links and opts.
func (h *Hook) newSpan() *span { return h.spans.Get().(*span) }

// begin starts s. Its duration is that of the metrics, so both have one clock.
func (s *span) begin(ctx context.Context, name string, at time.Time) context.Context {
	s.opts = append(s.opts, trace.WithTimestamp(at))
	if len(s.links) > 0 {
		s.opts = append(s.opts, trace.WithLinks(s.links...))
	}
	s.ctx, s.Span = s.h.tracer.Start(ctx, name, s.opts...)
	if s.IsRecording() && len(s.h.propagate().fields) == 0 {
		s.h.warned.Do(s.h.warnNoPropagator)
	}
	return s.ctx
}

// warnNoPropagator warns that spans are recorded and no header is written.
func (h *Hook) warnNoPropagator() {
	if log := h.log.Load(); log != nil {
		log.Warn("otelkafka: the propagator has no fields, so that no trace crosses a topic")
	}
}

// link adds a link to sc, if there is one.
func (s *span) link(sc trace.SpanContext, attrs []attribute.KeyValue) {
	if sc.IsValid() {
		s.links = append(s.links, trace.Link{SpanContext: sc, Attributes: attrs})
	}
}

// end ends s with the attributes that have been collected, and with err and
// its type if it is not nil. s is used again.
func (s *span) end(at time.Time, err error, errType string) {
	if s.IsRecording() {
		if err != nil {
			s.SetStatus(codes.Error, describe(err))
			s.attrs = append(s.attrs, semconv.ErrorTypeKey.String(errType))
		}
		if len(s.attrs) > 0 {
			s.SetAttributes(s.attrs...)
		}
	}
	s.endAt[0] = trace.WithTimestamp(at)
	s.End(s.endAt[:]...)
	clear(s.attrs)
	clear(s.links)
	clear(s.opts)
	s.h.spans.Put(s.emptied())
}

func (s *span) emptied() *span {
	*s = span{h: s.h, attrs: s.attrs[:0], links: s.links[:0], opts: s.opts[:0]}
	return s
}

package otelkafka

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// A spanner makes spans, and carries their contexts.
type spanner struct {
	tracer      trace.Tracer       // nil: tracing is off
	propagate   func() *propagator // chosen at first use
	passthrough bool
	pool        sync.Pool // of *span
	warned      sync.Once
	log         atomic.Pointer[slog.Logger] // of the latest manager
}

func newSpanner(cfg *config) *spanner {
	p := &spanner{
		propagate:   sync.OnceValue(func() *propagator { return newPropagator(cfg.propagator) }),
		passthrough: cfg.passthrough,
	}
	p.pool.New = func() any { return &span{of: p} }
	tracer := cfg.tracers.Tracer(ScopeName, trace.WithInstrumentationVersion(Version), trace.WithSchemaURL(semconv.SchemaURL))
	if _, off := tracer.(noop.Tracer); !off {
		p.tracer = tracer
	}
	return p
}

// decides reports whether a span must be started to know whether it is
// recorded. Otherwise what is in ctx is passed on as it is.
func (p *spanner) decides(ctx context.Context) bool {
	if p.tracer == nil || !p.passthrough {
		return p.tracer != nil
	}
	parent := trace.SpanFromContext(ctx)
	sc := parent.SpanContext()
	return !sc.IsValid() || sc.IsSampled() || parent.IsRecording()
}

// newSpan returns a span that begin is to start. What describes it is appended
// to links and opts.
func (p *spanner) newSpan(opts []trace.SpanStartOption) *span {
	s := p.pool.Get().(*span)
	s.opts = append(s.opts, opts...)
	return s
}

// warnNoPropagator warns that spans are recorded and no header is written.
func (p *spanner) warnNoPropagator() {
	if log := p.log.Load(); log != nil {
		log.Warn("otelkafka: the propagator has no fields, so that no trace crosses a topic")
	}
}

// A span is one span under way, and the memory that it takes to make one.
type span struct {
	trace.Span
	of    *spanner
	ctx   context.Context
	attrs []attribute.KeyValue
	links []trace.Link
	opts  []trace.SpanStartOption
	endAt [1]trace.SpanEndOption
}

// context returns the context of a span, for exemplars, or an empty one.
func (s *span) context() context.Context {
	if s == nil {
		return context.Background()
	}
	return s.ctx
}

// begin starts s. Its duration is that of the metrics, so both have one clock.
func (s *span) begin(ctx context.Context, name string, at time.Time) context.Context {
	s.opts = append(s.opts, trace.WithTimestamp(at))
	if len(s.links) > 0 {
		s.opts = append(s.opts, trace.WithLinks(s.links...))
	}
	s.ctx, s.Span = s.of.tracer.Start(ctx, name, s.opts...)
	if s.IsRecording() && len(s.of.propagate().fields) == 0 {
		s.of.warned.Do(s.of.warnNoPropagator)
	}
	return s.ctx
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
	s.of.pool.Put(s.emptied())
}

func (s *span) emptied() *span {
	*s = span{of: s.of, attrs: s.attrs[:0], links: s.links[:0], opts: s.opts[:0]}
	return s
}

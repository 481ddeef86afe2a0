package otelkafka

import (
	"context"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0"

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
	sends      sends
	deliveries deliveries
	commits    commits
	events     events
	spans      *spanner
	gauges     *gauges // nil: left out
}

var _ kafka.Hook = (*Hook)(nil)

// New returns a hook for kafka.WithHook.
func New(opts ...Option) *Hook {
	cfg := newConfig(opts)
	meter := cfg.meters.Meter(ScopeName, metric.WithInstrumentationVersion(Version), metric.WithSchemaURL(semconv.SchemaURL))
	k := newKit(&cfg, meter)
	describe := newDescriber(&cfg)
	h := &Hook{
		sends:      sends{k, describe, cfg.existing},
		deliveries: newDeliveries(k, describe, &cfg),
		commits:    commits{k, cfg.commitSpans},
		events:     events{k, cfg.attributes},
		spans:      k.spans,
	}
	if !cfg.withoutLag {
		h.gauges = newGauges(k.topics, cfg.attributes, meter)
	}
	return h
}

// A kit is what operations of every kind need. It is also the token of an
// operation that is measured and has no span.
type kit struct {
	spans   *spanner
	topics  *topics
	lines   *lines
	errors  *errorTypes
	metrics *instruments
}

func newKit(cfg *config, meter metric.Meter) *kit {
	t := newTopics(cfg.template)
	return &kit{newSpanner(cfg), t, newLines(cfg, t), newErrorTypes(), newInstruments(meter)}
}

// measured is the token of an operation without a span.
func (k *kit) measured() kafka.OpToken {
	if k.metrics.on() {
		return k
	}
	return nil
}

// Attach lets the gauges show the manager until it has shut down.
func (h *Hook) Attach(v kafka.View) (detach func()) {
	h.spans.log.Store(v.Logger())
	if h.gauges == nil {
		return nil
	}
	return h.gauges.attach(v)
}

// Start begins the spans and measurements of an operation.
func (h *Hook) Start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	switch op.Kind {
	case kafka.OpSend:
		return h.sends.start(ctx, op)
	case kafka.OpProcess, kafka.OpProcessBatch:
		return h.deliveries.start(ctx, op)
	case kafka.OpAttempt:
		return h.deliveries.startAttempt(ctx, op)
	case kafka.OpCommit:
		return h.commits.start(ctx, op)
	case kafka.OpReceive:
		return ctx, h.deliveries.startReceive()
	}
	return ctx, nil
}

// End ends them. The token is the operation's span, or the kit if there is none.
func (h *Hook) End(t kafka.OpToken, op *kafka.Op) {
	s, _ := t.(*span)
	switch op.Kind {
	case kafka.OpSend:
		h.sends.end(s, op)
	case kafka.OpProcess, kafka.OpProcessBatch:
		h.deliveries.end(s, op)
	case kafka.OpAttempt:
		h.deliveries.endAttempt(s, op)
	case kafka.OpCommit:
		h.commits.end(s, op)
	case kafka.OpReceive:
		h.deliveries.endReceive(op)
	}
}

// Event measures rebalances and counts retries, dead letters and skipped records.
func (h *Hook) Event(e kafka.Event) { h.events.on(e) }

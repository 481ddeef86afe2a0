package otelkafka

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// Our own attributes, of consumers.
const (
	attemptKey  = attribute.Key("kafka.consumer.attempt")
	attemptsKey = attribute.Key("kafka.consumer.attempts")
	outcomeKey  = attribute.Key("kafka.consumer.outcome")
)

// startProcess starts the span of one delivery. Records are counted here, once
// for each delivery, however often they are tried.
func (h *Hook) startProcess(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	l := h.lineOf(op)
	h.metrics.delivered(op.Start, op.Records, l)
	s, ctx := h.process(ctx, l, op.Start, delivery{op.Topic, op.Partition, op.Records, op.Kind == kafka.OpProcessBatch})
	if s == nil {
		return ctx, h.measured()
	}
	return ctx, s
}

func (h *Hook) endProcess(s *span, op *kafka.Op) {
	end := time.Now()
	failure := h.typeOf(op.Err)
	l := h.line(lineKey{op.Kind, op.Client, op.Topic, op.Partition, failure})
	h.metrics.process.Record(s.context(), end.Sub(op.Start).Seconds(), l.duration...)
	if s == nil {
		return
	}
	if s.IsRecording() {
		s.attrs = append(s.attrs, attemptsKey.Int(op.Attempt), outcomeKey.String(outcomeName(op.Outcome)))
	}
	s.end(end, op.Err, failure)
}

func outcomeName(o kafka.Outcome) string {
	switch o {
	case kafka.OutcomeFailed:
		return "retry"
	case kafka.OutcomeInterrupted:
		return "interrupted"
	case kafka.OutcomeLate:
		return "late"
	}
	return "ack"
}

// A delivery is what a "process" span is about.
type delivery struct {
	topic     string
	partition int32
	records   []kafka.Record
	batch     bool
}

// process starts the span of a delivery, if there is one to start, and returns
// the context for the handler.
func (h *Hook) process(ctx context.Context, l *line, at time.Time, d delivery) (*span, context.Context) {
	if d.batch {
		return h.processBatch(ctx, l, at, d)
	}
	r := &d.records[0]
	ambient := trace.SpanFromContext(ctx)
	inside, created := h.propagate().extract(ctx, r.Headers)
	inherits, fromProducer := true, false // from what is in the context
	switch {
	case ambient.SpanContext().IsValid():
		if created.IsValid() {
			inside = trace.ContextWithSpan(inside, ambient)
		}
	case h.cfg.parent == ParentNone:
		inherits = false
	default:
		fromProducer = created.IsValid()
	}
	if inherits && !h.decides(inside) || h.tracer == nil {
		return nil, inside
	}
	s := h.newSpan()
	s.opts = append(s.opts, l.start...)
	if !inherits {
		s.opts = append(s.opts, trace.WithNewRoot())
	}
	if !fromProducer {
		s.link(created, nil)
	}
	inside = s.begin(inside, l.name, at)
	if s.IsRecording() {
		if fromProducer {
			// Samplers have seen it as the parent. A link that is added afterwards takes
			// two allocations less.
			s.AddLink(trace.Link{SpanContext: created})
		}
		s.attrs = append(s.attrs, semconv.MessagingKafkaOffsetKey.Int64(r.Offset))
		s.attrs = h.describeRecord(s.attrs, d.topic, d.partition, r)
	}
	return s, inside
}

// processBatch is process for several records, or for a batch of one. No
// record's context is the parent, and their baggage is not merged: a handler
// that wants a record's own takes Context or StartProcess.
func (h *Hook) processBatch(ctx context.Context, l *line, at time.Time, d delivery) (*span, context.Context) {
	if !h.decides(ctx) {
		return nil, ctx
	}
	s := h.newSpan()
	s.opts = append(s.opts, l.start...)
	h.linkAll(s, d)
	s.opts = append(s.opts, trace.WithAttributes(semconv.MessagingBatchMessageCount(len(d.records))))
	return s, s.begin(ctx, l.name, at)
}

// linkAll links s to the creation contexts of the records, each with what
// distinguishes it.
func (h *Hook) linkAll(s *span, d delivery) {
	for i := range d.records {
		if len(s.links) == h.cfg.maxLinks {
			return
		}
		r := &d.records[i]
		if sc := h.propagate().remote(r.Headers); sc.IsValid() {
			attrs := []attribute.KeyValue{semconv.MessagingKafkaOffsetKey.Int64(r.Offset)}
			s.link(sc, h.appendKey(attrs, d.topic, d.partition, r))
		}
	}
}

// startAttempt starts the span of one call of the handler, inside a recorded
// delivery.
func (h *Hook) startAttempt(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	if !h.cfg.attemptSpans || h.tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	l := h.lineOf(op)
	s := h.newSpan()
	s.opts = append(append(s.opts, l.start...), trace.WithAttributes(attemptKey.Int(op.Attempt)))
	return s.begin(ctx, l.name, op.Start), s
}

// receive makes the span of a wait that brought records.
func (h *Hook) receive(op *kafka.Op) {
	if len(op.Records) == 0 {
		return
	}
	end := time.Now()
	l := h.lineOf(op)
	s := h.newSpan()
	s.opts = append(s.opts, l.start...)
	h.linkAll(s, delivery{op.Topic, op.Partition, op.Records, true})
	s.opts = append(s.opts, trace.WithAttributes(semconv.MessagingBatchMessageCount(len(op.Records))))
	s.begin(context.Background(), l.name, op.Start)
	h.metrics.operation.Record(s.ctx, end.Sub(op.Start).Seconds(), l.duration...)
	s.end(end, nil, "")
}

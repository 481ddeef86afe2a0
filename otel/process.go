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

// deliveries traces and measures what is handed to handlers.
type deliveries struct {
	*kit
	describe     *describer
	parent       ProcessParent
	maxLinks     int
	attemptSpans bool
	receiveSpans bool
}

func newDeliveries(k *kit, d *describer, cfg *config) deliveries {
	return deliveries{k, d, cfg.parent, cfg.maxLinks, cfg.attemptSpans, cfg.receiveSpans}
}

// start starts the span of one delivery. Records are counted here, once
// for each delivery, however often they are tried.
func (o *deliveries) start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	l := o.lines.of(op)
	o.metrics.delivered(op.Start, op.Records, l)
	s, ctx := o.process(ctx, l, op.Start, delivery{op.Topic, op.Partition, op.Records, op.Kind == kafka.OpProcessBatch})
	if s == nil {
		return ctx, o.measured()
	}
	return ctx, s
}

func (o *deliveries) end(s *span, op *kafka.Op) {
	end := time.Now()
	failure := o.errors.of(op.Err)
	l := o.lines.get(lineKey{op.Kind, op.Client, op.Topic, op.Partition, failure})
	o.metrics.process.Record(s.context(), end.Sub(op.Start).Seconds(), l.duration...)
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
	case kafka.OutcomeForwarded:
		return "dead_letter"
	case kafka.OutcomeSkipped:
		return "skip"
	case kafka.OutcomeRetryTopic:
		return "retry_topic"
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
func (o *deliveries) process(ctx context.Context, l *line, at time.Time, d delivery) (*span, context.Context) {
	if d.batch {
		return o.processBatch(ctx, l, at, d)
	}
	r := &d.records[0]
	ambient := trace.SpanFromContext(ctx)
	inside, created := o.spans.propagate().extract(ctx, r.Headers)
	inherits, fromProducer := true, false // from what is in the context
	switch {
	case ambient.SpanContext().IsValid():
		if created.IsValid() {
			inside = trace.ContextWithSpan(inside, ambient)
		}
	case o.parent == ParentNone:
		inherits = false
	default:
		fromProducer = created.IsValid()
	}
	if inherits && !o.spans.decides(inside) || o.spans.tracer == nil {
		return nil, inside
	}
	s := o.spans.newSpan(l.start)
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
		s.attrs = o.describe.record(s.attrs, d.topic, d.partition, r)
	}
	return s, inside
}

// processBatch is process for several records, or for a batch of one. No
// record's context is the parent, and their baggage is not merged: a handler
// that wants a record's own takes Context or StartProcess.
func (o *deliveries) processBatch(ctx context.Context, l *line, at time.Time, d delivery) (*span, context.Context) {
	if !o.spans.decides(ctx) {
		return nil, ctx
	}
	s := o.spans.newSpan(l.start)
	o.linkAll(s, d)
	s.opts = append(s.opts, trace.WithAttributes(semconv.MessagingBatchMessageCount(len(d.records))))
	return s, s.begin(ctx, l.name, at)
}

// linkAll links s to the creation contexts of the records, each with what
// distinguishes it.
func (o *deliveries) linkAll(s *span, d delivery) {
	for i := range d.records {
		if len(s.links) == o.maxLinks {
			return
		}
		r := &d.records[i]
		if sc := o.spans.propagate().remote(r.Headers); sc.IsValid() {
			attrs := []attribute.KeyValue{semconv.MessagingKafkaOffsetKey.Int64(r.Offset)}
			s.link(sc, o.describe.appendKey(attrs, d.topic, d.partition, r))
		}
	}
}

// startAttempt starts the span of one call of the handler, inside a recorded
// delivery.
func (o *deliveries) startAttempt(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	if !o.attemptSpans || o.spans.tracer == nil || !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, nil
	}
	l := o.lines.of(op)
	s := o.spans.newSpan(l.start)
	s.opts = append(s.opts, trace.WithAttributes(attemptKey.Int(op.Attempt)))
	return s.begin(ctx, l.name, op.Start), s
}

func (o *deliveries) endAttempt(s *span, op *kafka.Op) {
	s.end(time.Now(), op.Err, o.errors.of(op.Err))
}

// startReceive returns the token of a wait for records. Its span is made when
// the wait has ended.
func (o *deliveries) startReceive() kafka.OpToken {
	if o.receiveSpans && o.spans.tracer != nil {
		return o.kit
	}
	return nil
}

// endReceive makes the span of a wait that brought records.
func (o *deliveries) endReceive(op *kafka.Op) {
	if len(op.Records) == 0 {
		return
	}
	end := time.Now()
	l := o.lines.of(op)
	s := o.spans.newSpan(l.start)
	o.linkAll(s, delivery{op.Topic, op.Partition, op.Records, true})
	s.opts = append(s.opts, trace.WithAttributes(semconv.MessagingBatchMessageCount(len(op.Records))))
	s.begin(context.Background(), l.name, op.Start)
	o.metrics.operation.Record(s.ctx, end.Sub(op.Start).Seconds(), l.duration...)
	s.end(end, nil, "")
}

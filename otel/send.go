package otelkafka

import (
	"context"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// sends traces and measures sends.
type sends struct {
	*kit
	describe *describer
	existing ExistingContext
}

// start starts the span of a send, whose context is the message's creation
// context and travels in its headers.
func (o *sends) start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	p := o.spans.propagate()
	var kept trace.SpanContext
	if op.Origin == nil && o.existing == KeepContext {
		kept = p.remote(op.Headers())
	}
	if !o.spans.decides(ctx) {
		if !kept.IsValid() {
			p.inject(ctx, op)
		}
		return ctx, o.measured()
	}
	l := o.lines.of(op)
	opts := l.start
	if kept.IsValid() {
		opts = l.relay
	}
	s := o.spans.newSpan(opts)
	s.link(kept, nil)
	if op.Origin != nil {
		s.link(p.remote(op.Origin.Headers), nil)
	}
	ctx = s.begin(ctx, l.name, op.Start)
	if !kept.IsValid() {
		p.inject(ctx, op)
	}
	if s.IsRecording() {
		s.attrs = o.describe.record(s.attrs, op.Topic, op.Partition, &op.Records[0])
	}
	return ctx, s
}

// end ends it with the message's outcome. Of a message that is not in the log
// spans name the partition that the caller has asked for, and metrics none: it need
// not exist.
func (o *sends) end(s *span, op *kafka.Op) {
	end := time.Now()
	failure := o.errors.of(op.Err)
	partition := op.Partition
	if op.Err != nil {
		partition = -1
	}
	l := o.lines.get(lineKey{kafka.OpSend, op.Client, op.Topic, partition, failure})
	o.metrics.operation.Record(s.context(), end.Sub(op.Start).Seconds(), l.duration...)
	if op.Sent {
		o.metrics.sent.Add(s.context(), 1, l.count...)
	}
	if s == nil {
		return
	}
	if s.IsRecording() {
		if op.Partition >= 0 {
			s.attrs = append(s.attrs, semconv.MessagingDestinationPartitionID(strconv.Itoa(int(op.Partition))))
		}
		if op.Offset >= 0 {
			s.attrs = append(s.attrs, semconv.MessagingKafkaOffsetKey.Int64(op.Offset))
		}
	}
	s.end(end, op.Err, failure)
}

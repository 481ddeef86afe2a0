package otelkafka

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
)

// commits traces and measures commits.
type commits struct {
	*kit
	shown CommitSpans
}

// start starts the span of a commit, if commits of its kind have one.
func (o *commits) start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	shown := o.shown == CommitSpansAll || o.shown == CommitSpansAwaited && op.Awaited
	if !shown || !o.spans.decides(ctx) {
		return ctx, o.measured()
	}
	l := o.lines.of(op)
	s := o.spans.newSpan(l.start)
	ctx = s.begin(ctx, l.name, op.Start)
	if s.IsRecording() && len(op.Marks) == 1 {
		// The conventions name the last record that is done, not the position after it.
		s.attrs = append(s.attrs, semconv.MessagingKafkaOffsetKey.Int64(op.Marks[0].Offset-1))
	}
	return ctx, s
}

func (o *commits) end(s *span, op *kafka.Op) {
	end := time.Now()
	failure := o.errors.of(op.Err)
	l := o.lines.get(lineKey{kafka.OpCommit, op.Client, op.Topic, op.Partition, failure})
	o.metrics.operation.Record(s.context(), end.Sub(op.Start).Seconds(), l.duration...)
	if s != nil {
		s.end(end, op.Err, failure)
	}
}

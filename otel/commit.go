package otelkafka

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
)

// startCommit starts the span of a commit, if commits of its kind have one.
func (h *Hook) startCommit(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	shown := h.cfg.commitSpans == CommitSpansAll || h.cfg.commitSpans == CommitSpansAwaited && op.Awaited
	if !shown || !h.decides(ctx) {
		return ctx, h.measured()
	}
	l := h.lineOf(op)
	s := h.newSpan()
	s.opts = append(s.opts, l.start...)
	ctx = s.begin(ctx, l.name, op.Start)
	if s.IsRecording() && len(op.Marks) == 1 {
		// The conventions name the last record that is done, not the position after it.
		s.attrs = append(s.attrs, semconv.MessagingKafkaOffsetKey.Int64(op.Marks[0].Offset-1))
	}
	return ctx, s
}

func (h *Hook) endCommit(s *span, op *kafka.Op) {
	end := time.Now()
	failure := h.typeOf(op.Err)
	l := h.line(lineKey{kafka.OpCommit, op.Client, op.Topic, op.Partition, failure})
	h.metrics.operation.Record(s.context(), end.Sub(op.Start).Seconds(), l.duration...)
	if s != nil {
		s.end(end, op.Err, failure)
	}
}

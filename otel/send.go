package otelkafka

import (
	"context"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// startSend starts the span of a send, whose context is the message's creation
// context and travels in its headers.
func (h *Hook) startSend(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	p := h.propagate()
	var kept trace.SpanContext
	if op.Origin == nil && h.cfg.existing == KeepContext {
		kept = p.remote(op.Headers())
	}
	if !h.decides(ctx) {
		if !kept.IsValid() {
			p.inject(ctx, op)
		}
		return ctx, h.measured()
	}
	l := h.lineOf(op)
	s := h.newSpan()
	if kept.IsValid() {
		s.opts = append(s.opts, l.relay...)
		s.link(kept, nil)
	} else {
		s.opts = append(s.opts, l.start...)
	}
	if op.Origin != nil {
		s.link(p.remote(op.Origin.Headers), nil)
	}
	ctx = s.begin(ctx, l.name, op.Start)
	if !kept.IsValid() {
		p.inject(ctx, op)
	}
	if s.IsRecording() {
		s.attrs = h.describeRecord(s.attrs, op.Topic, op.Partition, &op.Records[0])
	}
	return ctx, s
}

// endSend ends it with the message's outcome. Of a message that is not in the log
// spans name the partition that the caller has asked for, and metrics none: it need
// not exist.
func (h *Hook) endSend(s *span, op *kafka.Op) {
	end := time.Now()
	failure := h.typeOf(op.Err)
	partition := op.Partition
	if op.Err != nil {
		partition = -1
	}
	l := h.line(lineKey{kafka.OpSend, op.Client, op.Topic, partition, failure})
	h.metrics.operation.Record(s.context(), end.Sub(op.Start).Seconds(), l.duration...)
	if op.Sent {
		h.metrics.sent.Add(s.context(), 1, l.count...)
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

// measured is the token of an operation without a span.
func (h *Hook) measured() kafka.OpToken {
	if h.metrics.on() {
		return h
	}
	return nil
}

// context returns the context of a span, for exemplars, or an empty one.
func (s *span) context() context.Context {
	if s == nil {
		return context.Background()
	}
	return s.ctx
}

// describeRecord appends what a span shows of one record. Its value is not
// among it.
func (h *Hook) describeRecord(attrs []attribute.KeyValue, topic string, partition int32, r *kafka.Record) []attribute.KeyValue {
	attrs = h.appendKey(attrs, topic, partition, r)
	if r.Value == nil {
		attrs = append(attrs, semconv.MessagingKafkaMessageTombstone(true))
	}
	if h.cfg.sizes {
		size := len(r.Key) + len(r.Value)
		for i := range r.Headers {
			size += len(r.Headers[i].Key) + len(r.Headers[i].Value)
		}
		attrs = append(attrs, semconv.MessagingMessageBodySize(len(r.Value)), semconv.MessagingMessageEnvelopeSize(size))
	}
	if h.cfg.conversation != "" {
		if id, ok := last(r.Headers, h.cfg.conversation); ok {
			attrs = append(attrs, semconv.MessagingMessageConversationID(text(id)))
		}
	}
	return attrs
}

func (h *Hook) appendKey(attrs []attribute.KeyValue, topic string, partition int32, r *kafka.Record) []attribute.KeyValue {
	if r.Key == nil || h.cfg.key == nil && !h.cfg.textKey {
		return attrs
	}
	if h.cfg.key == nil {
		if textual(r.Key) {
			attrs = append(attrs, semconv.MessagingKafkaMessageKey(string(r.Key)))
		}
		return attrs
	}
	m := kafka.Message{
		Topic: topic, Partition: partition, Offset: r.Offset, Timestamp: r.Timestamp,
		Key: r.Key, Value: r.Value, Headers: r.Headers,
	}
	if key, ok := safely(h.cfg.key, &m); ok {
		attrs = append(attrs, semconv.MessagingKafkaMessageKey(text(key)))
	}
	return attrs
}

// safely keeps a panic of the user's function from leaving a span open.
func safely(key func(*kafka.Message) (string, bool), m *kafka.Message) (text string, ok bool) {
	defer func() {
		if recover() != nil {
			text, ok = "", false
		}
	}()
	return key(m)
}

// textLimit bounds what spans show of what comes from outside.
const textLimit = 256

// text returns s as valid UTF-8 of a bounded length.
func text[T string | []byte](s T) string {
	return strings.ToValidUTF8(string(s[:min(len(s), textLimit)]), "\uFFFD")
}

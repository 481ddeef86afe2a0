package otelkafka

import (
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
)

// A describer says what spans show of one record.
type describer struct {
	key          func(*kafka.Message) (string, bool)
	textKey      bool
	sizes        bool
	conversation string
}

func newDescriber(cfg *config) *describer {
	return &describer{cfg.key, cfg.textKey, cfg.sizes, cfg.conversation}
}

// record appends what a span shows of one record. Its value is not
// among it.
func (d *describer) record(attrs []attribute.KeyValue, topic string, partition int32, r *kafka.Record) []attribute.KeyValue {
	attrs = d.appendKey(attrs, topic, partition, r)
	if r.Value == nil {
		attrs = append(attrs, semconv.MessagingKafkaMessageTombstone(true))
	}
	if d.sizes {
		size := len(r.Key) + len(r.Value)
		for i := range r.Headers {
			size += len(r.Headers[i].Key) + len(r.Headers[i].Value)
		}
		attrs = append(attrs, semconv.MessagingMessageBodySize(len(r.Value)), semconv.MessagingMessageEnvelopeSize(size))
	}
	if d.conversation != "" {
		if id, ok := last(r.Headers, d.conversation); ok {
			attrs = append(attrs, semconv.MessagingMessageConversationID(text(id)))
		}
	}
	return attrs
}

func (d *describer) appendKey(attrs []attribute.KeyValue, topic string, partition int32, r *kafka.Record) []attribute.KeyValue {
	if r.Key == nil || d.key == nil && !d.textKey {
		return attrs
	}
	if d.key == nil {
		if textual(r.Key) {
			attrs = append(attrs, semconv.MessagingKafkaMessageKey(string(r.Key)))
		}
		return attrs
	}
	m := kafka.Message{
		Topic: topic, Partition: partition, Offset: r.Offset, Timestamp: r.Timestamp,
		Key: r.Key, Value: r.Value, Headers: r.Headers,
	}
	if key, ok := safely(d.key, &m); ok {
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

package otelkafka

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
)

// rebalanceKey says which part of a rebalance was seen.
const rebalanceKey = attribute.Key("kafka.consumer.rebalance.type")

// events measures rebalances and counts what becomes of records that are not handled at once.
type events struct {
	*kit
	attributes []attribute.KeyValue // the user's
}

func (o *events) on(e kafka.Event) {
	switch e := e.(type) {
	case kafka.PartitionsAssigned:
		o.rebalanced(e.Group, "assigned", "", 0)
	case kafka.PartitionsRevoked:
		failure := ""
		if len(e.Stuck) > 0 {
			failure = "timeout"
		}
		o.rebalanced(e.Group, "revoked", failure, e.Took)
	case kafka.PartitionsLost:
		o.rebalanced(e.Group, "lost", o.errors.of(e.Err), 0)
	case kafka.HandlerFailed:
		if e.Next == kafka.FailureKeep {
			o.count(o.metrics.retries, e.Topic, e.Group, e.Err)
		}
	case kafka.RecordForwarded:
		o.count(o.metrics.deadLetters, e.Topic, e.Group, e.Err)
	case kafka.RecordSkipped:
		o.count(o.metrics.skipped, e.Topic, e.Group, e.Err)
	case kafka.RecordRetried:
		o.count(o.metrics.retried, e.Topic, e.Group, e.Err)
	case kafka.RecordPassedOver:
		o.passedOver(e.Topic, e.Group)
	}
}

func (o *events) rebalanced(group, kind, failure string, took time.Duration) {
	ctx := context.Background()
	attrs := []attribute.KeyValue{semconv.MessagingConsumerGroupName(group)}
	attrs = appendText(attrs, semconv.ErrorTypeKey, failure)
	attrs = append(attrs, o.attributes...)
	if kind == "revoked" {
		o.metrics.rebalance.Record(ctx, took.Seconds(), recordOption(join(attrs))...)
	}
	o.metrics.rebalances.Add(ctx, 1, addOption(append(attrs, rebalanceKey.String(kind)))...)
}

// count counts what became of a record of a topic, for err.
func (o *events) count(c metric.Int64Counter, topic, group string, err error) {
	attrs := o.topics.destination(nil, topic, o.topics.template(topic))
	attrs = append(attrs, semconv.MessagingConsumerGroupName(group), semconv.ErrorTypeKey.String(o.errors.name(err)))
	c.Add(context.Background(), 1, addOption(append(attrs, o.attributes...))...)
}

// passedOver counts a record of a retry topic that another group has sent there.
func (o *events) passedOver(topic, group string) {
	attrs := o.topics.destination(nil, topic, o.topics.template(topic))
	attrs = append(attrs, semconv.MessagingConsumerGroupName(group))
	o.metrics.passedOver.Add(context.Background(), 1, addOption(append(attrs, o.attributes...))...)
}

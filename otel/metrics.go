package otelkafka

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/aarontianqx/gopkg/kafka"
)

// buckets are those that the conventions ask for. The SDK's own are made for
// milliseconds.
var buckets = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}

// instruments are those that operations and events write to.
type instruments struct {
	operation metric.Float64Histogram // messaging.client.operation.duration
	process   metric.Float64Histogram // messaging.process.duration
	sent      metric.Int64Counter     // messaging.client.sent.messages
	consumed  metric.Int64Counter     // messaging.client.consumed.messages

	latency    metric.Float64Histogram // kafka.consumer.delivery.latency
	rebalances metric.Int64Counter     // kafka.consumer.rebalances
	rebalance  metric.Float64Histogram // kafka.consumer.rebalance.duration
	retries    metric.Int64Counter     // kafka.consumer.retries

	deadLetters metric.Int64Counter // kafka.consumer.dead_letters
	skipped     metric.Int64Counter // kafka.consumer.skipped
	retried     metric.Int64Counter // kafka.consumer.retried
	passedOver  metric.Int64Counter // kafka.consumer.passed_over
}

func newInstruments(m metric.Meter) *instruments {
	var i instruments
	var errs [12]error
	seconds := func(name, what string) (metric.Float64Histogram, error) {
		return m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(what), metric.WithExplicitBucketBoundaries(buckets...))
	}
	count := func(name, unit, what string) (metric.Int64Counter, error) {
		return m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(what))
	}
	i.operation, errs[0] = seconds("messaging.client.operation.duration", "Duration of messaging operation initiated by a producer or consumer client.")
	i.process, errs[1] = seconds("messaging.process.duration", "Duration of processing operation.")
	i.sent, errs[2] = count("messaging.client.sent.messages", "{message}", "Number of messages producer attempted to send to the broker.")
	i.consumed, errs[3] = count("messaging.client.consumed.messages", "{message}", "Number of messages that were delivered to the application.")
	i.latency, errs[4] = seconds("kafka.consumer.delivery.latency", "Time from a record's timestamp to its handler.")
	i.rebalances, errs[5] = count("kafka.consumer.rebalances", "{rebalance}", "Number of times that partitions were assigned, revoked or lost.")
	i.rebalance, errs[6] = seconds("kafka.consumer.rebalance.duration", "Time from a revocation to its acknowledgement: the drain and the commit.")
	i.retries, errs[7] = count("kafka.consumer.retries", "{retry}", "Number of failed attempts that are followed by another one.")
	i.deadLetters, errs[8] = count("kafka.consumer.dead_letters", "{message}", "Number of records whose copy in a dead-letter topic was acknowledged.")
	i.skipped, errs[9] = count("kafka.consumer.skipped", "{message}", "Number of records that were skipped after their handler had failed.")
	i.retried, errs[10] = count("kafka.consumer.retried", "{message}", "Number of records whose copy in a retry topic was acknowledged.")
	i.passedOver, errs[11] = count("kafka.consumer.passed_over", "{message}", "Number of records of a retry topic that another group has sent there.")
	if err := errors.Join(errs[:]...); err != nil {
		otel.Handle(err)
	}
	return &i
}

// on reports whether anybody listens to what operations write.
func (i *instruments) on() bool {
	ctx := context.Background()
	return i.operation.Enabled(ctx) || i.process.Enabled(ctx) || i.sent.Enabled(ctx)
}

// delivered counts records on their way to a handler, and how long they took
// to get there. A clock that is behind the sender's makes that 0.
func (i *instruments) delivered(at time.Time, records []kafka.Record, l *line) {
	ctx := context.Background()
	if i.consumed.Enabled(ctx) {
		i.consumed.Add(ctx, int64(len(records)), l.count...)
	}
	if !i.latency.Enabled(ctx) {
		return
	}
	for r := range records {
		if made := records[r].Timestamp; !made.IsZero() {
			i.latency.Record(ctx, max(0, at.Sub(made).Seconds()), l.latency...)
		}
	}
}

package otelkafka

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// Context returns ctx with the trace context and the baggage that m carries: for
// one record of a batch, whose handler's context has those of none.
func (h *Hook) Context(ctx context.Context, m *kafka.Message) context.Context {
	ctx, _ = h.spans.propagate().extract(ctx, m.Headers)
	return ctx
}

// StartProcess starts a "process" span for one record, or for several together,
// where no handler does: in a loop that pulls, or for each record of a batch.
// end ends it with the outcome; calls after the first do nothing, so it may also
// be deferred.
//
// What a manager has handed to a handler has been counted and is measured with
// its batch; StartProcess does so for everything else.
func (h *Hook) StartProcess(ctx context.Context, ms ...*kafka.Message) (inside context.Context, end func(error)) {
	if len(ms) == 0 {
		return ctx, func(error) {}
	}
	return h.deliveries.own(ctx, ms)
}

// own is StartProcess.
func (o *deliveries) own(ctx context.Context, ms []*kafka.Message) (inside context.Context, end func(error)) {
	at := time.Now()
	d := deliveryOf(ms)
	k := lineKey{kind: kafka.OpProcess, topic: d.topic, partition: d.partition}
	l := o.lines.get(k)
	ours := kafka.JobName(ctx) == ""
	if ours {
		o.metrics.delivered(at, d.records, l)
	}
	s, inside := o.process(ctx, l, at, d)
	var ended atomic.Bool
	return inside, func(err error) {
		if ended.Swap(true) {
			return // s may belong to another operation by now
		}
		now := time.Now()
		k.failure = o.errors.of(err)
		if ours {
			o.metrics.process.Record(s.context(), now.Sub(at).Seconds(), o.lines.get(k).duration...)
		}
		if s != nil {
			s.end(now, err, k.failure)
		}
	}
}

func deliveryOf(ms []*kafka.Message) delivery {
	d := delivery{ms[0].Topic, ms[0].Partition, make([]kafka.Record, len(ms)), len(ms) > 1}
	for i, m := range ms {
		d.records[i] = kafka.Record{Offset: m.Offset, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value, Headers: m.Headers}
		if m.Topic != d.topic {
			d.topic, d.partition = "", -1
		}
		if m.Partition != d.partition {
			d.partition = -1
		}
	}
	return d
}

package otelkafka

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
)

const (
	consumerKey = attribute.Key("kafka.consumer.name")
	stateKey    = attribute.Key("kafka.consumer.state")
)

// gauges show the state of the managers at each collection. They are
// registered while there is a manager to show, and cost nothing in between.
type gauges struct {
	topics     *topics
	attributes []attribute.KeyValue // the user's
	meter      metric.Meter

	recordsLag, committedLag, committedOffset metric.Int64ObservableGauge // by partition, as the next two
	operatorPaused                            metric.Int64ObservableGauge
	lagTime                                   metric.Float64ObservableGauge

	assigned, paused, inflight, buffered    metric.Int64ObservableGauge // by group
	waiting, backingOff, workers, doneAbove metric.Int64ObservableGauge // by group, of records that are handled many at once
	state                                   metric.Int64ObservableGauge // by consumer and state
	held                                    metric.Int64ObservableGauge // by consumer

	pending, pendingBytes metric.Int64ObservableGauge // by producer

	all []metric.Observable

	mu           sync.Mutex
	views        map[int]kafka.View
	next         int
	registration metric.Registration // nil without views
}

func newGauges(t *topics, attributes []attribute.KeyValue, m metric.Meter) *gauges {
	g := &gauges{topics: t, attributes: attributes, meter: m, views: map[int]kafka.View{}}
	var errs []error
	gauge := func(name, unit, what string) metric.Int64ObservableGauge {
		i, err := m.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(what))
		errs = append(errs, err)
		g.all = append(g.all, i)
		return i
	}
	g.recordsLag = gauge("kafka.consumer.records_lag", "{message}", "End of the partition minus the lowest offset that is not done.")
	g.committedLag = gauge("kafka.consumer.committed_lag", "{message}", "End of the partition minus the committed position.")
	g.committedOffset = gauge("kafka.consumer.committed_offset", "{message}", "Committed position.")
	g.operatorPaused = gauge("kafka.consumer.operator_paused", "{partition}", "1 while an operator has paused the partition or its consumer, and 0 otherwise.")
	g.assigned = gauge("kafka.consumer.assigned_partitions", "{partition}", "Partitions that are owned.")
	g.paused = gauge("kafka.consumer.paused_partitions", "{partition}", "Partitions that are not fetched, because their handler is behind or an operator has paused them.")
	g.inflight = gauge("kafka.consumer.inflight_messages", "{message}", "Records that a handler is at, or that wait to be tried again.")
	g.buffered = gauge("kafka.consumer.buffered_messages", "{message}", "Records that are fetched and not released.")
	g.waiting = gauge("kafka.consumer.waiting_messages", "{message}", "Records behind an earlier one of their key, of consumers that keep the order of keys.")
	g.backingOff = gauge("kafka.consumer.backing_off_messages", "{message}", "Records that have failed and wait, or wait for the end of a pause or a hold, of consumers that handle many of a partition at once.")
	g.workers = gauge("kafka.consumer.workers", "{handler}", "Handlers that run, of consumers that handle many records of a partition at once.")
	g.doneAbove = gauge("kafka.consumer.done_above_position_messages", "{message}", "Records that are done above the lowest one that is not.")
	g.state = gauge("kafka.consumer.state", "{consumer}", "1 for the state that a consumer is in, 0 for the others.")
	g.held = gauge("kafka.consumer.held", "{consumer}", "1 while a consumer hands out nothing, because its handler blames an outage, and 0 otherwise.")
	g.pending = gauge("kafka.producer.buffered_messages", "{message}", "Messages between their send and its outcome.")
	g.pendingBytes = gauge("kafka.producer.buffered_bytes", "By", "Size of their keys and values.")
	var err error
	g.lagTime, err = m.Float64ObservableGauge("kafka.consumer.lag_time", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest record that is not done; 0 when there is none."))
	g.all = append(g.all, g.lagTime)
	if err := errors.Join(append(errs, err)...); err != nil {
		otel.Handle(err)
	}
	return g
}

// attach shows a manager until detach is called.
func (g *gauges) attach(v kafka.View) (detach func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	id := g.next
	g.next++
	g.views[id] = v
	g.registerLocked()
	return func() { g.detach(id) }
}

func (g *gauges) registerLocked() {
	if g.registration != nil {
		return
	}
	r, err := g.meter.RegisterCallback(g.collect, g.all...)
	if err != nil {
		otel.Handle(err)
		return
	}
	g.registration = r
}

// detach stops showing a manager. The registration is ended without the lock: a
// collection that runs may want it, and ending waits for that.
func (g *gauges) detach(id int) {
	g.mu.Lock()
	delete(g.views, id)
	var ended metric.Registration
	if len(g.views) == 0 {
		ended, g.registration = g.registration, nil
	}
	g.mu.Unlock()
	if ended != nil {
		if err := ended.Unregister(); err != nil {
			otel.Handle(err)
		}
	}
}

func (g *gauges) snapshot() []kafka.View {
	g.mu.Lock()
	defer g.mu.Unlock()
	views := make([]kafka.View, 0, len(g.views))
	for _, v := range g.views {
		views = append(views, v)
	}
	return views
}

// A groupCount is what the consumers of one group have between them.
type groupCount struct {
	assigned, paused, inflight, buffered    int64
	waiting, backingOff, workers, doneAbove int64
}

// A producerCount is what the producers of one client id have between them.
type producerCount struct{ messages, bytes int64 }

// collect is the callback. Consumers of one group are added up, since two
// observations of one set of attributes would hide each other, and so are the
// producers of one client id.
func (g *gauges) collect(_ context.Context, o metric.Observer) error {
	groups, producers := map[string]*groupCount{}, map[string]*producerCount{}
	now := time.Now()
	for _, v := range g.snapshot() {
		for _, c := range v.Consumers() {
			of(groups, c.Group).add(c)
			g.collectState(o, c)
			for _, p := range c.Partitions {
				g.collectPartition(o, c.Group, p, now)
			}
		}
		for _, p := range v.Producers() {
			n := of(producers, p.ClientID)
			n.messages += p.Unacknowledged
			n.bytes += p.UnacknowledgedBytes
		}
	}
	for group, n := range groups {
		attrs := g.with(semconv.MessagingConsumerGroupName(group))
		o.ObserveInt64(g.assigned, n.assigned, attrs)
		o.ObserveInt64(g.paused, n.paused, attrs)
		o.ObserveInt64(g.inflight, n.inflight, attrs)
		o.ObserveInt64(g.buffered, n.buffered, attrs)
		o.ObserveInt64(g.waiting, n.waiting, attrs)
		o.ObserveInt64(g.backingOff, n.backingOff, attrs)
		o.ObserveInt64(g.workers, n.workers, attrs)
		o.ObserveInt64(g.doneAbove, n.doneAbove, attrs)
	}
	for client, n := range producers {
		attrs := g.with(semconv.MessagingClientID(client))
		o.ObserveInt64(g.pending, n.messages, attrs)
		o.ObserveInt64(g.pendingBytes, n.bytes, attrs)
	}
	return nil
}

// of returns the count of a name, which begins at zero.
func of[T any](counts map[string]*T, name string) *T {
	if counts[name] == nil {
		counts[name] = new(T)
	}
	return counts[name]
}

func (n *groupCount) add(c kafka.ConsumerStatus) {
	for _, p := range c.Partitions {
		n.assigned++
		if p.Paused {
			n.paused++
		}
		n.inflight += int64(p.InFlight)
		n.buffered += int64(p.Buffered)
		n.waiting += int64(p.Waiting)
		n.backingOff += int64(p.BackingOff)
		n.workers += int64(p.Workers)
		n.doneAbove += int64(p.DoneAbove)
	}
}

func (g *gauges) collectState(o metric.Observer, c kafka.ConsumerStatus) {
	var held int64
	if c.Held != nil {
		held = 1
	}
	o.ObserveInt64(g.held, held, g.with(consumerKey.String(c.JobName), semconv.MessagingConsumerGroupName(c.Group)))
	for s := kafka.StateOff; s <= kafka.StateStopped; s++ {
		var is int64
		if s == c.State {
			is = 1
		}
		o.ObserveInt64(g.state, is, g.with(consumerKey.String(c.JobName), semconv.MessagingConsumerGroupName(c.Group), stateKey.String(s.String())))
	}
}

// collectPartition shows what is known of a partition, and nothing of what is
// not.
func (g *gauges) collectPartition(o metric.Observer, group string, p kafka.PartitionStatus, now time.Time) {
	template := g.topics.template(p.Topic)
	attrs := partitionOf(p.Partition)
	if template == "" {
		attrs = append(attrs, semconv.MessagingDestinationName(p.Topic))
	} else {
		// The partitions of several topics would hide each other.
		attrs = append(attrs, semconv.MessagingDestinationTemplate(template), semconv.MessagingDestinationName(p.Topic))
	}
	set := g.with(append(attrs, semconv.MessagingConsumerGroupName(group))...)
	var paused int64
	if slices.Contains(p.PausedBy, kafka.PausedByOperator) {
		paused = 1
	}
	o.ObserveInt64(g.operatorPaused, paused, set)
	if p.Lag >= 0 {
		o.ObserveInt64(g.recordsLag, p.Lag, set)
	}
	if p.Committed >= 0 {
		o.ObserveInt64(g.committedOffset, p.Committed, set)
		if p.HighWatermark >= 0 {
			o.ObserveInt64(g.committedLag, max(0, p.HighWatermark-p.Committed), set)
		}
	}
	switch {
	case !p.Oldest.IsZero():
		o.ObserveFloat64(g.lagTime, max(0, now.Sub(p.Oldest).Seconds()), set)
	case p.Lag == 0:
		o.ObserveFloat64(g.lagTime, 0, set)
	}
}

func (g *gauges) with(attrs ...attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(join(attrs, g.attributes)...))
}

package otelkafka

import (
	"net"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// A line is all that is the same for every operation of one kind, client,
// topic, partition and failure, made once.
type line struct {
	name  string
	start []trace.SpanStartOption // of spans
	relay []trace.SpanStartOption // of sends with a context from elsewhere

	duration []metric.RecordOption // of the operation
	count    []metric.AddOption    // of its messages
	latency  []metric.RecordOption // of deliveries
}

type lineKey struct {
	kind      kafka.OpKind
	client    *kafka.Client
	topic     string // "" if there are several
	partition int32  // -1 if it is not known
	failure   string // error.type
}

// An operation is what an OpKind is called.
type operation struct {
	name string
	kind attribute.KeyValue // operation.type
	span trace.SpanKind
}

func operationOf(k kafka.OpKind) operation {
	switch k {
	case kafka.OpSend:
		return operation{"send", semconv.MessagingOperationTypeSend, trace.SpanKindProducer}
	case kafka.OpReceive:
		return operation{"poll", semconv.MessagingOperationTypeReceive, trace.SpanKindClient}
	case kafka.OpCommit:
		return operation{"commit", semconv.MessagingOperationTypeSettle, trace.SpanKindClient}
	default:
		return operation{"process", semconv.MessagingOperationTypeProcess, trace.SpanKindConsumer}
	}
}

// lines makes each line once, and keeps it.
type lines struct {
	made             *cache[lineKey, *line]
	topics           *topics
	attributes       []attribute.KeyValue // the user's
	peer             string
	withoutPartition bool
}

func newLines(cfg *config, t *topics) *lines {
	return &lines{newCache[lineKey, *line](4096), t, cfg.attributes, cfg.peer, cfg.withoutPartition}
}

func (ls *lines) get(k lineKey) *line {
	if l, ok := ls.made.get(k); ok {
		return l
	}
	return ls.made.put(k, ls.make(k))
}

// of returns the line of op as it is at its start.
func (ls *lines) of(op *kafka.Op) *line {
	return ls.get(lineKey{op.Kind, op.Client, op.Topic, op.Partition, ""})
}

// noClient stands for the client of what StartProcess begins.
var noClient = kafka.Client{}

func (ls *lines) make(k lineKey) *line {
	if k.client == nil {
		k.client = &noClient
	}
	p := place{nameOfTopic(k.topic), ls.topics.template(k.topic), partitionOf(k.partition), serverOf(k.client)}
	l := &line{name: p.spanName(k.kind)}
	ls.spanOptions(l, k, p)
	if k.kind != kafka.OpAttempt {
		ls.metricOptions(l, k, p)
	}
	return l
}

// A place is where an operation happens.
type place struct {
	topic     string
	template  string // what stands for topic, or ""
	partition []attribute.KeyValue
	server    []attribute.KeyValue
}

// spanName is the operation, and what is shown of the topic.
func (p place) spanName(k kafka.OpKind) string {
	name, shown := operationOf(k).name, p.topic
	if k == kafka.OpAttempt {
		name = "attempt"
	}
	if p.template != "" {
		shown = p.template
	}
	if shown == "" {
		return name
	}
	return name + " " + shown
}

// spanOptions makes what spans begin with.
func (ls *lines) spanOptions(l *line, k lineKey, p place) {
	if k.kind == kafka.OpAttempt {
		l.start = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindInternal), trace.WithAttributes(ls.attributes...)}
		return
	}
	op := operationOf(k.kind)
	attrs := []attribute.KeyValue{semconv.MessagingSystemKafka, semconv.MessagingOperationName(op.name), op.kind}
	attrs = appendText(attrs, semconv.MessagingDestinationNameKey, p.topic)
	attrs = appendText(attrs, semconv.MessagingDestinationTemplateKey, p.template)
	attrs = appendText(attrs, semconv.MessagingConsumerGroupNameKey, k.client.Group)
	attrs = append(attrs, p.partition...)
	attrs = append(attrs, p.server...)
	attrs = appendText(attrs, semconv.MessagingClientIDKey, k.client.ID)
	attrs = appendText(attrs, semconv.ServicePeerNameKey, ls.peer)
	attrs = append(attrs, ls.attributes...)
	l.start = []trace.SpanStartOption{trace.WithSpanKind(op.span), trace.WithAttributes(attrs...)}
	if k.kind == kafka.OpSend {
		l.relay = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindClient), l.start[1]}
	}
}

// metricOptions makes what measurements are recorded with.
func (ls *lines) metricOptions(l *line, k lineKey, p place) {
	op := operationOf(k.kind)
	base := []attribute.KeyValue{semconv.MessagingSystemKafka, semconv.MessagingOperationName(op.name)}
	where := ls.topics.destination(nil, p.topic, p.template)
	if !ls.withoutPartition {
		where = append(where, p.partition...)
	}
	group := appendText(nil, semconv.MessagingConsumerGroupNameKey, k.client.Group)
	failure := appendText(nil, semconv.ErrorTypeKey, k.failure)
	common := join(base, where, p.server, ls.attributes)
	duration := join(common, group, failure)
	if k.kind != kafka.OpProcess && k.kind != kafka.OpProcessBatch {
		duration = append(duration, op.kind)
	}
	l.duration = recordOption(duration)
	if k.kind == kafka.OpSend {
		l.count = addOption(join(common, failure))
	} else {
		l.count = addOption(join(common, group))
	}
	l.latency = recordOption(join(ls.topics.destination(nil, p.topic, p.template), group, ls.attributes))
}

func recordOption(attrs []attribute.KeyValue) []metric.RecordOption {
	return []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
}

func addOption(attrs []attribute.KeyValue) []metric.AddOption {
	return []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attrs...))}
}

// join returns a slice of its own: sets sort what they are made of.
func join(parts ...[]attribute.KeyValue) []attribute.KeyValue {
	var all []attribute.KeyValue
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func appendText(attrs []attribute.KeyValue, k attribute.Key, v string) []attribute.KeyValue {
	if v == "" {
		return attrs
	}
	return append(attrs, k.String(v))
}

func partitionOf(p int32) []attribute.KeyValue {
	if p < 0 {
		return nil
	}
	return []attribute.KeyValue{semconv.MessagingDestinationPartitionID(strconv.Itoa(int(p)))}
}

// serverOf returns the address of the cluster if there is one to name: the
// driver does not say which broker it talks to.
func serverOf(c *kafka.Client) []attribute.KeyValue {
	if len(c.Bootstrap) != 1 {
		return nil
	}
	host, port, err := net.SplitHostPort(c.Bootstrap[0])
	if err != nil {
		return nil
	}
	attrs := []attribute.KeyValue{semconv.ServerAddress(host)}
	if n, err := strconv.Atoi(port); err == nil {
		attrs = append(attrs, semconv.ServerPort(n))
	}
	return attrs
}

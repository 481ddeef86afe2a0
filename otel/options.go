package otelkafka

import (
	"unicode/utf8"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// An Option changes a hook that New makes. Nil providers, propagators and
// functions are ignored, but for WithMessageKey(nil).
type Option struct{ apply func(*config) }

type config struct {
	tracers    trace.TracerProvider
	meters     metric.MeterProvider
	propagator propagation.TextMapPropagator // nil: the default, chosen at first use

	receiveSpans bool
	attemptSpans bool
	commitSpans  CommitSpans

	parent      ProcessParent
	existing    ExistingContext
	maxLinks    int
	passthrough bool

	template     func(topic string) string
	attributes   []attribute.KeyValue
	textKey      bool // keys that are text are shown
	key          func(*kafka.Message) (string, bool)
	sizes        bool
	conversation string
	peer         string

	withoutPartition bool
	withoutLag       bool
}

func newConfig(opts []Option) config {
	c := config{
		tracers:     otel.GetTracerProvider(),
		meters:      otel.GetMeterProvider(),
		maxLinks:    128,
		passthrough: true,
		textKey:     true,
	}
	for _, o := range opts {
		if o.apply != nil {
			o.apply(&c)
		}
	}
	return c
}

// WithTracerProvider sets where spans go. The default is the global provider. A
// provider of package trace/noop turns tracing off, at no cost.
func WithTracerProvider(p trace.TracerProvider) Option {
	return Option{func(c *config) {
		if p != nil {
			c.tracers = p
		}
	}}
}

// WithMeterProvider sets where metrics go. The default is the global provider.
func WithMeterProvider(p metric.MeterProvider) Option {
	return Option{func(c *config) {
		if p != nil {
			c.meters = p
		}
	}}
}

// WithPropagators sets how contexts travel in headers. The default is the
// global propagator if one has been set before the first message, and else W3C
// trace context and baggage: an unset global would write no header, without
// a warning.
func WithPropagators(p propagation.TextMapPropagator) Option {
	return Option{func(c *config) {
		if p != nil {
			c.propagator = p
		}
	}}
}

// WithReceiveSpans adds a "poll" span for each time that a partition's worker
// took records, with links to them. Its duration includes the wait.
func WithReceiveSpans(on bool) Option { return Option{func(c *config) { c.receiveSpans = on }} }

// WithAttemptSpans adds an "attempt" span for each call of a handler, inside
// the "process" span of its delivery.
func WithAttemptSpans(on bool) Option { return Option{func(c *config) { c.attemptSpans = on }} }

// CommitSpans says which commits have a span. All are measured.
type CommitSpans int

// The values of CommitSpans.
const (
	CommitSpansAwaited CommitSpans = iota // those that a revocation, a switch-off or a shutdown waits for
	CommitSpansAll                        // those that the clock makes, too: a trace of its own each time
	CommitSpansNone
)

// WithCommitSpans chooses the commits that have a span. The default is
// CommitSpansAwaited.
func WithCommitSpans(s CommitSpans) Option { return Option{func(c *config) { c.commitSpans = s }} }

// ProcessParent says what the parent of a "process" span is, where the context
// has no span already.
type ProcessParent int

// The values of ProcessParent.
const (
	ParentProducer ProcessParent = iota // the span that sent the record: one trace from end to end
	ParentNone                          // none: a new trace, with a link
)

// WithProcessParent chooses the parent of "process" spans. The default is
// ParentProducer; ParentNone is for traces that would become too long, and for
// producers whose sampling is not to be trusted.
func WithProcessParent(p ProcessParent) Option { return Option{func(c *config) { c.parent = p }} }

// ExistingContext says what happens to a trace context that a message to be sent
// carries already.
type ExistingContext int

// The values of ExistingContext.
const (
	KeepContext    ExistingContext = iota // it stays, and the span of the send links to it
	ReplaceContext                        // the span of the send takes its place
)

// WithExistingContext chooses what happens to a trace context in the headers of
// a message to be sent. The default is KeepContext, for relays and outboxes. A
// message that forwards a consumed one (kafka.WithOrigin) always gets a new one.
func WithExistingContext(e ExistingContext) Option { return Option{func(c *config) { c.existing = e }} }

// WithMaxLinks bounds the links of a span. The default is 128, which is the
// limit of the SDK: that drops the oldest, this the rest. What is not positive
// is ignored.
func WithMaxLinks(n int) Option {
	return Option{func(c *config) {
		if n > 0 {
			c.maxLinks = n
		}
	}}
}

// WithDestinationTemplate names topics that are many and alike, as
// "orders-{customer}": span names and metrics have the template in place of the
// topic. An empty answer leaves the topic.
func WithDestinationTemplate(f func(topic string) string) Option {
	return Option{func(c *config) {
		if f != nil {
			c.template = f
		}
	}}
}

// WithAttributes adds attributes to all spans and metrics of messages.
func WithAttributes(attrs ...attribute.KeyValue) Option {
	return Option{func(c *config) { c.attributes = append(c.attributes, attrs...) }}
}

// WithMessageKey chooses what spans show of a record's key; false shows
// nothing. The default shows a key that is UTF-8 text of at most 128 bytes. Nil
// shows none, for keys that tell of people.
func WithMessageKey(f func(*kafka.Message) (string, bool)) Option {
	return Option{func(c *config) { c.key, c.textKey = f, false }}
}

func textual(key []byte) bool { return len(key) <= 128 && utf8.Valid(key) }

// WithMessageSizes adds the size of bodies, and of whole messages, to spans.
func WithMessageSizes(on bool) Option { return Option{func(c *config) { c.sizes = on }} }

// WithConversationID adds the value of a header to spans, as the id of the
// conversation that the message belongs to.
func WithConversationID(header string) Option {
	return Option{func(c *config) { c.conversation = header }}
}

// WithPeerService adds the name of the Kafka service to spans.
func WithPeerService(name string) Option { return Option{func(c *config) { c.peer = name }} }

// WithoutPartitionAttribute leaves the partition out of metrics, but for the
// gauges that are about a partition.
func WithoutPartitionAttribute() Option {
	return Option{func(c *config) { c.withoutPartition = true }}
}

// WithoutLag leaves out the gauges of consumers and producers.
func WithoutLag() Option { return Option{func(c *config) { c.withoutLag = true }} }

// WithUnsampledPassthrough says whether an operation whose parent is valid, not
// sampled, and not recorded here goes without asking the sampler: its context
// is passed on as it is, at next to no cost. The default is true, and agrees with every
// ParentBased sampler; with a sampler that would decide otherwise, set false.
func WithUnsampledPassthrough(on bool) Option { return Option{func(c *config) { c.passthrough = on }} }

package otelkafka

import (
	"fmt"
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
	"go.opentelemetry.io/otel/trace"
)

// This is a checker of spans and metrics against the semantic conventions for
// Kafka. newTelemetry runs it over everything that a test of this package emits.
// The checker reads the attributes and their types from the source of package
// semconv, which is generated from the conventions without the deprecated
// attributes. It takes the metrics from package messagingconv. Tables in this
// file list the attributes of each operation, as the conventions do.

// registry returns the attributes of package semconv with their types.
var registry = sync.OnceValues(func() (map[attribute.Key]attribute.Type, error) {
	pkg, err := build.Import("go.opentelemetry.io/otel/semconv/v1.43.0", ".", build.FindOnly)
	if err != nil {
		return nil, err
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(pkg.Dir, "attribute_group.go"), nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	types := map[string]attribute.Type{
		"string": attribute.STRING, "Enum": attribute.STRING, "int": attribute.INT64, "boolean": attribute.BOOL,
		"double": attribute.FLOAT64, "string[]": attribute.STRINGSLICE, "int[]": attribute.INT64SLICE,
	}
	typeLine := regexp.MustCompile(`(?m)^Type: (.*)$`)
	keys := map[attribute.Key]attribute.Type{}
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || v.Doc == nil || len(v.Values) != 1 {
			return true
		}
		call, ok := v.Values[0].(*ast.CallExpr) // attribute.Key("…")
		typ := typeLine.FindStringSubmatch(v.Doc.Text())
		if !ok || len(call.Args) != 1 || typ == nil {
			return true
		}
		if name, ok := call.Args[0].(*ast.BasicLit); ok {
			key, _ := strconv.Unquote(name.Value)
			keys[attribute.Key(key)] = types[typ[1]]
		}
		return true
	})
	if len(keys) < 500 {
		return nil, fmt.Errorf("only %d attributes in %s", len(keys), pkg.Dir)
	}
	return keys, nil
})

// ours are the attributes that this package adds to the conventions.
var ours = map[attribute.Key]attribute.Type{
	attemptKey: attribute.INT64, attemptsKey: attribute.INT64, outcomeKey: attribute.STRING,
	rebalanceKey: attribute.STRING, consumerKey: attribute.STRING, stateKey: attribute.STRING,
}

// A rule describes the spans of one operation according to the conventions.
type rule struct {
	kinds    []trace.SpanKind
	typ      string
	batch    bool // a span may stand for several messages
	required []attribute.Key
	allowed  []attribute.Key
}

var (
	always = []attribute.Key{"messaging.system", "messaging.operation.name", "messaging.operation.type"}

	// common belong to all operations. checkSpan checks the conditions of some of them.
	common = []attribute.Key{
		"messaging.destination.name", "messaging.destination.template", "error.type", "messaging.destination.partition.id",
		"messaging.client.id", "server.address", "server.port", "service.peer.name",
	}
	ofRecords = []attribute.Key{
		"messaging.kafka.offset", "messaging.kafka.message.key", "messaging.kafka.message.tombstone",
		"messaging.message.conversation_id", "messaging.message.body.size", "messaging.message.envelope.size",
	}
	ofGroups = []attribute.Key{"messaging.consumer.group.name"}

	rules = map[string]rule{
		"send": {[]trace.SpanKind{trace.SpanKindProducer, trace.SpanKindClient}, "send", false,
			[]attribute.Key{"messaging.destination.name", "messaging.client.id"}, ofRecords},
		"poll": {[]trace.SpanKind{trace.SpanKindClient}, "receive", true,
			[]attribute.Key{"messaging.batch.message_count", "messaging.consumer.group.name", "messaging.client.id"}, slices.Concat(ofRecords, ofGroups)},
		"process": {[]trace.SpanKind{trace.SpanKindConsumer}, "process", true,
			nil, slices.Concat(ofRecords, ofGroups, []attribute.Key{attemptsKey, outcomeKey})},
		"commit": {[]trace.SpanKind{trace.SpanKindClient}, "settle", false,
			[]attribute.Key{"messaging.consumer.group.name", "messaging.client.id"}, slices.Concat(ofGroups, []attribute.Key{"messaging.kafka.offset"})},
	}
)

// checkSpan returns what is wrong with a span. also are attributes that the
// user has added.
func checkSpan(s sdktrace.ReadOnlySpan, also ...attribute.Key) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, s.Name()+": "+fmt.Sprintf(format, args...)) }
	attrs := map[attribute.Key]attribute.Value{}
	for _, a := range s.Attributes() {
		if _, twice := attrs[a.Key]; twice {
			complain("%s is there twice", a.Key)
		}
		attrs[a.Key] = a.Value
	}
	if len(s.Events()) > 0 {
		complain("has events")
	}
	if s.DroppedAttributes() > 0 {
		complain("the SDK has dropped %d attributes", s.DroppedAttributes())
	}
	if !isText(s.Name()) || !isText(s.Status().Description) {
		complain("name or description %q is no text, or too long", s.Status().Description)
	}
	_, failed := attrs["error.type"]
	if failed != (s.Status().Code == codes.Error) || s.Status().Code == codes.Ok {
		complain("status %v, error.type %v", s.Status(), attrs["error.type"].AsInterface())
	}
	r, name := rule{kinds: []trace.SpanKind{trace.SpanKindInternal}, allowed: []attribute.Key{attemptKey}, required: []attribute.Key{attemptKey}}, "attempt"
	if !strings.HasPrefix(s.Name(), "attempt") {
		name = attrs["messaging.operation.name"].AsString()
		r = rules[name]
		r.required = slices.Concat(r.required, always)
		r.allowed = slices.Concat(r.allowed, common)
	}
	if !slices.Contains(r.kinds, s.SpanKind()) {
		complain("kind %v, want one of %v", s.SpanKind(), r.kinds)
	}
	for _, k := range r.required {
		if _, ok := attrs[k]; !ok && !(failed && k == "messaging.destination.name") { // a send without a topic is refused
			complain("%s is missing", k)
		}
	}
	for k, v := range attrs {
		if slices.Contains(also, k) {
			continue
		}
		if err := checkType(k, v); err != nil {
			complain("%v", err)
		}
		if k != "error.type" && k != "messaging.batch.message_count" && !slices.Contains(r.allowed, k) && !slices.Contains(r.required, k) {
			complain("%s does not belong on %q", k, name)
		}
	}
	if name == "attempt" {
		return wrong
	}

	if attrs["messaging.system"].AsString() != "kafka" || attrs["messaging.operation.type"].AsString() != r.typ {
		complain("system %q, operation type %q", attrs["messaging.system"].AsString(), attrs["messaging.operation.type"].AsString())
	}
	shown := attrs["messaging.destination.name"].AsString()
	if t := attrs["messaging.destination.template"].AsString(); t != "" {
		shown = t
	}
	want := name
	if shown != "" {
		want += " " + shown
	}
	if s.Name() != want {
		complain("is named, want %q", want)
	}
	_, batch := attrs["messaging.batch.message_count"]
	if batch && !r.batch || shown == "" && !batch && name != "commit" && !failed {
		complain("message count %v, destination %q", attrs["messaging.batch.message_count"].AsInterface(), shown)
	}
	for _, k := range ofRecords {
		if _, ok := attrs[k]; ok && batch {
			complain("%s is on a batch", k)
		}
	}
	if v, ok := attrs["messaging.kafka.message.tombstone"]; ok && !v.AsBool() {
		complain("tombstone is false")
	}
	if p, ok := attrs["messaging.destination.partition.id"]; ok {
		if _, err := strconv.ParseUint(p.AsString(), 10, 31); err != nil {
			complain("partition %q", p.AsString())
		}
	}
	if _, ok := attrs["server.port"]; ok {
		if _, ok := attrs["server.address"]; !ok {
			complain("server.port without server.address")
		}
	}
	// A span of a manager's consumer has a client, a span of StartProcess has none.
	if _, ok := attrs["messaging.client.id"]; ok && name == "process" {
		for _, k := range []attribute.Key{"messaging.consumer.group.name", attemptsKey, outcomeKey} {
			if _, ok := attrs[k]; !ok {
				complain("%s is missing", k)
			}
		}
	}
	for _, l := range s.Links() {
		for _, a := range l.Attributes {
			if err := checkType(a.Key, a.Value); err != nil || a.Key != "messaging.kafka.offset" && a.Key != "messaging.kafka.message.key" {
				complain("a link has %s: %v", a.Key, err)
			}
		}
	}
	return wrong
}

// checkType returns an error for an attribute that does not exist, that is
// deprecated, or that has another type.
func checkType(k attribute.Key, v attribute.Value) error {
	known, err := registry()
	if err != nil {
		return err
	}
	typ, ok := known[k]
	if !ok {
		typ, ok = ours[k]
	}
	if !ok {
		return fmt.Errorf("%s is no attribute of the conventions", k)
	}
	if v.Type() != typ {
		return fmt.Errorf("%s is a %v, want a %v", k, v.Type(), typ)
	}
	if typ == attribute.STRING && !isText(v.AsString()) {
		return fmt.Errorf("%s is no text, or too long: %q", k, v.AsString())
	}
	return nil
}

// isText reports whether a text can be exported. OTLP refuses a whole request
// with a text that is not UTF-8.
func isText(s string) bool { return utf8.ValidString(s) && len(s) <= 1024 }

// An instrument describes a metric.
type instrument struct {
	kind, unit, description string // no description: any
	required, allowed       []attribute.Key
}

const (
	histogram = "histogram"
	counter   = "counter"
	gauge     = "gauge"
)

var (
	onOperations = []attribute.Key{"messaging.system", "messaging.operation.name"}
	where        = []attribute.Key{"messaging.destination.name", "messaging.destination.template", "messaging.destination.partition.id",
		"server.address", "server.port", "error.type"}
	topicAndGroup = []attribute.Key{"messaging.destination.name", "messaging.destination.template", "messaging.consumer.group.name"}
	aPartition    = append(slices.Clone(topicAndGroup), "messaging.destination.partition.id")
)

// instrumentsByName are the metrics: those of the conventions, and ours.
func instrumentsByName() map[string]instrument {
	of := func(kind string, c interface {
		Unit() string
		Description() string
	}, required, allowed []attribute.Key) instrument {
		return instrument{kind, c.Unit(), c.Description(), required, allowed}
	}
	own := func(kind, unit string, required, allowed []attribute.Key) instrument {
		return instrument{kind, unit, "", required, allowed}
	}
	group := []attribute.Key{"messaging.consumer.group.name"}
	client := []attribute.Key{"messaging.client.id"}
	byPartition := []attribute.Key{"messaging.consumer.group.name", "messaging.destination.name", "messaging.destination.partition.id"}
	return map[string]instrument{
		messagingconv.ClientOperationDuration{}.Name(): of(histogram, messagingconv.ClientOperationDuration{},
			slices.Concat(onOperations, []attribute.Key{"messaging.operation.type"}), slices.Concat(where, group)),
		messagingconv.ProcessDuration{}.Name():        of(histogram, messagingconv.ProcessDuration{}, onOperations, slices.Concat(where, group)),
		messagingconv.ClientSentMessages{}.Name():     of(counter, messagingconv.ClientSentMessages{}, onOperations, where),
		messagingconv.ClientConsumedMessages{}.Name(): of(counter, messagingconv.ClientConsumedMessages{}, onOperations, slices.Concat(where, group)),

		"kafka.consumer.delivery.latency":   own(histogram, "s", nil, topicAndGroup),
		"kafka.consumer.retries":            own(counter, "{retry}", []attribute.Key{"messaging.consumer.group.name", "error.type"}, topicAndGroup),
		"kafka.consumer.dead_letters":       own(counter, "{message}", []attribute.Key{"messaging.consumer.group.name", "error.type"}, topicAndGroup),
		"kafka.consumer.skipped":            own(counter, "{message}", []attribute.Key{"messaging.consumer.group.name", "error.type"}, topicAndGroup),
		"kafka.consumer.retried":            own(counter, "{message}", []attribute.Key{"messaging.consumer.group.name", "error.type"}, topicAndGroup),
		"kafka.consumer.passed_over":        own(counter, "{message}", group, topicAndGroup),
		"kafka.consumer.rebalances":         own(counter, "{rebalance}", []attribute.Key{"messaging.consumer.group.name", rebalanceKey}, []attribute.Key{"error.type"}),
		"kafka.consumer.rebalance.duration": own(histogram, "s", group, []attribute.Key{"error.type"}),

		"kafka.consumer.records_lag":         own(gauge, "{message}", byPartition, aPartition),
		"kafka.consumer.committed_lag":       own(gauge, "{message}", byPartition, aPartition),
		"kafka.consumer.committed_offset":    own(gauge, "{message}", byPartition, aPartition),
		"kafka.consumer.lag_time":            own(gauge, "s", byPartition, aPartition),
		"kafka.consumer.operator_paused":     own(gauge, "{partition}", byPartition, aPartition),
		"kafka.consumer.assigned_partitions": own(gauge, "{partition}", group, nil),
		"kafka.consumer.paused_partitions":   own(gauge, "{partition}", group, nil),
		"kafka.consumer.inflight_messages":   own(gauge, "{message}", group, nil),

		"kafka.consumer.waiting_messages":             own(gauge, "{message}", group, nil),
		"kafka.consumer.backing_off_messages":         own(gauge, "{message}", group, nil),
		"kafka.consumer.workers":                      own(gauge, "{handler}", group, nil),
		"kafka.consumer.done_above_position_messages": own(gauge, "{message}", group, nil),

		"kafka.consumer.buffered_messages": own(gauge, "{message}", group, nil),
		"kafka.consumer.state":             own(gauge, "{consumer}", slices.Concat(group, []attribute.Key{consumerKey, stateKey}), nil),
		"kafka.consumer.held":              own(gauge, "{consumer}", slices.Concat(group, []attribute.Key{consumerKey}), nil),
		"kafka.producer.buffered_messages": own(gauge, "{message}", client, nil),
		"kafka.producer.buffered_bytes":    own(gauge, "By", client, nil),
	}
}

// checkMetric returns what is wrong with a metric.
func checkMetric(m metricdata.Metrics, also ...attribute.Key) (wrong []string) {
	complain := func(format string, args ...any) { wrong = append(wrong, m.Name+": "+fmt.Sprintf(format, args...)) }
	want, ok := instrumentsByName()[m.Name]
	if !ok {
		complain("is not listed")
		return wrong
	}
	kind, bounds, all := pointsOf(m)
	if kind != want.kind || m.Unit != want.unit || m.Description == "" || want.description != "" && m.Description != want.description {
		complain("%s in %q, %q; want %+v", kind, m.Unit, m.Description, want)
	}
	for _, b := range bounds {
		if !slices.Equal(b, []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}) {
			complain("bounds %v", b)
		}
	}
	for _, set := range all {
		if set.HasValue("otel.metric.overflow") {
			continue // the SDK's own series beyond its limit
		}
		for _, k := range want.required {
			if !set.HasValue(k) {
				complain("%s is missing in %v", k, show(set))
			}
		}
		// A series with a server belongs to a manager, and a manager's consumers have groups.
		if op, _ := set.Value("messaging.operation.name"); op.AsString() != "send" && set.HasValue("server.address") && !set.HasValue("messaging.consumer.group.name") {
			complain("no group in %v", show(set))
		}
		for _, a := range set.ToSlice() {
			if slices.Contains(also, a.Key) {
				continue
			}
			if err := checkType(a.Key, a.Value); err != nil {
				complain("%v", err)
			}
			if !slices.Contains(want.required, a.Key) && !slices.Contains(want.allowed, a.Key) {
				complain("%s does not belong here", a.Key)
			}
		}
	}
	return wrong
}

func pointsOf(m metricdata.Metrics) (kind string, bounds [][]float64, sets []attribute.Set) {
	switch d := m.Data.(type) {
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			bounds, sets = append(bounds, p.Bounds), append(sets, p.Attributes)
		}
		return histogram, bounds, sets
	case metricdata.Sum[int64]:
		for _, p := range d.DataPoints {
			sets = append(sets, p.Attributes)
		}
		if !d.IsMonotonic {
			return "up-down counter", nil, sets
		}
		return counter, nil, sets
	case metricdata.Gauge[int64]:
		for _, p := range d.DataPoints {
			sets = append(sets, p.Attributes)
		}
		return gauge, nil, sets
	case metricdata.Gauge[float64]:
		for _, p := range d.DataPoints {
			sets = append(sets, p.Attributes)
		}
		return gauge, nil, sets
	}
	return fmt.Sprintf("%T", m.Data), nil, nil
}

// TestConventionsChecker checks that the checker finds each kind of mistake.
func TestConventionsChecker(t *testing.T) {
	good := func() tracetest.SpanStub {
		return tracetest.SpanStub{Name: "send orders", SpanKind: trace.SpanKindProducer, Attributes: []attribute.KeyValue{
			attribute.String("messaging.system", "kafka"), attribute.String("messaging.operation.name", "send"),
			attribute.String("messaging.operation.type", "send"), attribute.String("messaging.destination.name", "orders"),
			attribute.String("messaging.client.id", "c"),
		}}
	}
	require.Empty(t, checkSpan(good().Snapshot()))
	with := func(a ...attribute.KeyValue) func(*tracetest.SpanStub) {
		return func(s *tracetest.SpanStub) { s.Attributes = append(s.Attributes, a...) }
	}
	mistakes := map[string]func(*tracetest.SpanStub){
		"name":                func(s *tracetest.SpanStub) { s.Name = "orders send" },
		"kind":                func(s *tracetest.SpanStub) { s.SpanKind = trace.SpanKindConsumer },
		"no system":           func(s *tracetest.SpanStub) { s.Attributes = s.Attributes[1:] },
		"no client":           func(s *tracetest.SpanStub) { s.Attributes = s.Attributes[:4] },
		"unknown operation":   func(s *tracetest.SpanStub) { s.Attributes[1] = attribute.String("messaging.operation.name", "publish") },
		"operation type":      func(s *tracetest.SpanStub) { s.Attributes[2] = attribute.String("messaging.operation.type", "publish") },
		"event":               func(s *tracetest.SpanStub) { s.Events = []sdktrace.Event{{Name: "exception"}} },
		"status ok":           func(s *tracetest.SpanStub) { s.Status.Code = codes.Ok },
		"error without type":  func(s *tracetest.SpanStub) { s.Status.Code = codes.Error },
		"type without error":  with(attribute.String("error.type", "X")),
		"dropped":             func(s *tracetest.SpanStub) { s.DroppedAttributes = 1 },
		"twice":               with(attribute.String("messaging.client.id", "d")),
		"a count on a single": with(attribute.Int("messaging.batch.message_count", 1)),
		"partition's type":    with(attribute.Int("messaging.destination.partition.id", 1)),
		"partition's text":    with(attribute.String("messaging.destination.partition.id", "-1")),
		"offset's type":       with(attribute.String("messaging.kafka.offset", "1")),
		"tombstone":           with(attribute.Bool("messaging.kafka.message.tombstone", false)),
		"port alone":          with(attribute.Int("server.port", 1)),
		"another operation's": with(attribute.String("messaging.consumer.group.name", "g")),
		"no UTF-8":            with(attribute.String("messaging.kafka.message.key", "\xff")),
		"long":                with(attribute.String("messaging.kafka.message.key", strings.Repeat("k", 1025))),
		"no UTF-8 in the name": func(s *tracetest.SpanStub) {
			s.Name, s.Attributes[3] = "send \xff", attribute.String("messaging.destination.name", "\xff")
		},
		"unheard of": with(attribute.String("kafka.color", "red")),
		"a link's": func(s *tracetest.SpanStub) {
			s.Links = []sdktrace.Link{{Attributes: []attribute.KeyValue{attribute.String("messaging.kafka.offset", "1")}}}
		},
	}
	// A43: attributes that the conventions have renamed or dropped.
	for _, old := range []attribute.Key{
		"messaging.kafka.message.offset", "messaging.kafka.destination.partition", "messaging.kafka.consumer.group", "messaging.client_id",
		"messaging.kafka.client_id", "messaging.operation", "messaging.source.name", "messaging.source.kind", "messaging.destination.kind",
		"messaging.message.payload_size_bytes", "peer.service", "net.peer.name",
	} {
		mistakes["deprecated "+string(old)] = with(old.String("x"))
	}
	for name, spoil := range mistakes {
		s := good()
		spoil(&s)
		assert.NotEmpty(t, checkSpan(s.Snapshot()), name)
	}

	data := func(attrs ...attribute.KeyValue) metricdata.Sum[int64] {
		attrs = append(attrs, attribute.String("messaging.system", "kafka"))
		return metricdata.Sum[int64]{IsMonotonic: true, DataPoints: []metricdata.DataPoint[int64]{{Attributes: attribute.NewSet(attrs...)}}}
	}
	operation := attribute.String("messaging.operation.name", "send")
	sent := messagingconv.ClientSentMessages{}
	fine := metricdata.Metrics{Name: sent.Name(), Unit: sent.Unit(), Description: sent.Description(), Data: data(operation)}
	require.Empty(t, checkMetric(fine))
	for name, spoil := range map[string]func(*metricdata.Metrics){
		"name":          func(m *metricdata.Metrics) { m.Name = "messaging.publish.messages" },
		"unit":          func(m *metricdata.Metrics) { m.Unit = "1" },
		"description":   func(m *metricdata.Metrics) { m.Description = "other" },
		"kind":          func(m *metricdata.Metrics) { m.Data = metricdata.Gauge[int64]{} },
		"not monotonic": func(m *metricdata.Metrics) { m.Data = metricdata.Sum[int64]{} },
		"no operation":  func(m *metricdata.Metrics) { m.Data = data() },
		"no group": func(m *metricdata.Metrics) {
			c := messagingconv.ClientConsumedMessages{}
			m.Name, m.Unit, m.Description = c.Name(), c.Unit(), c.Description()
			m.Data = data(attribute.String("messaging.operation.name", "process"), attribute.String("server.address", "kafka"))
		},
		"offset": func(m *metricdata.Metrics) { m.Data = data(operation, attribute.Int("messaging.kafka.offset", 1)) },
		"type":   func(m *metricdata.Metrics) { m.Data = data(operation, attribute.Int("messaging.destination.name", 1)) },
	} {
		m := fine
		spoil(&m)
		assert.NotEmpty(t, checkMetric(m), "metric: %s", name)
	}
	bounds := metricdata.Metrics{Name: "kafka.consumer.delivery.latency", Unit: "s", Description: "d",
		Data: metricdata.Histogram[float64]{DataPoints: []metricdata.HistogramDataPoint[float64]{{Bounds: []float64{1}}}}}
	assert.NotEmpty(t, checkMetric(bounds))
}

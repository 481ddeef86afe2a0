package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	collectmetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collecttrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv("TRACING_ARGS"); ok { // see TestOneTraceAcrossProcesses
		os.Args = append(os.Args[:1], strings.Fields(args)...)
		main()
		return
	}
	testkit.NoLeaksBesideSarama(m)
}

// The tree that the README shows.
func TestConsole(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), []string{"-otlp="}, &out))
	want := `trace <id>
POST /orders              INTERNAL  <time>
└─ send orders            PRODUCER  <time>  key=order-17, partition=0, offset=0
   └─ process orders      CONSUMER  <time>  ⇢ send orders, partition=0, offset=0, key=order-17, attempts=3, outcome=ack
      ├─ attempt orders   INTERNAL  <time>  error.type=NO_COURIER, "no courier at attempt 1"
      ├─ attempt orders   INTERNAL  <time>  error.type=NO_COURIER, "no courier at attempt 2"
      └─ attempt orders   INTERNAL  <time>
         └─ send results  PRODUCER  <time>  key=order-17, partition=0, offset=0
`
	got := out.String()
	for _, r := range [][2]string{{`\b[0-9a-f]{32}\b`, "<id>"}, {`\b[0-9.]+(µs|ms|s)\b *`, "<time>  "}, {`(?m) +$`, ""}} {
		got = regexp.MustCompile(r[0]).ReplaceAllString(got, r[1])
	}
	require.Equal(t, want, got[:min(len(got), len(want))])
	for _, line := range []string{
		`kafka.consumer.retries +2 +error.type=NO_COURIER, group=shop, destination=orders`,
		`kafka.consumer.state +1 +consumer=shipping, state=running, group=shop`,
		`kafka.consumer.records_lag +0 +group=shop, destination=orders, partition=0`,
		`messaging.client.sent.messages +1 +destination=results, partition=0, operation=send`,
		`messaging.process.duration +1, together`,
	} {
		assert.Regexp(t, `(?m)^`+line, out.String())
	}
}

// What goes out by OTLP is what the console shows: the same spans, as one
// trace, and the metrics.
func TestOTLP(t *testing.T) {
	r := listen(t)
	require.NoError(t, run(t.Context(), []string{"-otlp", r.URL}, io.Discard))
	checkTrace(t, r.all(), "shop-both", "shop-both")
	for _, name := range []string{"messaging.process.duration", "messaging.client.sent.messages", "kafka.consumer.lag_time", "kafka.consumer.state"} {
		assert.Contains(t, r.metrics, name, "metrics that were received")
	}
}

// The environment's variable serves as well, and an endpoint that fails is reported.
func TestOTLPFromTheEnvironment(t *testing.T) {
	r := listen(t)
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL)
	require.NoError(t, run(t.Context(), nil, io.Discard))
	checkTrace(t, r.all(), "shop-both", "shop-both")

	failing := httptest.NewServer(http.NotFoundHandler())
	defer failing.Close()
	var out bytes.Buffer
	require.ErrorContains(t, run(t.Context(), []string{"-otlp", failing.URL}, &out), "404")
	require.Contains(t, out.String(), "process orders", "the console shows the trace all the same")
}

func TestBadFlagsAndNoBroker(t *testing.T) {
	testkit.Slow(t, "waits for a broker that is not there")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"-nonsense"}, {"-role", "judge"}, {"-role", "consume"}, {"-topic", "no topic"}, {"-otlp", "http://%"},
		{"-brokers", "127.0.0.1:1", "-role", "produce"},
	} {
		assert.Error(t, run(ctx, args, io.Discard), "%v", args)
	}
}

// checkTrace fails the test unless spans are one order's trace, of two
// services or of one.
func checkTrace(t *testing.T, spans map[string][]received, producer, consumer string) {
	t.Helper()
	one := func(name string) received {
		t.Helper()
		require.Len(t, spans[name], 1, "spans named %q", name)
		return spans[name][0]
	}
	request, send, process, result := one("POST /orders"), one("send orders"), one("process orders"), one("send results")
	attempts := spans["attempt orders"]
	require.Len(t, attempts, 3)
	child := func(s, parent received) {
		t.Helper()
		assert.Equal(t, parent.SpanId, s.ParentSpanId, "%s is a child of %s", s.Name, parent.Name)
		assert.Equal(t, request.TraceId, s.TraceId, s.Name)
	}
	assert.Empty(t, request.parent())
	child(send, request)
	child(process, send)
	for i, a := range attempts {
		child(a, process)
		if i == 2 {
			assert.NotEqual(t, tracepb.Status_STATUS_CODE_ERROR, a.Status.GetCode(), "attempt 3")
			continue
		}
		assert.Equal(t, tracepb.Status_STATUS_CODE_ERROR, a.Status.GetCode(), "attempt %d", i+1)
		assert.Equal(t, "NO_COURIER", a.attr("error.type"), "attempt %d", i+1)
	}
	child(result, attempts[2])
	if assert.Len(t, process.Links, 1) {
		assert.Equal(t, send.SpanId, process.Links[0].SpanId)
	}
	assert.Equal(t, tracepb.Status_STATUS_CODE_UNSET, process.Status.GetCode())
	for s, kind := range map[*tracepb.Span]tracepb.Span_SpanKind{
		send.Span: tracepb.Span_SPAN_KIND_PRODUCER, process.Span: tracepb.Span_SPAN_KIND_CONSUMER,
		attempts[0].Span: tracepb.Span_SPAN_KIND_INTERNAL, result.Span: tracepb.Span_SPAN_KIND_PRODUCER,
	} {
		assert.Equal(t, kind, s.Kind, s.Name)
	}
	for _, s := range []received{request, send} {
		assert.Equal(t, producer, s.service, s.Name)
	}
	for _, s := range []received{process, attempts[0], result} {
		assert.Equal(t, consumer, s.service, s.Name)
	}
	assert.Equal(t, producer != consumer, send.pid != process.pid, "process ids %d and %d", send.pid, process.pid)
}

// A receiver takes what is sent to it by OTLP/HTTP.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []received
	metrics map[string]bool
}

// A received is a span, and whose it is.
type received struct {
	*tracepb.Span
	service string
	pid     int64
}

func listen(t *testing.T) *receiver {
	r := &receiver{metrics: map[string]bool{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, q *http.Request) {
		var m collecttrace.ExportTraceServiceRequest
		if read(t, q, &m) {
			r.takeSpans(&m)
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, q *http.Request) {
		var m collectmetrics.ExportMetricsServiceRequest
		if read(t, q, &m) {
			r.takeMetrics(&m)
		}
	})
	r.Server = httptest.NewServer(mux)
	t.Cleanup(r.Close)
	return r
}

func read(t *testing.T, q *http.Request, m proto.Message) bool {
	body, err := io.ReadAll(q.Body)
	if err == nil {
		err = proto.Unmarshal(body, m)
	}
	return assert.NoError(t, err, q.URL)
}

func (r *receiver) takeSpans(m *collecttrace.ExportTraceServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range m.ResourceSpans {
		of := func(key string) *commonpb.AnyValue { return find(resource.Resource.Attributes, key) }
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				r.spans = append(r.spans, received{s, of("service.name").GetStringValue(), of("process.pid").GetIntValue()})
			}
		}
	}
}

func (r *receiver) takeMetrics(m *collectmetrics.ExportMetricsServiceRequest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range m.ResourceMetrics {
		for _, scope := range resource.ScopeMetrics {
			for _, metric := range scope.Metrics {
				r.metrics[metric.Name] = true
			}
		}
	}
}

// all returns the spans by name, each name's in order of their end.
func (r *receiver) all() map[string][]received {
	r.mu.Lock()
	defer r.mu.Unlock()
	byName := map[string][]received{}
	for _, s := range r.spans {
		byName[s.Name] = append(byName[s.Name], s)
	}
	return byName
}

func (r received) parent() string { return string(r.ParentSpanId) }

func (r received) attr(key string) string { return find(r.Attributes, key).GetStringValue() }

func find(attrs []*commonpb.KeyValue, key string) *commonpb.AnyValue {
	for _, a := range attrs {
		if a.Key == key {
			return a.Value
		}
	}
	return nil
}

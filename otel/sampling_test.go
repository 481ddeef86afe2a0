package otelkafka

import (
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// A capture is a sampler that keeps what it is asked.
type capture struct{ asked []sdktrace.SamplingParameters }

func (c *capture) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	c.asked = append(c.asked, p)
	return sdktrace.AlwaysSample().ShouldSample(p)
}

func (c *capture) Description() string { return "capture" }

func TestA40_SamplersSeeWhatTheyNeed(t *testing.T) {
	sampler := &capture{}
	c := newSampled(t, sampler)
	var pinned int32 = 3
	must(t, (&cluster{}).sender(t, c.hook).SendMessage(t.Context(), &kafka.ProducerMessage{Topic: "orders", ToPartition: &pinned}))
	op := newProcess(nil)
	processOnce(c.hook, op)
	for i, want := range [][]attribute.KeyValue{
		{attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
			attribute.String("server.address", "kafka.test"), attribute.Int("server.port", 9092)},
		{attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.consumer.group.name", "g"), attribute.String("server.address", "kafka")},
	} {
		got := attribute.NewSet(sampler.asked[i].Attributes...)
		want = append(want, attribute.String("messaging.system", "kafka"), attribute.String("messaging.destination.name", "orders"),
			attribute.String("messaging.destination.partition.id", "3"))
		if !hasAll(got, want) {
			t.Errorf("the sampler saw %v, want %v", show(got), want)
		}
	}
}

// A41: an unsampled context makes no span and travels on, flag and all. The
// allocations are in TestA42_AllocationBudgets.
func TestA41_UnsampledIsPassedOn(t *testing.T) {
	_, sc := remoteHeaders(1, false)
	send := func(opts ...Option) (*telemetry, trace.SpanContext) {
		c := newSampled(t, sdktrace.AlwaysSample(), opts...)
		d := &cluster{}
		must(t, d.sender(t, c.hook).Send(trace.ContextWithRemoteSpanContext(t.Context(), sc), "orders", nil, nil))
		return c, c.hook.propagate().remote(d.sent[0].Headers)
	}
	c, got := send()
	if len(c.recorder.Started()) != 0 || got.SpanID() != sc.SpanID() || got.TraceFlags() != 0 {
		t.Errorf("%d spans, carries %v", len(c.recorder.Started()), got)
	}
	// A sampler that would decide otherwise is asked if that is wanted.
	c, got = send(WithUnsampledPassthrough(false))
	if s := c.one("send orders"); got.SpanID() != s.SpanContext().SpanID() || !got.IsSampled() {
		t.Errorf("carries %v", got)
	}
}

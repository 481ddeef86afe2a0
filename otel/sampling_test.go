package otelkafka

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// A capture is a sampler that records its calls.
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
	require.NoError(t, (&cluster{}).sender(t, c.hook).SendMessage(t.Context(), &kafka.ProducerMessage{Topic: "orders", ToPartition: &pinned}))
	op := newProcess(nil)
	processOnce(c.hook, op)
	require.Len(t, sampler.asked, 2)
	for i, want := range [][]attribute.KeyValue{
		{attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
			attribute.String("server.address", "kafka.test"), attribute.Int("server.port", 9092)},
		{attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.consumer.group.name", "g"), attribute.String("server.address", "kafka")},
	} {
		got := attribute.NewSet(sampler.asked[i].Attributes...)
		want = append(want, attribute.String("messaging.system", "kafka"), attribute.String("messaging.destination.name", "orders"),
			attribute.String("messaging.destination.partition.id", "3"))
		assert.Subset(t, got.ToSlice(), want, "call %d of the sampler", i)
	}
}

// A41: an unsampled context makes no span and travels on with its flag.
// TestA42_AllocationBudgets counts the allocations.
func TestA41_UnsampledIsPassedOn(t *testing.T) {
	_, sc := remoteHeaders(1, false)
	send := func(opts ...Option) (*telemetry, trace.SpanContext) {
		c := newSampled(t, sdktrace.AlwaysSample(), opts...)
		d := &cluster{}
		require.NoError(t, d.sender(t, c.hook).Send(trace.ContextWithRemoteSpanContext(t.Context(), sc), "orders", nil, nil))
		return c, c.hook.spans.propagate().remote(d.sent[0].Headers)
	}
	c, got := send()
	assert.Empty(t, c.recorder.Started())
	assert.Equal(t, sc.SpanID(), got.SpanID())
	assert.Equal(t, trace.TraceFlags(0), got.TraceFlags())
	// Without the passthrough, the sampler decides, and may decide otherwise.
	c, got = send(WithUnsampledPassthrough(false))
	assert.Equal(t, c.one("send orders").SpanContext().SpanID(), got.SpanID())
	assert.True(t, got.IsSampled())
}

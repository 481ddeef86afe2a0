package otelkafka

import (
	"context"
	"encoding/hex"
	"slices"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
)

// A propagator carries contexts in headers. What it does most often, a bare W3C
// traceparent, it writes and reads itself, without allocating.
type propagator struct {
	propagation.TextMapPropagator
	fields []string
	w3c    bool // a bare span context is a traceparent and nothing else
}

var w3cFields = []string{"traceparent", "tracestate", "baggage"}

// newPropagator returns p, or the default where p is nil.
func newPropagator(p propagation.TextMapPropagator) *propagator {
	if p == nil {
		p = otel.GetTextMapPropagator()
		if len(p.Fields()) == 0 {
			p = propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{})
		}
	}
	return &propagator{TextMapPropagator: p, fields: p.Fields(), w3c: writesW3C(p)}
}

// writesW3C reports whether p writes a bare span context as W3C says and writes
// nothing but W3C's headers.
func writesW3C(p propagation.TextMapPropagator) bool {
	for _, f := range p.Fields() {
		if !slices.Contains(w3cFields, f) {
			return false
		}
	}
	sc := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: 1})
	written := propagation.MapCarrier{}
	p.Inject(trace.ContextWithSpanContext(context.Background(), sc), written)
	var want [traceparentSize]byte
	putTraceparent(want[:], sc)
	return len(written) == 1 && written["traceparent"] == string(want[:])
}

// inject gives the message of op the context of the span in ctx, and ctx's
// baggage, in place of any that it had. If ctx has neither, nothing changes.
func (p *propagator) inject(ctx context.Context, op *kafka.Op) {
	sc := trace.SpanContextFromContext(ctx)
	luggage := baggage.FromContext(ctx).Len() > 0
	if !sc.IsValid() && !luggage {
		return
	}
	p.strip(op)
	if p.w3c && !luggage && sc.TraceState().Len() == 0 {
		putTraceparent(op.SetHeaderSize("traceparent", traceparentSize), sc)
		return
	}
	p.Inject(ctx, sendCarrier{op})
}

// strip removes a context from the message of op.
func (p *propagator) strip(op *kafka.Op) {
	for _, f := range p.fields {
		if _, ok := last(op.Headers(), f); ok {
			op.DeleteHeader(f)
		}
	}
}

// extract returns ctx with the context and the baggage that hs carry, and that
// context, which is invalid if there is none.
func (p *propagator) extract(ctx context.Context, hs []kafka.Header) (context.Context, trace.SpanContext) {
	if p.w3c {
		if sc, ok := bareTraceparent(hs); ok {
			return trace.ContextWithRemoteSpanContext(ctx, sc), sc
		}
	}
	for _, f := range p.fields {
		if _, ok := last(hs, f); ok {
			before := trace.SpanContextFromContext(ctx)
			ctx = p.Extract(ctx, &recordCarrier{hs})
			sc := trace.SpanContextFromContext(ctx)
			if sc.Equal(before) {
				sc = trace.SpanContext{}
			}
			return ctx, sc
		}
	}
	return ctx, trace.SpanContext{}
}

// remote returns the span context that hs carry, which may be invalid.
func (p *propagator) remote(hs []kafka.Header) trace.SpanContext {
	if p.w3c {
		if sc, ok := bareTraceparent(hs); ok {
			return sc
		}
	}
	_, sc := p.extract(context.Background(), hs)
	return sc
}

// last returns the last header of that key, as Kafka's own clients do.
func last(hs []kafka.Header, key string) ([]byte, bool) {
	for i := len(hs) - 1; i >= 0; i-- {
		if hs[i].Key == key {
			return hs[i].Value, true
		}
	}
	return nil, false
}

// A recordCarrier reads the headers of a record.
type recordCarrier struct{ headers []kafka.Header }

func (c *recordCarrier) Get(key string) string {
	v, _ := last(c.headers, key)
	return string(v)
}

func (c *recordCarrier) Values(key string) (values []string) {
	for _, h := range c.headers {
		if h.Key == key {
			values = append(values, string(h.Value))
		}
	}
	return values
}

func (c *recordCarrier) Keys() []string { return keysOf(c.headers) }

func (c *recordCarrier) Set(string, string) {} // a record is not changed

// A sendCarrier writes the headers of a message to be sent.
type sendCarrier struct{ op *kafka.Op }

func (c sendCarrier) Get(key string) string {
	v, _ := last(c.op.Headers(), key)
	return string(v)
}

func (c sendCarrier) Keys() []string { return keysOf(c.op.Headers()) }

func (c sendCarrier) Set(key, value string) { c.op.SetHeader(key, value) }

func keysOf(hs []kafka.Header) []string {
	keys := make([]string, len(hs))
	for i, h := range hs {
		keys[i] = h.Key
	}
	return keys
}

// A traceparent of version 00 is 00-<trace id>-<span id>-<flags>, in lower case.
const traceparentSize = 2 + 1 + 32 + 1 + 16 + 1 + 2

func putTraceparent(b []byte, sc trace.SpanContext) {
	traceID, spanID := sc.TraceID(), sc.SpanID()
	flags := [1]byte{byte(sc.TraceFlags() & (trace.FlagsSampled | trace.FlagsRandom))}
	copy(b, "00-")
	hex.Encode(b[3:], traceID[:])
	b[35] = '-'
	hex.Encode(b[36:], spanID[:])
	b[52] = '-'
	hex.Encode(b[53:], flags[:])
}

// bareTraceparent returns the span context of hs if they carry a traceparent of
// version 00 without tracestate and baggage. Everything else is left to the
// propagator: it also decides what is malformed.
func bareTraceparent(hs []kafka.Header) (trace.SpanContext, bool) {
	var value []byte
	for i := range hs {
		switch hs[i].Key {
		case "traceparent":
			value = hs[i].Value
		case "tracestate", "baggage":
			return trace.SpanContext{}, false
		}
	}
	if len(value) != traceparentSize || string(value[:3]) != "00-" || value[35] != '-' || value[52] != '-' {
		return trace.SpanContext{}, false
	}
	cfg := trace.SpanContextConfig{Remote: true}
	var flags [1]byte
	if !lowerHex(cfg.TraceID[:], value[3:35]) || !lowerHex(cfg.SpanID[:], value[36:52]) || !lowerHex(flags[:], value[53:]) || flags[0] > 3 {
		return trace.SpanContext{}, false
	}
	cfg.TraceFlags = trace.TraceFlags(flags[0])
	sc := trace.NewSpanContext(cfg)
	return sc, sc.IsValid()
}

func lowerHex(dst, src []byte) bool {
	for _, c := range src {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(dst, src)
	return err == nil
}

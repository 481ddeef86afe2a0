package otelkafka_test

import (
	"context"
	"log/slog"
	"os"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/aarontianqx/gopkg/kafka"
	otelkafka "github.com/aarontianqx/gopkg/otel"
)

// A traced handler adds the trace of a line's context to the line, so that
// logs written to files and streams can be found by their trace. Who sends logs
// by OTLP takes contrib's otelslog bridge instead, which does the same.
type traced struct{ slog.Handler }

func (h traced) Handle(ctx context.Context, r slog.Record) error {
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		r.AddAttrs(slog.String("trace_id", sc.TraceID().String()), slog.String("span_id", sc.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traced) WithAttrs(attrs []slog.Attr) slog.Handler { return traced{h.Handler.WithAttrs(attrs)} }
func (h traced) WithGroup(name string) slog.Handler       { return traced{h.Handler.WithGroup(name)} }

// A log line that is written with a handler's context joins its trace.
func Example_slog() {
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	log := slog.New(traced{slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: noTime})})
	// Without a sampled parent nothing is recorded here, but the trace goes on.
	hook := otelkafka.New(otelkafka.WithTracerProvider(sdktrace.NewTracerProvider()))

	record := &kafka.Message{Topic: "orders", Offset: 42, Headers: []kafka.Header{
		{Key: "traceparent", Value: []byte("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")},
	}}
	ctx, end := hook.StartProcess(context.Background(), record) // a consumer's handler gets its ctx from the manager
	log.InfoContext(ctx, "order shipped", "offset", record.Offset)
	end(nil)
	// Output: level=INFO msg="order shipped" offset=42 trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7
}

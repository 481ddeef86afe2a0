package main

import (
	"context"
	"errors"
	"net/url"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/semconv/v1.43.0"
)

// A telemetry is the program's OpenTelemetry SDK: it keeps spans and metrics for
// the console, and sends them by OTLP if a receiver is named.
type telemetry struct {
	tracers *sdktrace.TracerProvider
	meters  *sdkmetric.MeterProvider
	spans   *tree
	reader  *sdkmetric.ManualReader
}

func startTelemetry(ctx context.Context, o options) (*telemetry, error) {
	service, err := resource.New(ctx,
		resource.WithAttributes(semconv.ServiceName("shop-"+o.role)),
		resource.WithProcessPID(), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, err
	}
	t := &telemetry{spans: &tree{}, reader: sdkmetric.NewManualReader()}
	traces := []sdktrace.TracerProviderOption{sdktrace.WithResource(service), sdktrace.WithSyncer(t.spans)}
	metrics := []sdkmetric.Option{sdkmetric.WithResource(service), sdkmetric.WithReader(t.reader)}
	if o.otlp != "" {
		spans, numbers, err := exporters(ctx, o.otlp)
		if err != nil {
			return nil, err
		}
		traces = append(traces, sdktrace.WithBatcher(spans))
		metrics = append(metrics, sdkmetric.WithReader(sdkmetric.NewPeriodicReader(numbers)))
	}
	t.tracers = sdktrace.NewTracerProvider(traces...)
	t.meters = sdkmetric.NewMeterProvider(metrics...)
	return t, nil
}

// exporters returns those that send to an OTLP/HTTP endpoint.
func exporters(ctx context.Context, endpoint string) (sdktrace.SpanExporter, sdkmetric.Exporter, error) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return nil, nil, err
	}
	spans, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.JoinPath("v1/traces").String()))
	if err != nil {
		return nil, nil, err
	}
	numbers, err := otlpmetrichttp.New(ctx, otlpmetrichttp.WithEndpointURL(u.JoinPath("v1/metrics").String()))
	return spans, numbers, err
}

// measure collects the metrics for the console, and sends them.
func (t *telemetry) measure(ctx context.Context) (*metricdata.ResourceMetrics, error) {
	var m metricdata.ResourceMetrics
	return &m, errors.Join(t.reader.Collect(ctx, &m), t.meters.ForceFlush(ctx))
}

// shutdown sends what has not been sent.
func (t *telemetry) shutdown(ctx context.Context) error {
	return errors.Join(t.tracers.Shutdown(ctx), t.meters.Shutdown(ctx))
}

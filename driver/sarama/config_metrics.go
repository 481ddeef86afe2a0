package sarama

import "github.com/rcrowley/go-metrics"

// noMetrics is a registry that keeps nothing: registries of clients that come
// and go leak. It is one per client; metrics.UseNilMetrics would be the whole
// process's. One meter a topic escapes it: Sarama marks the rate of fetches in
// the global registry of go-metrics (fetch_request.go), which runs a goroutine
// as long as the process lives.
type noMetrics struct{ metrics.Registry }

func newNoMetrics() metrics.Registry { return noMetrics{metrics.NewRegistry()} }

// GetOrRegister returns a metric of the kind that is asked for, which does
// nothing.
func (noMetrics) GetOrRegister(_ string, metric any) any {
	switch m := metric.(type) {
	case func() metrics.Meter, metrics.Meter:
		return metrics.NilMeter{}
	case func() metrics.Counter, metrics.Counter:
		return metrics.NilCounter{}
	case func() metrics.Histogram, metrics.Histogram:
		return metrics.NilHistogram{}
	default:
		return m
	}
}

// Register implements metrics.Registry.
func (noMetrics) Register(string, any) error { return nil }

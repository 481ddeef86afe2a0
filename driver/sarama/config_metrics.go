package sarama

import "github.com/rcrowley/go-metrics"

// noMetrics is a registry that keeps nothing: the registries of clients that come and go
// leak. Each client has its own; metrics.UseNilMetrics would concern the whole process. One
// meter per topic escapes it: Sarama marks the rate of fetches in the global registry of
// go-metrics (fetch_request.go), which runs a goroutine as long as the process lives.
type noMetrics struct{ metrics.Registry }

func newNoMetrics() metrics.Registry { return noMetrics{metrics.NewRegistry()} }

// GetOrRegister returns a metric of the requested kind that does nothing.
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

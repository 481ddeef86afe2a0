package sarama

import "github.com/rcrowley/go-metrics"

// noMetrics is a registry that keeps nothing. Sarama's own meters start a
// goroutine that never ends, and registries of clients that come and go leak.
// It is one per client: metrics.UseNilMetrics would be the whole process's.
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

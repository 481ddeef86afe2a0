package kafka

import (
	"context"
	"sync/atomic"
)

// The default manager is the only state that the package has.
var defaultManager atomic.Pointer[Manager]

func init() { defaultManager.Store(New(nil)) }

// Default returns the manager that the package's functions serve. Until
// SetDefault it has no driver: consumers can be registered, but opening gives
// ErrNoDriver.
func Default() *Manager { return defaultManager.Load() }

// SetDefault makes m the manager that the package's functions serve. Call it
// in main before anything is registered: what was registered before stays with
// the manager before. A nil m is ignored.
func SetDefault(m *Manager) {
	if m != nil {
		defaultManager.Store(m)
	}
}

// RegisterConsumer calls [Manager.RegisterConsumer] of the default manager.
func RegisterConsumer(ctx context.Context, c Consumer) error {
	return Default().RegisterConsumer(ctx, c)
}

// RegisterProducer calls [Manager.RegisterProducer] of the default manager.
func RegisterProducer(ctx context.Context, cfg ProducerConfig) (*Producer, error) {
	return Default().RegisterProducer(ctx, cfg)
}

// SetConsumerSwitch calls [Manager.SetConsumerSwitch] of the default manager.
func SetConsumerSwitch(jobName string, on bool) error {
	return Default().SetConsumerSwitch(jobName, on)
}

// GetConsumerSwitch calls [Manager.GetConsumerSwitch] of the default manager.
func GetConsumerSwitch(jobName string) bool { return Default().GetConsumerSwitch(jobName) }

// StartAllConsumers calls [Manager.StartAllConsumers] of the default manager.
func StartAllConsumers(ctx context.Context) error { return Default().StartAllConsumers(ctx) }

// Run calls [Manager.Run] of the default manager.
func Run(ctx context.Context, consumers ...Consumer) error { return Default().Run(ctx, consumers...) }

// WaitStop calls [Manager.WaitStop] of the default manager.
func WaitStop() { Default().WaitStop() }

package testkit

import (
	"go.uber.org/goleak"
)

// NoLeaks is the TestMain of a package whose tests must leave no goroutine behind.
func NoLeaks(m goleak.TestingM) { goleak.VerifyTestMain(m) }

// NoLeaksBesideSarama is NoLeaks for tests that run Sarama. Sarama marks fetches in the
// global registry of go-metrics, whatever registry it was given. The first meter of a
// process starts one goroutine that never ends.
func NoLeaksBesideSarama(m goleak.TestingM) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

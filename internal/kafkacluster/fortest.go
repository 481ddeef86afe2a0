package kafkacluster

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"
)

// startTimeout bounds the start of a cluster in a test, the first download
// included.
const startTimeout = 3 * time.Minute

// ForTest returns a cluster that is closed when the test is over. When the test
// has failed, the end of each broker's log goes to the test's.
//
// With KAFKA_BROKERS set it returns that running cluster, unless cfg asks for
// something that only a cluster of its own has. Where Kafka is not available,
// and with -short, the test is skipped with the reason; with CI=true the former
// is a failure and the latter is ignored, so that a suite cannot pass by not
// being run.
func ForTest(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	if addrs := os.Getenv("KAFKA_BROKERS"); addrs != "" && !cfg.needsOwn() {
		return Connect(addrs)
	}
	NotShort(t)
	ci := inCI()
	if cfg.Version == "" {
		cfg.Version = os.Getenv("KAFKA_VERSION")
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	c, err := Start(ctx, cfg)
	if errors.Is(err, ErrUnavailable) && !ci {
		t.Skipf("skipped: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, b := range c.brokers {
			if t.Failed() {
				t.Logf("broker %d logged last:\n%s", b.id, b.logTail())
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// NotShort skips a test that starts or downloads a real Kafka if -short is set,
// except in CI. It also skips it if KAFKA_SKIP is set, which says why: CI runs these
// suites once, and not again under the race detector.
func NotShort(t testing.TB) {
	t.Helper()
	if why := os.Getenv("KAFKA_SKIP"); why != "" {
		t.Skipf("skipped: needs a real Kafka, and KAFKA_SKIP is set: %s", why)
	}
	if testing.Short() && !inCI() {
		t.Skip("skipped: needs a real Kafka, and -short is set")
	}
}

func inCI() bool { return os.Getenv("CI") == "true" }

// needsOwn reports whether cfg asks for what an arbitrary cluster may lack.
func (cfg Config) needsOwn() bool {
	return cfg.Private || cfg.Brokers > 1 || cfg.Version != "" ||
		cfg.Properties != nil || cfg.Security != nil || cfg.Advertise != nil
}

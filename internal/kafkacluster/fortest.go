package kafkacluster

import (
	"context"
	"errors"
	"os"
	"sync"
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
	c, err := startForTest(t.Context(), cfg)
	mustStart(t, err)
	t.Cleanup(func() {
		c.logFailure(t)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func startForTest(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.Version == "" {
		cfg.Version = os.Getenv("KAFKA_VERSION")
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return Start(ctx, cfg)
}

// mustStart ends the test if the start of its cluster has failed with err.
func mustStart(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrUnavailable) && !inCI() {
		t.Skipf("skipped: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// logFailure writes the end of each broker's log to that of a test that has failed.
func (c *Cluster) logFailure(t testing.TB) {
	for _, b := range c.brokers {
		if t.Failed() {
			t.Logf("broker %d logged last:\n%s", b.id, b.logTail())
		}
	}
}

// A Shared is one cluster for several tests of a package, each of which uses topics
// and groups of its own and leaves the brokers alone. Its start is paid for once, and
// the tests may run in parallel. The zero Shared is ready for use.
type Shared struct {
	once sync.Once
	c    *Cluster
	err  error
}

// ForTest returns the cluster, which the first call starts. It skips and fails as the
// function ForTest does with the zero [Config], and returns the running cluster that
// KAFKA_BROKERS names.
func (s *Shared) ForTest(t testing.TB) *Cluster {
	t.Helper()
	if addrs := os.Getenv("KAFKA_BROKERS"); addrs != "" {
		return Connect(addrs)
	}
	NotShort(t)
	s.once.Do(func() { s.c, s.err = startForTest(context.Background(), Config{}) })
	mustStart(t, s.err)
	t.Cleanup(func() { s.c.logFailure(t) })
	return s.c
}

// Close closes the cluster, if a test has started it. TestMain calls it when all tests
// are over.
func (s *Shared) Close() error {
	if s.c == nil {
		return nil
	}
	return s.c.Close()
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

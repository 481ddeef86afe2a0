package franz

import (
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestFault_H13_ManyPartitionsStartWithinTheirBound checks the bounds that
// RELIABILITY.md states for consumers of very many partitions: the time to start and
// the number of goroutines.
func TestFault_H13_ManyPartitionsStartWithinTheirBound(t *testing.T) {
	testkit.Slow(t, "starts a consumer of 5,000 partitions")
	const partitions = 5_000
	cluster := fake(t, kfake.SeedTopics(partitions, "many"))
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics = []string{"many"}
	cfg.SessionTimeout, cfg.HeartbeatInterval, cfg.RebalanceTimeout = 30*time.Second, time.Second, time.Minute
	before, began := runtime.NumGoroutine(), time.Now()
	r := newRecorder()
	start(t, Driver{}, cfg, r)
	r.waitFor(t, time.Minute, "all partitions", func() bool { return len(r.live) == partitions })
	t.Logf("%d partitions after %v, with %.1f goroutines each", partitions, time.Since(began).Round(time.Millisecond),
		float64(runtime.NumGoroutine()-before)/partitions)
	assert.Less(t, runtime.NumGoroutine()-before, 7*partitions)
}

package franz

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestPanicInDeliverLosesNothing: a poll brings records of two partitions, and the first
// Deliver panics. The other claim goes on, and the records of the first are read again.
func TestPanicInDeliverLosesNothing(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{false, true} {
		name := "fetched"
		if held {
			name = "held"
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := fake(t, kfake.SeedTopics(2, "two"))
			send := func(from, to int) {
				for p := range int32(2) {
					seed(t, cluster.ListenAddrs(), "two", p, numbered(from, to)...)
				}
			}
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.Topics = []string{"two"}
			r := newRecorder()
			var once sync.Once
			fail := func(*driver.Claim, driver.Record) { once.Do(func() { panic("boom") }) }
			if held {
				m := start(t, Driver{}, cfg, r)
				r.wait(t, "the assignment", func() bool { return len(r.live) == 2 })
				one, other := r.claim(0), r.claim(1)
				m.Pause(one, other)
				send(0, 10)
				require.Eventually(t, func() bool { return holds(one) || holds(other) }, patienceTest, time.Millisecond)
				one.Backend.(*claim).session.turn.quiet(func() {
					r.onRecord = fail
					m.Resume(one, other)
				})
			} else {
				send(0, 10)
				r.onRecord = fail
				start(t, Driver{}, cfg, r)
			}
			r.wait(t, "delivery of everything", func() bool { return len(r.offsets(0)) >= 10 && len(r.offsets(1)) >= 10 })
			send(10, 20)
			r.wait(t, "delivery of what comes later", func() bool { return len(r.offsets(0)) >= 20 && len(r.offsets(1)) >= 20 })
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, wiretest.UpTo(20), r.offsets(0), "offsets of partition 0")
			assert.Equal(t, wiretest.UpTo(20), r.offsets(1), "offsets of partition 1")
			assert.Len(t, r.assigned, 3, "claims assigned")
			assert.Empty(t, r.revoked)
			if assert.Len(t, r.causes, 1, "claims lost") {
				assert.Equal(t, "HANDLER_PANIC", testkit.Code(r.causes[0]))
			}
			if assert.Len(t, r.errs, 1) {
				assert.EqualError(t, r.errs[0], "HANDLER_PANIC: panic in Handler.Deliver: boom")
			}
		})
	}
}

// holds reports whether a claim keeps a batch for later.
func holds(c *driver.Claim) bool {
	cl := c.Backend.(*claim)
	cl.mu.Lock()
	defer cl.mu.Unlock()
	return len(cl.held) > 0
}

package kafka

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// crowd is a handler that blocks until release, and counts how many are inside.
type crowd struct {
	inside, most atomic.Int32
	release      chan struct{}
}

func (c *crowd) handle(context.Context, []byte) error {
	n := c.inside.Add(1)
	defer c.inside.Add(-1)
	for most := c.most.Load(); n > most && !c.most.CompareAndSwap(most, n); most = c.most.Load() {
	}
	<-c.release
	return nil
}

// A claim that is lost while it waits for the worker of the one before must not
// make the job forget that one.
func TestStragglersFormAChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, crowd := &fakeDriver{}, &crowd{release: make(chan struct{})}
		m := New(d, quiet())
		startOn(t, m, &handlerFunc{testConfig(), crowd.handle})
		c := d.consumer(t)
		for range 3 {
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			synctest.Wait()
			c.lose(cl)
			synctest.Wait()
		}
		assert.Len(t, state(t, m).Stragglers, 1)
		assert.Equal(t, int32(1), crowd.most.Load(), "handlers at once")
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var se *StopError
		if assert.ErrorAs(t, m.Shutdown(ctx), &se) {
			assert.Len(t, se.Running, 1)
		}
		close(crowd.release)
		require.NoError(t, m.Shutdown(context.Background()))
	})
}

// The driver may assign a partition again as soon as Revoke's window has ended,
// before Revoke has returned.
func TestAssignAtTheEndOfAWindowWaitsForTheStraggler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, crowd := &fakeDriver{}, &crowd{release: make(chan struct{})}
		start(t, d, testConfig(), crowd.handle)
		c := d.consumer(t)
		first := c.assign(0, 0)
		c.deliver(first, 0, 0)
		synctest.Wait()
		c.take(first)
		ctx, cancel := context.WithCancel(context.Background())
		go c.h.Revoke(ctx, []*driver.Claim{first})
		synctest.Wait()
		cancel()
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		assert.Equal(t, int32(1), crowd.most.Load(), "handlers of one partition at once")
		close(crowd.release)
	})
}

// A handler that outlives its claim must not meet the next claim of the same
// partition in this process.
func TestReassignedPartitionWaitsForItsStraggler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		release := make(chan struct{})
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) == "0" && len(got.all()) == 1 {
				<-release
			}
			return nil
		})
		c := d.consumer(t)
		old, other := c.assign(0, 0), c.assign(1, 0)
		c.deliver(old, 0, 2)
		synctest.Wait()
		c.lose(old)
		again := c.assign(0, 0)
		c.deliver(again, 0, 1)
		c.deliver(other, 100, 100)
		pass(time.Minute)
		assert.Equal(t, []string{"0", "100"}, got.all(), "handled while the old handler runs")
		assert.Equal(t, []TopicPartition{{"orders", 0}}, state(t, m).Stragglers)
		close(release)
		synctest.Wait()
		assert.Equal(t, []string{"0", "100", "0", "1"}, got.all())
	})
}

// A handler that is stuck does not hold a revocation beyond its window, and the
// records that were handled before it are committed within the window.
func TestStuckHandlerDoesNotHoldTheRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		release := make(chan struct{})
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			if string(v) == "2" {
				<-release
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 4)
		synctest.Wait()
		began := time.Now()
		c.revoke(cl)
		took := time.Since(began)
		assert.LessOrEqual(t, took, c.cfg.DrainTimeout)
		assert.Equal(t, int64(2), c.position(cl))
		stuck := []TopicPartition{{"orders", 0}}
		assert.Equal(t, []PartitionsRevoked{{"job", "group", stuck, stuck, took}}, eventsOf[PartitionsRevoked](hook))
		close(release)
	})
}

package kafka

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// A full queue pauses its claim, and resumes it when half of it is handled; other
// partitions go on.
func TestFullQueuePausesItsClaimOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBufferedMessages = 10
		d, got := &fakeDriver{}, &seen{}
		m := start(t, d, cfg, func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) < "5" {
				time.Sleep(time.Second)
			}
			return nil
		})
		c := d.consumer(t)
		slow, fast := c.assign(0, 0), c.assign(1, 0)
		c.deliver(slow, 0, 10)
		c.deliver(fast, 500, 502)
		synctest.Wait()
		require.Equal(t, []string{"pause 0"}, c.pauseLog())
		ps := state(t, m).Partitions
		require.Len(t, ps, 2)
		assert.True(t, ps[0].Paused)
		assert.Equal(t, 11, ps[0].Buffered)
		assert.False(t, ps[1].Paused)
		assert.Equal(t, int64(503), ps[1].Position)
		pass(20 * time.Second)
		require.Equal(t, []string{"pause 0", "resume 0"}, c.pauseLog())
	})
}

func TestBytesBoundTheQueueToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBufferedBytes = 1 << 20
		d := &fakeDriver{}
		release := make(chan struct{})
		start(t, d, cfg, func(context.Context, []byte) error { <-release; return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, driver.Batch{Records: []driver.Record{{Offset: 0, Value: make([]byte, 2<<20)}}})
		synctest.Wait()
		assert.Equal(t, []string{"pause 0"}, c.pauseLog())
		close(release)
	})
}

// The queue is judged full, and the worker empties it before the driver has paused:
// then nothing would ever resume it.
func TestPauseIsNotOvertaken(t *testing.T) {
	d := &fakeDriver{}
	cfg := testConfig()
	cfg.MaxBufferedMessages = 1
	var handled atomic.Int64
	m := New(d, quiet())
	t.Cleanup(func() { stop(t, m) })
	require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, func(context.Context, []byte) error { handled.Add(1); return nil }}))
	require.NoError(t, m.SetConsumerSwitch("job", true))
	require.NoError(t, m.StartAllConsumers(context.Background()))
	for deadline := time.Now().Add(10 * time.Second); state(t, m).State != StateRunning; time.Sleep(time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "not running within 10s: %+v", state(t, m))
	}
	c := d.consumer(t)
	cl := c.assign(0, 0)
	in := cl.Owner.(*partition).intake
	for offset := int64(0); offset < 10_000; offset += 2 {
		c.deliver(cl, offset, offset+1)
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(0) {
			in.mu.Lock()
			settled := in.waiting && !in.flow.have && in.flow.reasons == 0
			flow, queued := in.flow, in.window.Len()
			in.mu.Unlock()
			if settled {
				break
			}
			require.True(t, time.Now().Before(deadline), "after %d records: %+v with %d queued", offset, flow, queued)
		}
		c.mu.Lock()
		c.pauses = nil
		c.mu.Unlock()
	}
}

// A driver that panics in Pause is logged, and takes neither the lane nor the process
// along.
func TestPauseThatPanicsIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBufferedMessages = 2
		d, got, log := &fakeDriver{}, &seen{}, &lines{}
		start(t, d, cfg, func(_ context.Context, v []byte) error { got.add(v); return nil },
			WithLogger(slog.New(slog.NewTextHandler(log, nil))))
		c := d.consumer(t)
		c.pausing = func() { panic("boom") }
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		pass(time.Second)
		require.Len(t, got.all(), 10)
		require.Equal(t, int64(10), c.position(cl))
		require.NotEmpty(t, log.with("level=ERROR", "kafka: driver failed", "boom"))
	})
}

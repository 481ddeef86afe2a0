package kafka

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// E7: a handler that waits by itself sees the shutdown begin, long before its
// context is cancelled, and so holds the process for no time at all.
func TestFault_E7_HandlerSeesThatTheProcessDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		var inTime bool
		startOn(t, m, &handlerFunc{testConfig(), func(ctx context.Context, _ []byte) error {
			select {
			case <-Draining(ctx):
				inTime = ctx.Err() == nil
				return errors.New("not now")
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		c := d.consumer(t)
		claim := c.assign(0, 0)
		c.deliver(claim, 0, 0)
		synctest.Wait()
		require.False(t, isClosed(Draining(context.WithValue(t.Context(), handlerKey{}, m.allJobs()[0]))), "drains before the shutdown")
		began := time.Now()
		require.NoError(t, m.Shutdown(context.Background()))
		assert.Zero(t, time.Since(began))
		assert.True(t, inTime, "the handler's context had ended")
		assert.Empty(t, c.committed(claim))
	})
}

// A switch-off and a revocation cancel the handler's context, and are no
// shutdown; a context that is no handler's has no channel.
func TestFault_E7_OnlyAShutdownDrains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		assert.Nil(t, Draining(t.Context()))
		d := &fakeDriver{}
		var drains <-chan struct{}
		m := start(t, d, testConfig(), func(ctx context.Context, _ []byte) error {
			drains = Draining(ctx)
			<-ctx.Done()
			return ctx.Err()
		})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		require.NoError(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		require.NotNil(t, drains)
		assert.False(t, isClosed(drains))
	})
}

// Kubernetes kills a pod 30 seconds after SIGTERM: the default leaves some of them
// for the rest of the program.
func TestFault_E7_DefaultTimeoutIsBelowKubernetesGracePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), func(ctx context.Context, _ []byte) error {
			<-ctx.Done()
			return ctx.Err()
		}}))
		require.NoError(t, m.SetConsumerSwitch("job", true))
		ctx, signal := context.WithCancel(context.Background())
		require.NoError(t, m.StartAllConsumers(ctx))
		synctest.Wait()
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		began := time.Now()
		signal()
		m.WaitStop()
		assert.Less(t, time.Since(began), 25*time.Second)
		assert.Greater(t, time.Since(began), 15*time.Second)
	})
}

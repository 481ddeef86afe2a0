package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// B25: the handler of the last delivered record is still running when the
// partition is revoked; the final commit carries it.
func TestB25_GracefulRevokeCommitsTheRunningRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			time.Sleep(100 * time.Millisecond) // deaf to its context
			return nil
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(50 * time.Millisecond)
		c.revoke(cl)
		require.Equal(t, []int64{1}, c.committed(cl), "when Revoke returned")
	})
}

func TestRevokeCancelsTheRunningHandlerAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*fakeConsumer, *driver.Claim)
		want error
	}{
		{"revoked", (*fakeConsumer).revoke, ErrRevoked},
		{"lost", (*fakeConsumer).lose, ErrPartitionLost},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &fakeDriver{}
			var cause error
			var took time.Duration
			hook := &recorder{}
			start(t, d, testConfig(), func(ctx context.Context, _ []byte) error {
				began := time.Now()
				<-ctx.Done()
				took, cause = time.Since(began), context.Cause(ctx)
				return ctx.Err()
			}, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 3)
			synctest.Wait()
			tt.end(c, cl)
			synctest.Wait()
			require.Zero(t, took, tt.name)
			require.Same(t, tt.want, cause, tt.name)
			require.Empty(t, c.committed(cl), tt.name)
			require.Empty(t, eventsOf[HandlerFailed](hook), "%s: an interrupted handler counts as failed", tt.name)
		})
	}
}

// I7: after a loss nothing of the claim is committed, also when its handler
// finishes later.
func TestLostPartitionIsNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		start(t, d, testConfig(), func(context.Context, []byte) error { time.Sleep(time.Second); return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		pass(1500 * time.Millisecond)
		before := len(c.committed(cl))
		c.lose(cl)
		pass(10 * time.Second)
		require.Len(t, c.committed(cl), before, "committed after the loss")
	})
}

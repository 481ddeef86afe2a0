package kafka

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// B29, W3, W5: every change of the switch is seen, at once.
func TestB29_SwitchActsAtOnceAndNoChangeIsLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		m := start(t, d, testConfig(), func(ctx context.Context, v []byte) error {
			got.add(v)
			select {
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		pass(2500 * time.Millisecond) // 0 and 1 are done, 2 is running
		began := time.Now()
		require.NoError(t, m.SetConsumerSwitch("job", false))
		require.NoError(t, m.SetConsumerSwitch("job", true)) // before the job can have seen it off
		synctest.Wait()
		require.Zero(t, time.Since(began))
		require.Equal(t, []string{"0", "1", "2"}, got.all())
		require.Equal(t, int64(2), c.position(cl))
		s := state(t, m)
		require.Equal(t, StateRunning, s.State)
		require.Zero(t, s.Errors, "an interrupted handler counts as an error")
		require.Equal(t, 2, d.openCount(), "sessions")
	})
}

func TestFlappingSwitchEndsInTheLastWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		for i := range 101 {
			require.NoError(t, m.SetConsumerSwitch("job", i%2 == 0))
			if i%7 == 0 {
				synctest.Wait()
			}
		}
		require.NoError(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		require.Equal(t, StateOff, state(t, m).State)
		require.NoError(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		require.Equal(t, StateRunning, state(t, m).State)
	})
}

// An idle stop takes no time at all.
func TestIdleStopTakesNoTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		d.consumer(t).assign(0, 0)
		pass(time.Hour)
		began := time.Now()
		require.NoError(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		require.Equal(t, StateOff, state(t, m).State)
		stop(t, m)
		require.Zero(t, time.Since(began))
	})
}

// A failure of an earlier session does not disable a consumer that has been switched
// off and on since.
func TestOldSessionDoesNotDisableANewWish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		refusals := 1
		d.commit = func(context.Context, []driver.Mark) error {
			if refusals == 0 {
				return nil
			}
			refusals--
			time.Sleep(3 * time.Second)
			return &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: driver.ErrPermanent}
		}
		cfg := testConfig()
		cfg.MaxConsecutiveErrors = 1
		m := start(t, d, cfg, nothing)
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(time.Second)
		require.NoError(t, m.SetConsumerSwitch("job", false))
		require.NoError(t, m.SetConsumerSwitch("job", true))
		pass(time.Minute)
		s := state(t, m)
		require.True(t, s.Switch, "the last wish was on; off because of %v", s.Reason)
		require.Equal(t, StateRunning, s.State)
	})
}

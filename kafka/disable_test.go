package kafka

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

func refused(code string) error {
	return &driver.Error{Code: code, Kind: driver.ErrPermanent, Err: errors.New("refused")}
}

// C3: what an operator puts right a minute after the refusal needs no second
// operator: with DisabledRetry the consumer starts again by itself.
func TestFault_C3_DisabledConsumerTriesAgainByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		granted := time.Now().Add(100 * time.Second)
		d, hook := &fakeDriver{}, &recorder{}
		d.openErr = func(int) error {
			if time.Now().Before(granted) {
				return refused("GROUP_AUTHORIZATION_FAILED")
			}
			return nil
		}
		cfg := testConfig()
		cfg.DisabledRetry = time.Minute
		began := time.Now()
		m := start(t, d, cfg, nothing, WithHook(hook))
		for n := range 2 {
			s := state(t, m)
			require.Equal(t, StateDisabled, s.State)
			require.False(t, s.Switch)
			require.ErrorIs(t, s.Reason, ErrPermanent)
			require.Equal(t, began.Add(time.Duration(n+1)*time.Minute), s.NextRetry)
			require.Equal(t, n+1, d.openCount())
			pass(time.Minute)
		}
		s := state(t, m)
		require.Equal(t, StateRunning, s.State)
		require.True(t, s.Switch)
		require.NoError(t, s.Reason)
		require.Zero(t, s.NextRetry)
		for _, e := range eventsOf[StateChanged](hook) {
			if e.From == StateDisabled {
				require.ErrorIs(t, e.Reason, ErrPermanent, "the reason stays while the consumer starts again")
			}
		}
	})
}

// While it waits, the switch acts: off ends the wait, on starts at once.
func TestFault_C3_SwitchEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(n int) error {
			if n <= 2 {
				return refused("SASL_AUTHENTICATION_FAILED")
			}
			return nil
		}}
		cfg := testConfig()
		cfg.DisabledRetry = time.Hour
		m := start(t, d, cfg, nothing)
		require.NoError(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		s := state(t, m)
		require.Equal(t, StateOff, s.State)
		require.NoError(t, s.Reason)
		require.Zero(t, s.NextRetry)
		pass(24 * time.Hour)
		require.Equal(t, 1, d.openCount(), "switched off while it waited, and started")
		require.NoError(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		require.Equal(t, StateDisabled, state(t, m).State)
		require.NoError(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		require.Equal(t, StateRunning, state(t, m).State)
		require.Equal(t, 3, d.openCount())
	})
}

// A shutdown does not wait for the retry.
func TestFault_C3_ShutdownEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.DisabledRetry = time.Hour
		d := &fakeDriver{openErr: func(int) error { return refused("SASL_AUTHENTICATION_FAILED") }}
		m := New(d, quiet())
		startOn(t, m, &handlerFunc{cfg, nothing})
		began := time.Now()
		stop(t, m)
		require.Zero(t, time.Since(began))
		require.Equal(t, StateStopped, state(t, m).State)
		require.False(t, m.GetConsumerSwitch("job"))
	})
}

// After the retry the starts are counted from zero.
func TestFault_C3_CountOfStartsBeginsAtZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(int) error { return errDial }}
		cfg := testConfig()
		cfg.DisabledRetry, cfg.MaxConsecutiveErrors = time.Hour, 3
		m := start(t, d, cfg, nothing)
		pass(10 * time.Second)
		require.Equal(t, StateDisabled, state(t, m).State)
		require.Equal(t, 3, d.openCount())
		pass(time.Hour)
		require.Equal(t, StateDisabled, state(t, m).State)
		require.Equal(t, 6, d.openCount())
	})
}

// An error that needs a decision is not tried again: a position out of range, and a
// member that another one under the same InstanceID has fenced.
func TestFault_C3_DecisionsAreLeftToTheOperator(t *testing.T) {
	for _, code := range []string{"OFFSET_OUT_OF_RANGE", "FENCED_INSTANCE_ID"} {
		for _, wrap := range []func(error) error{
			func(err error) error { return err },
			func(err error) error { return fmt.Errorf("session: %w", errors.Join(errDial, err)) },
		} {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDriver{openErr: func(int) error { return wrap(refused(code)) }}
				cfg := testConfig()
				cfg.DisabledRetry = time.Second
				m := start(t, d, cfg, nothing)
				pass(24 * time.Hour)
				s := state(t, m)
				require.Equal(t, StateDisabled, s.State, code)
				require.Equal(t, 1, d.openCount(), code)
				require.Zero(t, s.NextRetry, code)
				require.NoError(t, m.SetConsumerSwitch("job", false))
				synctest.Wait()
				require.Equal(t, StateDisabled, state(t, m).State, "no wait, nothing to end")
			})
		}
	}
}

// Commits that the broker keeps refusing disable the consumer, which then tries
// again by itself, too.
func TestFault_C3_RefusedCommitsTryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{commit: func(context.Context, []driver.Mark) error { return refused("GROUP_AUTHORIZATION_FAILED") }}
		cfg := testConfig()
		cfg.DisabledRetry, cfg.MaxConsecutiveErrors = time.Minute, 2
		m := start(t, d, cfg, nothing)
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(10 * time.Second)
		require.Equal(t, StateDisabled, state(t, m).State)
		pass(time.Minute)
		require.Equal(t, StateRunning, state(t, m).State)
		require.Equal(t, 2, d.openCount())
	})
}

// E2: a switch-on while a failed session is closing acts as soon as it has closed,
// whether a backoff or the end of all attempts would have followed.
func TestFault_E2_SwitchOnWhileAFailedSessionCloses(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		most int
	}{
		{"backoff", errors.New("connection lost"), 0},
		{"permanent", refused("GROUP_AUTHORIZATION_FAILED"), 0},
		{"too many", errors.New("connection lost"), 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, hook := &fakeDriver{}, &recorder{}
			cfg := testConfig()
			cfg.MaxConsecutiveErrors = test.most
			cfg.Backoff.Min = time.Minute
			m := start(t, d, cfg, nothing, WithHook(hook))
			c := d.consumer(t)
			c.closing = func(context.Context) { time.Sleep(5 * time.Second) }
			c.end <- test.err
			pass(time.Second)
			s := state(t, m)
			require.Equal(t, StateStopping, s.State, test.name)
			require.ErrorIs(t, s.Reason, test.err, test.name)
			require.NoError(t, m.SetConsumerSwitch("job", true))
			pass(3 * time.Second)
			require.Equal(t, 1, d.openCount(), test.name)
			pass(time.Second)
			s = state(t, m)
			require.Equal(t, StateRunning, s.State, test.name)
			require.Equal(t, 2, d.openCount(), test.name)
			require.Zero(t, s.Errors, test.name)
			require.True(t, s.Switch, test.name)
		})
	}
}

// E2: a switch-on during a start that fails acts, too.
func TestFault_E2_SwitchOnDuringAStartThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		d.opening = func(ctx context.Context, n int) error {
			if n > 1 {
				return nil
			}
			time.Sleep(10 * time.Second)
			return errDial
		}
		cfg := testConfig()
		cfg.Backoff.Min = time.Minute
		m := start(t, d, cfg, nothing)
		pass(5 * time.Second)
		require.Equal(t, StateStarting, state(t, m).State)
		require.NoError(t, m.SetConsumerSwitch("job", true))
		pass(5 * time.Second)
		require.Equal(t, StateRunning, state(t, m).State)
	})
}

// E2: a switch-on of a consumer that runs is no reason to skip the backoff of a
// failure that comes later.
func TestFault_E2_EarlierSwitchOnSkipsNoBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		require.NoError(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		d.consumer(t).end <- errors.New("connection lost")
		synctest.Wait()
		require.Equal(t, StateBackingOff, state(t, m).State)
	})
}

// D3: the reason of a failure stays, in every state, until the consumer runs again.
func TestFault_D3_ReasonStaysUntilRunning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := errors.New("connection lost")
		d, hook := &fakeDriver{}, &recorder{}
		d.opening = func(_ context.Context, n int) error {
			time.Sleep(time.Second)
			return nil
		}
		m := start(t, d, testConfig(), nothing, WithHook(hook))
		pass(time.Second)
		require.Equal(t, StateRunning, state(t, m).State)
		c := d.consumer(t)
		c.closing = func(context.Context) { time.Sleep(time.Second) }
		c.end <- lost
		for _, want := range []State{StateStopping, StateBackingOff, StateStarting} {
			pass(500 * time.Millisecond)
			s := state(t, m)
			require.Equal(t, want, s.State)
			require.ErrorIs(t, s.Reason, lost, "while %v", want)
			pass(500 * time.Millisecond)
		}
		s := state(t, m)
		require.Equal(t, StateRunning, s.State)
		require.NoError(t, s.Reason)
		for _, e := range eventsOf[StateChanged](hook)[2:] {
			require.Equal(t, e.To != StateRunning, errors.Is(e.Reason, lost), "%+v", e)
		}
		require.NoError(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		require.NoError(t, state(t, m).Reason)
	})
}

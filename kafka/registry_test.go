package kafka

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// B30, B32, B33: the registry.
func TestB30_DuplicateAndUnknownNames(t *testing.T) {
	m, other := New(&fakeDriver{}, quiet()), New(&fakeDriver{}, quiet())
	require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}))
	for _, name := range []string{"job", "JOB"} {
		cfg := testConfig()
		cfg.JobName, cfg.Topic = name, "else"
		require.ErrorIs(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}), ErrDuplicate, name)
	}
	require.NoError(t, other.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing})) // another registry
	require.ErrorIs(t, m.SetConsumerSwitch("unknown", true), ErrUnknownConsumer)
	require.False(t, m.GetConsumerSwitch("unknown"))
	require.Len(t, m.Consumers(), 1)
	require.NoError(t, m.SetConsumerSwitch("job", true))
	s := state(t, m)
	require.True(t, s.Switch)
	require.True(t, m.GetConsumerSwitch("job"))
	require.Equal(t, StateOff, s.State)
	require.NoError(t, m.Shutdown(t.Context()))
	require.Equal(t, StateStopped, state(t, m).State)
	require.ErrorIs(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}), ErrClosed)
	require.ErrorIs(t, m.StartAllConsumers(t.Context()), ErrClosed)
}

// B16: a second start starts nothing twice. B31: a consumer that is registered later
// starts, too.
func TestB16_StartTwiceAndRegisterLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		require.NoError(t, m.StartAllConsumers(context.Background()))
		synctest.Wait()
		require.Equal(t, 1, d.openCount(), "sessions")
		cfg := testConfig()
		cfg.JobName = "late"
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}))
		require.NoError(t, m.SetConsumerSwitch("late", true))
		synctest.Wait()
		s, err := m.Consumer("late")
		require.NoError(t, err)
		require.Equal(t, StateRunning, s.State)
	})
}

// A consumer of a function that is nil cannot be registered: it would panic at its
// first record.
func TestNilFunctionIsRefused(t *testing.T) {
	m := New(&fakeDriver{})
	require.Error(t, m.RegisterConsumer(t.Context(), NewConsumer(testConfig(), nil)))
}

func TestConcurrentRegistrationLetsOneIn(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	errs := make(chan error)
	for range 100 {
		go func() { errs <- m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}) }()
	}
	in := 0
	for range 100 {
		err := <-errs
		if err == nil {
			in++
			continue
		}
		assert.ErrorIs(t, err, ErrDuplicate)
	}
	require.Equal(t, 1, in, "registrations that were let in")
}

func TestConsumersThatCannotBeRegistered(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	var typedNil *handlerFunc
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"nil", m.RegisterConsumer(t.Context(), nil), "handler is nil"},
		{"typed nil", m.RegisterConsumer(t.Context(), typedNil), "handler is nil"},
		{"nil ctx", m.RegisterConsumer(noContext(), &handlerFunc{testConfig(), nothing}), "ctx is nil"},
		{"nil config", m.RegisterConsumer(t.Context(), nilConfig{}), "GetConfig"},
		{"zero manager", new(Manager).RegisterConsumer(t.Context(), nilConfig{}), "New"},
		{"zero manager start", new(Manager).StartAllConsumers(t.Context()), "New"},
		{"zero manager switch", new(Manager).SetConsumerSwitch("job", true), "New"},
		{"no driver", New(nil).StartAllConsumers(t.Context()), "SetDefault"},
	} {
		assert.ErrorContains(t, tt.err, tt.want, tt.name)
	}
	require.Empty(t, m.Consumers())
	new(Manager).WaitStop()
}

type nilConfig struct{ Consumer }

func (nilConfig) GetConfig() *ConsumerConfig { return nil }

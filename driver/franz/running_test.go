package franz

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// A running is a consumer whose Run is in progress, with its recorder.
type running struct {
	*consumer
	*recorder
	done chan error
}

func start(t testing.TB, d Driver, cfg driver.ConsumerConfig, r *recorder) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patienceTest)
	defer cancel()
	c, err := d.OpenConsumer(ctx, cfg)
	require.NoError(t, err)
	m := &running{c.(*consumer), r, make(chan error, 1)}
	go func() { m.done <- c.Run(r) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		assert.NoError(t, m.Close(ctx))
		r.mu.Lock()
		defer r.mu.Unlock()
		assert.Empty(t, r.faults, "the handler was called against the contract")
		assert.Empty(t, r.live, "claims that never ended")
	})
	return m
}

// stop closes the consumer and returns what Run returned.
func (m *running) stop(t testing.TB) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patienceTest)
	defer cancel()
	require.NoError(t, m.Close(ctx))
	return m.ranOut(t)
}

func (m *running) ranOut(t testing.TB) error {
	t.Helper()
	select {
	case err := <-m.done:
		m.done <- err
		return err
	case <-time.After(patienceTest):
		require.FailNow(t, "Run did not return")
		return nil
	}
}

// wantOneSession checks that the first session is the only one, and goes on.
func wantOneSession(t *testing.T, r *recorder) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 1, r.joins, "joins")
	assert.Empty(t, r.revoked, "claims revoked")
	assert.Empty(t, r.lost, "claims lost, for %v", r.causes)
}

package kafka

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBackoffDoublesUpToMax(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute, Multiplier: 2, Jitter: NoJitter}
	var total time.Duration
	for n, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		got := b.wait(n + 1)
		assert.Equal(t, want*time.Second, got, "wait(%d)", n+1)
		total += got
	}
	require.Equal(t, 243*time.Second, total)
	require.Equal(t, time.Minute, b.wait(1_000_000))
}

// B21: without jitter every consumer retries in step.
func TestB21_BackoffJitterStaysInItsBand(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.25}
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := b.wait(3)
		require.GreaterOrEqual(t, d, 3*time.Second)
		require.LessOrEqual(t, d, 4*time.Second)
		seen[d] = true
	}
	require.GreaterOrEqual(t, len(seen), 100, "different values of 1000 waits")
}

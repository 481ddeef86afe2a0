package kafka

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestBackoffDoublesUpToMax(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute, Multiplier: 2, Jitter: NoJitter}
	var total time.Duration
	for n, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		got := b.Wait(n + 1)
		assert.Equal(t, want*time.Second, got, "Wait(%d)", n+1)
		total += got
	}
	require.Equal(t, 243*time.Second, total)
	require.Equal(t, time.Minute, b.Wait(1_000_000))
}

// B21: without jitter every consumer retries in step.
func TestB21_BackoffJitterStaysInItsBand(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.25}
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := b.Wait(3)
		require.GreaterOrEqual(t, d, 3*time.Second)
		require.LessOrEqual(t, d, 4*time.Second)
		seen[d] = true
	}
	require.GreaterOrEqual(t, len(seen), 100, "different values of 1000 waits")
}

// A program that uses a Backoff of its own need not fill it in, nor check it.
func TestBackoffOfAnyFields(t *testing.T) {
	assert.InDelta(t, 950*time.Millisecond, Backoff{}.Wait(1), float64(50*time.Millisecond))
	assert.Equal(t, 4*time.Second, Backoff{Jitter: NoJitter}.Wait(3))
	assert.Equal(t, time.Minute, Backoff{Jitter: NoJitter}.Wait(math.MaxInt))
	assert.Equal(t, time.Second, Backoff{Jitter: NoJitter}.Wait(-7))
	assert.Equal(t, 10*time.Millisecond, Backoff{Max: 10 * time.Millisecond, Jitter: NoJitter}.Wait(1))
	assert.Equal(t, time.Hour, Backoff{Min: time.Hour, Jitter: NoJitter}.Wait(2))
	float := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, NoJitter, 1, 2, math.NaN(), math.Inf(1), math.Inf(-1)}))
	duration := rapid.Map(rapid.Int64(), func(n int64) time.Duration { return time.Duration(n) })
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{duration.Draw(t, "min"), duration.Draw(t, "max"), float.Draw(t, "multiplier"), float.Draw(t, "jitter")}
		d := b.Wait(rapid.Int().Draw(t, "n"))
		require.GreaterOrEqual(t, d, time.Duration(0), "%+v", b)
		if b.Max != 0 {
			require.LessOrEqual(t, d, max(b.Max, 0), "%+v", b)
		}
	})
}

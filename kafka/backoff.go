package kafka

import (
	"math/rand/v2"
	"time"
)

// wait returns how long to wait after the n-th failure in a row, from 1:
// min(Min * Multiplier^(n-1), Max), shortened by up to Jitter of itself.
// The fields have been filled in and checked.
func (b Backoff) wait(n int) time.Duration {
	d := float64(b.Min)
	for i := 1; i < n && d < float64(b.Max); i++ {
		d *= b.Multiplier
	}
	d = min(d, float64(b.Max))
	if b.Jitter > 0 {
		d -= d * b.Jitter * rand.Float64()
	}
	return time.Duration(d)
}

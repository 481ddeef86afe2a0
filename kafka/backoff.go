package kafka

import (
	"cmp"
	"math"
	"math/rand/v2"
	"time"
)

// Wait returns how long to wait after the n-th failure in a row, counted from 1:
// min(Min * Multiplier^(n-1), Max), shortened by a random part of up to Jitter of
// itself. Zero fields have their defaults. A handler that retries a call by itself
// can use it, too. It is never negative, also with fields that registration would
// refuse.
func (b Backoff) Wait(n int) time.Duration {
	b = b.filled()
	d := float64(b.Min) * math.Pow(b.Multiplier, float64(max(n, 1)-1))
	if !(d < float64(b.Max)) { // also if it is not a number
		d = float64(b.Max)
	}
	d = min(max(d, 0), 1<<62) // what is more may not fit when it is rounded
	if b.Jitter > 0 {
		d -= d * min(b.Jitter, 1) * rand.Float64()
	}
	return min(time.Duration(d), max(b.Max, 0))
}

// filled returns b with defaults in place of zero fields.
func (b Backoff) filled() Backoff {
	given := b
	b.Min = cmp.Or(given.Min, fit(time.Second, 0, given.Max))
	b.Max = cmp.Or(given.Max, fit(time.Minute, given.Min, 0))
	b.Multiplier = cmp.Or(given.Multiplier, 2)
	b.Jitter = cmp.Or(given.Jitter, 0.1)
	return b
}

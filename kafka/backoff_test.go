package kafka

import (
	"testing"
	"time"
)

func TestBackoffDoublesUpToMax(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute, Multiplier: 2, Jitter: NoJitter}
	var total time.Duration
	for n, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		got := b.wait(n + 1)
		if got != want*time.Second {
			t.Errorf("wait(%d) = %v, want %v", n+1, got, want*time.Second)
		}
		total += got
	}
	if total != 243*time.Second {
		t.Errorf("nine waits take %v, want 243s", total)
	}
	if got := b.wait(1_000_000); got != time.Minute {
		t.Errorf("wait(1000000) = %v, want 1m", got)
	}
}

// B21: without jitter every consumer retries in step.
func TestB21_BackoffJitterStaysInItsBand(t *testing.T) {
	b := Backoff{Min: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.25}
	seen := map[time.Duration]bool{}
	for range 1000 {
		d := b.wait(3)
		if d < 3*time.Second || d > 4*time.Second {
			t.Fatalf("wait(3) = %v, want 3s to 4s", d)
		}
		seen[d] = true
	}
	if len(seen) < 100 {
		t.Errorf("1000 waits took %d different values, want many", len(seen))
	}
}

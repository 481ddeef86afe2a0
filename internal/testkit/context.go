package testkit

import (
	"context"
	"testing"
	"time"
)

// Ended returns a context that was cancelled.
func Ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// Within returns a context that ends after d, at the latest with the test.
func Within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

//go:build !unix

package testkit

import (
	"testing"
	"time"
)

// CPUTime returns zero: only Unix reports what a process has used.
func CPUTime(testing.TB) time.Duration { return 0 }

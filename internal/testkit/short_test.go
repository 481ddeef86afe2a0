package testkit

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A skipTest records why it was skipped.
type skipTest struct {
	testing.TB
	why string
}

func (s *skipTest) Skipf(format string, args ...any) {
	s.why = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// skipped returns why f skips, or "".
func skipped(t *testing.T, f func(testing.TB)) string {
	s := &skipTest{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(s)
	}()
	<-done
	return s.why
}

// With -short a slow test and the rest of a long suite are skipped, with a reason;
// without it, and in CI, everything runs.
func TestFault_G1_ShortSkipsWhatIsSlowAndSaysWhy(t *testing.T) {
	for _, mode := range []struct {
		short bool
		ci    string
		skips bool
	}{{true, "", true}, {true, "true", false}, {false, "", false}} {
		SetShort(t, mode.short)
		t.Setenv("CI", mode.ci)
		slow, budget, spent := "", "", Budget{Total: time.Hour}
		if mode.skips {
			slow = "skipped: -short is set, and this test waits for a session timeout"
			budget = "skipped: -short gives this suite 1ns, which have passed"
		}
		assert.Equal(t, slow, skipped(t, func(t testing.TB) { Slow(t, "waits for a session timeout") }))
		assert.Empty(t, skipped(t, spent.Spend), "the first test of a suite")
		spent.Total = 1
		assert.Equal(t, budget, skipped(t, spent.Spend))
	}
}

// Package testkit is what the tests of several packages share.
package testkit

import (
	"flag"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Slow skips a test that takes seconds if -short is set, and prints why it takes
// them. CI=true runs it all the same: a suite must not pass by not being run.
func Slow(t testing.TB, why string) {
	t.Helper()
	if short() {
		t.Skipf("skipped: -short is set, and this test %s", why)
	}
}

// SetShort sets the flag -short until the test ends.
func SetShort(t testing.TB, short bool) {
	t.Helper()
	f := flag.Lookup("test.short")
	before := f.Value.String()
	require.NoError(t, f.Value.Set(strconv.FormatBool(short)))
	t.Cleanup(func() { f.Value.Set(before) })
}

func short() bool { return testing.Short() && os.Getenv("CI") != "true" }

// A Budget is the time that -short gives a suite of many tests. The first use of
// it begins the time. When it has passed, the suite's other tests are skipped,
// except in CI. The zero Budget gives no time.
type Budget struct {
	Total time.Duration

	once  sync.Once
	began time.Time
}

// Spend skips the test if the time has passed.
func (b *Budget) Spend(t testing.TB) {
	t.Helper()
	b.once.Do(func() { b.began = time.Now() })
	if short() && time.Since(b.began) >= b.Total {
		t.Skipf("skipped: -short gives this suite %v, which have passed", b.Total)
	}
}

package drivertest_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver/drivertest"
)

// A recording is a drivertest.T that keeps what a case reports.
type recording struct {
	mu       sync.Mutex
	errors   []string
	skipped  string
	logs     []string
	cleanups []func()
}

func (r *recording) Helper() {}

func (r *recording) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *recording) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.errors) > 0
}

func (r *recording) Logf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.logs = append(r.logs, fmt.Sprintf(format, args...))
}

func (r *recording) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recording) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recording) Skipf(format string, args ...any) {
	r.mu.Lock()
	r.skipped = fmt.Sprintf(format, args...)
	r.mu.Unlock()
	runtime.Goexit()
}

// names reports whether an error is reported under the name of a case.
func (r *recording) names(name string) bool {
	return slices.ContainsFunc(r.errors, func(s string) bool { return strings.HasPrefix(s, name+": ") })
}

// run runs a case in virtual time and returns what it has reported.
func run(t *testing.T, c drivertest.Case, newHarness func(drivertest.T) drivertest.Harness) *recording {
	r := new(recording)
	synctest.Test(t, func(*testing.T) {
		apart(func() { c.Run(r, newHarness(r)) })
		for f := r.cleanup(); f != nil; f = r.cleanup() {
			apart(f)
		}
		time.Sleep(time.Minute) // for what a wrong driver has put off
	})
	return r
}

// cleanup takes the last function that is left to clean up.
func (r *recording) cleanup() func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := len(r.cleanups) - 1
	if last < 0 {
		return nil
	}
	f := r.cleanups[last]
	r.cleanups = r.cleanups[:last]
	return f
}

// apart waits for f, which may end its goroutine.
func apart(f func()) {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	<-done
}

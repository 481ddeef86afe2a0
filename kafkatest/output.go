package kafkatest

import (
	"io"
	"sync"
)

// An output writes to a test's output until the test is over: a handler that
// outlives the shutdown may still have the manager log, and a test that has
// ended panics when it is written to.
type output struct {
	mu    sync.Mutex
	w     io.Writer
	ended bool
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return len(p), nil
	}
	return o.w.Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
}

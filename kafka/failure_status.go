package kafka

import (
	"sync"
	"time"
)

// A failing is what a status says of the first record that has failed and is not done.
type failing struct {
	mu       sync.Mutex
	failures int // in a row
	err      error
	next     time.Time // when the next attempt is due
}

// note notes the failures of a lane, in order; there may be none.
func (f *failing) note(fs []*failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(fs) == 0 {
		f.failures, f.err, f.next = 0, nil, time.Time{}
		return
	}
	first := fs[0]
	f.failures, f.err, f.next = first.attempts, first.err, first.next
}

// begin notes that the wait is over: no attempt is due while one is under way.
func (f *failing) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = time.Time{}
}

// fill sets what a status says of failures.
func (f *failing) fill(ps *PartitionStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ps.Errors, ps.LastError, ps.NextRetry = f.failures, f.err, f.next
}

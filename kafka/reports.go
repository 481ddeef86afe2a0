package kafka

import "sync"

// Reports are a mutex, and what is to be logged and reported to hooks of the changes that
// were made under it. They come in the order of the changes: a lane that a hold's end lets
// go can hold the consumer again before the end has been reported.
type reports struct {
	mu     sync.Mutex
	queue  []func() // not made yet, in order
	making bool     // a goroutine makes them
}

// report makes unlock call f. The caller holds the mutex.
func (r *reports) report(f func()) { r.queue = append(r.queue, f) }

// unlock releases the mutex, and makes the reports that are left, unless another goroutine
// is at it: that one makes them all. Loggers and hooks are called without the mutex.
func (r *reports) unlock() {
	if r.making || len(r.queue) == 0 {
		r.mu.Unlock()
		return
	}
	r.making = true
	defer func() { // a hook that ends the goroutine leaves the others' reports to be made
		r.making = false
		r.unlock()
	}()
	for len(r.queue) > 0 {
		f := r.queue[0]
		r.queue = r.queue[1:]
		r.unlocked(f)
	}
}

// unlocked calls f without the mutex, which the caller holds.
func (r *reports) unlocked(f func()) {
	r.mu.Unlock()
	defer r.mu.Lock()
	f()
}

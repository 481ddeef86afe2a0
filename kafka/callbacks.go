package kafka

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
)

// callbacks runs the callbacks of one producer, one after the other, on a
// goroutine that lives while there are any.
type callbacks struct {
	panicked func(*PanicError)

	mu      sync.Mutex
	queue   []*asyncSend
	running uint64        // the goroutine that runs them, or 0
	started bool          // it has been started, and may not run yet
	idle    chan struct{} // closed when it has ended

	// The goroutine's own.
	batch []*asyncSend
	i     int
}

func newCallbacks(panicked func(*PanicError)) *callbacks {
	return &callbacks{panicked: panicked}
}

// push queues the callback of s. It does not block.
func (c *callbacks) push(s *asyncSend) {
	c.mu.Lock()
	c.queue = append(c.queue, s)
	start := !c.started
	if start {
		c.started = true
		c.idle = make(chan struct{})
	}
	c.mu.Unlock()
	if start {
		go c.run()
	}
}

// run is the goroutine. A callback that ends it, by runtime.Goexit, is followed
// by another one for what is left.
func (c *callbacks) run() {
	c.mu.Lock()
	c.running = goroutineID()
	c.mu.Unlock()
	ended := false
	defer func() {
		if !ended {
			go c.run()
		}
	}()
	for c.nextBatch() {
		for c.i < len(c.batch) {
			s := c.batch[c.i]
			c.batch[c.i] = nil
			c.i++
			c.call(s)
		}
	}
	ended = true
}

// nextBatch takes what is queued once the batch is through. It returns false,
// and ends the goroutine's time, when there is nothing.
func (c *callbacks) nextBatch() bool {
	if c.i < len(c.batch) {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batch, c.queue, c.i = c.queue, c.batch[:0], 0
	if len(c.batch) > 0 {
		return true
	}
	c.started, c.running = false, 0
	close(c.idle)
	return false
}

func (c *callbacks) call(s *asyncSend) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(&PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	s.callback(s.m, s.err)
}

// wait returns when no callback runs or is queued.
func (c *callbacks) wait() {
	c.mu.Lock()
	idle, started := c.idle, c.started
	c.mu.Unlock()
	if started {
		<-idle
	}
}

// inside reports whether the caller is a callback of c. A callback may close
// its producer, and closing waits for callbacks: it must not wait for itself.
func (c *callbacks) inside() bool {
	c.mu.Lock()
	running := c.running
	c.mu.Unlock()
	return running != 0 && running == goroutineID()
}

// goroutineID returns the number that a stack trace begins with, as in
// "goroutine 18 [running]:". The runtime tells it in no other way. It takes
// about a microsecond, once for each run of callbacks and once for each Close.
func goroutineID() uint64 {
	var buf [64]byte
	fields := bytes.Fields(buf[:runtime.Stack(buf[:], false)])
	id, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return id
}

package kafka

import (
	"bytes"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
)

// callbacks runs the callbacks of one producer, one after the other, on a goroutine
// of its own. The goroutine starts with the first callback, rests while there is
// none, and ends with the producer: to start one for each burst, and to learn which
// it is, costs more than a callback.
//
// The queue is a stack without a lock, which the goroutine takes as a whole and turns
// around. One push costs one atomic exchange.
type callbacks struct {
	panicked func(*PanicError)
	sends    *sync.Pool // of the producer, for chains of sends that can be used again

	latest  atomic.Pointer[asyncSend] // the stack; nil, or a mark, if it is empty
	wake    chan struct{}             // holds a token for the goroutine that rests
	running atomic.Uint64             // the goroutine, or 0

	// The goroutine's own.
	next  *asyncSend // what has been taken, in order
	freed *asyncSend // a chain of sends that can be used again
	n     int        // its length
	ended bool       // the goroutine ends instead of resting
}

// The marks of an empty queue: its goroutine rests, or there is none.
var resting, absent = new(asyncSend), new(asyncSend)

// chain is how many sends are handed back at once. One by one they would cost two
// processors more than new ones.
const chain = 32

func (c *callbacks) init(sends *sync.Pool, panicked func(*PanicError)) {
	c.sends, c.panicked = sends, panicked
	c.wake = make(chan struct{}, 1)
	c.latest.Store(absent)
}

// push queues the callback of s. It does not block.
func (c *callbacks) push(s *asyncSend) {
	for {
		before := c.latest.Load()
		s.next = before
		if before == resting || before == absent {
			s.next = nil
		}
		if !c.latest.CompareAndSwap(before, s) {
			continue
		}
		switch before {
		case resting:
			c.wake <- struct{}{}
		case absent:
			go c.run()
		}
		return
	}
}

// run is the goroutine. A callback that ends it, by runtime.Goexit, is followed
// by another one for what is left.
func (c *callbacks) run() {
	c.running.Store(goroutineID())
	ended := false
	defer func() {
		if !ended {
			go c.run()
		}
	}()
	for c.more() {
		s := c.next
		c.next, s.next = s.next, nil
		c.call(s)
		c.free(s)
	}
	ended = true
}

// more waits until a callback is queued. It returns false when the goroutine has to
// end.
func (c *callbacks) more() bool {
	for c.next == nil {
		if c.next = inOrder(c.latest.Swap(nil)); c.next != nil {
			break
		}
		c.handBack()
		if c.ended {
			c.running.Store(0)
			if c.latest.CompareAndSwap(nil, absent) {
				return false
			}
			c.running.Store(goroutineID())
			continue
		}
		if c.latest.CompareAndSwap(nil, resting) {
			<-c.wake
		}
	}
	return true
}

// free lets s be used again if its message is in the log.
func (c *callbacks) free(s *asyncSend) {
	if s.err != nil || s.p == nil {
		return
	}
	s.reset()
	s.next, c.freed = c.freed, s
	if c.n++; c.n == chain {
		c.handBack()
	}
}

func (c *callbacks) handBack() {
	if c.freed != nil {
		c.sends.Put(c.freed)
		c.freed, c.n = nil, 0
	}
}

// inOrder turns a stack around, so that the first that was pushed is the first.
func inOrder(s *asyncSend) (first *asyncSend) {
	for s != nil {
		s.next, first, s = first, s, s.next
	}
	return first
}

func (c *callbacks) call(s *asyncSend) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(&PanicError{What: "callback", Value: v, Stack: debug.Stack()})
		}
	}()
	s.callback(s.answer(), s.err)
}

// end returns when no callback runs or is queued, and ends the goroutine. A callback
// that is queued later, which is one of a send that came too late, has a goroutine
// of its own.
func (c *callbacks) end() {
	for idle := false; !idle; {
		reached := make(chan bool)
		c.push(&asyncSend{callback: func(*ProducerMessage, error) {
			c.ended = c.next == nil && c.latest.Load() == nil
			reached <- c.ended
		}})
		idle = <-reached
	}
}

// inside reports whether the caller is a callback of c. A callback may close
// its producer, and closing waits for callbacks: it must not wait for itself.
func (c *callbacks) inside() bool {
	running := c.running.Load()
	return running != 0 && running == goroutineID()
}

// goroutineID returns the number that a stack trace begins with, as in "goroutine
// 18 [running]:". The runtime gives it in no other way. It takes about a
// microsecond, once for each goroutine of callbacks and once for each Close.
func goroutineID() uint64 {
	var buf [64]byte
	fields := bytes.Fields(buf[:runtime.Stack(buf[:], false)])
	id, _ := strconv.ParseUint(string(fields[1]), 10, 64)
	return id
}

func (p *Producer) callbackPanicked(err *PanicError) {
	p.m.log.Error("kafka: callback panicked", "producer", p.id, "error", loggable(err), "stack", string(err.Stack))
	p.m.event(CallbackPanicked{ProducerID: p.id, Err: err})
}

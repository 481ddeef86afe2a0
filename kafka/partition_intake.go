package kafka

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/window"
)

// An intake holds the records of one partition between their delivery and the commit:
// it takes batches from the driver, gives records to the lane, pauses the claim, and
// knows what is done and what is durable.
type intake struct {
	env   *env
	claim *driver.Claim
	wake  chan struct{} // holds one token

	committed atomic.Int64 // the position that is durable, or -1

	mu        sync.Mutex
	window    *window.Window
	waiting   bool // the lane waits for a wake
	flow      flow
	counted   int  // what the session's budget has counted of the window's bytes
	uncounted bool // the claim has ended: nothing is counted any longer
	trouble   fetchTrouble
}

func newIntake(e *env, c *driver.Claim) *intake {
	in := &intake{env: e, claim: c, wake: make(chan struct{}, 1), window: window.New(c.Start)}
	in.committed.Store(c.Start)
	return in
}

// deliver queues a batch, wakes the lane if it waits, and pauses the claim if the
// queue is above its bounds.
func (in *intake) deliver(b driver.Batch) {
	in.mu.Lock()
	in.window.Push(b)
	if in.trouble.err != nil {
		in.trouble.pass(b)
	}
	in.judgeQueue()
	turned := in.count()
	waiting, unmet := in.waiting, in.flow.unmet()
	in.waiting = false
	in.mu.Unlock()
	if waiting {
		select {
		case in.wake <- struct{}{}:
		default: // a token of before, which the lane has not taken: it wakes the lane as well
		}
	}
	in.settle(unmet, turned)
}

// take releases the records of r, which are done, and gives it up to limit of those
// that wait. It returns how many: after 0 the next delivery wakes the lane. A lane that
// was given up may have left records of r undone: it gets no others.
func (in *intake) take(r *window.Run, limit int) (n int) {
	n, _ = in.takeBy(r, func() (int, bool) { return in.window.Take(r, limit), false })
	return n
}

// takeBatch is take for a whole batch. Unless it is late, a batch that is not full is
// left to fill; then some records wait.
func (in *intake) takeBatch(r *window.Run, limit int, late bool) (n int, wait bool) {
	return in.takeBy(r, func() (int, bool) {
		n, full := in.window.Batch(limit, in.env.batchBytes)
		if n > 0 && !full && !late && in.env.batchLinger > 0 && in.flow.reasons == 0 {
			return 0, true
		}
		return in.window.Gather(r, n), false
	})
}

// takeBy releases the records of r, if they are done, and calls take under the mutex.
func (in *intake) takeBy(r *window.Run, take func() (n int, wait bool)) (n int, wait bool) {
	in.mu.Lock()
	if !in.window.Release(r) {
		in.mu.Unlock()
		return 0, false
	}
	n, wait = take()
	in.judgeQueue()
	turned := in.count()
	unmet := in.flow.unmet()
	in.waiting = n == 0
	in.mu.Unlock()
	in.settle(unmet, turned)
	return n, wait
}

// discard forgets the records that wait, of a claim that has ended: its lane may run
// on for as long as a handler ignores its context.
func (in *intake) discard() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.window.Discard()
}

// settle acts on what has changed under the mutex.
func (in *intake) settle(unmet, turned bool) {
	if unmet {
		in.syncFlow()
	}
	if turned {
		in.env.keeper.reflow()
	}
}

// position is what may be committed.
func (in *intake) position() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.env.autoCommit {
		return max(in.window.Handed(), in.window.Position())
	}
	return in.window.Position()
}

// undone is the lowest offset that is not done, or -1 while that is not known.
func (in *intake) undone() int64 {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.window.Position()
}

// ahead reports whether something may be committed that is not durable.
func (in *intake) ahead() bool { return in.position() > in.committed.Load() }

// fill sets what a status says of the records.
func (in *intake) fill(ps *PartitionStatus) {
	in.mu.Lock()
	defer in.mu.Unlock()
	w := in.window
	ps.Position, ps.Committed = w.Position(), in.committed.Load()
	ps.Buffered, ps.BufferedBytes, ps.Paused = w.Len(), w.Bytes(), in.flow.have
	ps.InFlight, ps.Oldest = w.Undone()
	ps.FetchError, ps.FetchErrorAt = in.trouble.err, in.trouble.at
}

// A fetchTrouble is why nothing more of an owned partition can be read.
type fetchTrouble struct {
	err    error
	at     time.Time
	offset int64 // of what cannot be read, or -1
}

func (in *intake) noteTrouble(e *driver.PartitionError) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.trouble = fetchTrouble{e, time.Now(), e.Offset}
}

// pass forgets the trouble if fetching has come by it: what lies intact before a
// damaged batch may be delivered after the report. The caller holds the mutex.
func (t *fetchTrouble) pass(b driver.Batch) {
	next := b.Next
	if n := len(b.Records); n > 0 {
		next = max(next, b.Records[n-1].Offset+1)
	}
	if next > t.offset {
		*t = fetchTrouble{}
	}
}

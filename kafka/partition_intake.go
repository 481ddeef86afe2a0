package kafka

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/lanes"
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
	window    shelf
	serial    *window.Window // the same, of one lane; nil if there is a crew
	many      *lanes.Window  // the same, of a crew; nil if there is one lane
	crew      *crew          // hands out the records; nil if one lane does
	waiting   bool           // the lane waits for a wake
	flow      flow
	counted   int  // what the session's budget has counted of the window's bytes
	uncounted bool // the claim has ended: nothing is counted any longer
	wait      wait // of the records of a retry topic
	trouble   fetchTrouble
	beside    beside
}

// A shelf is what the intake itself needs of a window, whether its records are handed out
// one after the other or many at once. Lanes know which, and use the window directly.
type shelf interface {
	Push(driver.Batch)
	Position() int64
	Lowest() int64
	Len() int
	Bytes() int
	Full() bool // nothing more should be fetched, though Len and Bytes are small
	Idle() bool // no record is ready to be handed out, though some may wait behind others
	Undone() (handed int, oldest time.Time)
	Discard()
}

func newIntake(e *env, c *driver.Claim) *intake {
	in := &intake{env: e, claim: c, wake: make(chan struct{}, 1)}
	in.committed.Store(c.Start)
	if e.many {
		in.many = lanes.New(lanes.Config{Start: c.Start, Keyed: e.keyed, Unnamed: !e.metadata})
		in.window = laneShelf{in.many}
	} else {
		in.serial = window.New(c.Start)
		in.window = serialShelf{in.serial}
	}
	if place, is := e.retries.place(c.Topic); is {
		in.wait = wait{delay: place.delay, ring: in.ring, arrivals: e.arrivals, key: keyOf(c)}
	}
	in.heed()
	return in
}

// A serialShelf is the window of one lane.
type serialShelf struct{ *window.Window }

// Full is always false: no finished records are held.
func (serialShelf) Full() bool { return false }

// Idle is always false: what waits is the lane's next.
func (serialShelf) Idle() bool { return false }

// A laneShelf is the window of a crew.
type laneShelf struct{ *lanes.Window }

func (w laneShelf) Len() int   { return w.Counts().Undone }
func (w laneShelf) Bytes() int { return w.Counts().Bytes }
func (w laneShelf) Idle() bool { return w.Counts().Ready == 0 }
func (w laneShelf) Discard()   { w.Close() }
func (w laneShelf) Undone() (handed int, oldest time.Time) {
	return w.Counts().Running, w.Oldest()
}

// deliver queues a batch, wakes the lane if it waits, and pauses the claim if the
// queue is above its bounds.
func (in *intake) deliver(b driver.Batch) {
	in.mu.Lock()
	in.note(b)
	in.push(b)
	if in.trouble.err != nil {
		in.trouble.pass(b)
	}
	unmet, turned := in.judge()
	waiting := in.waiting
	in.waiting = false
	var seats *seat
	dry := false
	if in.crew != nil { // no lane looks after a position that moves without a record
		seats = in.crew.staff()
		dry = in.window.Len() == 0
	}
	in.mu.Unlock()
	in.crew.begin(seats)
	if dry && in.ahead() {
		in.env.schedule.ranEmpty()
	}
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
	n, _ = in.takeBy(r, func() (int, bool) { return in.serial.Take(r, limit), false })
	return n
}

// takeBatch is take for a whole batch. Unless it is late, a batch that is not full is
// left to fill; then some records wait.
func (in *intake) takeBatch(r *window.Run, limit int, late bool) (n int, wait bool) {
	return in.takeBy(r, func() (int, bool) {
		n, full := in.serial.Batch(limit, in.env.batchBytes)
		if due := in.dueOf(n); due < n {
			n, full = due, false
		}
		if n == 0 {
			return 0, false
		}
		if !full && !late && in.env.batchLinger > 0 && in.flow.reasons&^pauseOperator == 0 {
			return 0, true
		}
		return in.serial.Gather(r, n), false
	})
}

// takeBy releases the records of r, if they are done, and calls take under the mutex.
func (in *intake) takeBy(r *window.Run, take func() (n int, wait bool)) (n int, wait bool) {
	in.mu.Lock()
	if !in.serial.Release(r) {
		in.mu.Unlock()
		return 0, false
	}
	n, wait = take()
	unmet, turned := in.judge()
	in.waiting = n == 0
	in.mu.Unlock()
	in.settle(unmet, turned)
	return n, wait
}

// judge decides, after the window has changed, whether the claim should be paused. The
// caller passes what it returns to settle, once it holds no mutex. Called under the mutex.
func (in *intake) judge() (unmet, turned bool) {
	in.judgeQueue()
	turned = in.count()
	return in.flow.unmet(), turned
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
	return in.durable()
}

// durable is position under the mutex.
func (in *intake) durable() int64 {
	if in.env.autoCommit {
		return max(in.serial.Handed(), in.window.Position())
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

// unsaved is ahead, and also reports whether something that is done above the position is
// not durable.
func (in *intake) unsaved() bool {
	_, news := in.mark()
	return news
}

// fill sets what a status says of the records.
func (in *intake) fill(ps *PartitionStatus) {
	in.mu.Lock()
	defer in.mu.Unlock()
	w := in.window
	ps.Position, ps.Committed = w.Position(), in.committed.Load()
	if ps.Position < 0 { // no record has been handed out, and the driver did not know the start
		ps.Position = w.Lowest()
	}
	ps.Buffered, ps.BufferedBytes = w.Len(), w.Bytes()
	ps.Paused, ps.PausedBy = in.flow.have || in.flow.reasons != 0, in.flow.reasons.list()
	ps.InFlight, ps.Oldest = w.Undone()
	ps.FetchError, ps.FetchErrorAt = in.trouble.err, in.trouble.at
	in.fillWait(ps)
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

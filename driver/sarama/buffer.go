package sarama

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// bufferBytes bounds what has been accepted and not acknowledged.
	bufferBytes = 64 << 20

	// slotBytes is what a message costs beside what it points to.
	slotBytes = 512

	// freeSlots bounds the slots that are kept for reuse.
	freeSlots = 8192

	abandonAgain = 10 * time.Millisecond
)

// A buffer holds the slots of all messages that have been accepted and not
// acknowledged.
//
// Those who add and those who remove would meet at one mutex for each message. So
// a slot that is removed is only put aside, under a mutex of its own, and taken
// in by whoever needs it: by add when it runs out of free slots or of space, and
// at once while somebody waits.
//
// For Flush the slots are counted by epoch: each Flush begins a new one, and waits
// until all before are empty.
type buffer struct {
	aside aside

	mu     sync.Mutex // guards what follows
	slots  []*slot    // by id, free ones included
	free   []*slot
	bytes  int
	epoch  int64 // the current one
	base   int64 // the oldest one that may not be empty
	counts []int // of the epochs from base to the current one
	closed bool

	// due is epoch, to be read without the mutex: what was accepted in an earlier
	// one must not linger, since somebody waits for it.
	due atomic.Int64

	changed  chan struct{} // closed and replaced when who waits should look again
	waiting  int           // how many wait
	spacious int           // how many of them wait for space
}

// aside holds slots that have been removed and not been taken in. Its mutex may
// be locked with the buffer's held, but not the other way round.
type aside struct {
	mu      sync.Mutex // guards what follows
	slots   []*slot
	watched bool // somebody waits for what is put here
}

func newBuffer() *buffer {
	return &buffer{counts: []int{0}, changed: make(chan struct{})}
}

// add makes room for a message of so many bytes, when there is. If it has to wait
// for that, it calls hurry first.
func (b *buffer) add(ctx context.Context, bytes int, hurry func()) (*slot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) == 0 || !b.fits(bytes) {
		b.takeIn()
	}
	if !b.fits(bytes) && !b.closed {
		if err := b.awaitSpace(ctx, bytes, hurry); err != nil {
			return nil, err
		}
	}
	if b.closed {
		return nil, driver.ErrClosed
	}
	s := b.takeFree()
	s.bytes, s.epoch = bytes, b.epoch
	b.bytes += bytes
	b.counts[b.epoch-b.base]++
	return s, nil
}

// awaitSpace is called with mu held. What fills the buffer must not linger.
func (b *buffer) awaitSpace(ctx context.Context, bytes int, hurry func()) error {
	b.beginEpoch()
	b.mu.Unlock()
	hurry()
	b.mu.Lock()
	b.spacious++
	defer func() { b.spacious-- }()
	return b.await(ctx, func() bool { return b.closed || b.fits(bytes) })
}

// beginEpoch is called with mu held.
func (b *buffer) beginEpoch() {
	b.epoch++
	b.counts = append(b.counts, 0)
	b.advance()
	b.due.Store(b.epoch)
}

// fits lets a message pass alone that is larger than the buffer.
func (b *buffer) fits(bytes int) bool { return b.bytes == 0 || b.bytes+bytes <= bufferBytes }

// takeFree is called with mu held.
func (b *buffer) takeFree() *slot {
	if n := len(b.free); n > 0 {
		s := b.free[n-1]
		b.free = b.free[:n-1]
		return s
	}
	s := new(slot)
	s.message.Value = s
	b.slots = append(b.slots, s)
	return s
}

// await waits until cond holds. It is called with mu held, and waits without it.
func (b *buffer) await(ctx context.Context, cond func() bool) error {
	b.waiting++
	defer func() {
		b.waiting--
		b.aside.watch(b.waiting > 0)
	}()
	for {
		b.aside.watch(true) // before takeIn, so that what comes after it is seen
		b.takeIn()
		if cond() {
			return nil
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
			b.mu.Lock()
		case <-ctx.Done():
			b.mu.Lock()
			return ctx.Err()
		}
	}
}

func (a *aside) watch(watched bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watched = watched
}

// put adds slots, and reports whether somebody waits for them.
func (a *aside) put(slots []*slot) (watched bool) {
	a.mu.Lock()
	a.slots = append(a.slots, slots...)
	watched = a.watched
	a.mu.Unlock()
	return watched
}

// takeIn makes free what lies aside. It is called with mu held.
func (b *buffer) takeIn() {
	b.aside.mu.Lock()
	defer b.aside.mu.Unlock()
	for _, s := range b.aside.slots {
		b.forget(s.bytes, s.epoch)
	}
	b.free = append(b.free, b.aside.slots...)
	clear(b.aside.slots)
	b.aside.slots = b.aside.slots[:0]
	if len(b.free) == len(b.slots) && len(b.slots) > freeSlots { // after a jam
		b.slots, b.free, b.aside.slots = nil, nil, nil
	}
}

// forget is called with mu held.
func (b *buffer) forget(bytes int, epoch int64) {
	b.bytes -= bytes
	b.counts[epoch-b.base]--
	flushed := epoch < b.epoch && b.advance()
	if b.waiting > 0 && (flushed || b.spacious > 0 && b.bytes <= bufferBytes/4*3) {
		b.tell()
	}
}

// advance drops the epochs that are over and empty, and reports whether there
// were any. It is called with mu held.
func (b *buffer) advance() bool {
	n := 0
	for n < len(b.counts)-1 && b.counts[n] == 0 {
		n++
	}
	b.counts = b.counts[:copy(b.counts, b.counts[n:])]
	b.base += int64(n)
	return n > 0
}

// tell wakes everybody who waits. It is called with mu held.
func (b *buffer) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// ack acknowledges the messages of slots with what result returns for each, and
// makes the slots free. An answer that comes after abandon is dropped. The slots
// stay in the buffer until Ack has returned: so an empty buffer means that none
// runs.
func (b *buffer) ack(slots []*slot, result func(i int, s *slot) error) {
	kept := slots[:0]
	for i, s := range slots {
		if !s.pending.CompareAndSwap(true, false) {
			continue
		}
		s.user.Acker.Ack(result(i, s))
		s.empty()
		kept = append(kept, s)
	}
	if b.aside.put(kept) {
		b.mu.Lock()
		b.takeIn()
		b.mu.Unlock()
	}
}

// expire acknowledges the messages of slots with err, each of which the caller has
// made not pending. The slots belong to a request that is on its way: recycle
// makes them free when that has ended. It takes a copy of what a slot is, since
// that may be at once.
func (b *buffer) expire(copies []expired, err error) {
	for _, e := range copies {
		e.user.Acker.Ack(err)
		b.mu.Lock()
		b.forget(e.bytes, e.epoch)
		b.mu.Unlock()
	}
}

// An expired is what is left of a slot whose message was given up.
type expired struct {
	user  *driver.Message
	bytes int
	epoch int64
}

// recycle makes slots free whose messages have expired.
func (b *buffer) recycle(slots []*slot) {
	if len(slots) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range slots {
		s.empty()
	}
	b.free = append(b.free, slots...)
}

// flush waits until all that is in the buffer now has been acknowledged. It calls
// hurry once none of that may linger.
func (b *buffer) flush(ctx context.Context, hurry func()) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.beginEpoch()
	own := b.epoch
	b.mu.Unlock()
	hurry()
	b.mu.Lock()
	return b.await(ctx, func() bool { return b.base >= own })
}

// close lets nothing in any more, and closes closing. It reports whether this
// was the first time.
func (b *buffer) close(closing chan struct{}) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.closed = true
	close(closing)
	b.tell()
	return true
}

// abandon acknowledges everything that is left with err, and returns when no Ack
// runs any more. It looks again and again, as a slot that was added before close
// may be filled only now.
func (b *buffer) abandon(err error) {
	for {
		for _, s := range b.takePending() {
			s.user.Acker.Ack(err)
			b.mu.Lock()
			b.forget(s.bytes, s.epoch) // not reused: a request may have it
			b.mu.Unlock()
		}
		ctx, cancel := context.WithTimeout(context.Background(), abandonAgain)
		left := b.flush(ctx, func() {})
		cancel()
		if left == nil {
			return
		}
	}
}

func (b *buffer) takePending() (taken []*slot) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.slots {
		if s.pending.CompareAndSwap(true, false) {
			taken = append(taken, s)
		}
	}
	return taken
}

package sarama

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// bufferBytes bounds the messages that are accepted and not acknowledged.
	bufferBytes = 64 << 20

	// slotBytes is the cost of a message beside the bytes that it points to.
	slotBytes = 512

	// freeSlots bounds the slots that are kept for reuse.
	freeSlots = 8192

	abandonAgain = 10 * time.Millisecond
)

// A buffer holds the slots of all messages that have been accepted and not
// acknowledged.
//
// Goroutines that add and goroutines that remove would meet at one mutex per message. So a
// slot that is removed is only put aside, under a mutex of its own. It is taken in when it
// is needed: by add when that runs out of free slots or of space, and at once while a
// goroutine waits.
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

	// due is epoch, to be read without the mutex: a message of an earlier epoch must not
	// linger, since a Flush waits for it.
	due atomic.Int64

	changed  chan struct{} // closed and replaced when waiting goroutines should look again
	waiting  int           // goroutines that wait
	spacious int           // those of them that wait for space
}

// aside holds slots that were removed and have not been taken in. Its mutex may be locked
// with the buffer's held, but not the other way round.
type aside struct {
	mu      sync.Mutex // guards what follows
	slots   []*slot
	watched bool // a goroutine waits for slots that are put here
}

func newBuffer() *buffer {
	return &buffer{counts: []int{0}, changed: make(chan struct{})}
}

// add makes room for a message of so many bytes. If it has to wait for room, it calls hurry
// first.
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

// awaitSpace is called with mu held. Messages that fill the buffer must not linger.
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

// fits reports whether a message has room. One that is larger than the buffer passes alone.
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
		b.aside.watch(true) // before takeIn, so that later slots are seen
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

// put adds slots, and reports whether a goroutine waits for them.
func (a *aside) put(slots []*slot) (watched bool) {
	a.mu.Lock()
	a.slots = append(a.slots, slots...)
	watched = a.watched
	a.mu.Unlock()
	return watched
}

// takeIn makes the slots free that lie aside. It is called with mu held.
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
		b.wake()
	}
}

// advance drops the epochs that are over and empty, and reports whether it has dropped any.
// It is called with mu held.
func (b *buffer) advance() bool {
	n := 0
	for n < len(b.counts)-1 && b.counts[n] == 0 {
		n++
	}
	b.counts = b.counts[:copy(b.counts, b.counts[n:])]
	b.base += int64(n)
	return n > 0
}

// wake wakes all goroutines that wait. It is called with mu held.
func (b *buffer) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// ack acknowledges the messages of slots with the result of each, and makes the slots free.
// It drops an answer that comes after abandon. The slots stay in the buffer until Ack has
// returned: so an empty buffer means that no Ack runs.
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

// expire acknowledges with err messages that the caller has made not pending. Their slots
// belong to a request that is on its way: recycle makes them free when that has ended. That
// may be at once, so expire takes copies of their fields.
func (b *buffer) expire(copies []expired, err error) {
	for _, e := range copies {
		e.user.Acker.Ack(err)
		b.mu.Lock()
		b.forget(e.bytes, e.epoch)
		b.mu.Unlock()
	}
}

// An expired holds the fields of a slot whose message was given up.
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

// flush waits until all messages that are in the buffer now have been acknowledged. It calls
// hurry once none of them may linger.
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

// close refuses all messages from now on, and closes closing. It reports whether this was
// the first call.
func (b *buffer) close(closing chan struct{}) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.closed = true
	close(closing)
	b.wake()
	return true
}

// abandon acknowledges all remaining messages with err, and returns when no Ack runs. It
// looks repeatedly, as a slot that was added before close may be filled only now.
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

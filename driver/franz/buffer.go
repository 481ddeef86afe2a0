package franz

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	maxMessages = 16 << 10 // that are accepted and not acknowledged
	maxBytes    = 64 << 20 // of these

	// slotBytes is the cost of a message beside the bytes that it points to.
	slotBytes = 512
)

// A buffer bounds the messages that are accepted and not acknowledged. kgo's own limit does
// not do: the context that bounds the wait would later cancel the message, and all messages
// behind it.
//
// For Flush the messages are counted by epoch: each Flush begins a new one, and waits until
// all before are empty.
type buffer struct {
	messages, bytes, waiting atomic.Int64

	epoch atomic.Pointer[epoch] // of the messages that are accepted now; nil once closed

	mu     sync.Mutex    // guards what follows
	room   chan struct{} // closed and replaced when there is room
	oldest *epoch        // no message of an earlier one is left
}

// An epoch counts the messages that were accepted between two Flushes.
type epoch struct {
	n    atomic.Int64 // messages, and one while it is open
	done chan struct{}
	next *epoch // guarded by the buffer
}

func newEpoch() *epoch {
	e := &epoch{done: make(chan struct{})}
	e.n.Store(1)
	return e
}

// enter counts a message in. It reports false if the epoch is over.
func (e *epoch) enter() bool {
	for {
		n := e.n.Load()
		if n == 0 {
			return false
		}
		if e.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (e *epoch) leave() {
	if e.n.Add(-1) == 0 {
		close(e.done)
	}
}

func newBuffer() *buffer {
	b := &buffer{room: make(chan struct{}), oldest: newEpoch()}
	b.epoch.Store(b.oldest)
	return b
}

// add makes room for a message of so many bytes, and returns its epoch. If it has to wait for
// room, it calls hurry first, and the function that hurry returns afterwards. It waits until
// ctx ends or closing is closed.
func (b *buffer) add(ctx context.Context, bytes int64, hurry func() func(), closing <-chan struct{}) (*epoch, error) {
	for !b.reserve(bytes) {
		if err := b.await(ctx, bytes, hurry, closing); err != nil {
			return nil, err
		}
	}
	for e := b.epoch.Load(); e != nil; e = b.epoch.Load() {
		if e.enter() {
			return e, nil
		}
	}
	b.release(bytes)
	return nil, driver.ErrClosed
}

// reserve takes room for a message. One that is larger than the buffer passes alone.
func (b *buffer) reserve(bytes int64) bool {
	if b.messages.Add(1) <= maxMessages {
		if n := b.bytes.Add(bytes); n <= maxBytes || n == bytes {
			return true
		}
		b.bytes.Add(-bytes)
	}
	b.messages.Add(-1)
	return false
}

func (b *buffer) await(ctx context.Context, bytes int64, hurry func() func(), closing <-chan struct{}) error {
	b.waiting.Add(1) // before the look, so that release sees it or the look sees the room
	defer b.waiting.Add(-1)
	b.mu.Lock()
	room := b.room
	b.mu.Unlock()
	if n := b.bytes.Load(); b.messages.Load() < maxMessages && (n+bytes <= maxBytes || n == 0) {
		return nil
	}
	defer hurry()()
	select {
	case <-room:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-closing:
		return driver.ErrClosed
	}
}

// release gives room back. Waiting goroutines wake when a quarter is free, not at each
// message.
func (b *buffer) release(bytes int64) {
	messages, left := b.messages.Add(-1), b.bytes.Add(-bytes)
	if b.waiting.Load() > 0 && messages <= maxMessages/4*3 && left <= maxBytes/4*3 {
		b.wake()
	}
}

func (b *buffer) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.room)
	b.room = make(chan struct{})
}

// turn ends the epoch and returns those that are not empty. The last turn begins no other.
func (b *buffer) turn(last bool) (open []*epoch) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now := b.epoch.Load(); now != nil {
		var next *epoch
		if !last {
			next = newEpoch()
		}
		now.next = next
		b.epoch.Store(next)
		now.leave()
	}
	for e := b.oldest; e != nil && e != b.epoch.Load(); e = e.next {
		select {
		case <-e.done:
			if e == b.oldest && e.next != nil {
				b.oldest = e.next
			}
		default:
			open = append(open, e)
		}
	}
	return open
}

// await returns when every message of the epochs has been acknowledged, or when ctx ends.
func await(ctx context.Context, epochs []*epoch) error {
	for _, e := range epochs {
		select {
		case <-e.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

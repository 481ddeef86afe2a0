package sarama

import (
	"context"
	"math"
	"sync"
	"sync/atomic"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// bufferBytes bounds what has been accepted and not acknowledged. Sarama's
	// own bounds do not count what waits to be retried.
	bufferBytes = 64 << 20

	// slotBytes is what a message costs beside what it points to.
	slotBytes = 512

	// freeSlots bounds the slots that are kept for reuse.
	freeSlots = 8192
)

// A slot is one accepted message on its way through Sarama. It is reused, so that
// a message without headers costs no allocation. Its place in the buffer is kept
// in numbers, as pointers cost a write barrier each whenever the garbage
// collector runs, which at a million messages a second it does.
type slot struct {
	message ibm.ProducerMessage // Metadata and Value are the slot
	user    *driver.Message
	bytes   int
	retries int64 // the producer's count when the message was accepted
	batched int   // how often it was put into a batch

	// pending is true from acceptance until somebody acknowledges the message:
	// who makes it false does.
	pending atomic.Bool

	// The rest belongs to the buffer.
	id         int32
	prev, next int32
	sequence   int64
}

// Encode implements Sarama's Encoder for the value. Sarama calls it when it puts
// the message into a batch: before that nothing can have been sent.
func (s *slot) Encode() ([]byte, error) {
	s.batched++
	return s.user.Value, nil
}

// Length implements Sarama's Encoder for the value.
func (s *slot) Length() int { return len(s.user.Value) }

// A slotKey is the slot as Sarama's Encoder for the key.
type slotKey slot

func (k *slotKey) Encode() ([]byte, error) { return k.user.Key, nil }
func (k *slotKey) Length() int             { return len(k.user.Key) }

// cost is what m takes of the buffer.
func cost(m *driver.Message) int {
	n := slotBytes + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

// fill makes m the message of the slot. It writes what has changed only.
func (s *slot) fill(m *driver.Message, retries int64) {
	s.user, s.retries, s.batched = m, retries, 0
	out := &s.message
	out.Partition, out.Offset = m.Partition, -1
	if out.Topic != m.Topic {
		out.Topic = m.Topic
	}
	if out.Timestamp != m.Timestamp {
		out.Timestamp = m.Timestamp
	}
	switch { // Sarama tells a nil key by the interface
	case m.Key == nil && out.Key != nil:
		out.Key = nil
	case m.Key != nil && out.Key == nil:
		out.Key = (*slotKey)(s)
	}
	if len(m.Headers) > 0 {
		out.Headers = make([]ibm.RecordHeader, len(m.Headers))
		for i, h := range m.Headers {
			out.Headers[i] = ibm.RecordHeader{Key: []byte(h.Key), Value: h.Value}
		}
	}
	s.pending.Store(true)
}

// empty lets go of the message.
func (s *slot) empty() {
	s.user = nil
	if s.message.Headers != nil {
		s.message.Headers = nil
	}
}

// A buffer holds the slots of all messages that have been accepted and not
// acknowledged, in the order of acceptance.
type buffer struct {
	mu       sync.Mutex // guards what follows
	slots    []*slot    // by id
	free     []int32
	oldest   int32 // an id, or none
	newest   int32
	bytes    int
	sequence int64 // of the newest slot that was ever added
	closed   bool

	changed  chan struct{} // closed and replaced when who waits should look again
	spacious int           // how many wait for space
	flushed  int64         // the lowest sequence that anybody waits for, or noFlush
}

const (
	none    = int32(-1)
	noFlush = math.MaxInt64
)

func newBuffer() *buffer {
	return &buffer{oldest: none, newest: none, changed: make(chan struct{}), flushed: noFlush}
}

// add makes room for a message of so many bytes, when there is. It adds one to
// sending in one step with the look at closed, so that who waits for sending
// after close misses none. The slot is to be filled before that is done.
func (b *buffer) add(ctx context.Context, bytes int, sending *sync.WaitGroup) (*slot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && b.bytes > 0 && b.bytes+bytes > bufferBytes {
		b.spacious++
		err := b.wait(ctx)
		b.spacious--
		if err != nil {
			return nil, err
		}
	}
	if b.closed {
		return nil, driver.ErrClosed
	}
	s := b.takeFree()
	b.sequence++
	s.sequence, s.bytes = b.sequence, bytes
	s.prev, s.next = b.newest, none
	if b.newest == none {
		b.oldest = s.id
	} else {
		b.slots[b.newest].next = s.id
	}
	b.newest = s.id
	b.bytes += bytes
	sending.Add(1)
	return s, nil
}

// takeFree is called with mu held.
func (b *buffer) takeFree() *slot {
	if n := len(b.free); n > 0 {
		s := b.slots[b.free[n-1]]
		b.free = b.free[:n-1]
		return s
	}
	s := &slot{id: int32(len(b.slots))}
	s.message.Value, s.message.Metadata = s, s
	b.slots = append(b.slots, s)
	return s
}

// wait is called with mu held, and waits without it for a change.
func (b *buffer) wait(ctx context.Context) error {
	changed := b.changed
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tell wakes everybody who waits. It is called with mu held.
func (b *buffer) tell() {
	b.flushed = noFlush // who still waits will say so again
	close(b.changed)
	b.changed = make(chan struct{})
}

// remove takes out a slot that Sarama has not got, or has given back.
func (b *buffer) remove(s *slot) {
	s.empty()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unlink(s)
	b.free = append(b.free, s.id)
	if b.oldest == none && len(b.slots) > freeSlots { // after a jam
		b.slots, b.free = nil, nil
	}
}

// unlink is called with mu held.
func (b *buffer) unlink(s *slot) {
	if s.prev == none {
		b.oldest = s.next
	} else {
		b.slots[s.prev].next = s.next
	}
	if s.next == none {
		b.newest = s.prev
	} else {
		b.slots[s.next].prev = s.prev
	}
	b.bytes -= s.bytes
	if b.spacious > 0 && b.bytes <= bufferBytes/4*3 || b.flushed != noFlush && b.isFlushed(b.flushed) {
		b.tell()
	}
}

// isFlushed reports whether all slots up to sequence have gone.
func (b *buffer) isFlushed(sequence int64) bool {
	return b.oldest == none || b.slots[b.oldest].sequence > sequence
}

// ack acknowledges the message of s with what result returns. An answer that
// comes after abandon is dropped. The slot stays in the buffer until Ack has
// returned: so an empty buffer means that none runs.
func (b *buffer) ack(s *slot, result func(*slot) error) {
	if !s.pending.CompareAndSwap(true, false) {
		return
	}
	err := result(s)
	s.user.Acker.Ack(err)
	b.remove(s)
}

// flush waits until all that is in the buffer now has been acknowledged.
func (b *buffer) flush(ctx context.Context) error {
	b.mu.Lock()
	last := b.sequence
	for !b.isFlushed(last) {
		b.flushed = min(b.flushed, last)
		if err := b.wait(ctx); err != nil {
			b.mu.Unlock()
			return err
		}
	}
	b.mu.Unlock()
	return nil
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
// runs any more.
func (b *buffer) abandon(err error) {
	b.mu.Lock()
	var left []*slot
	for id := b.oldest; id != none; id = b.slots[id].next {
		if s := b.slots[id]; s.pending.CompareAndSwap(true, false) {
			left = append(left, s)
		}
	}
	b.mu.Unlock()
	for _, s := range left {
		s.user.Acker.Ack(err)
	}
	b.mu.Lock()
	for _, s := range left {
		b.unlink(s) // not reused: Sarama still has it
	}
	b.mu.Unlock()
	b.flush(context.Background())
}

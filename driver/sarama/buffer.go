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

// A slot is one accepted message on its way through Sarama. It is pooled, so
// that a message without headers costs no allocation. It does not look into the
// user's message, which is not ours any more once it was acknowledged.
type slot struct {
	message    ibm.ProducerMessage // Metadata is the slot
	user       *driver.Message
	key, value []byte
	bytes      int
	retries    int64 // the producer's count when the message was accepted
	batched    int   // how often it was put into a batch

	// pending is true from acceptance until somebody acknowledges the message:
	// who makes it false does.
	pending atomic.Bool

	// The rest belongs to the buffer.
	sequence   int64
	prev, next *slot
}

// Encode implements Sarama's Encoder for the value. Sarama calls it when it puts
// the message into a batch: before that nothing can have been sent.
func (s *slot) Encode() ([]byte, error) {
	s.batched++
	return s.value, nil
}

// Length implements Sarama's Encoder for the value.
func (s *slot) Length() int { return len(s.value) }

// A slotKey is the slot as Sarama's Encoder for the key.
type slotKey slot

func (k *slotKey) Encode() ([]byte, error) { return k.key, nil }
func (k *slotKey) Length() int             { return len(k.key) }

// cost is what m takes of the buffer.
func cost(m *driver.Message) int {
	n := slotBytes + len(m.Key) + len(m.Value)
	for i := range m.Headers {
		n += len(m.Headers[i].Key) + len(m.Headers[i].Value)
	}
	return n
}

// fill makes m the message of the slot.
func (s *slot) fill(m *driver.Message, retries int64) {
	s.user, s.key, s.value = m, m.Key, m.Value
	s.retries, s.batched = retries, 0
	s.message.Topic, s.message.Partition, s.message.Timestamp = m.Topic, m.Partition, m.Timestamp
	s.message.Offset, s.message.Value, s.message.Metadata = -1, s, s
	s.message.Key = nil
	if m.Key != nil { // Sarama tells a nil key by the interface
		s.message.Key = (*slotKey)(s)
	}
	s.message.Headers = nil
	if len(m.Headers) > 0 {
		s.message.Headers = make([]ibm.RecordHeader, len(m.Headers))
		for i, h := range m.Headers {
			s.message.Headers[i] = ibm.RecordHeader{Key: []byte(h.Key), Value: h.Value}
		}
	}
	s.pending.Store(true)
}

// A buffer holds the slots of all messages that have been accepted and not
// acknowledged, in the order of acceptance.
type buffer struct {
	mu       sync.Mutex // guards what follows
	oldest   *slot
	newest   *slot
	free     *slot // linked by next
	frees    int
	bytes    int
	sequence int64 // of the newest slot that was ever added
	closed   bool

	changed  chan struct{} // closed and replaced when who waits should look again
	spacious int           // how many wait for space
	flushed  int64         // the lowest sequence that anybody waits for, or noFlush
}

const noFlush = math.MaxInt64

func newBuffer() *buffer {
	return &buffer{changed: make(chan struct{}), flushed: noFlush}
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
	s := b.free
	if s == nil {
		s = new(slot)
	} else {
		b.free = s.next
		b.frees--
	}
	b.sequence++
	s.sequence, s.bytes = b.sequence, bytes
	s.prev, s.next = b.newest, nil
	if b.newest == nil {
		b.oldest = s
	} else {
		b.newest.next = s
	}
	b.newest = s
	b.bytes += bytes
	sending.Add(1)
	return s, nil
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

// unlink is called with mu held.
func (b *buffer) unlink(s *slot) {
	if s.prev == nil {
		b.oldest = s.next
	} else {
		s.prev.next = s.next
	}
	if s.next == nil {
		b.newest = s.prev
	} else {
		s.next.prev = s.prev
	}
	s.prev, s.next = nil, nil
	b.bytes -= s.bytes
	if b.spacious > 0 && b.bytes <= bufferBytes/4*3 || b.flushed != noFlush && b.isFlushed(b.flushed) {
		b.tell()
	}
}

// isFlushed reports whether all slots up to sequence have gone.
func (b *buffer) isFlushed(sequence int64) bool {
	return b.oldest == nil || b.oldest.sequence > sequence
}

// remove takes out a slot that Sarama has not got, or has given back.
func (b *buffer) remove(s *slot) {
	s.user, s.key, s.value, s.message.Headers = nil, nil, nil, nil
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unlink(s)
	if b.frees < freeSlots {
		s.next, b.free = b.free, s
		b.frees++
	}
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
	for s := b.oldest; s != nil; s = s.next {
		if s.pending.CompareAndSwap(true, false) {
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

package sarama

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

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

	abandonAgain = 10 * time.Millisecond
)

// A slot is one accepted message on its way through Sarama. It is reused, so that
// a message without headers costs no allocation.
type slot struct {
	message  ibm.ProducerMessage // Metadata and Value are the slot
	user     *driver.Message
	bytes    int
	retries  int64 // the producer's count when the message was accepted
	produces int64 // the line's count at that time
	batched  int   // how often it was put into a batch

	// pending is true from acceptance until somebody acknowledges the message:
	// who makes it false does.
	pending atomic.Bool

	epoch int64 // belongs to the buffer
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

// add makes room for a message of so many bytes, when there is.
func (b *buffer) add(ctx context.Context, bytes int) (*slot, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.free) == 0 || !b.fits(bytes) {
		b.takeIn()
	}
	if !b.fits(bytes) {
		b.spacious++
		err := b.await(ctx, func() bool { return b.closed || b.fits(bytes) })
		b.spacious--
		if err != nil {
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
	s.message.Value, s.message.Metadata = s, s
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

// put adds a slot, and reports whether somebody waits for it.
func (a *aside) put(s *slot) (watched bool) {
	a.mu.Lock()
	a.slots = append(a.slots, s)
	watched = a.watched
	a.mu.Unlock()
	return watched
}

// takeIn makes free what lies aside. It is called with mu held.
func (b *buffer) takeIn() {
	b.aside.mu.Lock()
	defer b.aside.mu.Unlock()
	for _, s := range b.aside.slots {
		b.forget(s)
	}
	b.free = append(b.free, b.aside.slots...)
	clear(b.aside.slots)
	b.aside.slots = b.aside.slots[:0]
	if len(b.free) == len(b.slots) && len(b.slots) > freeSlots { // after a jam
		b.slots, b.free, b.aside.slots = nil, nil, nil
	}
}

// forget is called with mu held.
func (b *buffer) forget(s *slot) {
	b.bytes -= s.bytes
	b.counts[s.epoch-b.base]--
	flushed := s.epoch < b.epoch && b.advance()
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

// withdraw takes out a slot that Sarama has not got. It reports false if the
// message has been acknowledged by abandon meanwhile.
func (b *buffer) withdraw(s *slot) bool {
	if !s.pending.CompareAndSwap(true, false) {
		return false
	}
	b.remove(s)
	return true
}

// remove takes out a slot whose message has been dealt with.
func (b *buffer) remove(s *slot) {
	s.empty()
	if b.aside.put(s) {
		b.mu.Lock()
		b.takeIn()
		b.mu.Unlock()
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
	defer b.mu.Unlock()
	b.epoch++
	b.counts = append(b.counts, 0)
	b.advance()
	own := b.epoch
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
			b.forget(s) // not reused: Sarama may have it
			b.mu.Unlock()
		}
		ctx, cancel := context.WithTimeout(context.Background(), abandonAgain)
		left := b.flush(ctx)
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

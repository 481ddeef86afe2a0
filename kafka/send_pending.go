package kafka

import (
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

// pending counts the messages between their send and its outcome, and the bytes of
// their keys and values. One addition counts both: bytes are the lower bits, messages
// the upper ones. What has begun and what has ended are two sums that wrap around, in
// two cache lines, because the goroutines of senders write the one and the driver's the
// other. Their difference holds 64 GiB and 268 million messages.
type pending struct {
	begun atomic.Uint64
	_     [56]byte
	ended atomic.Uint64
	_     [56]byte
}

const pendingBytesBits = 36

// begin counts m, and returns what to give to end.
func (p *pending) begin(m *driver.Message) (n uint64) {
	n = 1<<pendingBytesBits + uint64(len(m.Key)+len(m.Value))
	p.begun.Add(n)
	return n
}

// end counts that the send has its outcome.
func (p *pending) end(n uint64) { p.ended.Add(n) }

// load returns how much is under way. What has ended is read first: a send that begins
// and ends between the two reads must not make the difference negative.
func (p *pending) load() (messages, bytes int64) {
	ended := p.ended.Load()
	n := p.begun.Load() - ended
	return int64(n >> pendingBytesBits), int64(n & (1<<pendingBytesBits - 1))
}

// Package response follows the answers of a Kafka broker while a client reads them, and
// stops the client before it acts on a broken one.
//
// A client of the protocol allocates what the lengths and the counts in an answer ask
// for before it looks at the bytes that follow: up to 4 GiB for one number. A
// [Follower] compares these numbers with the request, with the length of the answer and
// with limits. It returns an error before the client has the end of a broken answer.
//
// A Follower also takes the throttle times out of the answers: see [Follower.Throttle].
package response

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

const (
	lengthBytes = 4 // of the length that comes before a request and an answer
	headBytes   = 8 // that length, and the correlation ID of an answer

	// minPending is the least number of requests that may wait for an answer on one
	// connection, whatever the client allows.
	minPending = 8
)

// An Error reports that a connection brought something that is no answer to a request.
// It is a net.Error, so a client closes the connection at once and takes nothing else
// that comes on it for an answer.
type Error struct{ Code, text string }

// Error says what is wrong with the answer.
func (e *Error) Error() string { return e.text }

// Timeout returns false: to wait longer would not have helped.
func (e *Error) Timeout() bool { return false }

// Temporary returns false: to read on from the connection would not help.
func (e *Error) Temporary() bool { return false }

func broken(format string, args ...any) error {
	return &Error{"INVALID_RESPONSE", fmt.Sprintf(format, args...)}
}

// A Follower follows the answers on one connection. It keeps nothing of an answer and
// allocates nothing for it. One goroutine may call Ask while another calls Follow.
type Follower struct {
	// Heard, if not nil, is called with the error code of each answer whose layout shows
	// it, before the client has the end of the answer. It must be set before the first
	// call of Follow.
	Heard func(r Request, code int16)

	tokens bool // answers may be SASL tokens in no protocol, as before Kafka 1.0
	max    int  // the length of the longest answer

	mu      sync.Mutex // guards pending, which the writer fills
	pending []Request  // by correlation ID, modulo their number

	head     [headBytes]byte // of the answer that is coming
	got      int             // how many bytes of head have come
	rest     int             // how many bytes of the answer come after its head
	complete int             // answers that have come as a whole
	layout   reader
}

// A Request holds what a Follower needs to know of a request to judge its answer.
type Request struct {
	open        bool
	Key         int16
	Version     int16
	Correlation int32
	Bytes       int
	Sent        time.Time // when its writing began
}

// New returns the Follower of one connection, on which pending requests may wait for an
// answer at a time and on which no answer is longer than longest. With tokens, answers
// may be SASL tokens that are in no protocol.
func New(tokens bool, pending, longest int) *Follower {
	n := minPending
	for n < pending {
		n *= 2
	}
	return &Follower{tokens: tokens, max: longest, pending: make([]Request, n)}
}

// ParseRequest reads the head of a request, which b holds as a whole.
func ParseRequest(b []byte) (Request, bool) {
	if len(b) < lengthBytes+8 {
		return Request{}, false
	}
	return Request{
		Key:         int16(binary.BigEndian.Uint16(b[4:])),
		Version:     int16(binary.BigEndian.Uint16(b[6:])),
		Correlation: int32(binary.BigEndian.Uint32(b[8:])),
		Bytes:       len(b),
	}, true
}

// Ask notes that r is about to be written. A later request overwrites one that gets no
// answer, such as a produce request without acks.
func (f *Follower) Ask(r Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.open = true
	f.pending[uint32(r.Correlation)%uint32(len(f.pending))] = r
}

// take returns the request with a correlation ID, once.
func (f *Follower) take(correlation int32) (Request, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := &f.pending[uint32(correlation)%uint32(len(f.pending))]
	if !r.open || r.Correlation != correlation {
		return Request{}, false
	}
	r.open = false
	return *r, true
}

// Follow looks at b, which the client is about to read, and sets throttle times in it to
// zero. It returns how many bytes the client may have: all, or those before a broken
// answer.
func (f *Follower) Follow(b []byte) (int, error) {
	before := 0 // where the latest answer begins
	for i := 0; i < len(b); {
		if f.got == 0 {
			before = i
		}
		n, err := f.step(b[i:])
		if err != nil {
			return before, err
		}
		i += n
	}
	return len(b), nil
}

// step follows a part of b, and returns its length.
func (f *Follower) step(b []byte) (int, error) {
	if f.rest == 0 {
		f.head[f.got] = b[0]
		f.got++
		return 1, f.begin()
	}
	n := min(f.rest, len(b))
	if err := f.layout.read(b[:n]); err != nil {
		return 0, err
	}
	f.rest -= n
	f.end()
	return n, nil
}

// begin judges the head of an answer as soon as its parts have come.
func (f *Follower) begin() error {
	length := int(int32(binary.BigEndian.Uint32(f.head[:])))
	switch {
	case f.got == lengthBytes && f.tokens && length >= 0 && length <= f.max:
		f.rest = length
		f.end()
		return nil
	case f.got == lengthBytes && (length < 4 || length > f.max):
		return f.notKafka(length)
	case f.got < headBytes:
		return nil
	}
	correlation := int32(binary.BigEndian.Uint32(f.head[lengthBytes:]))
	r, ok := f.take(correlation)
	if !ok {
		return f.notKafka(length)
	}
	if most := f.most(r); length > most {
		return broken("an answer of %d bytes to a request with API key %d, of which at most %d are expected", length, r.Key, most)
	}
	f.rest = length - (headBytes - lengthBytes)
	f.layout.start(r, f.rest)
	f.end()
	return nil
}

// end makes ready for the next answer, if this one has come as a whole.
func (f *Follower) end() {
	if f.rest == 0 {
		f.got = 0
		f.complete++
		if f.Heard != nil && f.layout.coded {
			f.layout.coded = false
			f.Heard(f.layout.request, f.layout.code)
		}
		f.layout.stop()
	}
}

// most returns how long an answer to r may be. Only answers to fetches hold records;
// every other answer is small, and takes many times its length in memory once decoded.
func (f *Follower) most(r Request) int {
	switch r.Key {
	case Fetch:
		return f.max
	case FindCoordinator, Heartbeat, LeaveGroup, SASLHandshake, APIVersions, InitProducerID, SASLAuthenticate:
		return f.max / 100
	}
	return f.max / 4
}

// notKafka returns the error for a head that no answer begins with.
func (f *Follower) notKafka(length int) error {
	head := f.head[:f.got]
	what := fmt.Sprintf("an answer of %d bytes", length)
	if length >= 4 && length <= f.max {
		what = "an answer to no request"
	}
	if f.complete > 0 {
		return broken("%s, beginning with %q", what, head)
	}
	switch string(head[:lengthBytes]) {
	case "HTTP", "<htm", "<!DO":
		return broken("%s, beginning with %q: this is HTTP: is this Kafka's port?", what, head)
	case "SSH-":
		return broken("%s, beginning with %q: this is SSH: is this Kafka's port?", what, head)
	}
	if head[0] == 0x15 && head[1] == 0x03 { // an alert
		return &Error{"CONNECTION_FAILED", "a TLS alert instead of an answer: does this port want TLS?"}
	}
	return broken("%s, beginning with %q: is this Kafka?", what, head)
}

// Throttle returns the longest throttle time of the answers that have come since the
// last call. The client reads zero in its place, so the caller must keep the pause.
func (f *Follower) Throttle() time.Duration {
	ms := f.layout.pause
	f.layout.pause = 0
	return time.Duration(ms) * time.Millisecond
}

package sarama

import (
	"encoding/binary"
	"fmt"
	"sync"

	ibm "github.com/IBM/sarama"
)

const (
	lengthBytes = 4 // of the length that comes before a request and an answer
	headBytes   = 8 // that length, and the correlation ID of an answer

	// minPending is how many requests may wait for an answer on a connection at
	// least, whatever Sarama's MaxOpenRequests is.
	minPending = 8
)

// An answerError says that what came over a connection is no answer to what was
// asked. It is a net.Error, so that Sarama closes the connection at once, and
// takes nothing else that comes on it for an answer.
type answerError struct{ code, text string }

func (e *answerError) Error() string   { return e.text }
func (e *answerError) Timeout() bool   { return false }
func (e *answerError) Temporary() bool { return false }

func broken(format string, args ...any) error {
	return &answerError{"INVALID_RESPONSE", fmt.Sprintf(format, args...)}
}

// answers follows the answers on one connection while Sarama reads them. Sarama
// allocates what the lengths and the counts in an answer ask for before it looks
// at what has come, up to 4 GiB for one: so these are held here against what was
// asked, against the bytes that are there, and against limits, and Sarama never
// sees the end of one that is wrong.
//
// Nothing is kept of an answer and nothing is allocated for it. It also takes the
// throttle times out, see pause.go.
type answers struct {
	loose bool // SASL before Kafka 1.0: tokens that are in no protocol
	max   int  // the length of the longest answer, as Sarama has it

	mu      sync.Mutex // guards pending, which the writer fills
	pending []request  // by correlation ID, modulo their number

	head     [headBytes]byte // of the answer that is coming
	got      int             // how much of head is there
	rest     int             // how much of the answer is to come after its head
	complete int             // answers that have come as a whole
	layout   reader
}

// A request is what has to be known of a request to judge the answer.
type request struct {
	open        bool
	key         int16
	version     int16
	correlation int32
	bytes       int
}

func newAnswers(loose bool, maxOpen int) *answers {
	n := minPending
	for n < maxOpen {
		n *= 2
	}
	return &answers{loose: loose, max: int(ibm.MaxResponseSize), pending: make([]request, n)}
}

// parseRequest reads the beginning of a request, as Sarama writes it.
func parseRequest(b []byte) (request, bool) {
	if len(b) < lengthBytes+8 {
		return request{}, false
	}
	return request{
		open:        true,
		key:         int16(binary.BigEndian.Uint16(b[4:])),
		version:     int16(binary.BigEndian.Uint16(b[6:])),
		correlation: int32(binary.BigEndian.Uint32(b[8:])),
		bytes:       len(b),
	}, true
}

// ask notes that r is about to be written. A request that gets no answer, as a
// produce request without acks, is overwritten by a later one.
func (a *answers) ask(r request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending[uint32(r.correlation)%uint32(len(a.pending))] = r
}

// take returns the request with a correlation ID, once.
func (a *answers) take(correlation int32) (request, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := &a.pending[uint32(correlation)%uint32(len(a.pending))]
	if !r.open || r.correlation != correlation {
		return request{}, false
	}
	r.open = false
	return *r, true
}

// follow looks at what has been read. It returns how much of it may be passed on:
// all, or what came before an answer that is wrong.
func (a *answers) follow(b []byte) (int, error) {
	before := 0 // where the latest answer begins
	for i := 0; i < len(b); {
		if a.got == 0 {
			before = i
		}
		n, err := a.step(b[i:])
		if err != nil {
			return before, err
		}
		i += n
	}
	return len(b), nil
}

// step follows a part of b, and returns its length.
func (a *answers) step(b []byte) (int, error) {
	if a.rest == 0 {
		a.head[a.got] = b[0]
		a.got++
		return 1, a.begin()
	}
	n := min(a.rest, len(b))
	if err := a.layout.read(b[:n]); err != nil {
		return 0, err
	}
	a.rest -= n
	a.end()
	return n, nil
}

// begin judges the head of an answer as soon as its parts are there.
func (a *answers) begin() error {
	length := int(int32(binary.BigEndian.Uint32(a.head[:])))
	switch {
	case a.got == lengthBytes && a.loose && length >= 0 && length <= a.max:
		a.rest = length
		a.end()
		return nil
	case a.got == lengthBytes && (length < 4 || length > a.max):
		return a.notKafka(length)
	case a.got < headBytes:
		return nil
	}
	correlation := int32(binary.BigEndian.Uint32(a.head[lengthBytes:]))
	r, ok := a.take(correlation)
	if !ok {
		return a.notKafka(length)
	}
	if most := a.most(r); length > most {
		return broken("an answer of %d bytes to a request with API key %d, of which at most %d are expected", length, r.key, most)
	}
	a.rest = length - (headBytes - lengthBytes)
	a.layout.start(r, a.rest)
	a.end()
	return nil
}

// end makes ready for the next answer, if this one is there.
func (a *answers) end() {
	if a.rest == 0 {
		a.got = 0
		a.complete++
		a.layout.stop()
	}
}

// most returns how long an answer to r may be. Records come in answers to fetches
// alone; everything else is small, and costs many times its length once decoded.
func (a *answers) most(r request) int {
	switch r.key {
	case fetch:
		return a.max
	case findCoordinator, heartbeat, leaveGroup, saslHandshake, apiVersions, initProducerID, saslAuthenticate:
		return a.max / 100
	}
	return a.max / 4
}

// notKafka describes a head that cannot be one.
func (a *answers) notKafka(length int) error {
	head := a.head[:a.got]
	what := fmt.Sprintf("an answer of %d bytes", length)
	if length >= 4 && length <= a.max {
		what = "an answer to no request"
	}
	if a.complete > 0 {
		return broken("%s, beginning with %q", what, head)
	}
	switch string(head[:lengthBytes]) {
	case "HTTP", "<htm", "<!DO":
		return broken("%s, beginning with %q: this is HTTP: is this Kafka's port?", what, head)
	case "SSH-":
		return broken("%s, beginning with %q: this is SSH: is this Kafka's port?", what, head)
	}
	if head[0] == 0x15 && head[1] == 0x03 { // an alert
		return &answerError{"CONNECTION_FAILED", "a TLS alert instead of an answer: does this port want TLS?"}
	}
	return broken("%s, beginning with %q: is this Kafka?", what, head)
}

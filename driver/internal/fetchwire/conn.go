package fetchwire

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/aarontianqx/gopkg/driver/internal/response"
)

const (
	lengthOfRequest = 4 // of the length before a request or an answer
	headOfAnswer    = 8 // the length and the correlation ID
	readAhead       = 4096
)

// An Examiner looks at the fetches of a connection.
type Examiner interface {
	// Asked is called for each partition in a request.
	Asked(Asked)

	// Answered is called with an answer, which begins after its head, before the client
	// gets it. It may change the records in it.
	Answered(answer []byte, version int16)
}

// A Reading is how a client reads an answer: first its head, and then all the rest in one
// slice of its own. The Examiner changes that slice in place: nothing is copied.
type Reading int

// The readings. Sarama reads the length and the correlation ID first. Kgo reads the length
// alone.
const (
	HeadFirst Reading = iota
	LengthFirst
)

// A Conn is a connection that shows each answer to a fetch to an Examiner before the client
// reads it.
//
// A client decodes an answer as one: a batch that cannot be read may fail all partitions of
// the broker. It also allocates as much as a batch claims to hold. So an Examiner hides such
// batches from the client.
type Conn struct {
	net.Conn
	in      *bufio.Reader
	by      Examiner
	reading Reading

	mu      sync.Mutex // guards fetches, which the writer fills
	fetches []pendingFetch

	head    int   // bytes of the answer's head that are still to be read
	rest    int   // bytes of the answer that are still to be read, head included
	skip    int   // bytes of the head that the client reads with the rest
	version int16 // of the fetch that it answers, or -1
}

type pendingFetch struct {
	correlation int32
	version     int16
}

// New returns a connection over c.
func New(c net.Conn, by Examiner, reading Reading) *Conn {
	return &Conn{Conn: c, in: bufio.NewReaderSize(c, readAhead), by: by, reading: reading}
}

// Write implements net.Conn. The client must write a request by one call.
func (e *Conn) Write(b []byte) (int, error) {
	if len(b) >= lengthOfRequest+8 && binary.BigEndian.Uint16(b[lengthOfRequest:]) == response.Fetch {
		e.mu.Lock()
		e.fetches = append(e.fetches, pendingFetch{
			correlation: int32(binary.BigEndian.Uint32(b[lengthOfRequest+4:])),
			version:     int16(binary.BigEndian.Uint16(b[lengthOfRequest+2:])),
		})
		e.mu.Unlock()
		EachAsked(b, e.by.Asked)
	}
	return e.Conn.Write(b)
}

// Read implements net.Conn.
func (e *Conn) Read(p []byte) (int, error) {
	if e.rest == 0 {
		if err := e.begin(); err != nil {
			return 0, err
		}
	}
	switch {
	case e.head > 0:
		n, err := e.in.Read(p[:min(len(p), e.head)])
		e.head -= n
		e.rest -= n
		return n, err
	case e.version < 0 || len(p) < e.rest:
		n, err := e.in.Read(p[:min(len(p), e.rest)])
		e.rest -= n
		e.version = -1 // the rest alone cannot be read
		return n, err
	}
	n, err := io.ReadFull(e.in, p[:e.rest])
	e.rest -= n
	if err == nil {
		e.by.Answered(p[e.skip:n], e.version)
	}
	return n, err
}

// begin waits for the head of the next answer. Bytes of another shape, such as tokens of an
// old authentication, are passed on unchanged.
func (e *Conn) begin() error {
	b, err := e.in.Peek(lengthOfRequest)
	if err != nil {
		return err
	}
	length := int(int32(binary.BigEndian.Uint32(b)))
	e.rest, e.head, e.version = lengthOfRequest+max(0, length), 0, -1
	if e.reading == LengthFirst {
		e.head = lengthOfRequest
	}
	if length < headOfAnswer-lengthOfRequest {
		return nil
	}
	if b, err = e.in.Peek(headOfAnswer); err != nil {
		return err
	}
	if version, ok := e.take(int32(binary.BigEndian.Uint32(b[lengthOfRequest:]))); ok {
		e.version, e.head, e.skip = version, headOfAnswer, 0
		if version >= flexible {
			e.head++ // no tags
		}
		if e.reading == LengthFirst {
			e.head, e.skip = lengthOfRequest, e.head-lengthOfRequest
		}
	}
	return nil
}

// take returns the version of the fetch with a correlation ID, if it is one.
func (e *Conn) take(correlation int32) (int16, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.fetches, func(f pendingFetch) bool { return f.correlation == correlation })
	if i < 0 {
		return 0, false
	}
	version := e.fetches[i].version
	e.fetches = slices.Delete(e.fetches, i, i+1)
	return version, true
}

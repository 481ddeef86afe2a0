package sarama

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"

	"github.com/aarontianqx/gopkg/driver/internal/response"
)

const (
	lengthOfRequest = 4 // of the length before a request or an answer
	headOfAnswer    = 8 // the length and the correlation ID
	readAhead       = 4096
)

// An examined connection shows each answer to a fetch to an inspector before
// Sarama reads it.
//
// Sarama decodes an answer as one: a batch that cannot be read fails all partitions of the
// broker, and Sarama blames each of them. It also allocates as much as a batch claims to
// hold. So the inspector hides such batches from Sarama. Sarama asks for the head of an
// answer and then for all the rest in one slice of its own, which the inspector changes in
// place: nothing is copied.
type examined struct {
	net.Conn
	in *bufio.Reader
	by *inspector

	mu      sync.Mutex // guards fetches, which the writer fills
	fetches []pendingFetch

	head    int   // bytes of the answer's head that are still to be read
	rest    int   // bytes of the answer that are still to be read, head included
	version int16 // of the fetch that it answers, or -1
}

type pendingFetch struct {
	correlation int32
	version     int16
}

func newExamined(c net.Conn, by *inspector) *examined {
	return &examined{Conn: c, in: bufio.NewReaderSize(c, readAhead), by: by}
}

// Write implements net.Conn. Sarama writes a request by one call.
func (e *examined) Write(b []byte) (int, error) {
	if len(b) >= lengthOfRequest+8 && binary.BigEndian.Uint16(b[lengthOfRequest:]) == response.Fetch {
		e.mu.Lock()
		e.fetches = append(e.fetches, pendingFetch{
			correlation: int32(binary.BigEndian.Uint32(b[lengthOfRequest+4:])),
			version:     int16(binary.BigEndian.Uint16(b[lengthOfRequest+2:])),
		})
		e.mu.Unlock()
		eachAsked(b, e.by.asked)
	}
	return e.Conn.Write(b)
}

// Read implements net.Conn.
func (e *examined) Read(p []byte) (int, error) {
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
		e.by.answered(p[:n], e.version)
	}
	return n, err
}

// begin waits for the head of the next answer. Bytes of another shape, such as tokens of an
// old authentication, are passed on unchanged.
func (e *examined) begin() error {
	b, err := e.in.Peek(lengthOfRequest)
	if err != nil {
		return err
	}
	length := int(int32(binary.BigEndian.Uint32(b)))
	e.rest, e.head, e.version = lengthOfRequest+max(0, length), 0, -1
	if length < headOfAnswer-lengthOfRequest {
		return nil
	}
	if b, err = e.in.Peek(headOfAnswer); err != nil {
		return err
	}
	if version, ok := e.take(int32(binary.BigEndian.Uint32(b[lengthOfRequest:]))); ok {
		e.version, e.head = version, headOfAnswer
		if version >= flexibleFetch {
			e.head++ // no tags
		}
	}
	return nil
}

// take returns the version of the fetch with a correlation ID, if it is one.
func (e *examined) take(correlation int32) (int16, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, f := range e.fetches {
		if f.correlation == correlation {
			e.fetches = append(e.fetches[:i], e.fetches[i+1:]...)
			return f.version, true
		}
	}
	return 0, false
}

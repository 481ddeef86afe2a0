package sarama

import (
	"encoding/binary"
	"net"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// An ear listens to the coordinator's answers to Sarama's heartbeats, joins and syncs on one
// connection. Sarama shows neither when it sent a heartbeat nor how often it joins. It has
// one request under way at a time on such a connection.
type ear struct {
	net.Conn
	asked func(key int16)
	heard func(key int16, sent time.Time, code ibm.KError)

	mu   sync.Mutex // guards what follows
	key  int16
	code int       // where the error code of the answer is; 0 if no code is wanted
	sent time.Time // when the request was written
	head []byte    // the answer up to its error code, as far as it was read
}

const (
	answerHeader  = 8 // its size and its correlation ID
	throttleBytes = 4
	codeBytes     = 2
)

// codeAt returns where the error code of an answer is, or 0 if no code is wanted.
func codeAt(key, version int16) int {
	var flexible, throttled int16 // since which version
	switch key {
	case response.Heartbeat:
		flexible, throttled = 4, 1
	case response.JoinGroup:
		flexible, throttled = 6, 2
	case response.SyncGroup:
		flexible, throttled = 4, 1
	default:
		return 0
	}
	at := answerHeader
	if version >= flexible {
		at++ // no tagged fields in the header
	}
	if version >= throttled {
		at += throttleBytes
	}
	return at
}

// Write implements net.Conn. Sarama writes a request by one call.
func (e *ear) Write(b []byte) (int, error) {
	const size, keyAndVersion = 4, 4
	if len(b) >= size+keyAndVersion {
		key := int16(binary.BigEndian.Uint16(b[size:]))
		version := int16(binary.BigEndian.Uint16(b[size+2:]))
		e.mu.Lock()
		e.key, e.code, e.sent, e.head = key, codeAt(key, version), time.Now(), e.head[:0]
		e.mu.Unlock()
		e.asked(key)
	}
	return e.Conn.Write(b)
}

// Read implements net.Conn.
func (e *ear) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	e.listen(b[:n])
	return n, err
}

// listen takes the error code from the bytes of an answer.
func (e *ear) listen(b []byte) {
	e.mu.Lock()
	end := e.code + codeBytes
	if e.code == 0 {
		e.mu.Unlock()
		return
	}
	e.head = append(e.head, b[:min(len(b), end-len(e.head))]...)
	if len(e.head) < end {
		e.mu.Unlock()
		return
	}
	key, sent, code := e.key, e.sent, ibm.KError(binary.BigEndian.Uint16(e.head[e.code:]))
	e.code = 0
	e.mu.Unlock()
	e.heard(key, sent, code)
}

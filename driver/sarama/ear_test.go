package sarama

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
)

// A pieces is a connection that reads a few bytes at a time.
type pieces struct {
	net.Conn
	answer []byte
}

func (p *pieces) Write(b []byte) (int, error) { return len(b), nil }

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b[:min(len(b), 3)], p.answer)
	p.answer = p.answer[n:]
	return n, nil
}

// TestEarReportsErrorCodes checks the codes that an ear reports against answers made by
// hand.
func TestEarReportsErrorCodes(t *testing.T) {
	request := func(key, version uint16) []byte {
		b := binary.BigEndian.AppendUint32(nil, 20)
		b = binary.BigEndian.AppendUint16(b, key)
		return append(binary.BigEndian.AppendUint16(b, version), make([]byte, 16)...)
	}
	answer := func(code uint16, before int) []byte {
		b := append(binary.BigEndian.AppendUint32(nil, 100), make([]byte, 4+before)...)
		return append(binary.BigEndian.AppendUint16(b, code), make([]byte, 50)...)
	}
	for _, c := range []struct {
		name         string
		key, version uint16
		before       int // bytes between the header and the code
		heard        bool
	}{
		{"heartbeat 0", 12, 0, 0, true}, {"heartbeat 3", 12, 3, 4, true}, {"heartbeat 4", 12, 4, 5, true},
		{"join 1", 11, 1, 0, true}, {"join 5", 11, 5, 4, true}, {"join 9", 11, 9, 5, true},
		{"sync 0", 14, 0, 0, true}, {"sync 3", 14, 3, 4, true}, {"sync 5", 14, 5, 5, true},
		{"leave", 13, 3, 4, false}, {"offset fetch", 9, 8, 5, false},
	} {
		var heard []ibm.KError
		conn := &pieces{answer: answer(27, c.before)}
		e := &ear{Conn: conn, asked: func(int16) {}, heard: func(_ int16, _ time.Time, code ibm.KError) { heard = append(heard, code) }}
		e.Write(request(c.key, c.version))
		for len(conn.answer) > 0 {
			e.Read(make([]byte, 10))
		}
		var want []ibm.KError
		if c.heard {
			want = append(want, ibm.ErrRebalanceInProgress)
		}
		assert.Equal(t, want, heard, c.name)
	}
}

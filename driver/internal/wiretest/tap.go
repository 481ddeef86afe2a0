package wiretest

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A tap stands before a listener and keeps what clients send to it.
type tap struct {
	listener net.Listener
	backend  string
	workers  sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	open  map[net.Conn]bool
	said  [][]byte // by connection, what the client sent first
	dials int
}

const tapKeeps = 1 << 16

func newTap(t testing.TB, backend string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &tap{listener: l, backend: backend, open: map[net.Conn]bool{}}
	p.workers.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		p.cut()
		p.workers.Wait()
	})
	return p
}

func (p *tap) addr() string { return p.listener.Addr().String() }

func (p *tap) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		broker, err := net.Dial("tcp", p.backend)
		if err != nil {
			client.Close()
			continue
		}
		p.mu.Lock()
		n := len(p.said)
		p.said = append(p.said, nil)
		p.dials++
		p.open[client], p.open[broker] = true, true
		p.mu.Unlock()
		p.workers.Go(func() { p.forward(broker, io.TeeReader(client, keeper{p, n}), client) })
		p.workers.Go(func() { p.forward(client, broker, broker) })
	}
}

func (p *tap) forward(to net.Conn, from io.Reader, source net.Conn) {
	io.Copy(to, from)
	for _, c := range []net.Conn{to, source} {
		c.Close()
		p.mu.Lock()
		delete(p.open, c)
		p.mu.Unlock()
	}
}

type keeper struct {
	p *tap
	n int
}

func (k keeper) Write(b []byte) (int, error) {
	k.p.mu.Lock()
	defer k.p.mu.Unlock()
	if k.n < len(k.p.said) { // else it is of before the last reset
		room := max(0, tapKeeps-len(k.p.said[k.n]))
		k.p.said[k.n] = append(k.p.said[k.n], b[:min(room, len(b))]...)
	}
	return len(b), nil
}

// cut closes all connections.
func (p *tap) cut() {
	p.mu.Lock()
	open := p.open
	p.open = map[net.Conn]bool{}
	p.mu.Unlock()
	for c := range open {
		c.Close()
	}
}

// reset cuts, and forgets.
func (p *tap) reset() {
	p.cut()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said, p.dials = nil, 0
}

// sent returns the bytes that clients sent on each connection.
func (p *tap) sent() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.said)
}

func (p *tap) dialed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// The requests with which a client introduces itself, before it may do anything.
var introductions = map[uint16]string{17: "SaslHandshake", 18: "ApiVersions", 36: "SaslAuthenticate"}

// authentications returns how often a SASL handshake was begun on the one connection that had
// most of them, among bytes sent without TLS.
func authentications(said [][]byte) (most int) {
	for _, b := range said {
		n := 0
		for len(b) >= 6 {
			if introductions[binary.BigEndian.Uint16(b[4:])] == "SaslHandshake" {
				n++
			}
			b = b[min(4+int(binary.BigEndian.Uint32(b)), len(b)):]
		}
		most = max(most, n)
	}
	return most
}

// plainApplication counts the bytes of requests that are no introduction, among bytes
// sent without TLS. It also returns the names of the introductions.
func plainApplication(said [][]byte) (application int, introduced []string) {
	for _, b := range said {
		for len(b) >= 6 {
			size := 4 + int(binary.BigEndian.Uint32(b))
			name, ok := introductions[binary.BigEndian.Uint16(b[4:])]
			if !ok {
				application += min(size, len(b))
			} else if !slices.Contains(introduced, name) {
				introduced = append(introduced, name)
			}
			b = b[min(size, len(b)):]
		}
	}
	return application, introduced
}

// tlsApplication counts the bytes of application data under TLS. With TLS 1.3 the
// end of the handshake looks the same: so many records are passed over.
func tlsApplication(said [][]byte, handshake int) (application int, err error) {
	const header, applicationData = 5, 23
	for _, b := range said {
		records := 0
		for len(b) >= header {
			size := int(binary.BigEndian.Uint16(b[3:]))
			if kind := b[0]; kind < 20 || kind > 24 {
				return 0, fmt.Errorf("a record of kind %d: this is not TLS", kind)
			}
			if b[0] == applicationData {
				if records++; records > handshake {
					application += size
				}
			}
			b = b[min(header+size, len(b)):]
		}
	}
	return application, nil
}

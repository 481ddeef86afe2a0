//go:build unix

package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A direction is one half of a connection.
type direction int

// The directions.
const (
	toBroker direction = iota
	toClient
)

// A weather is what a network does to connections. The zero value is fair.
type weather struct {
	cut   bool             // connections are reset, and new ones refused
	black [2]bool          // by direction: nothing gets through, and no side notices
	delay [2]time.Duration // by direction: of each piece of data
}

// A proxy stands before one listener of one broker. What it holds back in a
// black hole gets through when that heals, as TCP would see to, unless the
// connection has been given up by then.
type proxy struct {
	listener net.Listener
	backend  string
	peerOf   func(clientID string) int // nil: all are alike
	workers  sync.WaitGroup

	mu      sync.Mutex // guards what follows
	weather func(peer int) weather
	changed chan struct{} // closed and replaced when the weather changes
	conns   map[*proxied]struct{}
	closed  bool
}

// A proxied connection belongs to a broker or to a consumer, by its number in the
// client id of its first request, or to another client: then peer is 0.
type proxied struct {
	client, broker net.Conn
	peer           int
}

func (c *proxied) reset() {
	for _, conn := range []net.Conn{c.client, c.broker} {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0)
		}
		conn.Close()
	}
}

func newProxy(backend string, peerOf func(clientID string) int) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{
		listener: l, backend: backend, peerOf: peerOf,
		weather: func(int) weather { return weather{} },
		changed: make(chan struct{}), conns: map[*proxied]struct{}{},
	}
	p.workers.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

// set changes the weather, which may differ for each peer. Connections that are
// to be cut are.
func (p *proxy) set(w func(peer int) weather) {
	p.mu.Lock()
	p.weather = w
	close(p.changed)
	p.changed = make(chan struct{})
	var cut []*proxied
	for c := range p.conns {
		if w(c.peer).cut {
			cut = append(cut, c)
		}
	}
	p.mu.Unlock()
	for _, c := range cut {
		c.reset()
	}
}

// drop resets every connection.
func (p *proxy) drop() {
	p.mu.Lock()
	conns := p.conns
	p.conns = map[*proxied]struct{}{}
	p.mu.Unlock()
	for c := range conns {
		c.reset()
	}
}

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.set(func(int) weather { return weather{cut: true} })
	p.workers.Wait()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.workers.Go(func() { p.serve(client) })
	}
}

// serve forwards one connection. Which peer it belongs to shows in its first request,
// which is read before anything is forwarded.
func (p *proxy) serve(client net.Conn) {
	c := &proxied{client: client}
	var first []byte
	if p.peerOf != nil {
		var id string
		first, id = identify(client)
		c.peer = p.peerOf(id)
	}
	var err error
	if c.broker, err = net.Dial("tcp", p.backend); err != nil {
		client.Close()
		return
	}
	if !p.admit(c) {
		c.reset()
		return
	}
	defer p.forget(c)
	var answers sync.WaitGroup
	answers.Go(func() { p.forward(c, toClient, client, c.broker) })
	p.forward(c, toBroker, c.broker, io.MultiReader(bytes.NewReader(first), client))
	answers.Wait()
}

func (p *proxy) admit(c *proxied) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.weather(c.peer).cut {
		return false
	}
	p.conns[c] = struct{}{}
	return true
}

func (p *proxy) forget(c *proxied) {
	p.mu.Lock()
	delete(p.conns, c)
	p.mu.Unlock()
	c.client.Close()
	c.broker.Close()
}

// forward copies one direction until either side closes, and then closes both.
func (p *proxy) forward(c *proxied, d direction, to net.Conn, from io.Reader) {
	defer to.Close()
	defer c.client.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if !p.pass(c, d) {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits until data may get through, and reports false when it never will.
func (p *proxy) pass(c *proxied, d direction) bool {
	delayed := false
	for {
		p.mu.Lock()
		w, changed, closed := p.weather(c.peer), p.changed, p.closed
		p.mu.Unlock()
		switch {
		case closed, w.cut:
			return false
		case w.black[d]:
			<-changed
		case w.delay[d] > 0 && !delayed:
			delayed = true
			select {
			case <-time.After(w.delay[d]):
			case <-changed:
			}
		default:
			return true
		}
	}
}

// identify reads the first request of a connection, as far as its client id,
// and returns what it has read and that id.
func identify(client net.Conn) (read []byte, clientID string) {
	const head = 4 + 2 + 2 + 4 + 2 // size, key, version, correlation id, length of the client id
	read = make([]byte, head)
	n, err := io.ReadFull(client, read)
	if err != nil {
		return read[:n], ""
	}
	length := int(int16(binary.BigEndian.Uint16(read[head-2:])))
	if length <= 0 || length > 256 {
		return read, ""
	}
	id := make([]byte, length)
	n, _ = io.ReadFull(client, id)
	return append(read, id[:n]...), string(id[:n])
}

// consumerOf returns the number of the consumer with a client id, or 0.
func consumerOf(clientID string) int {
	if number, ok := strings.CutPrefix(clientID, "c"); ok {
		n, _ := strconv.Atoi(number)
		return n
	}
	return 0
}

// brokerOf returns the first number in a client id. Brokers put their id into the
// one by which they speak to each other.
func brokerOf(clientID string) int {
	first, last := -1, 0
	for i, r := range clientID {
		isDigit := r >= '0' && r <= '9'
		switch {
		case isDigit && first < 0:
			first, last = i, i+1
		case isDigit && last == i:
			last = i + 1
		}
	}
	if first < 0 {
		return 0
	}
	n, _ := strconv.Atoi(clientID[first:last])
	return n
}

// Package wire stands between a Kafka client and one broker, and can change what
// the broker answers: a hostile broker, or an attacker on the network path.
package wire

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// maxFrame bounds what is taken for a frame of the broker or the client.
const maxFrame = 256 << 20

// An Exchange is one request and its answer.
type Exchange struct {
	Key, Version int16

	// Request is decoded. The bodies of both are of package kmsg.
	Request kmsg.Request

	// Answer is what the broker says. To change it is enough.
	Answer kmsg.Response

	// Raw, if it is not nil, is written in place of the answer. It includes the
	// length and the correlation ID: see Frame.
	Raw []byte

	correlation int32
}

// Frame returns body as an answer to the request.
func (x *Exchange) Frame(body []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(x.correlation))
	if x.Answer.IsFlexible() && x.Key != int16(kmsg.ApiVersions) {
		head = append(head, 0)
	}
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(head)+len(body)))
	return append(append(frame, head...), body...)
}

// A Proxy is the only broker of a cluster, for clients that come by it.
type Proxy struct {
	listener net.Listener
	broker   string
	meddle   func(*Exchange)
	host     string
	port     int32

	requests [64]atomic.Int64 // by API key
	dials    atomic.Int64

	workers sync.WaitGroup
	mu      sync.Mutex // guards what follows
	open    map[net.Conn]bool
	closed  bool
}

// Listen starts a proxy before broker. It calls meddle for each answer, for several
// connections at once, after it has put its own address in place of the broker's.
func Listen(broker string, meddle func(*Exchange)) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, broker: broker, meddle: meddle, host: host, port: int32(n), open: map[net.Conn]bool{}}
	p.workers.Go(p.accept)
	return p, nil
}

// Addr is where clients find the proxy.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Requests returns how many requests with an API key have come.
func (p *Proxy) Requests(key kmsg.Key) int64 { return p.requests[key].Load() }

// Total returns how many requests have come.
func (p *Proxy) Total() (n int64) {
	for i := range p.requests {
		n += p.requests[i].Load()
	}
	return n
}

// Dials returns how many connections have been opened.
func (p *Proxy) Dials() int64 { return p.dials.Load() }

// Close closes all connections, and waits until nothing of the proxy runs.
func (p *Proxy) Close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		c.Close()
	}
	p.mu.Unlock()
	p.workers.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.dials.Add(1)
		broker, err := net.Dial("tcp", p.broker)
		if err != nil {
			client.Close()
			continue
		}
		if !p.add(client, broker) {
			return
		}
		c := &relay{p: p, client: client, broker: broker, pending: map[int32]*Exchange{}}
		p.workers.Go(func() { c.end(c.requests()) })
		p.workers.Go(func() { c.end(c.answers()) })
	}
}

func (p *Proxy) add(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.closed {
			c.Close()
		}
		p.open[c] = true
	}
	return !p.closed
}

// A relay is one connection by way of the proxy.
type relay struct {
	p              *Proxy
	client, broker net.Conn

	mu      sync.Mutex // guards pending
	pending map[int32]*Exchange
}

func (c *relay) end(error) {
	c.client.Close()
	c.broker.Close()
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	delete(c.p.open, c.client)
	delete(c.p.open, c.broker)
}

func (c *relay) requests() error {
	for {
		frame, err := readFrame(c.client)
		if err != nil {
			return err
		}
		x, err := parse(frame)
		if err != nil {
			return err
		}
		if int(x.Key) < len(c.p.requests) {
			c.p.requests[x.Key].Add(1)
		}
		c.mu.Lock()
		c.pending[x.correlation] = x
		c.mu.Unlock()
		if _, err := c.broker.Write(frame); err != nil {
			return err
		}
	}
}

func (c *relay) answers() error {
	for {
		frame, err := readFrame(c.broker)
		if err != nil {
			return err
		}
		if len(frame) < 8 {
			return io.ErrUnexpectedEOF
		}
		c.mu.Lock()
		correlation := int32(binary.BigEndian.Uint32(frame[4:]))
		x := c.pending[correlation]
		delete(c.pending, correlation)
		c.mu.Unlock()
		if x != nil {
			if frame, err = c.p.answer(x, frame); err != nil {
				return err
			}
		}
		if _, err := c.client.Write(frame); err != nil {
			return err
		}
	}
}

// answer returns the frame to be sent in place of frame.
func (p *Proxy) answer(x *Exchange, frame []byte) ([]byte, error) {
	x.Answer = x.Request.ResponseKind()
	x.Answer.SetVersion(x.Version)
	body := frame[8:]
	if x.Answer.IsFlexible() && x.Key != int16(kmsg.ApiVersions) {
		body = body[1:]
	}
	if err := x.Answer.ReadFrom(body); err != nil {
		return frame, nil // such as an answer of another version to ApiVersions
	}
	switch a := x.Answer.(type) {
	case *kmsg.MetadataResponse:
		for i := range a.Brokers {
			a.Brokers[i].Host, a.Brokers[i].Port = p.host, p.port
		}
	case *kmsg.FindCoordinatorResponse:
		a.Host, a.Port = p.host, p.port
		for i := range a.Coordinators {
			a.Coordinators[i].Host, a.Coordinators[i].Port = p.host, p.port
		}
	}
	p.meddle(x)
	if x.Raw != nil {
		return x.Raw, nil
	}
	return x.Frame(x.Answer.AppendTo(nil)), nil
}

// readFrame returns a frame with its length.
func readFrame(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxFrame {
		return nil, fmt.Errorf("a frame of %d bytes", n)
	}
	frame := append(length[:], make([]byte, n)...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// parse decodes a request.
func parse(frame []byte) (*Exchange, error) {
	r := kbin.Reader{Src: frame[4:]}
	x := &Exchange{Key: r.Int16(), Version: r.Int16(), correlation: r.Int32()}
	if x.Request = kmsg.RequestForKey(x.Key); x.Request == nil {
		return nil, fmt.Errorf("a request with API key %d", x.Key)
	}
	x.Request.SetVersion(x.Version)
	r.NullableString()
	if x.Request.IsFlexible() {
		kmsg.SkipTags(&r)
	}
	if err := r.Complete(); err != nil && len(r.Src) == 0 {
		return nil, err
	}
	return x, x.Request.ReadFrom(r.Src)
}

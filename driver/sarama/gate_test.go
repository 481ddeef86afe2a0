package sarama

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// A gate stands between clients and a broker, and can cut and stall what goes
// through it.
type gate struct {
	mu       sync.Mutex
	conns    map[*gatedConn]bool
	cutting  bool
	stalling bool
	muting   bool
	passable chan struct{} // closed unless stalling
	dials    int
}

func newGate() *gate {
	g := &gate{conns: map[*gatedConn]bool{}, passable: make(chan struct{})}
	close(g.passable)
	return g
}

// cut breaks all connections, and new ones as they come.
func (g *gate) cut() (heal func()) {
	g.mu.Lock()
	g.cutting = true
	conns := g.conns
	g.conns = map[*gatedConn]bool{}
	g.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.cutting = false
	}
}

// stall lets nothing through, but keeps the connections.
func (g *gate) stall() (heal func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.stalling {
		g.stalling, g.passable = true, make(chan struct{})
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.stalling {
			g.stalling = false
			close(g.passable)
		}
	}
}

// mute lets requests through, and drops the answers. heal breaks all connections.
func (g *gate) mute() (heal func()) {
	g.setMuting(true)
	return func() {
		g.setMuting(false) // first: a new connection must not lose an answer
		g.cut()()
	}
}

func (g *gate) setMuting(muting bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muting = muting
}

func (g *gate) isMuting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.muting
}

// count returns how many connections there are, and how many there have been.
func (g *gate) count() (now, ever int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns), g.dials
}

// admit puts c behind the gate, or closes it.
func (g *gate) admit(c net.Conn) *gatedConn {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials++
	if g.cutting {
		c.Close()
		return nil
	}
	gated := &gatedConn{Conn: c, g: g, closed: make(chan struct{})}
	g.conns[gated] = true
	return gated
}

type gatedConn struct {
	net.Conn
	g      *gate
	once   sync.Once
	closed chan struct{}
}

func (c *gatedConn) pass() error {
	c.g.mu.Lock()
	passable := c.g.passable
	c.g.mu.Unlock()
	select {
	case <-passable:
		return nil
	case <-c.closed:
		return net.ErrClosed
	}
}

func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if passErr := c.pass(); passErr != nil {
		return 0, passErr
	}
	return n, err
}

func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	if c.g.isMuting() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.g.mu.Lock()
	delete(c.g.conns, c)
	c.g.mu.Unlock()
	return c.Conn.Close()
}

// A gatedListener accepts through a gate, and by a back door past it. Its
// address is that of the gate.
type gatedListener struct {
	net.Listener
	back  net.Listener
	gate  *gate
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

func listenGated(g *gate, network, address string) (*gatedListener, error) {
	front, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		front.Close()
		return nil, err
	}
	l := &gatedListener{Listener: front, back: back, gate: g, conns: make(chan net.Conn), done: make(chan struct{})}
	l.wg.Go(func() {
		l.accept(front, func(c net.Conn) net.Conn {
			if gated := g.admit(c); gated != nil {
				return gated
			}
			return nil
		})
	})
	l.wg.Go(func() { l.accept(back, func(c net.Conn) net.Conn { return c }) })
	return l, nil
}

func (l *gatedListener) accept(from net.Listener, wrap func(net.Conn) net.Conn) {
	for {
		c, err := from.Accept()
		if err != nil {
			return
		}
		if c = wrap(c); c == nil {
			continue
		}
		select {
		case l.conns <- c:
		case <-l.done:
			c.Close()
		}
	}
}

func (l *gatedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *gatedListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.Listener.Close()
		l.back.Close()
		l.wg.Wait()
	})
	return nil
}

// proxy forwards what passes the gate to backend, and returns its address.
func proxy(t testing.TB, g *gate, backend string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if gated := g.admit(c); gated != nil {
				wg.Go(func() { forward(gated, backend) })
			}
		}
	})
	t.Cleanup(func() {
		l.Close()
		g.cut()
		wg.Wait()
	})
	return l.Addr().String()
}

func forward(client *gatedConn, backend string) {
	defer client.Close()
	broker, err := net.Dial("tcp", backend)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		io.Copy(broker, client)
		broker.Close()
	})
	io.Copy(client, broker)
	client.Close()
	broker.Close()
	wg.Wait()
}

package wiretest

import (
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// A Gate stands between clients and a broker, and can cut and stall what goes
// through it.
type Gate struct {
	mu       sync.Mutex
	conns    map[*gatedConn]bool
	cutting  bool
	stalling bool
	muting   bool
	passable chan struct{} // closed unless stalling
	dials    int
}

// NewGate returns a gate that lets everything through.
func NewGate() *Gate {
	g := &Gate{conns: map[*gatedConn]bool{}, passable: make(chan struct{})}
	close(g.passable)
	return g
}

// Cut breaks all connections, and new ones as they come.
func (g *Gate) Cut() (heal func()) {
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

// Stall lets nothing through, but keeps the connections.
func (g *Gate) Stall() (heal func()) {
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

// Mute lets requests through, and drops the answers. heal breaks all connections.
func (g *Gate) Mute() (heal func()) {
	g.setMuting(true)
	return func() {
		g.setMuting(false) // first: a new connection must not lose an answer
		g.Cut()()
	}
}

func (g *Gate) setMuting(muting bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.muting = muting
}

func (g *Gate) isMuting() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.muting
}

// Count returns how many connections there are, and how many there have been.
func (g *Gate) Count() (now, ever int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns), g.dials
}

// admit puts c behind the gate, or closes it.
func (g *Gate) admit(c net.Conn) *gatedConn {
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
	g      *Gate
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

// Read implements net.Conn.
func (c *gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if passErr := c.pass(); passErr != nil {
		return 0, passErr
	}
	return n, err
}

// Write implements net.Conn.
func (c *gatedConn) Write(b []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	if c.g.isMuting() {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

// Close implements net.Conn.
func (c *gatedConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.g.mu.Lock()
	delete(c.g.conns, c)
	c.g.mu.Unlock()
	return c.Conn.Close()
}

// A GatedListener accepts through a gate, and by a back door past it. Its
// address is that of the gate.
type GatedListener struct {
	net.Listener
	back  net.Listener
	gate  *Gate
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup
}

// ListenGated listens at an address, through g, and at a back door of its own.
func ListenGated(g *Gate, network, address string) (*GatedListener, error) {
	front, err := net.Listen(network, address)
	if err != nil {
		return nil, err
	}
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		front.Close()
		return nil, err
	}
	l := &GatedListener{Listener: front, back: back, gate: g, conns: make(chan net.Conn), done: make(chan struct{})}
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

// Back returns the address of the back door.
func (l *GatedListener) Back() string { return l.back.Addr().String() }

func (l *GatedListener) accept(from net.Listener, wrap func(net.Conn) net.Conn) {
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

// Accept implements net.Listener.
func (l *GatedListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *GatedListener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.Listener.Close()
		l.back.Close()
		l.wg.Wait()
	})
	return nil
}

// Proxy forwards what passes the gate to backend, and returns its address.
func Proxy(t testing.TB, g *Gate, backend string) string {
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
		g.Cut()
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

// GatedBrokers returns a cluster of three brokers, each behind a gate of its own.
func (s Suite) GatedBrokers(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, []*Gate) {
	t.Helper()
	var mu sync.Mutex
	byAddr := map[string]*Gate{}
	cluster := s.Fake(t, append(opts, kfake.NumBrokers(3), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		g := NewGate()
		l, err := ListenGated(g, network, address)
		if err == nil {
			mu.Lock()
			byAddr[l.Addr().String()] = g
			mu.Unlock()
		}
		return l, err
	}))...)
	var gates []*Gate
	for _, addr := range cluster.ListenAddrs() {
		gates = append(gates, byAddr[addr])
	}
	return cluster, gates
}

// Package dialer makes connections to Kafka brokers that their user can cut.
//
// A client of the protocol often cannot cancel a request that waits at a broker: a fetch that
// waits for records, a join that waits for other members. To close the connection under
// it ends the wait. So a [Dialer] knows all connections that it has made: Cut closes
// them, and Sever closes them and refuses new ones.
//
// A Dialer also makes the TLS handshake. So a connection is encrypted if TLS was
// configured, whatever the client's own configuration says, and a port that does not
// speak TLS is an error within seconds.
//
// On every connection it follows the answers (package response), bounds the wait for
// them, and keeps the pauses that a broker asks for, within a bound.
package dialer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// DialTimeout bounds one attempt to connect.
	DialTimeout = 10 * time.Second

	// HandshakeTimeout bounds a TLS handshake.
	HandshakeTimeout = 5 * time.Second

	// doubtTime is shorter than the pause before a client tries again, and longer than the
	// time within which it dials again at once or for other requests.
	doubtTime = 50 * time.Millisecond

	// maxAddress is the length of the longest name in DNS, with room for a port and
	// an IPv6 zone. The name that a broker gives itself can be longer.
	maxAddress = 253 + 64
)

// ErrSevered is returned for a connection that was asked for after Sever.
var ErrSevered = errors.New("connections have been severed")

// A Dialer makes connections and keeps track of them. Several goroutines may use it.
// Its exported fields must be set before the first connection is made.
type Dialer struct {
	// Wrap, if not nil, returns what Dial returns in place of a connection.
	Wrap func(net.Conn) net.Conn

	// Tokens allows answers that are SASL tokens in no protocol.
	Tokens bool

	// Slow, if not nil, reports the API keys of requests whose answers may take as long
	// as the client allows. A join is always one of these.
	Slow func(key int16) bool

	// Heard, if not nil, is called when the answer to a join, a sync or a heartbeat comes,
	// with the time at which the request was sent and the error code of the answer. The
	// client gets the answer when Heard has returned.
	Heard func(key int16, sent time.Time, code int16)

	// MaxPending is how many requests may wait for an answer on one connection.
	MaxPending int

	// Report, if not nil, is called with an error that a connection has survived.
	Report func(error)

	// Closing, if not nil, is closed when the user of the connections begins to close.
	Closing <-chan struct{}

	tls    *tls.Config // nil is plaintext
	answer time.Duration
	max    int // bytes of the longest answer
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	dead  bool

	// produces counts the produce requests whose writing has begun, by the address of the
	// broker. A cluster has few of these.
	produces map[string]int64

	// silent holds the addresses, as they were dialed, of brokers whose answer has not come
	// in time, with the time at which Doubts first reported it, or zero. A cluster has few
	// of these.
	silent map[string]time.Time
}

// New returns a Dialer that makes TLS connections if t is not nil. It waits no longer
// than answer for a connection, and for each answer on it that does not depend on other
// members of a group. If answer is 0, only the wait for the address of a coordinator is
// bounded. An answer that is longer than maxAnswer bytes breaks its connection.
func New(t *tls.Config, answer time.Duration, maxAnswer int) *Dialer {
	d := &Dialer{tls: t, answer: answer, max: maxAnswer, conns: map[*conn]struct{}{}, produces: map[string]int64{}, silent: map[string]time.Time{}}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	return d
}

// Dial returns a new connection.
func (d *Dialer) Dial(network, addr string) (net.Conn, error) {
	return d.DialContext(d.ctx, network, addr)
}

// DialContext returns a new connection, or ends by the end of ctx.
func (d *Dialer) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.dial(ctx, network, addr)
	if err == nil && d.Wrap != nil {
		return d.Wrap(c), nil
	}
	return c, err
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if len(addr) > maxAddress {
		return nil, &net.AddrError{Err: "too long for the address of a broker", Addr: driver.Printable(addr, 0)}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	dialing, done := context.WithTimeout(ctx, d.atMost(DialTimeout))
	defer done()
	raw, err := new(net.Dialer).DialContext(dialing, network, addr)
	if err != nil {
		return nil, d.orSevered(err)
	}
	c := d.newConn(raw)
	c.addr = addr
	if !d.add(c) {
		c.hangUp()
		return nil, ErrSevered
	}
	if d.tls == nil {
		return c, nil
	}
	if c.Conn, err = d.handshake(ctx, raw, addr); err != nil {
		c.dialer.remove(c)
		c.hangUp()
		return nil, d.orSevered(err)
	}
	return c, nil
}

func (d *Dialer) orSevered(err error) error {
	if d.ctx.Err() != nil {
		return ErrSevered
	}
	return err
}

func (d *Dialer) handshake(ctx context.Context, raw net.Conn, addr string) (net.Conn, error) {
	cfg := d.tls
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	limit := d.atMost(HandshakeTimeout)
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t := tls.Client(raw, cfg)
	err := t.HandshakeContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, &HandshakeError{fmt.Errorf("TLS handshake with %s: no answer within %v: does this port speak TLS?", addr, limit)}
	}
	if HungUp(err) {
		return nil, &HandshakeError{fmt.Errorf("TLS handshake with %s: %w: does this port speak TLS?", addr, err)}
	}
	if err != nil {
		return nil, &HandshakeError{fmt.Errorf("TLS handshake with %s: %w", addr, err)}
	}
	return t, nil
}

// atMost returns t, or the limit of an answer if that is less.
func (d *Dialer) atMost(t time.Duration) time.Duration {
	if d.answer > 0 {
		return min(t, d.answer)
	}
	return t
}

func (d *Dialer) add(c *conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return false
	}
	d.conns[c] = struct{}{}
	return true
}

func (d *Dialer) remove(c *conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

// Cut closes all connections. Dial may still make new ones.
func (d *Dialer) Cut() {
	d.mu.Lock()
	conns := d.conns
	d.conns = map[*conn]struct{}{}
	d.mu.Unlock()
	for c := range conns {
		c.hangUp()
	}
}

// Sever closes all connections and refuses new ones from now on. It may be called more
// than once.
func (d *Dialer) Sever() {
	d.mu.Lock()
	d.dead = true
	d.mu.Unlock()
	d.cancel()
	d.Cut()
}

// Severed returns a channel that Sever closes.
func (d *Dialer) Severed() <-chan struct{} { return d.ctx.Done() }

// Wait sleeps for so long, or until the connections are severed.
func (d *Dialer) Wait(pause time.Duration) {
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.Severed():
	}
}

// IsSevered reports whether Sever has been called.
func (d *Dialer) IsSevered() bool { return d.ctx.Err() != nil }

// Plaintext reports whether connections are not encrypted.
func (d *Dialer) Plaintext() bool { return d.tls == nil }

// TakeSilence reports whether an answer has not come in time since the last call.
func (d *Dialer) TakeSilence() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	silent := len(d.silent) > 0
	clear(d.silent)
	return silent
}

// Doubts reports whether an answer has not come in time from the broker that is dialed at an
// address, until doubtTime after it has first reported that.
func (d *Dialer) Doubts(addr string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	since, silent := d.silent[addr]
	switch {
	case !silent:
		return false
	case since.IsZero():
		d.silent[addr] = time.Now()
	case time.Since(since) > doubtTime:
		delete(d.silent, addr)
		return false
	}
	return true
}

// Doubt notes that the broker that is dialed at an address may be away, although it takes
// connections.
func (d *Dialer) Doubt(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.silent[addr] = time.Time{}
}

// Produces returns how many produce requests the client has begun to write to the broker
// that it dials at an address.
func (d *Dialer) Produces(addr string) int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.produces[addr]
}

func (d *Dialer) countProduce(addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.produces[addr]++
}

// report passes on an error that a connection has survived.
func (d *Dialer) report(err error) {
	if d.Report != nil {
		d.Report(err)
	}
}

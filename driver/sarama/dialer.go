package sarama

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	dialTimeout      = 10 * time.Second
	handshakeTimeout = 5 * time.Second

	// maxAddress is the length of the longest name in DNS, with room for a port and
	// an IPv6 zone. What a broker calls itself can be longer.
	maxAddress = 253 + 64

	// maxReasons is how many brokers are named when none could be reached.
	maxReasons = 8
)

var errSevered = errors.New("connections have been severed")

// A line is the dialer of one Sarama client, and all connections that it has.
// Sarama has no way to cancel what waits for a broker; to close the connection
// under it is one.
//
// It also does the TLS handshake. So what it hands to Sarama is encrypted if
// TLS was asked for, whatever Sarama's own configuration says, and a port that
// does not speak TLS is an error within handshakeTimeout.
type line struct {
	tls    *tls.Config // nil is plaintext
	answer time.Duration
	ctx    context.Context
	cancel context.CancelFunc
	over   func(net.Conn) net.Conn // what Sarama gets instead of a connection; nil is that itself

	// These are set before the first connection is dialed.
	loose   bool        // answers may be SASL tokens in no protocol
	maxOpen int         // requests that wait for an answer on one connection
	report  func(error) // what a connection has lived through; may be nil

	// closing is closed when the user of the line begins to close; nil is never.
	closing <-chan struct{}

	mu    sync.Mutex // guards what follows
	conns map[*conn]struct{}
	dead  bool

	silent   atomic.Bool  // an answer has not come in time
	produces atomic.Int64 // requests to append that have been begun to write
}

// newLine returns a line that waits no longer than answer for a connection, and
// for any answer on it that does not depend on other members of a group. Zero
// leaves the waits for answers to Sarama, but for who coordinates a group.
func newLine(t *tls.Config, answer time.Duration) *line {
	l := &line{tls: t, answer: answer, conns: map[*conn]struct{}{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// A conn is one connection of a line. Close is the way that its user closes it.
type conn struct {
	net.Conn
	raw  net.Conn // below TLS: closing it waits for nothing
	line *line

	asked   atomic.Int32 // the API key of the latest request
	answers *answers
	pause   pause

	broken atomic.Pointer[error] // what came over it is no answer: it is of no more use
	gone   chan struct{}         // closed with the connection
	hangUp func() error          // closes raw and gone, once
}

func (l *line) newConn(raw net.Conn) *conn {
	c := &conn{Conn: raw, raw: raw, line: l, gone: make(chan struct{})}
	c.answers = newAnswers(l.loose, l.maxOpen)
	c.hangUp = sync.OnceValue(func() error {
		close(c.gone)
		return raw.Close()
	})
	return c
}

// Dial implements the dialer that Sarama's Net.Proxy asks for.
func (l *line) Dial(network, addr string) (net.Conn, error) {
	c, err := l.dial(network, addr)
	if err == nil && l.over != nil {
		return l.over(c), nil
	}
	return c, err
}

func (l *line) dial(network, addr string) (net.Conn, error) {
	if len(addr) > maxAddress {
		return nil, &net.AddrError{Err: "too long for the address of a broker", Addr: driver.Printable(addr, 0)}
	}
	ctx, cancel := context.WithTimeout(l.ctx, l.atMost(dialTimeout))
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil {
		return nil, l.orSevered(err)
	}
	c := l.newConn(raw)
	if !l.add(c) {
		c.hangUp()
		return nil, errSevered
	}
	if l.tls == nil {
		return c, nil
	}
	if c.Conn, err = l.handshake(raw, addr); err != nil {
		c.line.remove(c)
		c.hangUp()
		return nil, l.orSevered(err)
	}
	return c, nil
}

func (l *line) orSevered(err error) error {
	if l.ctx.Err() != nil {
		return errSevered
	}
	return err
}

func (l *line) handshake(raw net.Conn, addr string) (net.Conn, error) {
	cfg := l.tls
	if cfg.ServerName == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, err
		}
		cfg = cfg.Clone()
		cfg.ServerName = host
	}
	limit := l.atMost(handshakeTimeout)
	ctx, cancel := context.WithTimeout(l.ctx, limit)
	defer cancel()
	t := tls.Client(raw, cfg)
	err := t.HandshakeContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, &tlsError{fmt.Errorf("TLS handshake with %s: no answer within %v: does this port speak TLS?", addr, limit)}
	}
	if hungUp(err) {
		return nil, &tlsError{fmt.Errorf("TLS handshake with %s: %w: does this port speak TLS?", addr, err)}
	}
	if err != nil {
		return nil, &tlsError{fmt.Errorf("TLS handshake with %s: %w", addr, err)}
	}
	return t, nil
}

// atMost returns d, or the line's own limit if that is less.
func (l *line) atMost(d time.Duration) time.Duration {
	if l.answer > 0 {
		return min(d, l.answer)
	}
	return d
}

// Write implements net.Conn. Sarama writes a request by one call.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.broken.Load(); err != nil {
		return 0, *err
	}
	c.holdBack()
	if r, ok := parseRequest(b); ok {
		c.asked.Store(int32(r.key))
		c.answers.ask(r)
		if r.key == produce {
			c.line.produces.Add(1)
		}
	}
	return c.Conn.Write(b)
}

// Read implements net.Conn. It closes a connection on which an answer is late:
// the next one would be taken for it. Sarama asks again on it when it was the
// first, and would wait as long once more. It also closes one on which something
// comes that is no answer, and says so from then on.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.broken.Load(); err != nil {
		return 0, *err
	}
	n, err := c.Conn.Read(b)
	if c.line.answer > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		c.line.silent.Store(true)
		c.hangUp()
	}
	good, wrong := c.answers.follow(b[:n])
	if wrong != nil {
		c.broken.Store(&wrong)
		c.hangUp()
		return good, wrong
	}
	c.heed()
	return n, err
}

// SetReadDeadline implements net.Conn. Sarama has one read timeout a client, and
// it must be above the rebalance timeout for the sake of a join. With that, this
// would happen: a coordinator freezes, and its connections stay open; a heartbeat
// waits on one of them until the session is over; the group moves to another
// broker, which gives the member up, and all that it has handled meanwhile is
// delivered again.
func (c *conn) SetReadDeadline(t time.Time) error {
	if wait := c.wait(); wait > 0 {
		if limit := time.Now().Add(wait); limit.Before(t) {
			t = limit
		}
	}
	return c.Conn.SetReadDeadline(t)
}

// lookupWait bounds the wait for who the coordinator is: any broker knows at once.
// The one that has frozen may be asked, too, and there must be time for another.
const lookupWait = time.Second

// wait returns how long an answer to the latest request may take, or 0 for as long
// as Sarama waits.
func (c *conn) wait() time.Duration {
	switch c.asked.Load() {
	case joinGroup, syncGroup: // answered when other members have done their part
		return 0
	case findCoordinator:
		return c.line.atMost(max(lookupWait, c.line.answer/3))
	}
	return c.line.answer
}

// A tlsError is a failed handshake.
type tlsError struct{ error }

func (e *tlsError) Unwrap() error { return e.error }

func (l *line) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *line) remove(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.line.remove(c)
	if c.Conn != c.raw {
		defer c.hangUp()
		return c.Conn.Close() // says goodbye first
	}
	return c.hangUp()
}

// cut closes all connections. New ones may be dialed.
func (l *line) cut() {
	l.mu.Lock()
	conns := l.conns
	l.conns = map[*conn]struct{}{}
	l.mu.Unlock()
	for c := range conns {
		c.hangUp()
	}
}

// sever closes all connections and refuses new ones from now on.
func (l *line) sever() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.cancel()
	l.cut()
}

// severed is closed by sever.
func (l *line) severed() <-chan struct{} { return l.ctx.Done() }

// wait sleeps for d, but not longer than until the line is severed.
func (l *line) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.severed():
	}
}

// reach makes sure that one of brokers answers a request, authentication
// included. It reports why each of them did not.
func (l *line) reach(brokers []string, conf *ibm.Config) error {
	var errs []error
	for i, addr := range brokers {
		err := l.hint(ask(ibm.NewBroker(addr), conf), conf)
		if err == nil {
			return nil
		}
		if i < maxReasons || isPermanent(wrap(err)) && len(errs) < 2*maxReasons {
			errs = append(errs, fmt.Errorf("%s: %w", driver.Printable(addr, 0), err))
		}
		if l.ctx.Err() != nil {
			break
		}
	}
	if more := len(brokers) - len(errs); more > 0 {
		errs = append(errs, fmt.Errorf("and %d brokers more", more))
	}
	return wrap(errors.Join(errs...))
}

// hint adds to err what may be missing when a broker just hangs up: what it
// expected it does not say.
func (l *line) hint(err error, conf *ibm.Config) error {
	var want []string
	if l.tls == nil {
		want = append(want, "TLS")
	}
	if !conf.Net.SASL.Enable {
		want = append(want, "SASL")
	}
	if len(want) == 0 || !hungUp(err) {
		return err
	}
	return fmt.Errorf("%w: does this port want %s?", err, strings.Join(want, " or "))
}

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// ask sends b a request that costs little and creates nothing. A broker that
// wants authentication and gets none shows it only then.
func ask(b *ibm.Broker, conf *ibm.Config) error {
	if err := b.Open(conf); err != nil {
		return err
	}
	defer b.Close()
	if _, err := b.Connected(); err != nil {
		return err
	}
	req := ibm.NewMetadataRequest(conf.Version, []string{"__consumer_offsets"})
	_, err := b.GetMetadata(req)
	return err
}

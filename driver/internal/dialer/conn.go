package dialer

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// A conn is one connection of a Dialer. Its user closes it by Close.
type conn struct {
	net.Conn
	raw    net.Conn // below TLS: closing it waits for nothing
	dialer *Dialer
	addr   string // as it was dialed

	asked   atomic.Int32 // the API key of the latest request
	answers *response.Follower
	pause   pause

	limit  atomic.Int64          // of the wait for an answer, in nanoseconds
	ended  atomic.Bool           // the client waits no longer for an answer
	broken atomic.Pointer[error] // why the connection is unusable: it brought no answer, or none in time
	gone   chan struct{}         // closed with the connection
	hangUp func() error          // closes raw and gone, once
}

func (d *Dialer) newConn(raw net.Conn) *conn {
	c := &conn{Conn: raw, raw: raw, dialer: d, gone: make(chan struct{})}
	c.answers = response.New(d.Tokens, d.MaxPending, d.max)
	if d.Heard != nil {
		c.answers.Heard = func(r response.Request, code int16) {
			if r.Key != response.InitProducerID {
				d.Heard(r.Key, r.Sent, code)
			}
		}
	}
	c.hangUp = sync.OnceValue(func() error {
		close(c.gone)
		return raw.Close()
	})
	return c
}

// Write implements net.Conn. The client must write a request by one call.
func (c *conn) Write(b []byte) (int, error) {
	if err := c.broken.Load(); err != nil {
		return 0, *err
	}
	c.holdBack()
	if r, ok := response.ParseRequest(b); ok {
		r.Sent = time.Now()
		c.asked.Store(int32(r.Key))
		c.answers.Ask(r)
		if r.Key == response.Produce {
			c.dialer.countProduce(c.addr)
		}
	}
	n, err := c.Conn.Write(b)
	if broken := c.broken.Load(); err != nil && broken != nil {
		err = *broken
	}
	return n, err
}

// Read implements net.Conn. It closes a connection on which an answer is late: the
// client would take the next answer for it, or would ask again and wait as long once
// more. It also closes a connection that brings something other than an answer, and
// returns the reason from then on.
func (c *conn) Read(b []byte) (int, error) {
	if err := c.broken.Load(); err != nil {
		return 0, *err
	}
	n, err := c.Conn.Read(b)
	if c.dialer.answer > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		if !c.ended.Load() {
			c.dialer.Doubt(c.addr)
			var late error = lateError{time.Duration(c.limit.Load())}
			c.broken.Store(&late)
		}
		c.hangUp()
	}
	good, wrong := c.answers.Follow(b[:n])
	if wrong != nil {
		c.broken.Store(&wrong)
		c.hangUp()
		return good, wrong
	}
	c.heed()
	return n, err
}

// SetReadDeadline implements net.Conn. A client may have one read timeout for all
// requests, as Sarama has, and a join needs one above the rebalance timeout. Without a
// shorter limit here this would happen: a coordinator freezes, and its connections stay
// open; a heartbeat waits on one of them until the session is over; the group moves to
// another broker, which removes the member; everything that the member has handled
// meanwhile is delivered again.
//
// A limit that has passed ends a wait: kgo does so when the context of a request ends.
func (c *conn) SetReadDeadline(t time.Time) error {
	if err := c.broken.Load(); err != nil {
		return *err
	}
	if !t.IsZero() && !t.After(time.Now()) {
		c.ended.Store(true)
	}
	if wait := c.wait(); wait > 0 {
		if limit := time.Now().Add(wait); limit.Before(t) {
			t = limit
		}
	}
	if !t.IsZero() {
		c.limit.Store(int64(time.Until(t)))
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if err := c.broken.Load(); err != nil {
		return *err
	}
	return c.Conn.SetWriteDeadline(t)
}

// lookupWait bounds the wait for the address of a coordinator, and for the first answer on a
// connection: any broker knows these at once. The frozen broker may be asked, too, and there
// must be time to ask another one.
const lookupWait = time.Second

// wait returns how long the answer to the latest request may take, or 0 if the client
// alone bounds it.
func (c *conn) wait() time.Duration {
	key := c.asked.Load()
	if slow := c.dialer.Slow; slow != nil && slow(int16(key)) {
		return 0
	}
	switch key {
	case response.JoinGroup, response.SyncGroup: // answered when other members have done theirs
		return 0
	case response.FindCoordinator, response.APIVersions:
		return c.dialer.atMost(max(lookupWait, c.dialer.answer/3))
	}
	return c.dialer.answer
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.dialer.remove(c)
	if c.Conn != c.raw {
		defer c.hangUp()
		return c.Conn.Close() // says goodbye first
	}
	return c.hangUp()
}

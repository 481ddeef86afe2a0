package memory

import (
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A pulse is what both sides of a link know of a member's heartbeats: one each
// interval, beginning with its join. It never changes, so that the member's
// deadline is read without a lock; a change of the link makes another.
//
// Heartbeats are not sent, only reckoned: while the link holds, each is heard
// after half of delay and answered after all of it.
type pulse struct {
	first   time.Time
	every   time.Duration
	session time.Duration
	delay   time.Duration // the round trip
	cut     time.Time     // when the link broke; zero while it holds
}

// defaultDelay makes a member know of the end of its session before its group does,
// as it does on any network.
const defaultDelay = 2 * time.Millisecond

func newPulse(cfg driver.ConsumerConfig) *pulse {
	return &pulse{first: time.Now(), every: cfg.HeartbeatInterval, session: cfg.SessionTimeout, delay: defaultDelay}
}

// sent returns when the latest heartbeat had been sent at a time.
func (p *pulse) sent(by time.Time) time.Time {
	since := max(by.Sub(p.first), 0)
	if p.every > 0 {
		since -= since % p.every
	}
	return p.first.Add(since)
}

// deadline returns until when the member knows that it is one: SessionTimeout after
// the latest heartbeat that has been answered was sent. Counting from the answer
// would be too late, since the group counts from when it heard the heartbeat.
func (p *pulse) deadline() time.Time {
	return p.sent(p.latest().Add(-p.delay)).Add(p.session)
}

// expiry returns when the group gives the member up.
func (p *pulse) expiry() time.Time {
	return p.sent(p.latest().Add(-p.delay / 2)).Add(p.delay/2 + p.session)
}

// latest is the latest moment at which the link held.
func (p *pulse) latest() time.Time {
	if p.cut.IsZero() {
		return time.Now()
	}
	return p.cut
}

var _ driver.SessionDeadliner = (*consumer)(nil)

// SessionDeadline implements driver.SessionDeadliner.
func (c *consumer) SessionDeadline() time.Time {
	if p := c.pulse.Load(); p != nil {
		return p.deadline()
	}
	return time.Time{}
}

// beginPulse says that the group counts on the consumer from now on.
func (c *consumer) beginPulse() {
	if c.pulse.Load() == nil {
		p := newPulse(c.cfg)
		if c.delay > 0 {
			p.delay = c.delay
		}
		c.pulse.Store(p)
	}
}

func (c *consumer) endPulse() {
	c.pulse.Store(nil)
	if c.fence != nil {
		c.fence.Stop()
		c.fence = nil
	}
}

// setDelay changes how long the answers to heartbeats take.
func (c *consumer) setDelay(d time.Duration) {
	c.delay = d
	// While the link is cut the group has set its expiry already.
	if p := c.pulse.Load(); p != nil && p.cut.IsZero() {
		q := *p
		q.delay = d
		c.pulse.Store(&q)
	}
}

// linkChanged notes that the link has broken, or holds again. A member that is cut
// off fences itself: Run wakes at the deadline and loses its claims.
func (c *consumer) linkChanged() {
	p := c.pulse.Load()
	if p == nil || p.cut.IsZero() == c.reachable() {
		return
	}
	q := *p
	if c.reachable() {
		q.first, q.cut = time.Now(), time.Time{} // a heartbeat at once
		c.fence.Stop()
	} else {
		q.cut = time.Now()
		c.fence = time.AfterFunc(time.Until(q.deadline()), func() {
			c.b.mu.Lock()
			defer c.b.mu.Unlock()
			c.g.changed.fire()
		})
	}
	c.pulse.Store(&q)
}

// fenced reports whether the consumer, which is cut off, may be no member any more.
func (c *consumer) fenced() bool {
	p := c.pulse.Load()
	return p != nil && !p.cut.IsZero() && !time.Now().Before(p.deadline())
}

func errFenced(timeout time.Duration) *driver.Error {
	return &driver.Error{
		Code: "SESSION_TIMED_OUT",
		Err:  fmt.Errorf("%w: no heartbeat has been answered for the session timeout, %v", driver.ErrMembershipLost, timeout),
	}
}

// lostMembership has an answer say what it means for the member.
func lostMembership(err error) error {
	switch code(err) {
	case "UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION":
		return &driver.Error{Code: code(err), Err: fmt.Errorf("%w: %w", driver.ErrMembershipLost, err)}
	}
	return err
}

package memory

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A link is the connection between a consumer and the broker, with the heartbeats on it.
// The broker's mutex guards all but pulse.
type link struct {
	b       *Broker
	wake    *signal       // fired when the session of a cut consumer is over
	every   time.Duration // between heartbeats
	session time.Duration // the consumer's session timeout
	group   time.Duration // the group's session timeout

	cut     bool // by a test
	severed bool // permanently
	fence   *time.Timer
	delay   time.Duration // of the answers to heartbeats; 0 is the default

	pulse atomic.Pointer[pulse] // nil while the consumer is not a member; only set under the mutex
}

// up reports whether consumer and broker can reach each other.
func (l *link) up() bool { return !l.b.stopped && !l.cut && !l.severed }

// join begins the heartbeats of a member.
func (l *link) join() {
	if l.pulse.Load() != nil {
		return
	}
	p := &pulse{first: time.Now(), every: l.every, session: l.session, group: l.group, delay: defaultDelay}
	if l.delay > 0 {
		p.delay = l.delay
	}
	l.pulse.Store(p)
}

// leave ends the heartbeats.
func (l *link) leave() {
	l.pulse.Store(nil)
	if l.fence != nil {
		l.fence.Stop()
		l.fence = nil
	}
}

// deadline returns the time until which the consumer is certainly a member, or the zero
// time. It takes no lock.
func (l *link) deadline() time.Time {
	if p := l.pulse.Load(); p != nil {
		return p.deadline()
	}
	return time.Time{}
}

// expiry returns the time at which the group removes the member if the link stays down.
func (l *link) expiry() time.Time {
	if p := l.pulse.Load(); p != nil {
		return p.expiry()
	}
	return time.Now().Add(l.group)
}

// setDelay changes how long the answers to heartbeats take.
func (l *link) setDelay(d time.Duration) {
	l.delay = d
	// While the link is down, the group has set its expiry already.
	if p := l.pulse.Load(); p != nil && p.cut.IsZero() {
		q := *p
		q.delay = d
		l.pulse.Store(&q)
	}
}

// changed notes that the link has gone down or come up. A member that is cut off fences
// itself: Run wakes at the deadline and loses its claims.
func (l *link) changed() {
	p := l.pulse.Load()
	if p == nil || p.cut.IsZero() == l.up() {
		return
	}
	q := *p
	if l.up() {
		q.first, q.cut = time.Now(), time.Time{} // a heartbeat at once
		l.fence.Stop()
	} else {
		q.cut = time.Now()
		l.fence = time.AfterFunc(time.Until(q.deadline()), func() {
			l.b.mu.Lock()
			defer l.b.mu.Unlock()
			l.wake.fire()
		})
	}
	l.pulse.Store(&q)
}

// fenced reports whether the consumer, which is cut off, may no longer be a member.
func (l *link) fenced() bool {
	p := l.pulse.Load()
	return p != nil && !p.cut.IsZero() && !time.Now().Before(p.deadline())
}

func errFenced(timeout time.Duration) *driver.Error {
	return &driver.Error{
		Code: "SESSION_TIMED_OUT",
		Err:  fmt.Errorf("%w: no heartbeat has been answered for the session timeout, %v", driver.ErrMembershipLost, timeout),
	}
}

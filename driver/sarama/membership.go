package sarama

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// A membership knows until when the consumer is certainly a member of its group. The
// coordinator removes a member that it has not heard of for the session timeout,
// counted from the last heartbeat that it has received. So the member counts from
// when the latest heartbeat was sent that was answered: the answer may have been on
// its way for long.
type membership struct {
	timeout time.Duration
	base    time.Time
	begun   chan struct{} // a session has begun

	isMember atomic.Bool
	answered atomic.Int64 // when the latest heartbeat that was answered was sent, since base
}

func newMembership(timeout time.Duration) *membership {
	return &membership{timeout: timeout, base: time.Now(), begun: make(chan struct{}, 1)}
}

// confirm notes that a heartbeat that was sent at a time has been answered.
func (m *membership) confirm(sent time.Time) {
	at := int64(sent.Sub(m.base))
	for {
		known := m.answered.Load()
		if at <= known || m.answered.CompareAndSwap(known, at) {
			return
		}
	}
}

func (m *membership) lastAnswered() time.Time {
	return m.base.Add(time.Duration(m.answered.Load()))
}

func (m *membership) begin() {
	m.isMember.Store(true)
	select {
	case m.begun <- struct{}{}:
	default:
	}
}

func (m *membership) end() { m.isMember.Store(false) }

// deadline returns when the membership is over if no other heartbeat is answered, or
// the zero time while there is none.
func (m *membership) deadline() time.Time {
	if !m.isMember.Load() {
		return time.Time{}
	}
	return m.lastAnswered().Add(m.timeout)
}

var _ driver.SessionDeadliner = (*consumer)(nil)

// SessionDeadline implements [driver.SessionDeadliner].
func (c *consumer) SessionDeadline() time.Time { return c.membership.deadline() }

// asked is called with what Sarama is about to ask the coordinator.
func (c *consumer) asked(key int16) {
	switch key {
	case response.JoinGroup, response.SyncGroup:
		c.joining.Store(true)
	case response.Heartbeat:
		c.joining.Store(false)
	}
}

// heard is called with what the coordinator has answered to Sarama.
func (c *consumer) heard(key int16, sent time.Time, code ibm.KError) {
	switch {
	case code == ibm.ErrNoError, key == response.Heartbeat && code == ibm.ErrRebalanceInProgress:
		c.membership.confirm(sent)
		if key == response.SyncGroup {
			c.refusedJoins.Store(0)
			c.joining.Store(false)
		}
	case key == response.Heartbeat:
	case code == ibm.ErrUnknownMemberId, code == ibm.ErrIllegalGeneration, code == ibm.ErrMemberIdRequired:
		c.refusedJoins.Add(1)
	}
}

// guard ends a session whose deadline has passed, until ctx ends.
func (c *consumer) guard(ctx context.Context) {
	for {
		deadline := c.membership.deadline()
		if deadline.IsZero() {
			select {
			case <-c.membership.begun:
				continue
			case <-ctx.Done():
				return
			}
		}
		select {
		case <-time.After(time.Until(deadline)):
			c.expire()
		case <-ctx.Done():
			return
		}
	}
}

// expire ends the session if its deadline has passed.
func (c *consumer) expire() {
	c.mu.Lock()
	s := c.session
	c.mu.Unlock()
	deadline := c.membership.deadline()
	if s == nil || deadline.IsZero() || time.Now().Before(deadline) {
		return
	}
	c.membership.end()
	err := &driver.Error{Code: "SESSION_TIMED_OUT", Err: fmt.Errorf(
		"%w: the last one that was answered was sent %v ago", errSessionExpired,
		time.Since(c.membership.lastAnswered()).Round(time.Millisecond))}
	c.lose(s, err)
	s.tellLost(err)
}

// keepBeating sends heartbeats of its own while a cooperative join is pending, until
// ctx ends. It takes as long as the slowest member drains, and Sarama sends none
// meanwhile: the member would have to give up what it keeps.
func (c *consumer) keepBeating(ctx context.Context) {
	tick := time.NewTicker(c.cfg.HeartbeatInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if c.joining.Load() && c.membership.isMember.Load() && time.Since(c.membership.lastAnswered()) > c.cfg.HeartbeatInterval*3/2 {
			c.beat(ctx)
		}
	}
}

// beat sends one heartbeat. If it says that the member owns nothing any more, the
// session ends.
func (c *consumer) beat(ctx context.Context) (over bool) {
	by, ok := c.member()
	if !ok {
		return true
	}
	_, err := exchange(ctx, c.committer, func(coordinator *ibm.Broker) (struct{}, error) {
		return struct{}{}, c.heartbeat(coordinator, by)
	})
	if isCode(err, ibm.ErrUnknownMemberId, ibm.ErrFencedInstancedId) || !c.cooperative && isCode(err, ibm.ErrIllegalGeneration) {
		if now, ok := c.member(); ok && now == by {
			c.lose(by.session, err)
			by.session.tellLost(err)
			return true
		}
	}
	return false
}

// membershipLost returns err as a reason why a membership is over.
func membershipLost(err error) error {
	err = wrap(err)
	if errors.Is(err, driver.ErrMembershipLost) {
		return err
	}
	var known *driver.Error
	if !errors.As(err, &known) {
		return fmt.Errorf("%w: %w", driver.ErrMembershipLost, err)
	}
	return &driver.Error{Code: known.Code, Kind: known.Kind, Err: fmt.Errorf("%w: %w", driver.ErrMembershipLost, known.Err)}
}

const (
	// freeJoins is how many joins may be refused at once: a new member is refused to
	// be given its ID, and one that was removed to be told so.
	freeJoins = 3

	// maxJoins ends the session.
	maxJoins = 8
)

var errJoinRefused = errors.New("the coordinator keeps refusing to let this member join")

// paceJoins waits between joins that are refused, and ends the session after some.
// Sarama joins again at once, by recursion, for as long as it is refused: thousands
// of times a second, until the stack is exhausted.
func (c *consumer) paceJoins() error {
	refused := c.refusedJoins.Load() - freeJoins
	if refused <= 0 {
		return nil
	}
	if refused > maxJoins-freeJoins {
		err := &driver.Error{Code: "JOIN_REFUSED", Err: errJoinRefused}
		c.end(err)
		return err
	}
	select {
	case <-time.After(firstInterval << (refused - 1)):
	case <-c.closing:
	case <-c.groups.Severed():
	}
	return nil
}

package drivertest

import (
	"errors"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func sessionChecks() []check {
	return []check{
		{ruleDeadline, "The claims must be Lost, with a cause that wraps ErrMembershipLost, once SessionTimeout has passed since the member sent the latest heartbeat that was answered.", lostAtTheSessionDeadline},
		{"SessionDeadlineIsHonest", "SessionDeadline is SessionTimeout after the consumer sent the latest heartbeat that was answered, and the zero time while the consumer is not a member.", sessionDeadlineIsHonest},
	}
}

func lostAtTheSessionDeadline(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	heal := e.silence()
	silent := time.Now()
	o := func() *ownership { return m.ownership(claim) }
	e.awaitWithin(e.SessionTimeout+e.Patience, "the loss of the claim", func() bool { return o().lost || o().revoking != nil })
	took := time.Since(silent)
	e.mu.Lock()
	lost, cause := o().lost, o().cause
	e.mu.Unlock()
	switch {
	case !lost:
		e.errorf("the claim was ended by Revoke, want Lost")
	case !errors.Is(cause, driver.ErrMembershipLost):
		e.errorf("the cause of Lost is %v, want one that wraps ErrMembershipLost", cause)
	case took > e.SessionTimeout+e.Grace/2:
		e.errorf("the claim was lost %v after the last answer, want at most SessionTimeout, %v", took, e.SessionTimeout)
	}
	e.mu.Lock()
	joins := m.assigns
	e.mu.Unlock()
	heal()
	e.awaitWithin(e.minute(), "another Assign", func() bool { return m.assigns > joins })
	m.waitClaim(e.minute(), topic, 0)
	e.wantRunning(m)
}

func sessionDeadlineIsHonest(e *env) {
	topic := e.topic(1)
	m := e.open(e.consumerConfig(e.unique("group"), topic))
	d, ok := m.consumer.(driver.SessionDeadliner)
	if !ok {
		e.t.Skipf("the consumer does not implement driver.SessionDeadliner")
	}
	if at := d.SessionDeadline(); !at.IsZero() {
		e.errorf("before Run the deadline is %v, want the zero time", at)
	}
	m.start()
	claim := m.waitClaims(1)[0]
	wantDeadline(e, d)
	e.quiet()
	wantDeadline(e, d)
	silent := time.Now()
	heal := e.silence()
	for range 4 {
		e.quiet()
	}
	if at, most := d.SessionDeadline(), silent.Add(e.SessionTimeout+e.Grace/10); at.After(most) {
		e.errorf("%v after the last answer the deadline is %v away, more than SessionTimeout, %v, from then",
			time.Since(silent), at.Sub(silent), e.SessionTimeout)
	}
	e.awaitWithin(e.SessionTimeout+e.Patience, "the loss of the claim", func() bool { return m.ownership(claim).lost })
	if at := d.SessionDeadline(); at.After(time.Now()) {
		e.errorf("after the loss the deadline is %v ahead", time.Until(at))
	}
	heal()
	m.waitClaim(e.minute(), topic, 0)
	wantDeadline(e, d)
}

// wantDeadline reports a deadline that a member cannot have.
func wantDeadline(e *env, d driver.SessionDeadliner) {
	e.t.Helper()
	now := time.Now()
	at := d.SessionDeadline()
	if at.Before(now) || at.After(time.Now().Add(e.SessionTimeout)) {
		e.errorf("the deadline of a member is %v ahead, want more than 0 and at most SessionTimeout, %v", at.Sub(now), e.SessionTimeout)
	}
}

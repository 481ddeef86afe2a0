package memory

import "time"

// A pulse is a member's heartbeats as both sides of a link know them: one per interval,
// beginning with its join. A pulse never changes, so that the member's deadline can be
// read without a lock; a change of the link makes another pulse.
//
// Heartbeats are computed, not sent: while the link is up, the group receives each after
// half of delay, and the member receives the answer after all of it.
type pulse struct {
	first   time.Time
	every   time.Duration
	session time.Duration // the member's timeout
	group   time.Duration // the group's
	delay   time.Duration // the round trip
	cut     time.Time     // when the link went down; zero while it is up
}

// defaultDelay makes a member notice the end of its session before its group does, as on
// any network.
const defaultDelay = 2 * time.Millisecond

// sent returns when the latest heartbeat up to a time was sent.
func (p *pulse) sent(by time.Time) time.Time {
	since := max(by.Sub(p.first), 0)
	if p.every > 0 {
		since -= since % p.every
	}
	return p.first.Add(since)
}

// deadline returns the time until which the member knows that it is one: SessionTimeout
// after it sent the latest heartbeat that was answered. Counting from the answer would be
// too late, because the group counts from the arrival of the heartbeat.
func (p *pulse) deadline() time.Time {
	return p.sent(p.latest().Add(-p.delay)).Add(p.session)
}

// expiry returns the time at which the group removes the member.
func (p *pulse) expiry() time.Time {
	return p.sent(p.latest().Add(-p.delay / 2)).Add(p.delay/2 + p.group)
}

// latest returns the latest time at which the link was up.
func (p *pulse) latest() time.Time {
	if p.cut.IsZero() {
		return time.Now()
	}
	return p.cut
}

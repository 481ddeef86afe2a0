package kafka

import "time"

// gate waits while the partition is paused or the consumer is held, and reports whether it
// was open: after a wait everything has to be looked at again. A lane that is let through as
// the probe hands out one record. The probe of a partition that is paused is another's.
func (l *lane) gate() (open bool) {
	if l.brake.free() {
		return true
	}
	pauseChanged := l.brake.pauseChanged()
	switch {
	case l.brake.paused():
		l.unprobe()
		defer l.parkAtGate()()
		l.awaitTurn(pauseChanged)
	case l.brake.held() && l.ticket == nil:
		l.unpay()
		defer l.parkAtGate()()
		l.awaitProbe(pauseChanged)
	default:
		return true
	}
	return false
}

// parkAtGate gives back the place of a lane of a crew while it waits at the gate. The
// function that it returns says that it no longer does.
func (l *lane) parkAtGate() (past func()) {
	if l.seat == nil {
		return func() {}
	}
	l.seat.park(true)
	return l.seat.pastGate
}

// awaitTurn waits until an operator's pause begins or ends.
func (l *lane) awaitTurn(pauseChanged <-chan struct{}) {
	select {
	case <-pauseChanged:
	case <-l.brake.haltC:
	case <-l.failing.kick:
	}
}

// awaitProbe waits while the consumer is held, until this lane may hand out the probe, or
// something else has to be looked at.
func (l *lane) awaitProbe(pauseChanged <-chan struct{}) {
	t := &gateTicket{partition: keyOf(l.claim), admit: make(chan admission, 1)}
	for _, f := range l.open {
		if t.retry.Before(f.due()) {
			t.retry = f.due()
		}
	}
	l.env.hold.arrive(t)
	select {
	case a := <-t.admit:
		l.admitted(t, a)
	case <-l.brake.haltC:
		l.env.hold.withdraw(t)
	case <-l.failing.kick:
		l.env.hold.withdraw(t)
	case <-pauseChanged:
		l.env.hold.withdraw(t)
	}
}

// admitted follows an admission. Records that have failed wait for its delay.
func (l *lane) admitted(t *gateTicket, a admission) {
	if a.probe {
		l.ticket = t
	}
	if a.delay > 0 {
		for _, f := range l.open {
			f.next = time.Now().Add(a.delay)
		}
	}
}

// probed reports what the probe came to, if the attempt that has ended was one.
func (l *lane) probed(succeeded bool) {
	if t := l.probe; t != nil {
		l.probe = nil
		l.env.hold.passed(t, succeeded)
	}
}

// endProbe ends the probe if its record has failed and comes again. A record that is to be
// skipped or forwarded is still the probe: it ends when the record is done.
func (l *lane) endProbe() {
	if l.probe != nil && !anyGoes(l.open) {
		l.probed(false)
	}
}

// unprobe gives back a leave to probe, or a record of the rate, that came to nothing.
func (l *lane) unprobe() {
	l.unpay()
	for _, t := range []*gateTicket{l.ticket, l.probe} {
		if t != nil {
			l.env.hold.abandon(t)
		}
	}
	l.ticket, l.probe = nil, nil
}

// hold holds the consumer for a record, for d or as the backoff says, unless the partition
// is halted. If the record is the probe, it makes the hold longer.
func (l *lane) hold(d time.Duration, err error) {
	switch {
	case l.probe != nil:
		t := l.probe
		l.probe = nil
		l.env.hold.probed(t, d, err)
	case !l.brake.halted():
		l.env.hold.begin(keyOf(l.claim), d, err)
	}
}

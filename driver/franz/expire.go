package franz

import "time"

// expireAll runs while the producer does, if DeliveryTimeout is set. It wakes when the oldest
// message may have to be given up.
func (p *producer) expireAll() {
	for {
		next := time.Now().Add(p.cfg.DeliveryTimeout) // a message that comes now ends no earlier
		for _, t := range p.allTopics() {
			at, over := t.expire()
			p.end(over)
			if at.Before(next) {
				next = at
			}
		}
		if !p.pause(time.Until(next)) {
			return
		}
	}
}

// overdue reports whether the time of a message is up.
func (p *producer) overdue(s *slot) bool { return p.overdueSince(s.accepted) <= 0 }

func (p *producer) overdueSince(accepted time.Time) (left time.Duration) {
	return time.Until(accepted.Add(p.cfg.DeliveryTimeout))
}

// expire ends the messages that wait in the driver and have expired, and has kgo give back
// those that it has. It returns when to look again.
func (t *topic) expire() (next time.Time, over []ending) {
	x := expiration{t: t, next: time.Now().Add(t.p.cfg.DeliveryTimeout)}
	t.gate.Lock()
	defer t.gate.Unlock()
	t.pending = x.waiting(t.pending, errTopicNotKnown)
	for _, l := range t.missing {
		l.todo, l.pending = x.waiting(l.todo, errNoPartition), x.waiting(l.pending, errNoPartition)
	}
	for _, l := range *t.lanes.Load() {
		l.todo, l.pending = x.waiting(l.todo, l.reason()), x.waiting(l.pending, l.reason())
		if at, ok := l.oldest(); ok && x.over(at) {
			t.holdLocked(l)
			l.leash.pull()
		}
	}
	if t.probing && x.over(t.probed) {
		t.leash.pull()
	}
	return x.next, x.endings
}

// An expiration is one pass over a topic. Its methods are called with the gate held.
type expiration struct {
	t       *topic
	next    time.Time
	endings []ending
}

func (x *expiration) over(accepted time.Time) bool {
	left := x.t.p.overdueSince(accepted)
	if at := time.Now().Add(max(left, 10*time.Millisecond)); at.Before(x.next) {
		x.next = at
	}
	return left <= 0
}

// waiting ends the messages that have expired, of some that were never sent or were refused
// each time, and returns the rest.
func (x *expiration) waiting(slots []*slot, reason error) []*slot {
	n := 0
	for n < len(slots) && x.over(slots[n].accepted) {
		n++
	}
	x.endings = append(x.endings, endAll(slots[:n], expiry(reason, false))...)
	return slots[n:]
}

// oldest returns when the first record was accepted that kgo has.
func (l *lane) oldest() (at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.times) == 0 {
		return at, false
	}
	return l.times[0], true
}

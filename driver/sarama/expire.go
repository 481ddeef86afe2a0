package sarama

import (
	"time"
)

// expireAll runs while the producer does, if DeliveryTimeout is set. It wakes when the oldest
// message may have to be given up.
func (p *producer) expireAll() {
	for {
		next := time.Now().Add(p.cfg.DeliveryTimeout) // a message that comes now ends no earlier
		for _, t := range p.allTopics() {
			if at := t.expire(); at.Before(next) {
				next = at
			}
		}
		if !p.pause(time.Until(next), nil) {
			return
		}
	}
}

// expire gives up the messages that have waited too long, and returns when to look again.
func (t *topic) expire() (next time.Time) {
	t.mu.Lock()
	x := expiration{t: t, before: time.Now().Add(-t.p.cfg.DeliveryTimeout)}
	x.next = time.Now().Add(t.p.cfg.DeliveryTimeout)
	if s := t.choosing; s != nil && x.over(s) { // the partitioner reads the user's bytes: see chosen
		x.soon()
	}
	t.pending = x.waiting(t.pending, t.reason)
	for _, l := range t.lanes {
		x.lane(l)
	}
	t.mu.Unlock()

	t.acknowledge(x.endings)
	t.p.buffer.expire(x.parted, expiry(nil, true))
	t.p.buffer.recycle(x.free)
	return x.next
}

// An expiration is one pass over a topic. Its methods are called with mu held.
type expiration struct {
	t      *topic
	before time.Time // messages that were accepted by then have expired
	next   time.Time

	endings []ending
	parted  []expired
	free    []*slot
}

func (x *expiration) over(s *slot) bool {
	if !s.accepted.After(x.before) {
		return true
	}
	if at := s.accepted.Add(x.t.p.cfg.DeliveryTimeout); at.Before(x.next) {
		x.next = at
	}
	return false
}

// soon has the next pass made in a moment.
func (x *expiration) soon() {
	if at := time.Now().Add(askAgain); at.Before(x.next) {
		x.next = at
	}
}

// waiting ends the slots that have expired, of slots that were never sent, and returns the
// rest.
func (x *expiration) waiting(slots []*slot, reason error) []*slot {
	n := 0
	for n < len(slots) && x.over(slots[n]) {
		n++
	}
	if n > 0 {
		x.endings = append(x.endings, ending{slots: append([]*slot(nil), slots[:n]...), err: expiry(reason, false)})
	}
	return slots[n:]
}

// lane ends the expired messages of a lane. A batch whose request is on its way stays in the
// lane until that has ended, and so does one that the broker may have: only the messages are
// given up. While a request is being written its messages are not given up: it reads the
// user's bytes.
func (x *expiration) lane(l *lane) {
	if b := l.batch; b != nil {
		switch {
		case l.state == sent && !b.written:
			x.soon()
		case l.state == sent || b.unknown:
			x.part(b)
			if b.parted == len(b.slots) && l.state != sent {
				x.free = append(x.free, b.slots...)
				l.drop()
			}
		case x.over(b.slots[0]):
			l.giveBack()
		}
	}
	n := 0
	for n < l.queue.len() && x.over(l.queue.at(n)) {
		n++
	}
	if n > 0 {
		l.consumeCuts(n)
		x.endings = append(x.endings, ending{slots: l.queue.pop(n), err: expiry(l.reason, false)})
	}
}

// part gives up the messages of b that have expired.
func (x *expiration) part(b *outBatch) {
	for b.parted < len(b.slots) && x.over(b.slots[b.parted]) {
		s := b.slots[b.parted]
		b.parted++
		if s.pending.CompareAndSwap(true, false) {
			x.parted = append(x.parted, expired{s.user, s.bytes, s.epoch})
		}
	}
}

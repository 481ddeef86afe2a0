package kafka

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A wait is how long the records of a partition of a retry topic wait before they are
// handed out. Each is due when its delay has passed since its timestamp. All records of
// a topic have the same delay, so they are due in about the order of their offsets: the
// next one is waited for, with one timer, and no record behind it is looked at. The
// intake's mutex guards it.
//
// A clock of a sender that is ahead must not make a record wait for longer than its
// delay. So of records that are dated ahead, or not dated, it is noted when they came.
type wait struct {
	delay    time.Duration // zero: it is no retry topic, and everything is due
	ring     func()        // called when the next record has become due
	arrivals *arrivals     // under earlier claims, too
	key      TopicPartition
	ahead    []arrival // of what is not handed out yet, in order of offset
	timer    *time.Timer
	until    time.Time // what the timer is set for
}

// note notes when a batch came, if that matters. What lies below position is done.
func (w *wait) note(b driver.Batch, position int64) {
	w.ahead = append(w.ahead, w.arrivals.note(w.key, position, b.Records)...)
}

// due returns when a record is due.
func (w *wait) due(r *driver.Record) time.Time {
	at := r.Timestamp
	if i, noted := find(w.ahead, r.Offset); noted && (undated(r) || w.ahead[i].at.Before(at)) {
		at = w.ahead[i].at
	}
	return at.Add(w.delay)
}

// isDue reports whether a record may be handed out.
func (w *wait) isDue(r *driver.Record) bool { return w.delay == 0 || !w.due(r).After(time.Now()) }

// holdsBack reports whether the next record, if there is one, is not due. Then ring is
// called when it is.
func (w *wait) holdsBack(next *driver.Record) bool {
	if w.delay == 0 || next == nil {
		return false
	}
	for len(w.ahead) > 0 && w.ahead[0].offset < next.Offset {
		w.ahead = w.ahead[1:]
	}
	due := w.due(next)
	left := time.Until(due)
	if left <= 0 {
		return false
	}
	if !due.Equal(w.until) {
		w.stopTimer()
		w.until = due
		w.timer = time.AfterFunc(left, w.ring)
	}
	return true
}

// rang notes that the timer has called ring.
func (w *wait) rang() { w.until = time.Time{} }

func (w *wait) stopTimer() {
	if w.timer != nil {
		w.timer.Stop()
	}
	w.timer, w.until = nil, time.Time{}
}

// delays reports whether records wait here until they are due.
func (in *intake) delays() bool { return in.wait.delay > 0 }

// note notes when a batch came. Called under the mutex.
func (in *intake) note(b driver.Batch) {
	if in.delays() {
		in.wait.note(b, in.window.Position())
	}
}

// next returns the record that is handed out next, or nil. Called under the mutex.
func (in *intake) next() *driver.Record {
	if in.many != nil {
		return in.many.Next()
	}
	return in.serial.Next()
}

// earlyUntil returns until when the next record waits to be due, if it does. Called under
// the mutex.
func (in *intake) earlyUntil() (until time.Time, early bool) {
	r := in.next()
	if r == nil || in.wait.isDue(r) {
		return time.Time{}, false
	}
	return in.wait.due(r), true
}

// dueOf returns how many of the next n records are due. If none is, the lane is woken
// when the first one is. Called under the mutex.
func (in *intake) dueOf(n int) int {
	if n == 0 || !in.delays() {
		return n
	}
	if in.wait.holdsBack(in.serial.Next()) {
		return 0
	}
	return in.serial.Prefix(n, in.wait.isDue)
}

// ring wakes the lane, since a record has become due.
func (in *intake) ring() {
	in.mu.Lock()
	in.wait.rang()
	in.mu.Unlock()
	select {
	case in.wake <- struct{}{}:
	default:
	}
}

// endWait lets no timer wake a lane from now on. All lanes have ended.
func (in *intake) endWait() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.wait.stopTimer()
}

// fillWait sets what a status says of a partition of a retry topic. Called under the
// mutex.
func (in *intake) fillWait(ps *PartitionStatus) {
	if in.wait.delay == 0 {
		return
	}
	ps.Delay = in.wait.delay
	due, early := in.earlyUntil()
	if early {
		ps.Due = due
	}
	if ps.Oldest.IsZero() {
		return
	}
	ps.Oldest = ps.Oldest.Add(in.wait.delay)
	if now := time.Now(); early && ps.Oldest.After(due) {
		ps.Oldest = due
	} else if !early && ps.Oldest.After(now) { // it was dated ahead
		ps.Oldest = now
	}
}

// early reports whether the next record is not due. Then lanes begin when it is. Called
// under the intake's mutex.
func (c *crew) early() bool { return c.intake.delays() && c.intake.wait.holdsBack(c.window.Next()) }

// ring lets lanes begin, since a record has become due.
func (c *crew) ring() {
	c.intake.mu.Lock()
	c.intake.wait.rang()
	seats := c.staff()
	c.intake.mu.Unlock()
	c.begin(seats)
}

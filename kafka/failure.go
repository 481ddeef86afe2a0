package kafka

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// What happens to a record that its handler has failed is decided here, and only
// here, by the goroutine that owns the record. It alone counts, publishes, waits and
// reports. One rule governs it: a record is done only if its handler returned nil, if
// it was skipped and the hooks have heard of that, or if a broker has acknowledged its
// copy in another topic.

// A verdict is what a lane does next with the records at hand.
type verdict int

const (
	again   verdict = iota // hand out what is left of them
	allDone                // none of them waits for anything: those that had failed are done
	leave                  // the partition is being given up
)

// A failure is a record that its handler has failed, until it is handed out again or
// done.
type failure struct {
	record   driver.Record
	err      error
	mark     mark
	attempts int     // that counted, this one included, those in other topics too
	origin   origin  // where it first lay
	do       Failure // what comes next
	reason   string  // why, if that is a dead letter
	retry    string  // the topic, if it is a retry topic
	failed   time.Time
	decided  time.Time // when do was chosen, if that is a copy
	wait     time.Duration
	next     time.Time // when it is due; zero is at once
	sends    int       // of its copy that failed in a row
	sendErr  error     // of the latest of them
	whole    bool      // its call was about other records, too, and distinguished none
	alone    bool      // it comes again in a call of its own

	// What a Classify, a TopicFor or a hook that ends the goroutine leaves undone, the
	// lane's next goroutine does from here.
	asked    bool        // the policy
	judged   bool        // it has answered
	reported bool        // the failure
	letter   *forwarding // the copy that is being sent
}

// due returns when the record would have been handed out again.
func (f *failure) due() time.Time {
	if f.next.After(f.failed) {
		return f.next
	}
	return f.failed
}

// fail notes that the handler has failed the records at hand with err.
func (l *lane) fail(err error) {
	l.open = l.hands.failures(l, err)
	l.later = slices.DeleteFunc(l.later, func(f *failure) bool { return holdsRecord(l.open, f.record.Offset) })
	l.settled = false
	l.settle()
}

// settle counts the attempts that have failed, chooses what comes next, and reports that.
// If it has ended the last goroutine, it goes on where that was.
func (l *lane) settle() {
	if l.settled {
		return
	}
	for _, f := range l.open {
		if !f.judged {
			l.judge(f)
		}
	}
	l.obey()
	l.align()
	l.failing.note(l.open) // first: an operator may act on the report at once
	l.report()
	l.settled = true
}

// decide carries out what becomes of the records that have failed, and waits until what
// is left of the records at hand may be handed out.
//
// A lane of a crew does so without a place: it waits for one only when its record is due.
func (l *lane) decide() verdict {
	l.deciding, l.again = true, false
	l.failing.decide()
	l.yield()
	for {
		l.env.keeper.checkClock(l.claim) // of a session that may have ended in a wait
		l.settle()
		l.rejoin()
		l.obey()
		l.skip()
		if l.forward() {
			continue
		}
		l.endProbe()
		if len(l.open) > 0 {
			l.failing.note(l.open)
			l.stop()
		}
		switch wait := l.due(); {
		case l.brake.halted():
			return leave
		case wait > 0:
			l.giveWay()
			l.await(wait)
		case l.i == len(l.run.Records): // all are skipped or forwarded: the lane waits at no gate
			return allDone
		case len(l.open) == 0 && len(l.later) > 0: // those before them are done just now
		case !l.gate():
		case !l.placed():
		case !l.allowed():
		case len(l.open) == 0:
			return allDone
		default:
			l.again = true
			return again
		}
	}
}

// rejoin takes up the records that had failed before the latest call, and that it has
// neither done nor failed: they wait again. Those that come one by one wait until none of
// those before them is left.
func (l *lane) rejoin() {
	if len(l.later) == 0 {
		return
	}
	first := len(l.open) == 0
	var left []*failure
	for _, f := range l.later {
		if first || !f.alone {
			l.open = append(l.open, f)
		} else {
			left = append(left, f)
		}
	}
	l.later = left
	slices.SortFunc(l.open, func(a, b *failure) int { return cmp.Compare(a.record.Offset, b.record.Offset) })
}

// handOut notes that what decide has let through goes to the handler. Only the caller
// knows that nothing bars it: a pause or a hold may have begun since the lane decided, and
// an operator's order for one of the records must find it in open until then.
func (l *lane) handOut() {
	if l.again {
		l.open, l.later = nil, append(l.open, l.later...)
	}
	l.failing.begin(l.again)
	l.deciding, l.again = false, false
}

// holdsRecord reports whether one of fs is of the record at offset.
func holdsRecord(fs []*failure, offset int64) bool {
	return slices.ContainsFunc(fs, func(f *failure) bool { return f.record.Offset == offset })
}

// due returns how long it takes until something can be done: until the first copy is
// due to be sent again, or else until all that is kept is due.
func (l *lane) due() time.Duration {
	var kept, sent time.Time
	for _, f := range l.open {
		switch {
		case f.do.copies() && (sent.IsZero() || f.next.Before(sent)):
			sent = f.next
		case !f.do.copies() && f.next.After(kept):
			kept = f.next
		}
	}
	switch {
	case !sent.IsZero():
		return max(time.Until(sent), 1) // a send that is due now has just been looked at
	case kept.IsZero():
		return 0
	}
	return time.Until(kept)
}

// await waits for d, or until the partition is halted or an operator asks for something.
func (l *lane) await(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.failing.kick:
	case <-l.brake.haltC:
	}
}

// copies reports whether the record goes to another topic.
func (do Failure) copies() bool { return do == FailureDeadLetter || do == FailureRetryTopic }

// anyGoes reports whether one of fs is to be skipped, or copied to another topic.
func anyGoes(fs []*failure) bool {
	for _, f := range fs {
		if f.do == FailureSkip || f.do.copies() {
			return true
		}
	}
	return false
}

// judge counts the failure and chooses what comes next.
func (l *lane) judge(f *failure) {
	f.failed = time.Now()
	f.decided = f.failed
	if f.asked {
		f.mark, f.reason = l.env.policy.exited()
	} else {
		f.asked = true
		f.mark, f.reason = l.env.policy.ask(f.err)
	}
	f.judged = true
	f.origin = l.env.retries.originOf(l.claim.Topic, l.claim.Partition, &f.record)
	if f.do = f.mark.do; f.do == FailureHold {
		f.attempts = l.env.ledger.failuresOf(keyOf(l.claim), f.record.Offset)
		f.attempts += f.origin.attempts
		l.hold(f.mark.after, f.err)
		return
	}
	f.attempts = l.env.ledger.count(keyOf(l.claim), f.record.Offset)
	if then, usedUp := l.env.policy.after(f.attempts); (usedUp || l.delays) && f.do == FailureKeep { // in a retry topic each record has one attempt
		// A call for several records may have failed by one of them.
		if f.alone = f.whole; !f.alone {
			l.giveUp(f, then)
		}
	}
	if f.do == FailureKeep || f.do == FailureStop {
		f.wait = l.env.backoff.Wait(f.attempts)
		if f.mark.after > 0 {
			f.wait = f.mark.after
		}
		f.next = f.failed.Add(f.wait)
	}
	f.attempts += f.origin.attempts // only now: the wait does not grow by those in other topics
}

// giveUp chooses what comes after the last attempt at a record where it lies: its next
// retry topic, or then if none is left.
func (l *lane) giveUp(f *failure, then Failure) {
	topic, more := l.env.retries.next(l.claim.Topic, f.origin.topic())
	if more {
		f.do, f.retry = FailureRetryTopic, topic
		return
	}
	f.do, f.reason = then, DeadLetterReasonAttempts
}

// align makes what is kept come again together, when the last of it is due.
func (l *lane) align() {
	var last *failure
	for _, f := range l.open {
		if f.do == FailureKeep && (last == nil || f.next.After(last.next)) {
			last = f
		}
		if f.alone {
			l.hands.oneByOne()
		}
	}
	for _, f := range l.open {
		if f.do == FailureKeep {
			f.wait, f.next = last.wait, last.next
		}
	}
}

// report reports what has failed, but for what its handler asked to be skipped,
// forwarded or held: that is reported when it has happened.
func (l *lane) report() {
	whole := false
	for _, f := range l.open {
		if !f.reportable() || f.whole && whole {
			continue
		}
		whole = whole || f.whole
		if f.reported {
			continue
		}
		f.reported = true
		e := HandlerFailed{
			JobName: l.env.job, Group: l.env.group,
			Topic: l.claim.Topic, Partition: l.claim.Partition, Offset: f.record.Offset,
			Source: f.origin.source, Failures: f.attempts, Next: f.do, Err: f.err,
		}
		if f.do == FailureKeep && !l.brake.halted() { // else the next owner tries it again
			e.Backoff, e.NextRetry = f.wait, f.next
		}
		l.env.log.Warn("kafka: handler failed",
			"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
			"failures", f.attempts, "next", f.do.String(), "error", loggable(f.err))
		l.env.event(e)
	}
}

func (f *failure) reportable() bool {
	return f.mark.do == FailureKeep || f.mark.do == FailureStop
}

// skip reports the records that are skipped, and then lets the position pass them.
func (l *lane) skip() {
	for _, f := range l.open {
		if f.do != FailureSkip {
			continue
		}
		l.env.log.Warn("kafka: record skipped",
			"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
			"failures", f.attempts, "error", loggable(f.err))
		l.env.event(RecordSkipped{
			JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),
			Offset: f.record.Offset, Attempts: f.attempts, Source: f.origin.source, Err: f.err,
		})
		l.hands.done(l, f.record.Offset, OutcomeSkipped)
	}
}

// stop switches the consumer off if a record asks for that. If the switch has been
// changed meanwhile, nothing is switched off, and the record is tried again.
func (l *lane) stop() {
	if l.brake.halted() {
		return
	}
	var first *failure
	for _, f := range l.open {
		if f.do == FailureStop {
			f.do = FailureKeep // it has asked once
			first = cmp.Or(first, f)
		}
	}
	if first != nil {
		l.env.keeper.stop(&stopError{keyOf(l.claim), first.record.Offset, first.err})
	}
}

// A stopError is why a record has switched its consumer off.
type stopError struct {
	partition TopicPartition
	offset    int64
	err       error
}

func (e *stopError) Error() string {
	return fmt.Sprintf("record %v at offset %d: %v", e.partition, e.offset, e.err)
}

func (e *stopError) Unwrap() error { return e.err }

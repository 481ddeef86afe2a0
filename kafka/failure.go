package kafka

import (
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// What happens to a record that its handler has failed is decided here, and only
// here, by the goroutine that owns the record. It alone counts, publishes, waits and
// reports. One rule governs it: a record is done only if its handler returned nil, if
// it was skipped and the hooks have heard of that, or if a broker has acknowledged its
// copy in another topic.

// A verdict is what the lane does next.
type verdict int

const (
	again verdict = iota // hand out what is left of the records at hand
	done                 // they are safe; the position has moved
	leave                // the partition is being given up
)

// A failure is a record that its handler has failed, until it is done.
type failure struct {
	record   driver.Record
	err      error
	mark     mark
	attempts int     // that counted, this one included
	do       Failure // what comes next
	reason   string  // why, if that is a dead letter
	wait     time.Duration
	next     time.Time // when; zero is at once
	sends    int       // of its copy that failed in a row
	whole    bool      // its call was about other records, too, and distinguished none
	alone    bool      // it comes again in a call of its own
}

// Why a record became a dead letter: the values of the header that says so.
const (
	reasonAttempts = "attempts" // MaxAttempts are used up
	reasonHandler  = "handler"  // the handler has marked its error
	reasonClassify = "classify" // FailurePolicy.Classify said so
)

// decide carries out what becomes of the records at hand, whose handler failed with
// err. A claim that has ended decides nothing: its records are the next owner's.
func (l *lane) decide(err error) verdict {
	if l.brake.givenUp() && !l.env.autoCommit {
		return leave
	}
	open := l.hands.failures(l, err)
	for _, f := range open {
		l.judge(f)
	}
	l.align(open)
	l.report(open)
	for {
		open = l.skip(open)
		open = l.forward(open)
		if len(open) == 0 {
			return done
		}
		l.failing.note(open)
		l.stop(open)
		if l.brake.halted() || !l.await(open) {
			return leave
		}
		if !anyOf(open, FailureDeadLetter) {
			l.failing.begin()
			return again
		}
	}
}

// anyOf reports whether one of fs comes to do next.
func anyOf(fs []*failure, do Failure) bool {
	for _, f := range fs {
		if f.do == do {
			return true
		}
	}
	return false
}

// judge counts the failure and chooses what comes next.
func (l *lane) judge(f *failure) {
	f.mark, f.reason = l.env.policy.ask(f.err)
	f.do = f.mark.do
	f.attempts = l.env.ledger.count(keyOf(l.claim), f.record.Offset)
	if then, usedUp := l.env.policy.after(f.attempts); usedUp && f.do == FailureKeep {
		// A call for several records may have failed by one of them.
		if f.alone = f.whole; !f.alone {
			f.do, f.reason = then, reasonAttempts
		}
	}
	if f.do == FailureKeep || f.do == FailureStop {
		f.wait = l.env.backoff.Wait(f.attempts)
		if f.mark.after > 0 {
			f.wait = f.mark.after
		}
		f.next = time.Now().Add(f.wait)
	}
}

// align makes what is kept come again together, when the last of it is due.
func (l *lane) align(fs []*failure) {
	var last *failure
	for _, f := range fs {
		if f.do == FailureKeep && (last == nil || f.next.After(last.next)) {
			last = f
		}
		if f.alone {
			l.hands.oneByOne()
		}
	}
	for _, f := range fs {
		if f.do == FailureKeep {
			f.wait, f.next = last.wait, last.next
		}
	}
}

// report reports what has failed, but for what its handler asked to be skipped or
// forwarded: that is reported when it has happened.
func (l *lane) report(fs []*failure) {
	for i, f := range fs {
		if f.mark.do == FailureSkip || f.mark.do == FailureDeadLetter || f.whole && i > 0 {
			continue
		}
		l.env.log.Warn("kafka: handler failed",
			"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
			"failures", f.attempts, "error", loggable(f.err))
		l.env.event(HandlerFailed{
			JobName: l.env.job, Group: l.env.group,
			Topic: l.claim.Topic, Partition: l.claim.Partition, Offset: f.record.Offset,
			Failures: f.attempts, Next: f.do, Backoff: f.wait, NextRetry: f.next, Err: f.err,
		})
	}
}

// skip reports the records that are skipped, and then lets the position pass them.
func (l *lane) skip(fs []*failure) (open []*failure) {
	for _, f := range fs {
		if f.do != FailureSkip {
			open = append(open, f)
			continue
		}
		l.env.log.Warn("kafka: record skipped",
			"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
			"failures", f.attempts, "error", loggable(f.err))
		l.env.event(RecordSkipped{
			JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),
			Offset: f.record.Offset, Attempts: f.attempts, Err: f.err,
		})
		l.hands.done(l, f.record.Offset, OutcomeSkipped)
	}
	return open
}

// stop switches the consumer off if one of fs asks for that. If the switch has been
// changed meanwhile, the record is tried again instead.
func (l *lane) stop(fs []*failure) {
	for _, f := range fs {
		if f.do == FailureStop && !l.brake.halted() {
			l.env.keeper.stop(&stopError{keyOf(l.claim), f.record.Offset, f.err})
			return
		}
	}
}

// await waits until all of fs are due, and returns false if the partition is halted
// first.
func (l *lane) await(fs []*failure) bool {
	var due time.Time
	for _, f := range fs {
		if f.next.After(due) {
			due = f.next
		}
	}
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.brake.haltC:
		return false
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

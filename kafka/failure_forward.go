package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A forwarder copies records to the dead-letter topic, or to a retry topic.
type forwarder interface {
	// forward sends one copy of each record, all of them together, and waits until
	// each has its answer or ctx ends. It returns one answer per record, in order. It
	// never repeats a send by itself, except as its producer does.
	forward(ctx context.Context, fs []forwarding) []forwarded
}

// A forwarding is a record that is to be copied.
type forwarding struct {
	partition TopicPartition // where it lies
	record    driver.Record
	err       error
	attempts  int
	origin    origin // where it first lay
	retry     string // the retry topic; "" is the dead letters
	reason    string
	decided   time.Time // that it is to be copied
	exited    bool      // TopicFor has ended the goroutine
}

// A forwarded is the answer to a forwarding.
type forwarded struct {
	to     TopicPartition // as far as it is known; the partition is -1 before the answer
	offset int64          // -1 if the broker has not said it
	err    error          // nil: a broker has acknowledged the copy
}

// errTopicForExited is the error of a record whose TopicFor ended the goroutine.
var errTopicForExited = fmt.Errorf("%w: TopicFor ended its goroutine (runtime.Goexit)", errNoTarget)

// errBrokenOff is added to the error of a copy whose send an operator has ended.
var errBrokenOff = errors.New("broken off by Resolve")

// errNoTarget is wrapped by the error of a record that has no topic to go to: it is
// kept.
var errNoTarget = errors.New("no dead-letter topic for the record")

// forward copies the records that go to the dead letters or to a retry topic and are due.
// A copy that has failed is sent again after a backoff, without a call of the handler;
// where no repetition can help the consumer is switched off. Once the partition is halted,
// no copy is sent again. It reports whether something else comes next of a record, at once.
func (l *lane) forward() (turned bool) {
	letters := l.letters()
	if len(letters) == 0 {
		return false
	}
	l.giveWay()
	l.failing.note(l.open)
	for i, answer := range l.send(letters) {
		if f := letters[i]; answer.err == nil {
			l.forwarded(f, answer)
		} else {
			turned = l.notForwarded(f, answer) || turned
		}
	}
	return turned
}

// letters returns the records whose copies are due.
func (l *lane) letters() (due []*failure) {
	now := time.Now()
	for _, f := range l.open {
		if f.letter != nil && f.letter.exited {
			f.letter = nil
			l.notForwarded(f, forwarded{to: TopicPartition{Partition: -1}, offset: -1, err: errTopicForExited})
		}
		if !f.do.copies() || f.next.After(now) || f.sends > 0 && l.brake.halted() {
			continue
		}
		due = append(due, f)
	}
	return due
}

// send publishes under a context of the claim, which outlives the handler's: it ends
// when the claim has, or in time for the last commit of a revocation, or when an operator
// asks for something else. It returns no answers if one has before.
func (l *lane) send(letters []*failure) []forwarded {
	parent := l.brake.sends
	if l.watched != nil && l.watched.open { // the send is part of the delivery
		parent = context.WithoutCancel(l.watched.ctx)
	}
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	defer context.AfterFunc(l.brake.sends, func() { cancel(nil) })()
	if !l.failing.beginSend(letters, func() { cancel(errBrokenOff) }) {
		return nil
	}
	defer l.failing.endSend()
	asked := make([]forwarding, len(letters))
	for i, f := range letters {
		asked[i] = forwarding{
			partition: keyOf(l.claim), record: f.record,
			err: f.err, attempts: f.attempts, origin: f.origin, retry: f.retryTopic(), reason: f.reason, decided: f.decided,
		}
		f.letter = &asked[i]
	}
	answers := l.env.forwarder.forward(ctx, asked)
	for i, f := range letters {
		f.letter = nil
		if a := &answers[i]; errors.Is(a.err, context.Canceled) && context.Cause(ctx) == errBrokenOff {
			a.err = fmt.Errorf("%w: %w", errBrokenOff, a.err)
		}
	}
	return answers
}

// forwarded notes that a broker has acknowledged the copy. If the claim has ended
// meanwhile, that changes nothing: the record is the next owner's.
func (l *lane) forwarded(f *failure, a forwarded) {
	if f.do == FailureRetryTopic {
		l.retried(f, a)
		return
	}
	l.env.log.Warn("kafka: record forwarded to the dead letters",
		"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
		"to", a.to.String(), "failures", f.attempts, "error", loggable(f.err))
	l.env.event(RecordForwarded{
		JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),
		Offset: f.record.Offset, Attempts: f.attempts, Source: f.origin.source,
		To: a.to, ToOffset: a.offset, Reason: f.reason, Err: f.err,
	})
	if n := l.row.add(); l.env.policy.tooMany(n) { // a probe that is done would end the hold first
		l.hold(0, fmt.Errorf("%v: %w (%d)", keyOf(l.claim), errInARow, n))
	}
	l.hands.done(l, f.record.Offset, OutcomeForwarded)
}

// retried is forwarded for a copy in a retry topic.
func (l *lane) retried(f *failure, a forwarded) {
	place, _ := l.env.retries.place(a.to.Topic)
	l.env.log.Info("kafka: record sent to its retry topic",
		"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
		"to", a.to.String(), "failures", f.attempts, "delay", place.delay)
	l.env.event(RecordRetried{
		JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),
		Offset: f.record.Offset, Attempts: f.attempts, Source: f.origin.source,
		To: a.to, ToOffset: a.offset, Delay: place.delay, Err: f.err,
	})
	l.hands.done(l, f.record.Offset, OutcomeRetryTopic)
}

// retryTopic returns the retry topic that the record goes to, or "" if it goes to another
// place.
func (f *failure) retryTopic() string {
	if f.do == FailureRetryTopic {
		return f.retry
	}
	return ""
}

// errInARow is why a consumer is held that makes nothing but dead letters.
var errInARow = errors.New("dead letters in a row, and no record in between that was handled")

// notForwarded decides what follows a copy that no broker has acknowledged. A record that
// is too large for a retry topic fits no other one: what comes after the last one comes
// next, and notForwarded returns true. A dead letter may have fewer headers.
func (l *lane) notForwarded(f *failure, a forwarded) (turned bool) {
	f.sends++
	f.sendErr = a.err
	f.wait = l.env.backoff.Wait(f.sends)
	noTarget := errors.Is(a.err, errNoTarget)
	tooLarge := f.do == FailureRetryTopic && tooLarge(a.err)
	switch {
	case noTarget:
		f.do = FailureKeep
		f.wait = l.env.backoff.Wait(f.attempts - f.origin.attempts)
	case tooLarge:
		f.do, _ = l.env.policy.after(f.attempts)
		f.reason, f.decided = DeadLetterReasonAttempts, time.Now()
		if f.wait = 0; f.do == FailureStop { // as judge does
			f.wait = l.env.backoff.Wait(f.attempts - f.origin.attempts)
		}
	}
	f.next = time.Now().Add(f.wait)
	l.env.log.Warn("kafka: record not forwarded",
		"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
		"to", a.to.Topic, "wait", f.wait, "error", loggable(a.err))
	l.env.event(ForwardFailed{
		JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),
		Offset: f.record.Offset, ToTopic: a.to.Topic, Backoff: f.wait, Err: a.err,
	})
	refused := errors.Is(a.err, ErrPermanent) && !errors.Is(a.err, ErrUnknownOutcome)
	if refused && !noTarget && !tooLarge && !l.brake.halted() {
		l.env.keeper.stop(a.err)
	}
	return tooLarge
}

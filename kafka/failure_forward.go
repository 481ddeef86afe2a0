package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A forwarder copies records to the dead-letter topic.
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
	reason    string
}

// A forwarded is the answer to a forwarding.
type forwarded struct {
	to     TopicPartition // as far as it is known; the partition is -1 before the answer
	offset int64          // -1 if the broker has not said it
	err    error          // nil: a broker has acknowledged the copy
}

// errNoTarget is wrapped by the error of a record that has no topic to go to: it is
// kept.
var errNoTarget = errors.New("no dead-letter topic for the record")

// forward copies the records that are to become dead letters and are due. A copy that
// has failed is sent again after a backoff, without a call of the handler; where no
// repetition can help the consumer is switched off. Once the partition is halted, no copy
// is sent again.
func (l *lane) forward() {
	var letters []*failure
	var asked []forwarding
	now := time.Now()
	for _, f := range l.open {
		if f.do != FailureDeadLetter || f.next.After(now) || f.sends > 0 && l.brake.halted() {
			continue
		}
		letters = append(letters, f)
		asked = append(asked, forwarding{keyOf(l.claim), f.record, f.err, f.attempts, f.reason})
	}
	if len(letters) == 0 {
		return
	}
	l.failing.note(l.open)
	for i, answer := range l.send(asked) {
		if f := letters[i]; answer.err == nil {
			l.forwarded(f, answer)
		} else {
			l.notForwarded(f, answer)
		}
	}
}

// send publishes under a context of the claim, which outlives the handler's: it ends
// when the claim has, or in time for the last commit of a revocation.
func (l *lane) send(fs []forwarding) []forwarded {
	if l.env.forwarder == nil {
		return refuse(fs, driver.ErrClosed)
	}
	ctx := l.brake.sends
	if l.watched != nil && l.watched.open { // the send is part of the delivery
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(context.WithoutCancel(l.watched.ctx))
		defer cancel()
		defer context.AfterFunc(l.brake.sends, cancel)()
	}
	return l.env.forwarder.forward(ctx, fs)
}

// refuse answers all of fs with err.
func refuse(fs []forwarding, err error) []forwarded {
	answers := make([]forwarded, len(fs))
	for i := range answers {
		answers[i] = forwarded{to: TopicPartition{Partition: -1}, offset: -1, err: err}
	}
	return answers
}

// forwarded notes that a broker has acknowledged the copy. If the claim has ended
// meanwhile, that changes nothing: the record is the next owner's.
func (l *lane) forwarded(f *failure, a forwarded) {
	l.env.log.Warn("kafka: record forwarded to the dead letters",
		"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
		"to", a.to.String(), "failures", f.attempts, "error", loggable(f.err))
	l.env.event(RecordForwarded{
		JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),
		Offset: f.record.Offset, Attempts: f.attempts,
		To: a.to, ToOffset: a.offset, Reason: f.reason, Err: f.err,
	})
	if l.inARow++; l.env.policy.tooMany(l.inARow) { // a probe that is done would end the hold first
		l.hold(0, fmt.Errorf("%v: %w (%d)", keyOf(l.claim), errInARow, l.inARow))
	}
	l.hands.done(l, f.record.Offset, OutcomeForwarded)
}

// errInARow is why a consumer is held that makes nothing but dead letters.
var errInARow = errors.New("dead letters in a row, and no record in between that was handled")

// notForwarded decides what follows a copy that no broker has acknowledged.
func (l *lane) notForwarded(f *failure, a forwarded) {
	f.sends++
	f.sendErr = a.err
	f.wait = l.env.backoff.Wait(f.sends)
	switch {
	case errors.Is(a.err, errNoTarget):
		f.do = FailureKeep
		f.wait = l.env.backoff.Wait(f.attempts)
	case errors.Is(a.err, ErrPermanent) && !errors.Is(a.err, ErrUnknownOutcome):
		if !l.brake.halted() {
			l.env.keeper.stop(a.err)
		}
	}
	f.next = time.Now().Add(f.wait)
	l.env.log.Warn("kafka: record not forwarded to the dead letters",
		"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", f.record.Offset,
		"to", a.to.Topic, "wait", f.wait, "error", loggable(a.err))
	l.env.event(ForwardFailed{
		JobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),
		Offset: f.record.Offset, ToTopic: a.to.Topic, Backoff: f.wait, Err: a.err,
	})
}

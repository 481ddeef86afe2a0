package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Resolve is an operator's word on one record that its handler has failed: FailureKeep
// tries it now, FailureDeadLetter forwards it, FailureSkip goes on without it. A record
// that waits to be forwarded is sent now with FailureKeep and FailureDeadLetter. nil says
// that this is done next, unless the partition is given up before. RecordForwarded,
// ForwardFailed and RecordSkipped report the outcome. While the consumer is held, or an
// operator has paused it or the partition, a record that is to be tried waits for the end of
// that.
//
// Resolve acts only if exactly that record has failed, or waits to be forwarded, in this
// process, and else returns an error that wraps ErrNotFailing; so a second call does
// nothing.
//
// While the handler is at the record Resolve waits, and acts when that call has failed.
// The records of a batch can come one by one: if one before the record has failed again, it
// also waits until that one is done. It does not wait while a copy is being sent: FailureSkip
// breaks the send off, and so does FailureDeadLetter if the copy goes to a retry topic; it
// may arrive all the same, and so may the copies of other records of a batch that are sent
// with it and then again. The other actions return nil, since the send is under way. If ctx
// ends before Resolve has acted, it returns the error of ctx, and does nothing later. A send
// that it has broken off by then is repeated after a backoff.
//
// Inside a handler, a callback or a hook Resolve would wait for its own caller: there it
// does nothing, and its error wraps ErrInside.
func (m *Manager) Resolve(ctx context.Context, jobName string, p TopicPartition, offset int64, do Failure) error {
	if ctx != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	if err := m.ready(); err != nil {
		return err
	}
	if caller := m.caller(); caller != "" {
		return fmt.Errorf("kafka: resolve record %v at offset %d of consumer %q inside %s: %w", p, offset, jobName, caller, ErrInside)
	}
	j, err := m.job(jobName)
	if err != nil {
		return err
	}
	if err = j.resolvable(ctx, do); err == nil {
		err = j.resolve(ctx, p, offset, do)
	}
	if err != nil {
		return fmt.Errorf("kafka: resolve record %v at offset %d of consumer %q: %w", p, offset, j.name(), err)
	}
	return nil
}

// resolvable refuses what cannot be asked for.
func (j *job) resolvable(ctx context.Context, do Failure) error {
	if ctx == nil {
		return errors.New("ctx is nil")
	}
	switch do {
	case FailureKeep, FailureSkip:
	case FailureDeadLetter:
		if !j.policy.forwards() {
			return errors.New("no dead-letter topic is configured")
		}
	default:
		return fmt.Errorf("%q is none of FailureKeep, FailureDeadLetter, FailureSkip", do)
	}
	return nil
}

// resolve passes an operator's word to the lane that owns the record.
func (j *job) resolve(ctx context.Context, p TopicPartition, offset int64, do Failure) error {
	j.mu.Lock()
	s := j.session
	j.mu.Unlock()
	if s == nil {
		return ErrNotFailing
	}
	for _, owned := range s.claims.live() {
		if keyOf(owned.claim) == p {
			if f := owned.failingOf(offset); f != nil {
				return f.resolve(ctx, offset, do)
			}
		}
	}
	return ErrNotFailing
}

// resolve waits for the answer to an order until ctx ends.
func (f *failing) resolve(ctx context.Context, offset int64, do Failure) error {
	o := f.ask(offset, do)
	select {
	case err := <-o.answer:
		return err
	case <-ctx.Done():
		if f.withdraw(offset, o) {
			return ctx.Err()
		}
		return <-o.answer // the lane has taken it
	}
}

// obey carries an operator's orders over to what comes next of open records.
func (l *lane) obey() {
	for _, f := range l.open {
		o, ok := l.failing.order(f.record.Offset)
		if !ok {
			continue
		}
		if !f.do.copies() || o.do != FailureKeep {
			f.do, f.reason, f.alone = o.do, DeadLetterReasonOperator, false
			f.decided = time.Now()
		}
		f.next = time.Time{}
		if f.do == FailureKeep {
			l.hurry()
		}
		o.answer <- nil
	}
}

// hurry makes all that is kept due now: it comes again together.
func (l *lane) hurry() {
	for _, f := range l.open {
		if f.do == FailureKeep {
			f.next = time.Time{}
		}
	}
}

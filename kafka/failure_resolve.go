package kafka

import (
	"fmt"
	"time"
)

// Resolve is an operator's word on one record that its handler has failed: FailureKeep
// tries it now, FailureDeadLetter forwards it, FailureSkip goes on without it. A record
// that waits to be forwarded is sent now with FailureKeep and FailureDeadLetter. Of a
// dead letter nil says that the copy is being sent; RecordForwarded and ForwardFailed
// report the outcome.
//
// Resolve acts only if exactly that record has failed, or waits to be forwarded, in this
// process, and else returns an error that wraps ErrNotFailing; so a second call does
// nothing. While the handler is at the record Resolve waits, and acts when that call has
// failed. Inside a handler, a callback or a hook it would wait for its own caller: there it
// does nothing, and its error wraps ErrInside.
func (m *Manager) Resolve(jobName string, p TopicPartition, offset int64, do Failure) error {
	if caller := m.caller(); caller != "" {
		return fmt.Errorf("kafka: resolve record %v at offset %d of consumer %q inside %s: %w", p, offset, jobName, caller, ErrInside)
	}
	j, err := m.job(jobName)
	if err != nil {
		return err
	}
	switch do {
	case FailureKeep, FailureSkip:
	case FailureDeadLetter:
		if !j.policy.forwards() {
			return fmt.Errorf("kafka: resolve record %v at offset %d of consumer %q: no dead-letter topic is configured", p, offset, j.name())
		}
	default:
		return fmt.Errorf("kafka: resolve record %v at offset %d of consumer %q: %q is none of FailureKeep, FailureDeadLetter, FailureSkip", p, offset, j.name(), do)
	}
	if err := j.resolve(p, offset, do); err != nil {
		return fmt.Errorf("kafka: resolve record %v at offset %d of consumer %q: %w", p, offset, j.name(), err)
	}
	return nil
}

// resolve passes an operator's word to the lane that owns the record.
func (j *job) resolve(p TopicPartition, offset int64, do Failure) error {
	j.mu.Lock()
	s := j.session
	j.mu.Unlock()
	if s == nil {
		return ErrNotFailing
	}
	for _, owned := range s.claims.live() {
		if keyOf(owned.claim) == p {
			return <-owned.lane.failing.ask(offset, do)
		}
	}
	return ErrNotFailing
}

// obey carries an operator's orders over to what comes next of open records.
func (l *lane) obey() {
	for _, f := range l.open {
		o, ok := l.failing.order(f.record.Offset)
		if !ok {
			continue
		}
		f.next = time.Time{}
		if f.do != FailureDeadLetter || o.do != FailureKeep {
			f.do, f.reason, f.alone = o.do, DeadLetterReasonOperator, false
		}
		o.answer <- nil
	}
}

package kafka

import (
	"errors"
	"time"
)

// Retry marks err so that its record is tried again after that time, in place of the
// backoff. It counts as an attempt: after FailurePolicy.MaxAttempts, and in a retry topic
// at once, the record goes to its next retry topic, or the policy's Then applies; after has
// no effect then. If it is not positive the backoff applies. Retry(nil, after) is nil.
func Retry(err error, after time.Duration) error {
	return marked(err, mark{do: FailureKeep, after: after})
}

// Skip marks err so that its record is not tried again: the partition goes on without
// it, and hooks get RecordSkipped. Skip(nil) is nil, so `return kafka.Skip(f(m))` is
// right.
func Skip(err error) error { return marked(err, mark{do: FailureSkip}) }

// DeadLetter marks err so that its record is copied to the dead-letter topic at once.
// If the consumer has none, the record is kept as [FailureKeep] does; that is logged
// once and stays in ConsumerStatus.PolicyError. DeadLetter(nil) is nil.
func DeadLetter(err error) error { return marked(err, mark{do: FailureDeadLetter}) }

// Stop marks err so that the consumer is switched off, with err as the reason in its
// status. The record comes first when the consumer is switched on again. Stop(nil) is
// nil.
func Stop(err error) error { return marked(err, mark{do: FailureStop}) }

// Hold marks err as no fault of its record: a database is down, say. The consumer hands
// out nothing for d, and then one record as a probe; while probes are held again, the
// wait doubles up to Backoff.Max. No attempt is counted. If d is not positive the wait
// is as Backoff says. Hold(nil, d) is nil.
func Hold(err error, d time.Duration) error { return marked(err, mark{do: FailureHold, after: d}) }

// A mark is what a handler has decided for one of its errors.
type mark struct {
	do    Failure
	set   bool          // there is one
	after time.Duration // the wait of a Retry or a Hold; zero is as Backoff says
}

func marked(err error, m mark) error {
	if err == nil {
		return nil
	}
	m.set, m.after = true, max(m.after, 0)
	return &markedError{err, m}
}

// A markedError is an error with a handler's decision. It has the text of its error.
type markedError struct {
	err  error
	mark mark
}

func (e *markedError) Error() string { return e.err.Error() }

func (e *markedError) Unwrap() error { return e.err }

// markOf returns the mark of err that counts. It walks from the outside in and ends at
// the first mark. Of errors that were joined the safest counts; errors.As would find
// the first one, which may be the Skip beside a Stop. It does not look into a panic's
// value: a handler that panics has decided nothing. Nor does it look into a BatchError,
// whose marks are each about one record.
func markOf(err error) mark {
	for err != nil {
		switch e := err.(type) {
		case *markedError:
			return e.mark
		case *PanicError, *BatchError:
			return mark{}
		case interface{ Unwrap() []error }:
			return safestOf(e.Unwrap())
		}
		err = errors.Unwrap(err)
	}
	return mark{}
}

// safestOf returns the mark of the safest of errors that were joined.
func safestOf(errs []error) mark {
	var safest mark
	found := false
	for _, err := range errs {
		if err == nil {
			continue
		}
		if m := markOf(err); !found || m.safety() > safest.safety() {
			safest, found = m, true
		}
	}
	return safest
}

// safety orders marks: the higher, the less of a record can be lost by following it.
func (m mark) safety() int {
	switch {
	case !m.set:
		return 2
	case m.do == FailureStop:
		return 5
	case m.do == FailureHold:
		return 4
	case m.do == FailureKeep:
		return 3
	case m.do == FailureDeadLetter:
		return 1
	}
	return 0
}

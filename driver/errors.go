package driver

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrClosed is returned by what is called on a closed consumer or producer.
	ErrClosed = errors.New("closed")

	// ErrClaimEnded refuses a mark whose claim has been revoked or lost.
	ErrClaimEnded = errors.New("claim has ended")

	// ErrPermanent is wrapped by every error that no retry can cure: failed
	// authentication or authorization, an unsupported version, a fenced
	// instance, an invalid configuration. All other errors are transient.
	ErrPermanent = errors.New("permanent")

	// ErrUnknownOutcome is wrapped by the error of a message that may be in the
	// log or not: it was sent, and no answer came.
	ErrUnknownOutcome = errors.New("outcome unknown")
)

// An Error is a backend's error with what the core has to know of it.
type Error struct {
	// Code is Kafka's own name of the error, such as NOT_ENOUGH_REPLICAS, or a
	// name in that style for what has none, such as CONNECTION_FAILED.
	Code string

	// Kind is ErrPermanent, ErrUnknownOutcome or nil.
	Kind error

	// Err is the backend's own error, which errors.As reaches.
	Err error
}

// Error returns the code, the backend's text and the kind.
func (e *Error) Error() string {
	var parts []string
	if e.Code != "" {
		parts = append(parts, e.Code)
	}
	if e.Err != nil {
		parts = append(parts, e.Err.Error())
	}
	s := strings.Join(parts, ": ")
	if e.Kind != nil {
		s += " (" + e.Kind.Error() + ")"
	}
	return s
}

// ErrorType returns the code, or "_OTHER" if there is none.
func (e *Error) ErrorType() string {
	if e.Code == "" {
		return "_OTHER"
	}
	return e.Code
}

// Unwrap gives errors.Is the kind and errors.As the backend's own error.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// A CommitError says which marks of a Commit are not durable, and why.
type CommitError struct {
	Failed []MarkError
}

// A MarkError is one mark that is not durable.
type MarkError struct {
	Mark Mark
	Err  error
}

// Error names the first failed mark and how many there are.
func (e *CommitError) Error() string {
	if len(e.Failed) == 0 {
		return "commit: no mark failed"
	}
	f := e.Failed[0]
	s := fmt.Sprintf("commit %s/%d at %d: %v", f.Mark.Claim.Topic, f.Mark.Claim.Partition, f.Mark.Offset, f.Err)
	if n := len(e.Failed) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// Unwrap returns the errors of all failed marks.
func (e *CommitError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}

// A DataLossError tells that a group's position was moved, as
// ConsumerConfig.OutOfRange asks, because it was no longer in the log. What lay
// from From up to To is skipped. If To is less than From, the log has become
// shorter: what the group had handled below From is gone, and what lies from To
// on is delivered, be it new or not.
type DataLossError struct {
	Topic     string
	Partition int32
	From, To  int64
}

// Error names the gap.
func (e *DataLossError) Error() string {
	return fmt.Sprintf("%s/%d: position %d is no longer in the log; going on at %d", e.Topic, e.Partition, e.From, e.To)
}

// ErrorType returns OFFSET_OUT_OF_RANGE.
func (e *DataLossError) ErrorType() string { return "OFFSET_OUT_OF_RANGE" }

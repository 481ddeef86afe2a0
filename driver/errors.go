package driver

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrClosed is returned by a method of a closed consumer or producer.
	ErrClosed = errors.New("closed")

	// ErrClaimEnded is the error of a mark whose claim was revoked or lost.
	ErrClaimEnded = errors.New("claim has ended")

	// ErrMembershipLost is wrapped by the errors that a driver reports when the group
	// may have removed its member: SessionTimeout has passed without an answered
	// heartbeat, or a broker has reported the removal.
	ErrMembershipLost = errors.New("membership lost")

	// ErrPermanent is wrapped by every error that no retry can cure: failed
	// authentication or authorization, an unsupported version, a fenced instance, an
	// invalid configuration. All other errors are transient. A driver must never mark
	// an error as permanent that passes by itself or when another party acts.
	ErrPermanent = errors.New("permanent")

	// ErrUnknownOutcome is wrapped by the error of a message that may be in the log, and of
	// a mark of Seeker.Seek that may be durable: the driver sent it and got no answer.
	ErrUnknownOutcome = errors.New("outcome unknown")

	// ErrGroupHasMembers is wrapped by the error of a Group.Commit that the brokers have
	// refused because the group has members. It passes when they have left.
	ErrGroupHasMembers = errors.New("the group has members")
)

// An Error is a backend's error, classified for the core.
type Error struct {
	// Code is Kafka's name of the error, such as NOT_ENOUGH_REPLICAS. An error that
	// Kafka does not name gets a name in that style, such as CONNECTION_FAILED.
	Code string

	// Kind is ErrPermanent, ErrUnknownOutcome or nil.
	Kind error

	// Err is the backend's own error. errors.As reaches it.
	Err error
}

// Error returns the code, the backend's text and the kind. The text may come from a
// peer, so Error makes it [Printable].
func (e *Error) Error() string {
	var parts []string
	if e.Code != "" {
		parts = append(parts, e.Code)
	}
	if e.Err != nil {
		parts = append(parts, Printable(e.Err.Error(), maxErrorText))
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

// A CommitError lists the marks of a Commit that are not known to be durable, with
// their reasons.
type CommitError struct {
	Failed []MarkError
}

// A MarkError is one mark that is not known to be durable.
type MarkError struct {
	Mark Mark
	Err  error
}

// Error names the first failed mark and the number of others.
func (e *CommitError) Error() string {
	if len(e.Failed) == 0 {
		return "commit: no mark failed"
	}
	f := e.Failed[0]
	s := fmt.Sprintf("commit %s/%d at %d: %v", Printable(f.Mark.Claim.Topic, maxName), f.Mark.Claim.Partition, f.Mark.Offset, f.Err)
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

// A PartitionError is a failure of one partition or of a whole topic: a damaged batch,
// a missing topic, a refused authorization. It stops no other partition. A claim on
// the partition lives on.
type PartitionError struct {
	Topic     string
	Partition int32 // -1 is every partition of the topic
	Offset    int64 // of the record or batch that cannot be read; -1 if unknown
	Err       error // wraps an Error
}

// Error names the topic, the partition, the offset and the reason.
func (e *PartitionError) Error() string {
	switch {
	case e.Partition < 0:
		return fmt.Sprintf("topic %s: %v", Printable(e.Topic, maxName), e.Err)
	case e.Offset < 0:
		return fmt.Sprintf("%s/%d: %v", Printable(e.Topic, maxName), e.Partition, e.Err)
	}
	return fmt.Sprintf("%s/%d at offset %d: %v", Printable(e.Topic, maxName), e.Partition, e.Offset, e.Err)
}

// Unwrap returns Err.
func (e *PartitionError) Unwrap() error { return e.Err }

// A DataLossError reports that a driver has moved a group's position because it was
// no longer in the log.
//
// Without Recreated the position was out of range, and the driver moved it as
// ConsumerConfig.OutOfRange asks. The group skips the records from From up to To. If
// To is less than From, the log was truncated: records below From that the group had
// handled are gone, and every record from To on is delivered, whether the group has
// handled that offset before or not.
//
// With Recreated the topic was deleted and created again. From is the group's position
// in the old topic. To is the start of the new topic, from which every record is
// delivered. The records of the old topic from From on are gone.
type DataLossError struct {
	Topic     string
	Partition int32
	From, To  int64
	Recreated bool

	// Begin and End are the ends of the log at that time, or -1.
	Begin, End int64
}

// Error names both positions and the reason.
func (e *DataLossError) Error() string {
	topic := Printable(e.Topic, maxName)
	if e.Recreated {
		return fmt.Sprintf("%s/%d: the topic was created again; position %d belongs to the old one; continuing at %d",
			topic, e.Partition, e.From, e.To)
	}
	return fmt.Sprintf("%s/%d: position %d is no longer in the log; continuing at %d", topic, e.Partition, e.From, e.To)
}

// ErrorType returns OFFSET_OUT_OF_RANGE, or INCONSISTENT_TOPIC_ID for a topic
// that was created again.
func (e *DataLossError) ErrorType() string {
	if e.Recreated {
		return "INCONSISTENT_TOPIC_ID"
	}
	return "OFFSET_OUT_OF_RANGE"
}

// A NoPositionError reports that a claim starts without a committed position: at
// Start, as ConsumerConfig.InitialOffset asks, in a log that begins at Begin. Either
// the group is new to the partition, or its positions have expired. In the latter case
// the records from Begin up to Start may never have been handled. A driver may omit
// the report if Start equals Begin, because nothing was skipped.
type NoPositionError struct {
	Topic        string
	Partition    int32
	Start, Begin int64
}

// Error names both offsets.
func (e *NoPositionError) Error() string {
	return fmt.Sprintf("%s/%d: the group has no position; starting at %d, the log begins at %d",
		Printable(e.Topic, maxName), e.Partition, e.Start, e.Begin)
}

// ErrorType returns NO_POSITION.
func (e *NoPositionError) ErrorType() string { return "NO_POSITION" }

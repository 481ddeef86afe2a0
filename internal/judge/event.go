package judge

import (
	"context"
	"time"
)

// A Partition names one partition of a topic.
type Partition struct {
	Topic  string
	Number int32
}

// A Member is one consumer of one group in one process. A member that was
// started again is the same Member.
type Member struct {
	Process string
	Group   string
	Name    string
}

// An Event is one of the types of this file.
type Event interface{ event() }

// Appended reports a record that can be read from now on.
type Appended struct {
	Partition Partition
	Offset    int64
	Key       string
	Value     string
}

// Deleted reports that the records below Before are gone, and that this is no fault.
type Deleted struct {
	Partition Partition
	Before    int64
}

// Removed reports that one record is gone, as by compaction.
type Removed struct {
	Partition Partition
	Offset    int64
}

// Truncated reports that the records from End on are gone, though acknowledged,
// and that their offsets will be used again. A member
// that has read that far does not read what comes to lie there, so it is not owed.
type Truncated struct {
	Partition Partition
	Was, End  int64 // the offset after the last record, before and now
}

// Positioned reports where a group begins in a partition, or that an operator has
// set it again: what lies below is not its concern, and its commits go on from there.
type Positioned struct {
	Group     string
	Partition Partition
	Offset    int64
}

// Assigned reports that a member owns partitions.
type Assigned struct {
	Member     Member
	Partitions []Partition
}

// Revoked reports that a member has let partitions go in order; in those of Stuck
// a handler still runs. Calm says that nothing has been out of order: then what
// was done must be committed, and a handler must have been cancelled in time.
type Revoked struct {
	Member     Member
	Partitions []Partition
	Stuck      []Partition
	Calm       bool
	Took       time.Duration // from its beginning, or 0 if that is not known
}

// Lost reports that a member has learned that partitions are gone.
type Lost struct {
	Member     Member
	Partitions []Partition
}

// Status is what a member reports of itself while nothing is under way: what it
// owns, the failures in a row of each of these partitions, and its own, of starts;
// -1 if the member does not tell the latter apart from the former.
type Status struct {
	Member   Member
	Owned    []Partition
	Failures []int
	Restarts int
}

// Severed reports that a member cannot hear of its losses from now on.
type Severed struct{ Member Member }

// Reconnected reports that it can again.
type Reconnected struct{ Member Member }

// HandleStart reports that a handler gets records of a partition, one or several,
// in one call. ID is unique in the history. Attempt is 0 if the handler does
// not know it. Context is the handler's, if it is known: the same for all calls under one
// claim, and over before the claim's end is recorded.
type HandleStart struct {
	ID        uint64
	Member    Member
	Partition Partition
	Records   []Record
	Attempt   int
	Context   Context
}

// A Context is a context.Context, or nothing, that is not printed.
type Context struct{ context.Context }

// String returns nothing of use.
func (c Context) String() string { return "…" }

func (c Context) over() bool { return c.Context != nil && c.Err() != nil }

// A Record is one record as a handler gets it.
type Record struct {
	Offset int64
	Key    string
	Value  string
}

func (e HandleStart) first() int64 { return e.Records[0].Offset }
func (e HandleStart) last() int64  { return e.Records[len(e.Records)-1].Offset }

// HandleEnd reports that the handler has returned; OK, that the records are done.
type HandleEnd struct {
	ID uint64
	OK bool
}

// Replaced reports that a member has learned that the offsets of a partition from From
// on belong to other records than before: the topic was created again, or its log was
// truncated.
type Replaced struct {
	Member    Member
	Partition Partition
	From      int64
}

// HandlerFailed reports that a member has counted a failure of its handler, so many
// in a row.
type HandlerFailed struct {
	Member    Member
	Partition Partition
	Offset    int64
	Failures  int
}

// HandlerCancelled reports that the context of a running handler has ended.
type HandlerCancelled struct{ ID uint64 }

// CommitApplied reports a position that has become durable, and what lies beside it:
// Done are the offsets above it that it names as done.
type CommitApplied struct {
	Group     string
	Partition Partition
	Offset    int64
	Done      []Span
}

// Send reports that a message is about to be sent. Sender is the goroutine: one
// sender's messages have an order. Async sends are owed a callback.
type Send struct {
	Process string
	Sender  string
	Value   string
	Async   bool
}

// An Outcome is what a producer has said of a message.
type Outcome int

// The outcomes.
const (
	OK      Outcome = iota // it is in the log
	Failed                 // it is not, and never will be
	Unknown                // it may be
)

// Answer is what a send returned, or its callback got. Partition and Offset
// are of the record if Outcome is OK.
type Answer struct {
	Value     string
	Outcome   Outcome
	Partition Partition
	Offset    int64
}

// Switched reports that a call that turned a member on or off has returned.
type Switched struct {
	Member Member
	On     bool
}

// Opening reports that a member opens its driver's consumer. A start that fails after a
// switch-on came during it is followed by another one at once, without a change of
// state: the failure of that one may be followed by a backoff.
type Opening struct{ Member Member }

// StateChanged reports a state by its name.
type StateChanged struct {
	Member   Member
	From, To string
}

// Disabled reports that a member is about to be disabled; Permanent, that it says
// that no retry could help.
type Disabled struct {
	Member    Member
	Permanent bool
}

// StopCall reports that a process is asked to stop within a limit; 0 is none.
// Idle says that nothing runs that it would have to wait for.
type StopCall struct {
	Process string
	Limit   time.Duration
	Idle    bool
}

// StopReturn reports that the stop has answered; Clean, that it said that all is over.
type StopReturn struct {
	Process string
	Clean   bool
}

func (Appended) event()         {}
func (Deleted) event()          {}
func (Removed) event()          {}
func (Truncated) event()        {}
func (Positioned) event()       {}
func (Assigned) event()         {}
func (Revoked) event()          {}
func (Lost) event()             {}
func (Status) event()           {}
func (Severed) event()          {}
func (Reconnected) event()      {}
func (HandleStart) event()      {}
func (HandleEnd) event()        {}
func (HandlerFailed) event()    {}
func (Replaced) event()         {}
func (HandlerCancelled) event() {}
func (CommitApplied) event()    {}
func (Send) event()             {}
func (Answer) event()           {}
func (Opening) event()          {}
func (Switched) event()         {}
func (StateChanged) event()     {}
func (Disabled) event()         {}
func (StopCall) event()         {}
func (StopReturn) event()       {}

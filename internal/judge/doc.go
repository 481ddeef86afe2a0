// Package judge decides from what a run of consumers and producers has lived
// through whether a promise was broken: a message lost, a partition handled by
// two owners, a commit beyond what was done.
//
// A program that runs something, a simulation in virtual time or a chaos test on a
// real cluster, records the events in a [Judge] as they happen, asks [Judge.Check]
// while it goes on, and [Judge.Final] when all faults are healed and everything
// has come to rest. The answer is a list of [Violation] values.
//
// # Model
//
// Values are unique: a record is known by its value. A partition's log is what
// [Appended] says that a reader could read, in rising order of offset, with
// holes. A record is done for a group when a handler has returned well from it, when it
// was skipped and [Skipped] was recorded, or when a broker has a copy of it in another
// topic ([Copied]), with headers that name the record and with its own, byte for byte.
// Whatever is decided by comparing with the log is decided in Check, so the log
// may be recorded later than the handling of its records, but before Check.
//
// A member handles the records of a partition one after the other, unless [Ordered] says
// otherwise. With [ByKey] the records of one lane come one after the other, and with
// [AnyOrder] in any order. A commit may name records above its position as done
// ([CommitApplied]): they must be, and the next owner must not hand them out again.
//
// A record of a retry topic is a record of its own, which [Marked] says where it first lay.
// It is done when it was handled, skipped or passed over, or because of a copy of the same
// record in a later topic ([Forwarded]), and it must not be handed out before it is due.
// While an operator has paused a partition of a member ([Paused]) nothing is handed out, and
// a rate ([Rated]) holds over any time, whatever becomes of claims meanwhile.
//
// A position moves back, or over records that are not done, by a seek alone ([Sought]), and
// only while a call ([Seeking]) asks for that. The call must say so as it returns
// ([SeekReturned]), and what it says to have moved must have been moved. From then on every
// record at or above the new position must be done again, by a claim that has begun since:
// what earlier claims come to counts for what was before the seek. No commit comes between a
// seek and the next claim. The attempts of the partition are counted from zero.
//
// Events are numbered as they are recorded. What one goroutine does before another
// one can act on it must be recorded before that: the end of a handler before it
// returns, a commit before its answer.
//
// # Time
//
// Events are stamped with the time of their telling, or with the time that
// [Judge.TellAt] is given. In virtual time a grace of
// zero is right: what follows at once follows in no time at all.
package judge

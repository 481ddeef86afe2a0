// Package driver defines what a Kafka client must offer to be used by package
// kafka. Most programs never import it: they import kafka and one backend.
//
// # Who owns what
//
// A driver owns every goroutine that touches the network and those that call
// a [Handler]. The core, package kafka, owns every goroutine that runs user
// code, the queues between the two, and the decision what may be committed.
// So a driver never waits for a user's handler except in [Handler.Revoke],
// which is bounded by a context, and at-least-once is decided in one place for
// all backends.
//
// Two facts of real clients shape the contract. They share one fetch loop
// among many partitions, so delivery never blocks: back-pressure is
// [Consumer.Pause] and [Consumer.Resume]. And a commit must name the ownership
// it belongs to, or a straggler rewinds the next owner: so a partition that is
// assigned is an object, the [Claim], and a [Mark] points at it.
//
// # Concurrency
//
// A [Driver], a [Consumer] and a [Producer] must be safe for use by several
// goroutines at once. Where the contract is narrower, the method says so.
//
// No method of a Handler runs inside a call that the core has made, but for
// [Consumer.Run]; and a driver holds no lock while it calls a Handler or an
// [Acker]. So either side may call the other while it holds nothing.
//
// "By the end of ctx" means without waiting for the network any more.
//
// # Errors
//
// Every error that a driver reports, those of marks and acknowledgements
// included, wraps an [Error], unless it is one of this package's sentinels or
// a context's error. So each has a Kafka name, and errors.As reaches the
// backend's own. What no retry can cure wraps [ErrPermanent]; everything else
// counts as transient.
//
// # Testing a driver
//
// Package drivertest checks the sentences of this contract, one case each.
package driver

import (
	"context"
	"time"
)

// A Driver opens consumers and producers. It holds no connection itself.
//
// What a driver can not honour of a configuration it refuses with ErrPermanent
// before it opens a socket. A driver of which that can happen also implements
// ConsumerValidator and ProducerValidator, so that it shows at registration.
type Driver interface {
	// OpenConsumer validates cfg and reaches the cluster; it joins nothing yet.
	// It must return by the end of ctx. The consumer that it returns does not
	// depend on ctx any more, and must be closed.
	OpenConsumer(ctx context.Context, cfg ConsumerConfig) (Consumer, error)

	// OpenProducer validates cfg and reaches the cluster. It must return by the
	// end of ctx. The producer that it returns does not depend on ctx any more,
	// and must be closed.
	OpenProducer(ctx context.Context, cfg ProducerConfig) (Producer, error)
}

// A Consumer is one member of one group.
type Consumer interface {
	// Run joins the group and serves h until Close. It is called once, and
	// blocks. It cures by itself what a rejoin can cure, telling h.Error; it
	// must not spin: attempts that fail at once are spaced out. It returns nil
	// after Close, and else why this consumer can not go on.
	//
	// Run also waits, and reports by h.Error, for what another party has to cure:
	// a topic that does not exist, members whose balance strategies have nothing
	// in common, a coordinator that is loading, a cluster that went away. A topic
	// that is missing, or that this member may not read, keeps Run from no other
	// topic; Run picks it up within a minute of its appearance. Topics that only
	// other members of the group subscribe to are never an error.
	//
	// One partition's trouble, such as a damaged batch, is reported by a
	// PartitionError and stops no other partition. What lies intact before it is
	// delivered, and its claim lives on.
	//
	// A claim belongs to one incarnation of its topic. When the topic is deleted
	// and created again, by its topic ID (KIP-516) and not by its name, the claim
	// is Lost, h.Error gets a DataLossError with Recreated set, and the claims of
	// the new incarnation start at its beginning whatever InitialOffset and
	// OutOfRange say. A position that was earned in the old incarnation must never
	// count in the new one.
	//
	// The group removes a member that it has not heard of for SessionTimeout. So
	// the claims must be Lost, with a cause that wraps ErrMembershipLost, when
	// SessionTimeout has passed since the latest heartbeat that was answered had
	// been sent; see SessionDeadliner.
	//
	// A position that is no longer in the log is never moved silently. With
	// OutOfRangeStop the claim is Lost, and Run returns an ErrPermanent with code
	// OFFSET_OUT_OF_RANGE. With the other policies the claim ends, the new position
	// is made durable, h.Error is told a DataLossError, and only then a claim that
	// starts there is assigned, to this member or another.
	//
	// Every claim that was assigned has been ended, by Revoke or by Lost, before
	// Run returns. When Run has returned, no method of h runs or will run. A
	// Revoke that overruns its window delays the return of Run, but never the
	// group, Close, or the Assign of other claims.
	//
	// Called after Close, Run returns nil at once and calls nothing.
	Run(h Handler) error

	// Commit makes marks durable and returns when the answer is there. It may be
	// called while anything else runs, also from inside Handler.Revoke for the
	// claims that are being revoked, but the core never has two calls of Commit
	// under way at once. It must not wait behind a fetch or a pending join.
	//
	// It retries what is worth retrying until ctx ends. It returns nil only if
	// every mark is durable, and otherwise a *CommitError that says of which
	// marks that is not known; if ctx ended, their errors wrap ctx's. There is at
	// most one mark a claim.
	//
	// A mark on a claim that has ended is refused with ErrClaimEnded without
	// asking the broker; one of a superseded generation is refused by the broker.
	// Each attempt takes the member's identity first and then drops the marks
	// whose claims have ended, or this could happen: a commit waits to be tried
	// again, its claim is revoked, the member joins anew, and the attempt under
	// the new generation rewinds the next owner. A live claim that was refused
	// for a generation that the member has left behind is tried under the new one.
	//
	// Within a claim a position never moves backwards: a mark at or below Start
	// or what the claim has committed is answered with nil and changes nothing,
	// and a later call never overtakes an attempt that an earlier one gave up. A
	// position that moves forwards may pass offsets that hold no record.
	Commit(ctx context.Context, marks []Mark) error

	// Pause stops fetching for claims, and Resume goes on where it stopped.
	// Both return without a round trip, are idempotent, and may be called from
	// inside any method of Handler. What was fetched before may still be
	// delivered after Pause. The core never overlaps the two for one claim. Ended
	// claims are ignored, in one step with the effect, and a pause ends with its
	// claim: a partition that comes back is not paused.
	Pause(claims ...*Claim)
	Resume(claims ...*Claim)

	// Close ends Run: live claims are drained by Handler.Revoke, then the group
	// is left, so that others take over at once; a static member stays in it until
	// its session times out. Every consumer is closed once it is done with, also
	// when Run failed or never ran, but not from inside a method of Handler.
	//
	// The window of every Revoke, running or still to come, ends no later than
	// ctx; claims that were not given to Revoke by then are Lost. As ctx ends,
	// Close severs the connections and returns ctx's error. It must do so in every
	// phase, also while a join is pending or a Revoke is stuck; Run returns then
	// too, as soon as a stuck Revoke does. After a nil answer Run has returned and
	// no goroutine or connection of the consumer is left. A second Close waits for
	// the first, or for its own ctx, and gives the same answer.
	Close(ctx context.Context) error
}

// A Handler is the core as a driver sees it. Each claim goes through one life:
// Assign, then Deliver any number of times, then exactly one of Revoke or Lost.
//
// Calls for one claim never overlap and are made in that order; calls for
// different claims may overlap. Two claims of one partition never live at once.
type Handler interface {
	// Assign tells of new claims, before anything of them is delivered. It is
	// called at least once for each time that the group is joined, without claims
	// if there are none for this member. It does not block.
	Assign(claims []*Claim)

	// Deliver hands over records of a claim: in rising order of offset, none
	// left out, none twice within a claim. It never blocks. b.Records may be
	// used by the driver again when Deliver has returned; all that a record points
	// to, its headers' slice included, belongs to the core for good and must never
	// be written.
	Deliver(c *Claim, b Batch)

	// Revoke asks for claims back. It blocks until what runs has been waited for
	// and what was handled is committed; returning is the acknowledgement, and
	// ends the claims. ctx is the drain window: it has a deadline, at most
	// ConsumerConfig.DrainTimeout away unless Close is draining, and its end ends
	// the claims: the driver goes on as if Revoke had returned, so a stuck handler
	// can not hold the group. If the claims are lost meanwhile, the driver cancels
	// ctx with that as its cause as soon as it knows, and does not call Lost.
	// A driver may call Revoke once for many claims or once for each.
	Revoke(ctx context.Context, claims []*Claim)

	// Lost tells that claims are gone already: somebody else may own them, and
	// nothing of them can be committed. It does not block.
	Lost(claims []*Claim, cause error)

	// Error reports something that the driver lived through. It does not block.
	//
	// The core finds these in err, and treats them apart: a PartitionError is the
	// trouble of one partition or topic, a DataLossError a gap, a NoPositionError
	// a start without a committed position. An error that wraps ErrMembershipLost
	// says that the group may have removed this member, with or without claims;
	// the next Assign says that a broker has confirmed the membership again.
	Error(err error)
}

// A Claim is the ownership of one partition by one consumer during one
// assignment. A partition that leaves and comes back is a new Claim. The driver
// makes it; identity is the pointer; the exported fields never change.
type Claim struct {
	Topic     string
	Partition int32

	// Start is the offset from which records will be delivered. It is the group's
	// committed offset. Where there is none, OffsetOldest starts at the beginning
	// of the log, and Start may be -1 if the driver learns it only from the first
	// delivery. OffsetNewest starts at the end as it is when the group first joins
	// for the topic, and at the beginning of a partition that was created later;
	// that position is durable before Assign, so that a crash before the first
	// commit loses nothing.
	Start int64

	// Generation is the generation of the group under which the claim was
	// assigned, for logs: fencing is the driver's work, and a claim may outlive
	// its generation in a cooperative rebalance.
	Generation int32

	// Backend belongs to the driver that made the claim, Owner to the Handler
	// that it was assigned to. Neither touches the other's.
	Backend any
	Owner   any
}

// A Batch is what one delivery brings: records, or a Next, or both.
type Batch struct {
	Records []Record

	// Next is the offset at which fetching goes on: everything below it has been
	// delivered or is a hole, as compaction and transaction markers leave them.
	// Zero stands for the last record's offset plus one. A batch without records
	// and with Next set passes a hole at the end of what is there.
	Next int64
}

// A Record is one record as it lies in a partition. A nil key or value is
// told apart from an empty one.
type Record struct {
	Offset    int64
	Timestamp time.Time
	Key       []byte
	Value     []byte
	Headers   []Header
}

// A Header is one of a record's headers. Their order and repetitions count.
type Header struct {
	Key   string
	Value []byte
}

// A Mark asks for one position to be committed.
type Mark struct {
	Claim *Claim

	// Offset is the position to go on from: the offset after the last record
	// that was done, not that record's own.
	Offset int64
}

// A Producer sends messages. It serves all goroutines of a program over one
// set of connections, so that there is one order.
type Producer interface {
	// Produce accepts m for sending. It blocks only for buffer space, until ctx
	// ends or Close begins, and returns ctx's error or ErrClosed if m was not
	// accepted: nothing is accepted when ctx has ended already. After a nil answer
	// m belongs to the driver until m.Acker.Ack is called, exactly once, whatever
	// happens; that may be before Produce returns. After an error it is never
	// called. Every refusal but these two comes through Ack.
	//
	// The order in which one goroutine calls Produce is the order of its
	// messages in each partition, also when sends are retried. ctx bounds
	// acceptance, not delivery.
	Produce(ctx context.Context, m *Message) error

	// Flush blocks until every message that was accepted before the call has
	// been acknowledged, or ctx ends. It sends what lingers at once.
	Flush(ctx context.Context) error

	// Close sends what was accepted, what lingers at once, waits for the answers,
	// and returns. When ctx ends first, the connections are severed, everything
	// unanswered is acknowledged with ErrUnknownOutcome, or with another error if
	// it certainly was never sent, late answers are dropped, and ctx's error is
	// returned. When Close has returned no Ack runs or will run. A second
	// Close waits for the first, or for its own ctx, and gives the same answer.
	Close(ctx context.Context) error
}

// A Message is one record to be sent.
type Message struct {
	Topic string

	// Partition is where to send the message, or -1 to let its key decide as
	// Java's client does (murmur2 of the key; without a key, any partition).
	// Before Ack is called with nil it is set to where the record lies.
	Partition int32

	Key     []byte // may be nil
	Value   []byte // nil is a tombstone
	Headers []Header

	// Timestamp is the record's creation time in milliseconds' precision. The
	// zero time stands for now.
	Timestamp time.Time

	// Offset is set before Ack is called with nil. It is -1 where the broker
	// gives none: with NoResponse, or for a duplicate that it dropped.
	Offset int64

	// Acker is told the outcome.
	Acker Acker
}

// An Acker is told what became of one message. Ack does not block.
//
// A nil error means that the record is in the log as durably as the required
// acks ask for. An error that wraps ErrUnknownOutcome means that it may be; any
// other error means that it is not and will not be: no attempt was sent, or
// each was refused before it was appended. A driver that can not tell says
// unknown, which goes before permanent where both would fit.
type Acker interface {
	Ack(err error)
}

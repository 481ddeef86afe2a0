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
// # Testing a driver
//
// Package drivertest checks the sentences of this contract, one case each.
package driver

import (
	"context"
	"time"
)

// A Driver opens consumers and producers. It holds no connection itself.
type Driver interface {
	// OpenConsumer validates cfg and reaches the cluster; it joins nothing yet.
	// It must return by the end of ctx. The consumer that it returns does not
	// depend on ctx any more.
	OpenConsumer(ctx context.Context, cfg ConsumerConfig) (Consumer, error)

	// OpenProducer validates cfg and reaches the cluster. It must return by the
	// end of ctx. The producer that it returns does not depend on ctx any more.
	OpenProducer(ctx context.Context, cfg ProducerConfig) (Producer, error)
}

// A Consumer is one member of one group.
type Consumer interface {
	// Run joins the group and serves h until Close. It is called once, and
	// blocks. It cures by itself what a rejoin can cure, telling h.Error; it
	// must not spin: attempts that fail at once are spaced out. It returns nil
	// after Close, and else why this consumer can not go on.
	//
	// Every claim that was assigned has been ended, by Revoke or by Lost, before
	// Run returns. When Run has returned, no method of h runs or will run.
	//
	// Called after Close, Run returns nil at once and calls nothing.
	Run(h Handler) error

	// Commit makes marks durable and returns when the answer is there. It may be
	// called while anything else runs, also from inside Handler.Revoke for the
	// claims that are being revoked, but the core never has two calls of Commit
	// under way at once. It must not wait behind a fetch or a pending join.
	//
	// It retries what is worth retrying until ctx ends. It returns nil only if
	// every mark is durable, and otherwise a *CommitError that says which are
	// not. A mark on a claim that has ended is refused with ErrClaimEnded
	// without asking the broker; one of a superseded generation is refused by
	// the broker. A mark at or below what this claim has committed already is
	// answered with nil and changes nothing: within a claim a position never
	// moves backwards. A position that moves forwards may pass offsets that hold
	// no record.
	Commit(ctx context.Context, marks []Mark) error

	// Pause stops fetching for claims, and Resume goes on where it stopped.
	// Both return without a round trip, are idempotent, and may be called from
	// inside any method of Handler. What was fetched before may still be
	// delivered after Pause. Ended claims are ignored, and a pause ends with its
	// claim: a partition that comes back is not paused.
	Pause(claims ...*Claim)
	Resume(claims ...*Claim)

	// Close ends Run: live claims are drained by Handler.Revoke, then the group
	// is left, so that others take over at once. When ctx ends first, Close
	// severs the connections and returns ctx's error; claims whose Revoke did
	// not return by then count as ended. Close must return by the end of ctx in
	// every phase, also while a join is pending or a Revoke is stuck. After a nil
	// answer no goroutine or connection of the consumer is left. A second Close
	// waits for the first, or for its own ctx, and gives the same answer.
	Close(ctx context.Context) error
}

// A Handler is the core as a driver sees it. Each claim goes through one life:
// Assign, then Deliver any number of times, then exactly one of Revoke or Lost.
//
// Calls for one claim never overlap and are made in that order; calls for
// different claims may overlap. Two claims of one partition never live at once.
type Handler interface {
	// Assign tells which claims are owned now, before anything of them is
	// delivered. It does not block.
	Assign(claims []*Claim)

	// Deliver hands over records of a claim: in rising order of offset, none
	// left out, none twice within a claim. It never blocks. b.Records may be
	// used by the driver again when Deliver has returned; the bytes that a
	// record points to belong to the core for good and must never be written.
	Deliver(c *Claim, b Batch)

	// Revoke asks for claims back. It blocks until what runs has been waited for
	// and what was handled is committed; returning is the acknowledgement, and
	// ends the claims. ctx is the drain window: when it ends, the driver must go
	// on as if Revoke had returned, so a stuck handler can not hold the group.
	// A driver may call Revoke once for many claims or once for each.
	Revoke(ctx context.Context, claims []*Claim)

	// Lost tells that claims are gone already: somebody else may own them, and
	// nothing of them can be committed. It does not block.
	Lost(claims []*Claim, cause error)

	// Error tells of something that the driver lived through. It does not block.
	Error(err error)
}

// A Claim is the ownership of one partition by one consumer during one
// assignment. A partition that leaves and comes back is a new Claim. The driver
// makes it; identity is the pointer; the exported fields never change.
type Claim struct {
	Topic     string
	Partition int32

	// Start is the offset from which records will be delivered, or -1 if the
	// driver learns it only from the first delivery. Where the group had no
	// committed offset and asked for the newest, the position has been made
	// durable before Assign, so that a crash before the first commit loses
	// nothing.
	Start int64

	// Generation is the generation of the group under which the claim was
	// assigned, for humans: fencing is the driver's work.
	Generation int32

	// Backend belongs to the driver that made the claim, Owner to the Handler
	// that it was assigned to. Neither touches the other's.
	Backend any
	Owner   any
}

// A Batch is what one delivery brings.
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
	// ends, and returns ctx's error or ErrClosed if m was not accepted. After a
	// nil answer m belongs to the driver until m.Acker.Ack is called, exactly
	// once, whatever happens; after an error it is never called.
	//
	// The order in which one goroutine calls Produce is the order of its
	// messages in each partition, also when sends are retried. ctx bounds
	// acceptance, not delivery.
	Produce(ctx context.Context, m *Message) error

	// Flush blocks until every message that was accepted before the call has
	// been acknowledged, or ctx ends. It sends what lingers at once.
	Flush(ctx context.Context) error

	// Close sends what was accepted, waits for the answers, and returns. When
	// ctx ends first, the connections are severed, everything unanswered is
	// acknowledged with ErrUnknownOutcome, and ctx's error returned. When Close
	// has returned no Ack runs or will run. A second Close waits for the first,
	// or for its own ctx, and gives the same answer.
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

// An Acker is told what became of one message. Ack runs on a goroutine of the
// driver; it does not block.
//
// A nil error means that the record is in the log as durably as the required
// acks ask for. An error that wraps ErrUnknownOutcome means that it may be;
// any other error means that it is not and will not be.
type Acker interface {
	Ack(err error)
}

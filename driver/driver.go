// Package driver defines the interfaces that a Kafka client must implement to be
// used by package kafka. Most programs do not import it: they import kafka and one
// backend.
//
// # Responsibilities
//
// A driver owns every goroutine that touches the network and every goroutine that
// calls a [Handler]. The core, package kafka, owns every goroutine that runs user
// code, the queues between the two, and the decision which offsets may be
// committed. A driver waits for user code only in [Handler.Revoke], which a context
// bounds. At-least-once delivery is therefore decided in one place for all backends.
//
// Two properties of real clients shape the contract:
//
//   - They share one fetch loop among many partitions. Delivery must therefore
//     never block; back-pressure is [Consumer.Pause] and [Consumer.Resume].
//   - A late commit of a former owner could rewind the next owner. A commit must
//     therefore name the ownership under which it was earned: an assigned partition
//     is an object, the [Claim], and a [Mark] points at it.
//
// # Concurrency
//
// A [Driver], a [Consumer], a [Producer] and a [Group] must be safe for concurrent use
// by several goroutines. Where the contract is narrower, the method says so.
//
// A driver must call a Handler from its own goroutines, never from inside a call
// that the core has made, except from inside [Consumer.Run]. A driver must hold no
// lock while it calls a Handler or an [Acker]. Either side may therefore call the
// other.
//
// "By the end of ctx" means: as soon as ctx ends, without waiting for the network.
//
// # Errors
//
// Every error that a driver reports must wrap an [Error], including the errors of
// marks and acknowledgements. The exceptions are this package's sentinels and
// context errors. Every error therefore has a Kafka name, and errors.As reaches the
// backend's own error. An error that no retry can cure must wrap [ErrPermanent].
// The core treats every other error as transient.
//
// # Testing a driver
//
// Package drivertest checks the sentences of this contract, one case per sentence.
package driver

import (
	"context"
	"time"
	"unsafe"
)

// A Driver opens consumers and producers. It holds no connection itself.
//
// A driver must reject a setting that it does not support with ErrPermanent before
// it opens a socket. Such a driver should also implement ConsumerValidator and
// ProducerValidator, so that the core rejects the setting at registration.
type Driver interface {
	// OpenConsumer validates cfg and connects to the cluster. It must not join the
	// group. It must return by the end of ctx. The returned consumer must not depend
	// on ctx. The caller must close it.
	OpenConsumer(ctx context.Context, cfg ConsumerConfig) (Consumer, error)

	// OpenProducer validates cfg and connects to the cluster. It must return by the
	// end of ctx. The returned producer must not depend on ctx. The caller must close
	// it.
	OpenProducer(ctx context.Context, cfg ProducerConfig) (Producer, error)
}

// A Consumer is one member of one group.
type Consumer interface {
	// Run joins the group and serves h until Close. The core calls it once. It
	// blocks. It returns nil after Close, and otherwise the reason why this consumer
	// cannot continue. A Run that is called after Close must return nil at once
	// without calling h.
	//
	// Run must recover from everything that rejoining the group can cure, and must
	// report each such failure to h.Error. It must not spin: it must space out
	// attempts that fail at once.
	//
	// Run must also wait, and report to h.Error, while another party has to act: a
	// topic does not exist, the members have no balance strategy or no group protocol
	// in common, another member holds the InstanceID, a coordinator is loading, or the
	// cluster is unreachable. A topic that is missing, or that this member may not
	// read, must not keep Run from any other topic. Run must pick it up within a minute
	// of its appearance. Topics to which only other members of the group subscribe are
	// never an error.
	//
	// Run must report trouble of one partition, such as a damaged batch, as a
	// PartitionError. It must not stop another partition for it. It must deliver the
	// intact records before the trouble, and must not end the claim.
	//
	// A claim belongs to one incarnation of its topic, which the topic ID (KIP-516)
	// identifies and the name does not. When a topic is deleted and created again,
	// its claims must be Lost, and h.Error must get a DataLossError with Recreated
	// set. The claims of the new incarnation must start at its beginning, regardless
	// of InitialOffset and OutOfRange. A position from the old incarnation must never
	// apply to the new one.
	//
	// The group removes a member from which it has not heard for SessionTimeout, or,
	// with ConsumerProtocol, for a time that the brokers choose. The claims must
	// therefore be Lost, with a cause that wraps ErrMembershipLost, once SessionTimeout
	// has passed since the member sent the latest heartbeat that was answered. See
	// SessionDeadliner.
	//
	// Two members with one InstanceID compete for its place. With ClassicProtocol the
	// newcomer takes it: the Run of the older member must return an ErrPermanent with
	// the code FENCED_INSTANCE_ID. With ConsumerProtocol the older member keeps it until
	// it closes or its session times out: the newcomer must wait, must get no claim, and
	// must report UNRELEASED_INSTANCE_ID to h.Error.
	//
	// Run must never move a position silently that is no longer in the log. With
	// OutOfRangeStop the claim must be Lost, and Run must return an ErrPermanent with
	// the code OFFSET_OUT_OF_RANGE. With the other policies, in this order: the claim
	// ends, the new position becomes durable, h.Error gets a DataLossError, and a
	// claim that starts there is assigned to this member or another.
	//
	// Run must end every assigned claim, by Revoke or by Lost, before it returns.
	// After it has returned, no method of h runs or will run. A Revoke that overruns
	// its window may delay the return of Run, but must never delay the group, Close,
	// or the Assign of other claims.
	Run(h Handler) error

	// Commit makes marks durable and returns when their outcome is known. The core
	// may call it while anything else runs, also from inside Handler.Revoke for the
	// claims that are being revoked. The core never overlaps two calls of Commit. At
	// most one mark names a given claim. Commit must not wait behind a fetch or a
	// pending join.
	//
	// Commit must retry transient failures until ctx ends. It returns nil only if
	// every mark is durable. Otherwise it returns a *CommitError with every mark that
	// is not known to be durable; if ctx has ended, their errors wrap ctx's error.
	//
	// Commit must refuse a mark on an ended claim with ErrClaimEnded without asking
	// the broker. The broker refuses a mark of a superseded generation or, with
	// ConsumerProtocol, of another epoch than the member's.
	//
	// Each attempt must read the member's identity first and drop the marks of ended
	// claims second. In the other order this could happen: a commit waits to be
	// retried, its claim is revoked, the member rejoins, and the attempt under the new
	// generation rewinds the next owner. If a mark on a live claim was refused because
	// the member has moved to a newer generation or epoch, Commit must retry it under
	// that one.
	//
	// Within a claim a position must never move backwards. A mark below Start, or below
	// what the claim has committed, succeeds and changes nothing. A mark at that position
	// is sent if and only if its Metadata differs from what was last acknowledged or read
	// there, or an attempt to change that has failed since. Otherwise it succeeds without
	// a request. A later call must never overtake an attempt that an earlier call gave
	// up. A position that moves forwards may pass offsets that hold no record.
	//
	// Brokers limit the length of Metadata (offset.metadata.max.bytes). If a broker refuses
	// a mark with OFFSET_METADATA_TOO_LARGE, Commit must send the same mark once more
	// without Metadata, and the Consumer must send no Metadata from then on: that of every
	// later mark counts as empty. The driver must report the refusal to h.Error once.
	Commit(ctx context.Context, marks []Mark) error

	// Pause stops fetching for claims. Resume continues where Pause stopped. Both
	// must be idempotent and must return without a round trip. The core may call them
	// from inside any method of Handler, and never overlaps them for one claim.
	//
	// A driver may still deliver after Pause what it had fetched before. It must
	// ignore ended claims, and must check for that in one step with the effect. A
	// pause ends with its claim: a partition that comes back is not paused.
	Pause(claims ...*Claim)
	Resume(claims ...*Claim)

	// Close ends Run. It drains live claims by Handler.Revoke and then leaves the
	// group, so that other members take over at once. A static member must stay in
	// the group until its session times out; its InstanceID is free at once. The core
	// closes every consumer, also after Run failed or was never called, but not from
	// inside a method of Handler.
	//
	// The window of every Revoke, running or still to come, must end by the end of
	// ctx. Claims that were not given to Revoke by then must be Lost. When ctx ends,
	// Close must sever the connections and return ctx's error, in every phase, also
	// while a join is pending or a Revoke is stuck. Run must then return as well, as
	// soon as a stuck Revoke does.
	//
	// When Close returns nil, Run has returned, and no goroutine or connection of the
	// consumer remains. A second Close must wait for the first, or for its own ctx,
	// and return the same answer.
	Close(ctx context.Context) error
}

// A Handler is the core as a driver sees it. Each claim has one life: Assign, then
// any number of Deliver, then exactly one of Revoke or Lost.
//
// A driver must make the calls for one claim in that order and must not overlap
// them. It may overlap calls for different claims. Two claims of one partition must
// never be live at once.
type Handler interface {
	// Assign announces new claims. A driver must call it before it delivers any of
	// their records, and at least once each time that the member has joined the group,
	// without claims if the member got none. With ClassicProtocol each rebalance is a
	// join. With ConsumerProtocol a member joins once, and again after it has lost its
	// membership. Assign does not block.
	Assign(claims []*Claim)

	// Deliver hands over records of a claim, in rising order of offset, without a gap
	// and without a repetition within the claim. Deliver does not block. The core
	// keeps b.Records until every record in it is done. From the call on neither side
	// may write to the slice, nor to anything that a record points to, including the
	// slice of its headers. A driver may deliver the same slice to several consumers.
	Deliver(c *Claim, b Batch)

	// Revoke takes claims back. It blocks until the running handlers have returned
	// and what they handled is committed. Its return acknowledges the revocation and
	// ends the claims. A driver may call Revoke once for many claims or once per
	// claim.
	//
	// ctx is the drain window. It must have a deadline, at most
	// ConsumerConfig.DrainTimeout away unless Close is draining. The end of ctx ends
	// the claims: the driver must then proceed as if Revoke had returned, so that a
	// stuck handler cannot hold up the group. If the claims are lost meanwhile, the
	// driver must cancel ctx with that cause as soon as it knows, and must not call
	// Lost. A driver whose client sends no heartbeats during a revocation knows it only
	// from a refused commit or after Revoke has returned.
	Revoke(ctx context.Context, claims []*Claim)

	// Lost reports claims that are already gone: another member may own them, and no
	// commit for them can succeed. Lost does not block.
	Lost(claims []*Claim, cause error)

	// Error reports a failure that the driver has survived. Error does not block.
	//
	// The core treats these errors specially, wherever they are in err's tree. A
	// PartitionError is trouble of one partition or topic. A DataLossError is a gap. A
	// NoPositionError is a start without a committed position. An error that wraps
	// ErrMembershipLost says that the group may have removed this member, which may or
	// may not hold claims; the next Assign says that a broker has confirmed the
	// membership again.
	Error(err error)
}

// A Claim is the ownership of one partition by one consumer during one assignment.
// A partition that leaves and comes back is a new Claim. The driver creates it. Its
// identity is the pointer. The exported fields never change, except for Backend and
// Owner.
type Claim struct {
	Topic     string
	Partition int32

	// Start is the offset from which records will be delivered: the group's committed
	// offset, if it has one. Otherwise InitialOffset decides.
	//
	// OffsetOldest starts at the beginning of the log. Start may then be -1 if the
	// driver learns the offset only from the first delivery.
	//
	// OffsetNewest starts at the end that the log had when the group first joined for
	// the topic, or at the beginning if the partition was created later. That position
	// must be durable before Assign, so that a crash before the first commit loses
	// nothing.
	Start int64

	// Metadata is what the group has committed beside Start, from the same answer of the
	// broker. It may be another program's, and a driver must pass it as it is. It is empty
	// if there is none, and where the driver itself decided on Start.
	Metadata string

	// End is the end of the log when the claim was made: an answer of the partition's
	// leader that the driver asked for after it had Start and Metadata, and never a later
	// one. At ReadCommitted it may be where the first open transaction begins. It is -1 if
	// it is unknown, and where Metadata is empty it may be. What Metadata says of offsets
	// from End on is ignored: other records may get them later.
	End int64

	// Generation is the generation of the group under which the claim was assigned, or,
	// with ConsumerProtocol, the member's epoch. It is for logs: the driver fences
	// commits, and a claim may outlive its generation in a cooperative rebalance.
	Generation int32

	// Backend belongs to the driver that created the claim. Owner belongs to the
	// Handler to which the claim was assigned. Neither may touch the other's field.
	Backend any
	Owner   any
}

// A Batch is one delivery: records, a Next, or both.
type Batch struct {
	Records []Record

	// Next is the offset at which fetching continues. Every offset below it has been
	// delivered or holds no record, as compaction and transaction markers cause. Zero
	// stands for the last record's offset plus one. A batch without records and with
	// Next set passes offsets that hold no record at the end of the log.
	Next int64
}

// A Record is one record as it is stored in a partition. A nil key or value differs
// from an empty one.
type Record struct {
	Offset    int64
	Timestamp time.Time
	Key       []byte
	Value     []byte
	Headers   []Header
}

// A Header is one header of a record. The order of headers is significant, and a key
// may occur more than once.
type Header struct {
	Key   string
	Value []byte
}

// Size returns how many bytes of memory r takes: itself, and the key, the value and
// the headers that it points to. The bounds of buffered bytes count it.
func (r *Record) Size() int {
	n := recordSize + len(r.Key) + len(r.Value)
	if len(r.Headers) > 0 {
		n += sizeOf(r.Headers)
	}
	return n
}

// recordSize and headerSize count what holds no payload: a record can have a million
// empty headers.
const (
	recordSize = int(unsafe.Sizeof(Record{}))
	headerSize = int(unsafe.Sizeof(Header{}))
)

func sizeOf(hs []Header) int {
	n := headerSize * len(hs)
	for i := range hs {
		n += len(hs[i].Key) + len(hs[i].Value)
	}
	return n
}

// A Mark asks for one position to be committed.
type Mark struct {
	Claim *Claim

	// Offset is the position at which to continue: the offset after the last record
	// that is done, not the offset of that record.
	Offset int64

	// Metadata is stored beside Offset, and is the Metadata of the next claim that starts
	// there. A driver must pass it as it is.
	Metadata string
}

// A Producer sends messages. One Producer serves all goroutines of a program.
type Producer interface {
	// Produce accepts m for sending. It may block for buffer space only, until ctx
	// ends or Close begins. It returns ctx's error or ErrClosed if it did not accept
	// m, and must accept nothing if ctx has already ended. It must report every other
	// refusal through Ack.
	//
	// After Produce has returned nil, m belongs to the driver until it calls
	// m.Acker.Ack. It must call Ack exactly once, in all circumstances, and may do so
	// before Produce returns. After an error it must never call Ack.
	//
	// A driver must keep the order in which one goroutine calls Produce as the order
	// of its messages in each partition, also when it retries. ctx bounds acceptance,
	// not delivery.
	Produce(ctx context.Context, m *Message) error

	// Flush blocks until every message that was accepted before the call has been
	// acknowledged, or ctx ends. It must send lingering messages at once.
	Flush(ctx context.Context) error

	// Close sends what was accepted, without lingering, waits for the answers, and
	// returns. If ctx ends first, Close must sever the connections, acknowledge every
	// unanswered message, drop late answers, and return ctx's error. It must
	// acknowledge with ErrUnknownOutcome, or with another error if the message was
	// certainly never sent.
	//
	// After Close has returned, no Ack runs or will run. A second Close must wait for
	// the first, or for its own ctx, and return the same answer.
	Close(ctx context.Context) error
}

// A Message is one record to be sent.
type Message struct {
	// Topic is the name of the topic. If the topic is deleted and created again, the driver
	// must send to the new one; messages may fail meanwhile.
	Topic string

	// Partition is the partition to send to. With -1 the driver must choose as Java's
	// client does: by the murmur2 hash of the key, or any partition without a key. The
	// driver must set it to the record's partition before it calls Ack(nil).
	Partition int32

	Key     []byte // may be nil
	Value   []byte // nil is a tombstone
	Headers []Header

	// Timestamp is the record's creation time, with a precision of one millisecond.
	// The zero time stands for now.
	Timestamp time.Time

	// Offset is the record's offset. The driver must set it before it calls Ack(nil),
	// to -1 if the broker returns none: with NoResponse, or for a duplicate that the
	// broker has dropped.
	Offset int64

	// Acker is called with the outcome.
	Acker Acker
}

// An Acker receives the outcome of one message. Ack does not block.
//
// A nil error means that the record is in the log, as durably as RequiredAcks asks.
// An error that wraps ErrUnknownOutcome means that the record may be in the log. Any
// other error means that it is not and will not be: no attempt was sent, or every
// attempt was refused before it was appended. A driver that cannot decide must report
// ErrUnknownOutcome, also where ErrPermanent would fit as well.
//
// After Ack(nil) the driver must not read or write the Message: the core may use it for
// another one.
type Acker interface {
	Ack(err error)
}

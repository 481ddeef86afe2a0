package driver

import (
	"context"
	"time"
)

// An ability that not every backend has is an interface of one method. The core
// asserts all of them in one file, kafka/abilities.go.

// A ConsumerValidator is a Driver that can check, without opening a socket, whether
// it supports a configuration. The core calls it at registration.
type ConsumerValidator interface {
	ValidateConsumer(cfg ConsumerConfig) error
}

// A ProducerValidator is a Driver that can check, without opening a socket, whether it
// supports a configuration. The core calls it at registration.
type ProducerValidator interface {
	ValidateProducer(cfg ProducerConfig) error
}

// A GroupProtocolSupporter is a Driver that supports other group protocols than
// ClassicProtocol. The core rejects a protocol at registration that the driver does not
// support. A driver without this method supports ClassicProtocol alone.
type GroupProtocolSupporter interface {
	SupportsGroupProtocol(p GroupProtocol) bool
}

// A HighWatermarker is a Consumer that knows the high watermark of a claim's
// partition: the offset after the last replicated record, including records of open
// transactions. HighWatermark must not make a round trip. Its answer must be at most
// 30 seconds old while a leader answers, also for a paused claim and for a claim
// whose next record belongs to an open transaction. It returns -1 while the answer is
// unknown. The answer must be known from the first Deliver of the claim on.
type HighWatermarker interface {
	HighWatermark(c *Claim) int64
}

// A SessionDeadliner is a Consumer that knows until when it is certainly a member of
// its group: until SessionTimeout after it sent the latest heartbeat that was
// answered. SessionDeadline returns the zero time while the consumer is not a member.
//
// SessionDeadline must neither make a round trip nor take a lock. The core compares
// the deadline with the clock each time that it takes a chunk of records for handlers,
// so that a process that was frozen finds the deadline passed before a timer fires.
type SessionDeadliner interface {
	SessionDeadline() time.Time
}

// A TopicFinder is a Producer that can look topics up. FindTopic asks a broker whether
// a topic exists, and returns nil if it does. It must not create the topic, also where
// the brokers create topics that clients name. It must ask at each call: an answer from
// before is no answer.
//
// The error of a topic that does not exist must have the code
// UNKNOWN_TOPIC_OR_PARTITION and must not wrap ErrPermanent. The error of a topic that
// this producer may not describe must have the code TOPIC_AUTHORIZATION_FAILED. Every
// other error says that the answer is unknown. FindTopic must return by the end of ctx,
// and returns ErrClosed after Close.
type TopicFinder interface {
	FindTopic(ctx context.Context, topic string) error
}

// A GroupReader is a Driver that reads what a group has committed, and where the
// partitions of its topics begin and end, without joining the group, and that commits for
// a group without members.
//
// OpenGroup connects to the cluster. It takes what OpenConsumer takes, of which it uses
// the settings of the network, Group and Topics. It must reject a setting of these that it
// does not support as OpenConsumer does. It must return by the end of ctx, and its error then
// wraps ctx's error. The returned group must not depend on ctx. The caller must close it. A
// driver around another one that is no GroupReader returns an error that wraps
// errors.ErrUnsupported.
type GroupReader interface {
	OpenGroup(ctx context.Context, cfg ConsumerConfig) (Group, error)
}

// A Seeker is a Consumer that can move the positions of its claims, also backwards. The core
// calls Seek while Run runs, not from inside a method of Handler, and never overlaps two
// calls. At most one mark names a given claim.
//
// Seek must do this, in this order: it ends the claims of the marks by Handler.Revoke, as for
// a rebalance; it makes the marks durable while the group counts on this member; claims that
// start there are assigned. It may rejoin the group for that, and so end and assign other
// claims too. While the member keeps a partition whose claim Seek has ended, a claim of it
// must be assigned again whatever became of the mark, and it must start at the position that
// is durable then.
//
// Seek returns when the outcome of each mark is known, and by the end of ctx. It does not wait
// for Assign. It returns nil only if every mark is durable, and otherwise a *CommitError with
// every mark that is not known to be durable. If ctx has ended, the errors of these wrap ctx's
// error. If ctx has ended before the call, Seek must end no claim.
//
// A claim may end for another reason before its mark was sent: a rebalance, a loss, Close.
// Its mark must then be refused with ErrClaimEnded, without asking the broker. The error of a
// mark that the broker refuses because the group no longer counts on this member must wrap
// ErrClaimEnded as well. The position is untouched in both cases: another member may own it.
//
// When Seek has returned, no mark may be sent for it any longer. The error of a mark that was
// sent and not answered must wrap ErrUnknownOutcome. Such an attempt must not take effect after
// the position of the next claim was read, and an attempt that Commit made for the old claim
// must not take effect after the mark of Seek.
//
// What Commit does about Metadata that is too large, Seek must do as well. A consumer around
// another one that is no Seeker returns an error that wraps errors.ErrUnsupported.
type Seeker interface {
	Seek(ctx context.Context, to []Mark) error
}

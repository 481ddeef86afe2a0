package driver

import (
	"context"
	"time"
)

// A Group is a view of one group and its topics from outside. It is not a member: no
// call may make the group rebalance. See GroupReader.
//
// Read and Commit return ctx's error if ctx has ended before the call, and ErrClosed
// after Close. They must return by the end of ctx.
type Group interface {
	// Read returns, for each partition of ConsumerConfig.Topics, what the group has
	// committed and where the log begins and ends. The order is that of Topics, then of
	// partitions. Read must ask the brokers at each call, for the positions first and then for
	// the logs, and must not create a topic.
	//
	// Trouble of one partition is its GroupPartition.Err and must not hold up another
	// one: if the leader of a partition has not answered by the end of ctx, Err wraps
	// ctx's error. If a partition has no leader, or its leader refuses, Err is that answer:
	// Read may ask again a few times, but must not wait for the end of ctx. A topic without
	// partitions that can be read is one GroupPartition with Partition -1 and Committed
	// UnknownPosition. The Err of a topic that does not exist must have the code
	// UNKNOWN_TOPIC_OR_PARTITION and must not wrap ErrPermanent.
	//
	// Read must retry transient failures of the group's coordinator until ctx ends. If it
	// has no answer of the coordinator, it returns an error and no partitions.
	Read(ctx context.Context) ([]GroupPartition, error)

	// Commit makes marks durable for a group without members, also behind its position.
	// At most one mark names a partition, which is one of ConsumerConfig.Topics.
	//
	// The brokers refuse every mark while the group has members. The error must then wrap
	// ErrGroupHasMembers and must not wrap ErrPermanent. A static member that has closed is
	// a member until its session times out. A driver learns of members from the answer to a
	// commit that names no member and no generation: UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION
	// or REBALANCE_IN_PROGRESS.
	//
	// Commit must retry transient failures of the group's coordinator until ctx ends, and
	// must not retry the refusal of one mark. It returns nil only if every mark is durable.
	// Otherwise the tree of its error has either a PartitionError for each mark that is not
	// known to be durable, or none, if that holds for all marks. If ctx has ended, the error
	// wraps ctx's error.
	Commit(ctx context.Context, marks []GroupMark) error

	// Close severs the connections and ends the calls that run, with ErrClosed. It returns
	// nil when no goroutine or connection of the group remains, and ctx's error if ctx ends
	// first. A second Close must wait for the first, or for its own ctx, and return the
	// same answer.
	Close(ctx context.Context) error
}

// The values of GroupPartition.Committed that are no offsets.
const (
	NoPosition      = -1 // the group has committed nothing
	UnknownPosition = -2 // it is not known what the group has committed
)

// A GroupPartition is what Group.Read has found out about one partition.
type GroupPartition struct {
	Topic     string
	Partition int32 // -1 is the whole topic, which cannot be read because of Err

	// Committed is the group's committed offset, NoPosition or UnknownPosition. Metadata is
	// what is stored beside it.
	Committed int64
	Metadata  string

	// Begin is the first offset of the log. End is the high watermark, as of
	// HighWatermarker, whatever ConsumerConfig.IsolationLevel is. Each is -1 while it is
	// unknown.
	Begin, End int64

	// Err is why some of this is unknown. It wraps an Error. It is nil if all is known.
	Err error
}

// An OffsetFinder is a Group that looks offsets up: where logs begin and end, and which is
// the first offset at or after a time. The group of a GroupReader should be one.
//
// FindOffsets asks for partitions of ConsumerConfig.Topics. A topic with an empty list stands
// for all of its partitions. The order of the answers is that of Topics, then of partitions.
// What Read does about trouble of one partition, about missing topics, ctx and Close,
// FindOffsets must do as well. A number above the partitions of a topic is an answer whose
// Err has the code UNKNOWN_TOPIC_OR_PARTITION. If FindOffsets cannot learn of the topics, it
// returns an error and no answers.
//
// FindOffsets must ask the brokers at each call, for the ends of the logs first and for the
// time after that. In the other order this could happen: no record is as late as t, one that
// is arrives, and the end that is the answer is behind it. Brokers compare milliseconds: a
// driver must round t up to them. No record is older than 1970: for a t before that, At must
// be Begin.
// A group around another one that is no OffsetFinder returns an error that wraps
// errors.ErrUnsupported.
type OffsetFinder interface {
	FindOffsets(ctx context.Context, of map[string][]int32, t time.Time) ([]FoundOffsets, error)
}

// FoundOffsets are the answer of FindOffsets for one partition. An offset is -1 while it is
// unknown.
type FoundOffsets struct {
	Topic     string
	Partition int32 // -1 is the whole topic, which cannot be read because of Err

	// Begin and End are the ends of the log, as in a GroupPartition.
	Begin, End int64

	// At is the offset of the first record in the log with a Timestamp of t or later, whatever
	// ConsumerConfig.IsolationLevel is. If there is no such record, which brokers answer with
	// -1, At is End. It may be above End if records have arrived in between.
	At int64

	// Err is why some of this is unknown. It wraps an Error. It is nil if all is known.
	Err error
}

// A GroupMark asks for one position of a group to be committed.
type GroupMark struct {
	Topic     string
	Partition int32
	Offset    int64  // at which to continue
	Metadata  string // is stored beside Offset. A driver must pass it as it is
}

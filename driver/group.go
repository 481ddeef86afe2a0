package driver

import "context"

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
	// ctx's error. A topic without partitions that can be read is one GroupPartition with
	// Partition -1. The Err of a topic that does not exist must have the code
	// UNKNOWN_TOPIC_OR_PARTITION and must not wrap ErrPermanent.
	//
	// Read must retry transient failures of the group's coordinator until ctx ends. If it
	// has no answer of the coordinator, it returns an error and no partitions.
	Read(ctx context.Context) ([]GroupPartition, error)

	// Commit makes marks durable for a group without members, also behind its position.
	// At most one mark names a partition, which is one of ConsumerConfig.Topics.
	//
	// The brokers refuse every mark while the group has members. The error must then wrap
	// ErrGroupHasMembers.
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

// A GroupPartition is what Group.Read has found out about one partition. An offset is -1
// while it is unknown.
type GroupPartition struct {
	Topic     string
	Partition int32 // -1 is the whole topic, which cannot be read because of Err

	// Committed is the group's committed offset, and Metadata what is stored beside it.
	// Without Err, -1 says that there is none.
	Committed int64
	Metadata  string

	// Begin is the first offset of the log. End is the high watermark, as of
	// HighWatermarker, whatever ConsumerConfig.IsolationLevel is.
	Begin, End int64

	// Err is why some of this is unknown. It wraps an Error.
	Err error
}

// A GroupMark asks for one position of a group to be committed.
type GroupMark struct {
	Topic     string
	Partition int32
	Offset    int64  // at which to continue
	Metadata  string // is stored beside Offset. A driver must pass it as it is
}

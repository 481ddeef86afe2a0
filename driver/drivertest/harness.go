package drivertest

import (
	"context"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Harness gives the cases a driver and direct access to its cluster. Its methods
// except Driver must not use the driver under test. Several goroutines call them at
// once.
type Harness interface {
	// Driver returns the driver under test.
	Driver() driver.Driver

	// Brokers returns the addresses that the driver gets.
	Brokers() []string

	// CreateTopic creates a topic and returns once clients can use it.
	CreateTopic(ctx context.Context, topic string, partitions int32) error

	// Send appends records to a partition, in order, and returns once they can be
	// read. It ignores their offsets. A zero Timestamp stands for now.
	Send(ctx context.Context, topic string, partition int32, records ...driver.Record) error

	// Read returns the records of a partition, in order of offset.
	Read(ctx context.Context, topic string, partition int32) ([]driver.Record, error)

	// Committed returns a group's committed offset, or -1 if there is none.
	Committed(ctx context.Context, group, topic string, partition int32) (int64, error)
}

// Settings adapt the cases to an environment. A zero field stands for its default.
type Settings struct {
	// The timeouts of every consumer, unless a case needs others. The defaults are 6 s,
	// 200 ms, 10 s and 1 s, which a real broker accepts.
	SessionTimeout    time.Duration
	HeartbeatInterval time.Duration
	RebalanceTimeout  time.Duration
	DrainTimeout      time.Duration

	// Patience bounds everything that must happen. The default is 30 s.
	Patience time.Duration

	// Quiet is the time for which a case checks that nothing happens. It should span
	// several heartbeats and fetches. The default is 500 ms.
	Quiet time.Duration

	// Grace is the time after the end of its context within which a call must return.
	// The default is 1 s.
	Grace time.Duration

	// CommitTime bounds the median duration of a Commit in a quiet group. The default
	// is 100 ms.
	CommitTime time.Duration
}

func (s Settings) withDefaults() Settings {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&s.SessionTimeout, 6 * time.Second},
		{&s.HeartbeatInterval, 200 * time.Millisecond},
		{&s.RebalanceTimeout, 10 * time.Second},
		{&s.DrainTimeout, time.Second},
		{&s.Patience, 30 * time.Second},
		{&s.Quiet, 500 * time.Millisecond},
		{&s.Grace, time.Second},
		{&s.CommitTime, 100 * time.Millisecond},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return s
}

// The optional abilities of a Harness. A case asserts those that it needs.
type (
	// A Tuner has its own settings.
	Tuner interface {
		Settings() Settings
	}

	// A MetadataReader returns what a group has committed beside its offset. Its brokers
	// refuse metadata of more than 4,096 bytes, which is Kafka's default.
	MetadataReader interface {
		CommittedMetadata(ctx context.Context, group, topic string, partition int32) (string, error)
	}

	// A PositionSetter commits an offset with metadata for a group without members, as
	// another program does.
	PositionSetter interface {
		SetCommitted(ctx context.Context, group, topic string, partition int32, offset int64, metadata string) error
	}

	// A SessionEnder removes all members of a group without notifying them, as if their
	// sessions had timed out. (Kafka: LeaveGroup for each member, by another client.)
	SessionEnder interface {
		EndSessions(ctx context.Context, group string) error
	}

	// A Cutter makes the brokers unreachable until heal is called: connections of
	// clients break, and new ones fail or hang.
	Cutter interface {
		Cut(ctx context.Context) (heal func(), err error)
	}

	// A Staller makes the brokers silent until heal is called: connections stay open,
	// but requests get no answer. They may be answered after heal. (Kafka: SIGSTOP.)
	Staller interface {
		Stall(ctx context.Context) (heal func(), err error)
	}

	// A Truncater removes the records of a partition below an offset. (Kafka:
	// DeleteRecords.)
	Truncater interface {
		Truncate(ctx context.Context, topic string, partition int32, before int64) error
	}

	// An EndTruncater removes the records of a partition from an offset on, as an unclean
	// leader election does: the leader has a later epoch afterwards. Each record was sent
	// by a Send of its own.
	EndTruncater interface {
		TruncateEnd(ctx context.Context, topic string, partition int32, end int64) error
	}

	// A PartitionAdder raises the number of a topic's partitions to total.
	PartitionAdder interface {
		AddPartitions(ctx context.Context, topic string, total int32) error
	}

	// A HoleMaker makes the next n offsets of a partition hold no record for a
	// ReadCommitted consumer. (Kafka: an aborted transaction.)
	HoleMaker interface {
		MakeHole(ctx context.Context, topic string, partition int32, n int) error
	}

	// A Transactor sends records in a transaction. The transaction stays open until end
	// commits or aborts it.
	Transactor interface {
		Begin(ctx context.Context, topic string, partition int32, records ...driver.Record) (end func(ctx context.Context, commit bool) error, err error)
	}

	// A TopicRecreater deletes a topic with its committed offsets and creates it again
	// as soon as the cluster allows. It returns once clients can use the new topic.
	TopicRecreater interface {
		RecreateTopic(ctx context.Context, topic string, partitions int32) error
	}

	// A Forbidder denies the driver's clients the right to read a topic until allow is
	// called.
	Forbidder interface {
		Forbid(ctx context.Context, topic string) (allow func(), err error)
	}

	// A ForeignJoiner adds a member of another program to a group. The member has the
	// group's protocol, one balance strategy with ClassicProtocol, and its own topics,
	// which may not exist. JoinForeign returns once the member has sent its request to
	// join.
	ForeignJoiner interface {
		JoinForeign(ctx context.Context, group string, s driver.BalanceStrategy, topics ...string) (leave func(), err error)
	}

	// A Damager makes the batch that contains an offset unreadable until repair is
	// called. A nil repair means that the damage is permanent.
	Damager interface {
		Damage(ctx context.Context, topic string, partition int32, offset int64) (repair func(), err error)
	}

	// A TopicLimiter creates a topic that refuses batches of more than maxBytes with
	// MESSAGE_TOO_LARGE, and batches with a message that is dated more than ahead in
	// the future with INVALID_TIMESTAMP. 0 sets no limit. (Kafka: max.message.bytes and
	// message.timestamp.after.max.ms.)
	TopicLimiter interface {
		CreateLimitedTopic(ctx context.Context, topic string, partitions int32, maxBytes int, ahead time.Duration) error
	}

	// An AnswerLoser lets the brokers append what clients send to a topic, and loses the
	// answers, until refuse is called. From then on the brokers answer again, and refuse
	// messages of 10,000 bytes to that topic. (Kafka: a connection that passes only
	// requests, and a lower max.message.bytes.)
	AnswerLoser interface {
		LoseAnswers(ctx context.Context, topic string) (refuse func(ctx context.Context) error, err error)
	}

	// A ConnectionCounter counts the connections of clients to the brokers, except
	// those of the harness.
	ConnectionCounter interface {
		Connections(ctx context.Context) (int, error)
	}
)

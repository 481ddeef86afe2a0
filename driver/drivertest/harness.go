package drivertest

import (
	"context"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Harness gives the cases a driver and a way to look at its cluster from
// outside. Its methods but Driver must not use the driver under test. They are
// called by several goroutines at once.
type Harness interface {
	// Driver returns the driver under test.
	Driver() driver.Driver

	// Brokers returns the addresses to give to the driver.
	Brokers() []string

	// CreateTopic creates a topic and returns once clients can use it.
	CreateTopic(ctx context.Context, topic string, partitions int32) error

	// Send appends records to a partition, in order, and returns when they can
	// be read. Offsets are ignored; a zero Timestamp stands for now.
	Send(ctx context.Context, topic string, partition int32, records ...driver.Record) error

	// Read returns the records that lie in a partition, in order of offset.
	Read(ctx context.Context, topic string, partition int32) ([]driver.Record, error)

	// Committed returns a group's committed offset, or -1 if there is none.
	Committed(ctx context.Context, group, topic string, partition int32) (int64, error)
}

// Settings adapt the cases to an environment. Zero fields take the default.
type Settings struct {
	// The timeouts of every consumer, but where a case needs another. The
	// defaults, which a real broker accepts, are 6 s, 200 ms, 10 s and 1 s.
	SessionTimeout    time.Duration
	HeartbeatInterval time.Duration
	RebalanceTimeout  time.Duration
	DrainTimeout      time.Duration

	// Patience is how long anything that must happen may take. The default is 30 s.
	Patience time.Duration

	// Quiet is how long a case looks on where nothing may happen. It should be
	// some heartbeats and fetches long. The default is 500 ms.
	Quiet time.Duration

	// Grace is how much later than its context's end a call may return. The
	// default is 1 s.
	Grace time.Duration

	// CommitTime is what a Commit may take that nothing is in the way of, at the
	// median. The default is 100 ms.
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

// The abilities that a Harness may have beyond its methods. Each is asked for
// by the cases that need it.
type (
	// A Tuner is a harness with settings of its own.
	Tuner interface {
		Settings() Settings
	}

	// A SessionEnder makes the broker forget all members of a group, as if their
	// sessions had timed out. The members are not told. (Kafka: LeaveGroup for
	// each member, by somebody else.)
	SessionEnder interface {
		EndSessions(ctx context.Context, group string) error
	}

	// A Cutter makes the brokers unreachable: connections of clients break, and
	// new ones fail or hang, until heal is called.
	Cutter interface {
		Cut(ctx context.Context) (heal func(), err error)
	}

	// A Staller makes the brokers silent: connections hold, but nothing that is
	// sent is answered, until heal is called. It may be answered then. (Kafka:
	// SIGSTOP.)
	Staller interface {
		Stall(ctx context.Context) (heal func(), err error)
	}

	// A Truncater removes the records of a partition below an offset. (Kafka:
	// DeleteRecords.)
	Truncater interface {
		Truncate(ctx context.Context, topic string, partition int32, before int64) error
	}

	// A PartitionAdder raises the number of a topic's partitions to total.
	PartitionAdder interface {
		AddPartitions(ctx context.Context, topic string, total int32) error
	}

	// A HoleMaker makes the next n offsets of a partition hold no record for a
	// consumer that reads what is committed. (Kafka: an aborted transaction.)
	HoleMaker interface {
		MakeHole(ctx context.Context, topic string, partition int32, n int) error
	}

	// A Transactor sends records in a transaction that stays open until end is
	// called, which commits or aborts it.
	Transactor interface {
		Begin(ctx context.Context, topic string, partition int32, records ...driver.Record) (end func(ctx context.Context, commit bool) error, err error)
	}

	// A TopicRecreater deletes a topic, with what is committed for it, and creates
	// it again, as soon as the cluster allows that. It returns once clients can use
	// the new one.
	TopicRecreater interface {
		RecreateTopic(ctx context.Context, topic string, partitions int32) error
	}

	// A Forbidder takes from the driver's clients the right to read a topic, until
	// allow is called.
	Forbidder interface {
		Forbid(ctx context.Context, topic string) (allow func(), err error)
	}

	// A ForeignJoiner adds a member of another program to a group, which has one
	// balance strategy and topics of its own, such as one that does not exist. It
	// returns once the member has asked to join.
	ForeignJoiner interface {
		JoinForeign(ctx context.Context, group string, s driver.BalanceStrategy, topics ...string) (leave func(), err error)
	}

	// A Damager makes the batch with an offset unreadable, until repair is called.
	// A nil repair says that there is none.
	Damager interface {
		Damage(ctx context.Context, topic string, partition int32, offset int64) (repair func(), err error)
	}

	// A TopicLimiter creates a topic that refuses batches of more than maxBytes with
	// MESSAGE_TOO_LARGE, and with INVALID_TIMESTAMP those in which a message is dated
	// more than ahead in the future. 0 sets no such limit. (Kafka: max.message.bytes
	// and message.timestamp.after.max.ms.)
	TopicLimiter interface {
		CreateLimitedTopic(ctx context.Context, topic string, partitions int32, maxBytes int, ahead time.Duration) error
	}

	// A ConnectionCounter counts the connections that clients have to the brokers,
	// those of the harness excepted.
	ConnectionCounter interface {
		Connections(ctx context.Context) (int, error)
	}
)

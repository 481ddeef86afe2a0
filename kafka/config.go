package kafka

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// The enumerations of a configuration. The zero value of each is its default.
type (
	// InitialOffset is where a group starts on a partition for which it has no
	// committed offset.
	InitialOffset = driver.InitialOffset
	// OutOfRange is what to do when the group's position is no longer in the log.
	OutOfRange = driver.OutOfRange
	// IsolationLevel says whether records of open and aborted transactions are read.
	IsolationLevel = driver.IsolationLevel
	// GroupProtocol is how a group and its members work together.
	GroupProtocol = driver.GroupProtocol
	// BalanceStrategy is how partitions are shared among a group's members.
	BalanceStrategy = driver.BalanceStrategy
	// RequiredAcks is how many replicas must hold a record before it counts as sent.
	RequiredAcks = driver.RequiredAcks
	// Compression is how batches are compressed.
	Compression = driver.Compression
)

// Where a group without a committed offset starts.
const (
	OffsetNewest = driver.OffsetNewest // after what is there, pinned before the first record
	OffsetOldest = driver.OffsetOldest // from the first record that is there
)

// What to do when the group's position is no longer in the log.
const (
	OutOfRangeStop   = driver.OutOfRangeStop   // disable the consumer; an operator decides
	OutOfRangeOldest = driver.OutOfRangeOldest // go on with the first record that is there
	OutOfRangeNewest = driver.OutOfRangeNewest // go on after what is there
)

// Which records are read.
const (
	ReadCommitted   = driver.ReadCommitted   // those of committed transactions, and those of none
	ReadUncommitted = driver.ReadUncommitted // all
)

// How a group and its members work together.
const (
	ClassicProtocol  = driver.ClassicProtocol  // generations; a member assigns the partitions
	ConsumerProtocol = driver.ConsumerProtocol // of Kafka 4 (KIP-848): the brokers assign them
)

// How partitions are shared.
const (
	RoundRobin        = driver.RoundRobin
	Range             = driver.Range
	Sticky            = driver.Sticky
	CooperativeSticky = driver.CooperativeSticky // without stopping what a member keeps (KIP-429)
)

// When a record counts as sent.
const (
	WaitForAll   = driver.WaitForAll   // all in-sync replicas have it
	WaitForLocal = driver.WaitForLocal // the leader has it
	NoResponse   = driver.NoResponse   // it has left this process
)

// How batches are compressed.
const (
	CompressionNone   = driver.CompressionNone
	CompressionGZIP   = driver.CompressionGZIP
	CompressionSnappy = driver.CompressionSnappy
	CompressionLZ4    = driver.CompressionLZ4
	CompressionZSTD   = driver.CompressionZSTD
)

// NoRetries is the value of [ProducerConfig].MaxRetries that means none, since
// zero means the default.
const NoRetries = -1

// Unlimited is the value of [ConsumerConfig].MaxConsecutiveErrors and of
// [DeadLetterConfig].MaxInARow that means no limit, since zero means the default.
const Unlimited = -1

// A ConsumerConfig says what a consumer reads and how. The zero value of a
// field is its default. [Manager.RegisterConsumer] takes a copy.
type ConsumerConfig struct {
	// JobName names the consumer within its manager: for its switch, its status
	// and its log lines. Required; unique, also when case is ignored.
	JobName string

	// Topic and Topics name what is read; at least one name is required.
	Topic  string
	Topics []string

	// BootstrapServers is a list of host:port, separated by commas or white space.
	// Required.
	BootstrapServers string

	// ConsumerGroup is the group that this consumer is a member of. Required.
	ConsumerGroup string

	// AutoCommit commits what was handed to the handler, whether it was handled
	// or not: a record whose handler fails at a crash or a rebalance is not
	// delivered again. The default commits only what was handled.
	AutoCommit bool

	// CommitInterval is the longest time that a handled record stays uncommitted
	// while the broker answers. Commits are also made as soon as a partition has
	// run empty, at a rebalance, at switch-off and at shutdown. Default 1s.
	CommitInterval time.Duration

	// InitialOffset is where the group starts where it has committed nothing.
	// Default OffsetNewest: the position is committed when a partition is first
	// assigned, so nothing that arrives after that is missed.
	InitialOffset InitialOffset

	// OutOfRange is what to do when retention has overtaken the group, or the log
	// has become shorter than the group's position. Default OutOfRangeStop: the
	// consumer is disabled. With the others it continues behind the gap, and hooks
	// get DataLoss.
	OutOfRange OutOfRange

	// IsolationLevel says whether records of open and aborted transactions are
	// read. Default ReadCommitted.
	IsolationLevel IsolationLevel

	// GroupProtocol is how the group works. Default ClassicProtocol. With
	// ConsumerProtocol (KIP-848), which needs brokers of Kafka 4 and a driver that
	// supports it, the brokers assign the partitions and move them one by one, so that
	// no rebalance stops the partitions that a member keeps. BalanceStrategies and
	// HeartbeatInterval are then settings of the brokers and must be unset here. A group
	// without members accepts either protocol. Whether it changes its protocol while it
	// has members is a setting of the brokers (group.consumer.migration.policy).
	GroupProtocol GroupProtocol

	// BalanceStrategies are offered to the group in order of preference. The
	// group uses one that all of its members offer, and refuses a member that
	// shares none with the others. Default RoundRobin, then Range: two consumers
	// of this library agree on RoundRobin, and one that joins beside a client
	// whose default is Range, as Sarama's and Java's are, agrees with it on Range,
	// so that a service can be moved here instance by instance. Offering
	// CooperativeSticky beside another one works as the other one does until every
	// member offers it alone. It must be unset with ConsumerProtocol.
	BalanceStrategies []BalanceStrategy

	// SessionTimeout is how long the group waits for a silent member. Brokers
	// accept 6s to 30m by default. Default 10s.
	//
	// With ConsumerProtocol the brokers alone decide how long the group waits, 45s by
	// default, and SessionTimeout is when a member without answers ends its own claims.
	// It must not be more than the brokers' group.consumer.session.timeout.ms, or two
	// members could handle one partition for a while. Default 45s.
	SessionTimeout time.Duration

	// HeartbeatInterval is at most a third of SessionTimeout. Default 3s. It must be
	// unset with ConsumerProtocol.
	HeartbeatInterval time.Duration

	// RebalanceTimeout is how long the group waits for a member during a
	// rebalance, with ClassicProtocol at least SessionTimeout. Default 60s, or
	// SessionTimeout if that is more.
	RebalanceTimeout time.Duration

	// DrainTimeout is how long a running handler may go on after its context was
	// cancelled by a rebalance or a switch-off; then its record is given up and
	// will be delivered again. It is less than RebalanceTimeout. Default half of
	// RebalanceTimeout. At shutdown the shutdown's own deadline holds instead.
	DrainTimeout time.Duration

	// MaxProcessingTime is how long a driver that watches its deliveries waits
	// for one before it suspects the partition. It does not bound handlers.
	// Default 100ms.
	MaxProcessingTime time.Duration

	// MaxMessageBytes is how much one fetch asks for a partition, at most
	// 100 MiB. A larger record is delivered too, never skipped. Default 1 MiB.
	MaxMessageBytes int

	// MaxBufferedMessages and MaxBufferedBytes bound what waits for the handler
	// in one partition, in records, and in bytes of keys, values and headers plus
	// a fixed cost per record. Above either bound the partition is not fetched
	// until half is gone; what was under way at that moment, one fetch, comes on
	// top. A fetch asks for MaxMessageBytes as they are stored; of records that
	// compress well it brings up to eight times as much, or one batch. Records that
	// were handled are not counted, but a driver may keep them in memory until the
	// last record of their fetch is handled. Defaults 10000 and 4 MiB.
	MaxBufferedMessages int
	MaxBufferedBytes    int

	// MaxTotalBufferedBytes bounds what waits for the handlers in all partitions of
	// the consumer together, counted as MaxBufferedBytes is. Above it, and until
	// half is gone, the partitions that hold more than an equal share of it are not
	// fetched; such a partition is fetched again once it holds half a share or
	// less. So every partition may always hold one fetch, and failing partitions
	// never starve healthy ones. In the worst case a few failing partitions hold
	// the whole bound and all others a share each: then twice the bound waits, and
	// one fetch per partition that was under way. Default 0: no bound.
	MaxTotalBufferedBytes int

	// MaxDecompressedBytes bounds what one batch of records may take in memory
	// once it is decompressed, from 1 MiB to 1 GiB. A producer with write
	// permission can send a batch of some kilobytes that inflates to gigabytes.
	// A partition with such a batch stands still, visibly, and harms no other.
	// Default 64 MiB.
	MaxDecompressedBytes int

	// MaxBatchSize is the most records that one call of a BatchConsumer gets.
	// Default 100.
	MaxBatchSize int

	// MaxBatchBytes bounds what the records of one call of a BatchConsumer cost, in
	// bytes of keys, values and headers plus a fixed cost per record. A record that
	// costs more comes alone. Default 0: no bound.
	MaxBatchBytes int

	// BatchLinger is how long a BatchConsumer waits for a batch to fill after its first
	// record has come. It ends early when the batch is full, when the partition is
	// paused because its queue is, and at a rebalance, a switch-off or a shutdown.
	// Default 0: what has come is handed out at once.
	BatchLinger time.Duration

	// Order says which records of a partition may not overtake which, and so what a
	// slow or a failing record holds up. Default OrderByPartition. A BatchConsumer gets
	// its records in the order of the partition also with OrderNone. Registration refuses
	// OrderByKey for it. AutoCommit needs OrderByPartition.
	Order Order

	// Parallelism is how many records of one partition are handled at once, by as many
	// goroutines. More than one needs OrderByKey or OrderNone, and a handler that may be
	// called by several goroutines. At most 10000, and at most MaxBufferedMessages.
	// Default 1.
	Parallelism int

	// MaxConcurrency bounds how many handlers of this consumer run at once in this
	// process, whatever partitions it has. The partitions get their turns one after the
	// other. A record that waits to be tried again does not count. Handlers that never
	// return can use up the whole bound: HandlerTimeout is the remedy for those that
	// obey their context. It needs OrderByKey or OrderNone. Default 0: no bound.
	MaxConcurrency int

	// MaxRate is how many records per second the consumer hands out in this process, over
	// all of its partitions, which get their turns one after the other. A record that is
	// tried again counts again, and a record that waits for its turn is with no handler.
	// After a rest as many records as are due in 100 ms may come at once, at least one.
	// A batch of a BatchConsumer is handed out when its first record is due, and the next
	// one waits for all of them. The probe of a hold waits for no turn, and counts. A
	// rebalance or a restart of the consumer allows no second burst. With another Order
	// than OrderByPartition each partition may use one turn late, while a record that has
	// failed, or has waited for the end of a hold or of a pause, has its place.
	// Manager.SetRate changes it while the consumer runs. Default 0: no bound.
	MaxRate float64

	// NoCommitMetadata leaves out what a consumer with OrderByKey or OrderNone commits
	// beside its position: which records above the position are done, so that the next
	// owner of the partition does not handle them again. It also ignores what it finds
	// there. Default false. Without metadata everything above the position is handled
	// again after a crash.
	NoCommitMetadata bool

	// HandlerTimeout bounds one call of the handler: its context is cancelled then, with
	// the cause ErrHandlerTimeout, and an error that it returns is a failure like any
	// other. A handler that goes on all the same is reported as stuck and is never
	// replaced, so that a record is never with two handlers of one process. Default 0:
	// no bound.
	HandlerTimeout time.Duration

	// Backoff spaces out the attempts at a failing record, and the restarts of a
	// failing consumer.
	Backoff Backoff

	// MaxConsecutiveErrors is how many failed starts in a row disable the
	// consumer: connections that fail, and sessions that end before they have
	// handled a record. As many commits in a row that the broker refuses with
	// ErrPermanent disable it, too. Records that their handler fails do not count:
	// they are tried again forever. Default 10; Unlimited is never.
	MaxConsecutiveErrors int

	// DisabledRetry starts a consumer again after it was disabled by an error of
	// the driver for that long, at least 1s: for an ACL that is granted a minute
	// later. Meanwhile its switch is off and its status has a NextRetry; switching
	// it off ends the wait. It does not apply to a position that is out of range
	// nor to a fenced instance, which need an operator's decision. Default 0: it
	// stays disabled until SetConsumerSwitch switches it on.
	DisabledRetry time.Duration

	// Failure says what happens to a record whose handler fails. The zero value tries
	// it again, with Backoff, forever.
	Failure FailurePolicy

	// ClientID is what the brokers' logs and quotas see. Default: the name of the
	// program's file, '-' and JobName, such as "billing-orders", with '_' in place of
	// every character outside a-z, A-Z, 0-9, '.', '_' and '-'.
	ClientID string

	// InstanceID makes the member static (KIP-345): a restart within the session
	// timeout gets its partitions back without a rebalance. Unique in the group.
	InstanceID string

	// RackID lets records be fetched from a replica in the same rack (KIP-392).
	RackID string

	// TLS encrypts the connections; nil is plaintext.
	TLS *TLSConfig

	// SASL authenticates; nil is no authentication.
	SASL *SASLConfig
}

// A Backoff is the waits between attempts: Min, and then Multiplier times the
// one before, up to Max. Each is shortened by a random part of up to Jitter of
// itself, so that many consumers do not retry in step.
type Backoff struct {
	Min        time.Duration // default 1s, or Max if that is less
	Max        time.Duration // default 60s, or Min if that is more
	Multiplier float64       // more than 1; default 2
	Jitter     float64       // from 0 to 1, or NoJitter; default 0.1
}

// NoJitter is the value of [Backoff].Jitter that means none, since zero means
// the default.
const NoJitter = -1

// A ProducerConfig says where and how messages are sent. The zero value of a
// field is its default. [Manager.RegisterProducer] takes a copy.
type ProducerConfig struct {
	// Name names the producer within its manager: in its status, its errors and its
	// log lines, and as its ID. Unique, also when case is ignored, among the producers
	// that are open. Default: "producer-" and a number.
	Name string

	// BootstrapServers is a list of host:port, separated by commas or white space.
	// Required.
	BootstrapServers string

	// RequiredAcks is how many replicas must hold a record before it counts as
	// sent. Default WaitForAll.
	RequiredAcks RequiredAcks

	// Compression is how batches are compressed. Default CompressionNone.
	Compression Compression

	// MaxRetries is how often a batch is sent again after a transient failure,
	// or NoRetries. Default 3.
	MaxRetries int

	// RetryBackoff is the wait before each of these. Default 100ms.
	RetryBackoff time.Duration

	// DeliveryTimeout bounds a send from its acceptance to its outcome (KIP-91):
	// a failed send is retried until then, whatever MaxRetries says. At its end
	// the error wraps ErrUnknownOutcome if an attempt is unanswered, else it is the
	// latest refusal. It is at least RetryBackoff, and needs retries. Recommended:
	// 2m, which is what Java's client does. Default 0: MaxRetries decides.
	DeliveryTimeout time.Duration

	// EnableIdempotent lets the broker drop the second copy of a batch that was
	// sent again. Nil means true where that is possible: with WaitForAll and
	// with retries. BoolPtr(true) without these is an error.
	EnableIdempotent *bool

	// MaxMessageBytes is the largest message, and the largest batch before
	// compression; at most 100 MiB. Default 1 MiB.
	MaxMessageBytes int

	// EnableSyncProducer permits Send. Nil means true.
	EnableSyncProducer *bool

	// EnableAsyncProducer permits SendAsync. Nil means false.
	EnableAsyncProducer *bool

	// ClientID is what the brokers' logs and quotas see. Default: the name of the
	// program's file, '-' and the producer's Name, such as "billing-producer-1", with
	// '_' in place of every character outside a-z, A-Z, 0-9, '.', '_' and '-'.
	ClientID string

	// TLS encrypts the connections; nil is plaintext.
	TLS *TLSConfig

	// SASL authenticates; nil is no authentication.
	SASL *SASLConfig
}

// BoolPtr returns a pointer to b, for the fields that tell false from unset.
func BoolPtr(b bool) *bool { return &b }

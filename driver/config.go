package driver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"time"
)

// A ConsumerConfig configures a consumer. The core has filled in every default and
// has checked each field and their combinations. A driver checks only what depends
// on the driver. Durations are positive, except for HeartbeatInterval with
// ConsumerProtocol.
type ConsumerConfig struct {
	Brokers    []string // host:port, at least one
	ClientID   string
	Group      string
	Topics     []string // at least one
	InstanceID string   // for static membership (KIP-345); "" is dynamic
	RackID     string   // fetch from the closest replica (KIP-392); "" fetches from the leader

	InitialOffset InitialOffset

	// OldestTopics are topics among Topics that start at OffsetOldest whatever
	// InitialOffset says: see Initial.
	OldestTopics []string

	OutOfRange     OutOfRange
	IsolationLevel IsolationLevel

	// GroupProtocol is how the group works. With ConsumerProtocol the brokers decide
	// the assignment and the interval of heartbeats: BalanceStrategies is empty and
	// HeartbeatInterval is 0.
	GroupProtocol     GroupProtocol
	BalanceStrategies []BalanceStrategy // in order of preference
	HeartbeatInterval time.Duration

	// SessionTimeout is when a member that gets no answers ends its own claims: see
	// Consumer.Run. With ClassicProtocol it is also the group's timeout. With
	// ConsumerProtocol the group's timeout is a setting of the brokers; the default here is
	// the default there. A driver that can read the setting must count on the shorter one.
	SessionTimeout time.Duration

	RebalanceTimeout time.Duration
	DrainTimeout     time.Duration // longest window of a Handler.Revoke

	// MaxProcessingTime is for clients that limit how long a delivery may take, as
	// Sarama does. A driver without such a limit must ignore it.
	MaxProcessingTime time.Duration

	// MaxMessageBytes is the number of bytes that one fetch requests per partition. A
	// larger record must still be delivered, never skipped.
	MaxMessageBytes int

	// MaxDecompressedBytes bounds the memory that one batch takes once it is
	// decompressed and its records are parsed. A driver must not deliver a larger
	// batch: the partition stops before it, and the driver reports a PartitionError
	// with the code RECORD_TOO_LARGE.
	MaxDecompressedBytes int

	TLS    *tls.Config // nil is plaintext
	SASL   *SASL       // nil skips authentication
	Logger *slog.Logger
}

// Initial returns where the group starts on a partition of topic for which it has no
// committed offset.
func (c *ConsumerConfig) Initial(topic string) InitialOffset {
	if slices.Contains(c.OldestTopics, topic) {
		return OffsetOldest
	}
	return c.InitialOffset
}

// A ProducerConfig configures a producer. The core has checked it and filled in its
// defaults, as for ConsumerConfig.
type ProducerConfig struct {
	Brokers      []string
	ClientID     string
	RequiredAcks RequiredAcks
	Compression  Compression
	Idempotent   bool
	MaxRetries   int // 0 retries nothing
	RetryBackoff time.Duration

	// DeliveryTimeout bounds a send, from its acceptance to its outcome (KIP-91). A
	// driver must retry until then, regardless of MaxRetries. At its end the driver
	// must acknowledge the message with ErrUnknownOutcome if an attempt is unanswered,
	// and otherwise with the latest refusal. With 0, MaxRetries decides.
	DeliveryTimeout time.Duration

	MaxMessageBytes int

	// MaxBatchBytes bounds a batch of several messages before compression. One message
	// may be larger, up to MaxMessageBytes, and goes alone then. 0 stands for
	// MaxMessageBytes.
	MaxBatchBytes int

	TLS    *tls.Config
	SASL   *SASL
	Logger *slog.Logger
}

// InitialOffset is where a group starts on a partition for which it has no
// committed offset.
type InitialOffset int

// The initial offsets. The zero value is OffsetNewest.
const (
	OffsetNewest InitialOffset = iota
	OffsetOldest
)

// OutOfRange is the policy for a group's position that is no longer in the log:
// retention or an operator has removed the next records, or the log was truncated.
type OutOfRange int

// The policies. The zero value is OutOfRangeStop. The others skip the missing records
// and report the gap as a DataLossError.
const (
	OutOfRangeStop OutOfRange = iota
	OutOfRangeOldest
	OutOfRangeNewest
)

// IsolationLevel decides whether a consumer reads records of open and aborted
// transactions.
type IsolationLevel int

// The isolation levels. The zero value is ReadCommitted.
const (
	ReadCommitted IsolationLevel = iota
	ReadUncommitted
)

// GroupProtocol is the protocol between the members of a group and its coordinator.
type GroupProtocol int

// The group protocols. The zero value is ClassicProtocol: the members join generation
// by generation, and one of them assigns the partitions. With ConsumerProtocol
// (KIP-848, Kafka 4) the coordinator assigns them and moves them one by one: a member
// keeps what does not move, and joins only once.
const (
	ClassicProtocol GroupProtocol = iota
	ConsumerProtocol
)

// BalanceStrategy is the way in which a group of the ClassicProtocol assigns partitions to
// its members.
type BalanceStrategy int

// The balance strategies. CooperativeSticky rebalances without stopping the
// partitions that a member keeps (KIP-429). All others stop every partition of the
// group.
const (
	RoundRobin BalanceStrategy = iota
	Range
	Sticky
	CooperativeSticky
)

// RequiredAcks is the number of replicas that must hold a record before it counts as
// sent.
type RequiredAcks int

// The required acks. The zero value is WaitForAll.
const (
	WaitForAll   RequiredAcks = iota // all in-sync replicas
	WaitForLocal                     // the leader alone
	NoResponse                       // none: the loss of a record goes unnoticed
)

// Compression is the codec of record batches.
type Compression int

// The compressions. The zero value is CompressionNone.
const (
	CompressionNone Compression = iota
	CompressionGZIP
	CompressionSnappy
	CompressionLZ4
	CompressionZSTD
)

// SASL holds the credentials of a client.
type SASL struct {
	Mechanism   SASLMechanism
	User        string
	Password    Secret
	TokenSource TokenSource // for OAUTHBEARER
}

// SASLMechanism is the registered name of a mechanism.
type SASLMechanism string

// The SASL mechanisms.
const (
	SASLPlain       SASLMechanism = "PLAIN"
	SASLScramSHA256 SASLMechanism = "SCRAM-SHA-256"
	SASLScramSHA512 SASLMechanism = "SCRAM-SHA-512"
	SASLOAuthBearer SASLMechanism = "OAUTHBEARER"
)

// A TokenSource returns a bearer token that is valid now. A driver calls it for every
// connection and every re-authentication (KIP-368), so it should cache the token. It
// must return by the end of ctx.
type TokenSource func(ctx context.Context) (Token, error)

// A Token is an OAUTHBEARER token (KIP-255) with its SASL extensions (KIP-342).
type Token struct {
	Value      Secret
	Extensions map[string]string
}

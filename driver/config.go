package driver

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"
)

// A ConsumerConfig is what a driver has to know of a consumer. The core has
// filled in every default and has checked each field and their combinations:
// a driver checks only what depends on itself. Durations are positive.
type ConsumerConfig struct {
	Brokers    []string // host:port each, at least one
	ClientID   string
	Group      string
	Topics     []string // at least one
	InstanceID string   // static membership (KIP-345); "" is dynamic
	RackID     string   // fetch from the closest replica (KIP-392); "" is the leader

	InitialOffset     InitialOffset
	OutOfRange        OutOfRange
	IsolationLevel    IsolationLevel
	BalanceStrategies []BalanceStrategy // in order of preference

	SessionTimeout    time.Duration
	HeartbeatInterval time.Duration
	RebalanceTimeout  time.Duration
	DrainTimeout      time.Duration // the longest window that Handler.Revoke is given

	// MaxProcessingTime is for clients that watch how long their own deliveries
	// take, as Sarama does. A driver without such a watch ignores it.
	MaxProcessingTime time.Duration

	// MaxMessageBytes is what one fetch asks for a partition. A larger record is
	// delivered all the same, never skipped.
	MaxMessageBytes int

	// MaxDecompressedBytes is what one batch may take in memory once it is
	// decompressed and its records are read. A batch that takes more is not
	// delivered: its partition stands still, reported by a PartitionError with
	// the code RECORD_TOO_LARGE.
	MaxDecompressedBytes int

	TLS    *tls.Config // nil is plaintext
	SASL   *SASL       // nil is no authentication
	Logger *slog.Logger
}

// A ProducerConfig is what a driver has to know of a producer, checked and
// with its defaults filled in as ConsumerConfig is.
type ProducerConfig struct {
	Brokers      []string
	ClientID     string
	RequiredAcks RequiredAcks
	Compression  Compression
	Idempotent   bool
	MaxRetries   int // 0 is none
	RetryBackoff time.Duration

	// DeliveryTimeout bounds a send, from its acceptance to its outcome
	// (KIP-91): it is retried until then, whatever MaxRetries says. At its end
	// the message is acknowledged with ErrUnknownOutcome if an attempt is
	// unanswered, else with the latest refusal. 0 leaves it to MaxRetries.
	DeliveryTimeout time.Duration

	MaxMessageBytes int

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

// OutOfRange is what to do when a group's position is no longer in the log:
// retention or an operator has removed what comes next, or the log has become
// shorter.
type OutOfRange int

// The policies. The zero value is OutOfRangeStop; the others skip what is gone,
// and tell of it.
const (
	OutOfRangeStop OutOfRange = iota
	OutOfRangeOldest
	OutOfRangeNewest
)

// IsolationLevel says whether records of open and aborted transactions are read.
type IsolationLevel int

// The isolation levels. The zero value is ReadCommitted.
const (
	ReadCommitted IsolationLevel = iota
	ReadUncommitted
)

// BalanceStrategy is how partitions are shared among a group's members.
type BalanceStrategy int

// The balance strategies. CooperativeSticky rebalances without stopping what a
// member keeps (KIP-429); all others stop every partition of the group.
const (
	RoundRobin BalanceStrategy = iota
	Range
	Sticky
	CooperativeSticky
)

// RequiredAcks is how many replicas must hold a record before it counts as sent.
type RequiredAcks int

// The required acks. The zero value is WaitForAll.
const (
	WaitForAll   RequiredAcks = iota // all in-sync replicas
	WaitForLocal                     // the leader alone
	NoResponse                       // none: a lost record goes unnoticed
)

// Compression is how batches are compressed.
type Compression int

// The compressions. The zero value is CompressionNone.
const (
	CompressionNone Compression = iota
	CompressionGZIP
	CompressionSnappy
	CompressionLZ4
	CompressionZSTD
)

// SASL is how a client authenticates.
type SASL struct {
	Mechanism   SASLMechanism
	User        string
	Password    Secret
	TokenSource TokenSource // for OAUTHBEARER
}

// SASLMechanism is a mechanism by its registered name.
type SASLMechanism string

// The SASL mechanisms.
const (
	SASLPlain       SASLMechanism = "PLAIN"
	SASLScramSHA256 SASLMechanism = "SCRAM-SHA-256"
	SASLScramSHA512 SASLMechanism = "SCRAM-SHA-512"
	SASLOAuthBearer SASLMechanism = "OAUTHBEARER"
)

// A TokenSource returns a bearer token that is valid now. It is called for each
// connection and each re-authentication (KIP-368), so it should cache; it must
// return by the end of ctx.
type TokenSource func(ctx context.Context) (Token, error)

// A Token is an OAUTHBEARER token (KIP-255) with its SASL extensions (KIP-342).
type Token struct {
	Value      Secret
	Extensions map[string]string
}

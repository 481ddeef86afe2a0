package kafka

import (
	"bytes"
	"errors"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// A refusal is one thing done to a good configuration, and the lines of the
// error that must answer it, without the words that all lines begin with.
type refusal[C any] struct {
	name  string
	spoil func(*C)
	want  string
}

type (
	badConsumer = refusal[ConsumerConfig]
	badProducer = refusal[ProducerConfig]
)

func goodConsumer() ConsumerConfig {
	return ConsumerConfig{JobName: "orders", Topic: "t", BootstrapServers: "host:9092", ConsumerGroup: "g"}
}

func goodProducer() ProducerConfig {
	return ProducerConfig{BootstrapServers: "host:9092"}
}

// refuseConsumers checks that each row gives exactly its error.
func refuseConsumers(t *testing.T, rows []badConsumer) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			cfg := goodConsumer()
			row.spoil(&cfg)
			got, forDriver, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
			wantLines(t, err, `kafka: consumer "orders": `, row.want)
			require.Zero(t, got, "a refused configuration was returned")
			require.Zero(t, forDriver, "a refused configuration was returned")
		})
	}
}

func refuseProducers(t *testing.T, rows []badProducer) {
	t.Helper()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			cfg := goodProducer()
			row.spoil(&cfg)
			got, forDriver, err := resolveProducer(cfg, "producer-1", slog.New(slog.DiscardHandler))
			wantLines(t, err, `kafka: producer "producer-1": `, row.want)
			require.Zero(t, got, "a refused configuration was returned")
			require.Zero(t, forDriver, "a refused configuration was returned")
		})
	}
}

// wantLines compares the text of err with want, to each line of which the prefix is
// added if the line has none of its own.
func wantLines(t *testing.T, err error, prefix, want string) {
	t.Helper()
	lines := strings.Split(want, "\n")
	for i, l := range lines {
		if !strings.HasPrefix(l, "kafka: ") {
			lines[i] = prefix + l
		}
	}
	require.EqualError(t, err, strings.Join(lines, "\n"))
}

func TestB35_ConsumerFieldsAreChecked(t *testing.T) {
	refuseConsumers(t, []badConsumer{
		{"commit interval negative", func(c *ConsumerConfig) { c.CommitInterval = -time.Second },
			`CommitInterval: -1s is negative`},
		{"commit interval below a millisecond", func(c *ConsumerConfig) { c.CommitInterval = 999 * time.Microsecond },
			`CommitInterval: 999µs is less than 1ms`},
		{"a number meant as seconds", func(c *ConsumerConfig) { c.SessionTimeout = 10 },
			`SessionTimeout: 10ns is less than 1ms`},
		{"more than the protocol can say", func(c *ConsumerConfig) { c.CommitInterval = math.MaxInt64 },
			`CommitInterval: 2562047h47m16.854775807s is more than 596h31m23.647s`},
		{"initial offset", func(c *ConsumerConfig) { c.InitialOffset = 2 },
			`InitialOffset: 2 is none of OffsetNewest, OffsetOldest`},
		{"initial offset in another client's numbers", func(c *ConsumerConfig) { c.InitialOffset = -2 },
			`InitialOffset: -2 is none of OffsetNewest, OffsetOldest`},
		{"out of range", func(c *ConsumerConfig) { c.OutOfRange = 3 },
			`OutOfRange: 3 is none of OutOfRangeStop, OutOfRangeOldest, OutOfRangeNewest`},
		{"isolation level", func(c *ConsumerConfig) { c.IsolationLevel = 7 },
			`IsolationLevel: 7 is none of ReadCommitted, ReadUncommitted`},
		{"balance strategy", func(c *ConsumerConfig) { c.BalanceStrategies = []BalanceStrategy{Range, 4, -1} },
			"BalanceStrategies[1]: 4 is none of RoundRobin, Range, Sticky, CooperativeSticky\n" +
				"BalanceStrategies[2]: -1 is none of RoundRobin, Range, Sticky, CooperativeSticky"},
		{"balance strategy twice", func(c *ConsumerConfig) { c.BalanceStrategies = []BalanceStrategy{Sticky, Range, Sticky} },
			`BalanceStrategies[2]: sticky is the same as [0]`},

		{"group protocol", func(c *ConsumerConfig) { c.GroupProtocol = 2 },
			`GroupProtocol: 2 is none of ClassicProtocol, ConsumerProtocol`},
		{"settings that are the brokers' with the consumer protocol", func(c *ConsumerConfig) {
			c.GroupProtocol, c.BalanceStrategies, c.HeartbeatInterval = ConsumerProtocol, []BalanceStrategy{Range, Sticky}, 3*time.Second
		}, "BalanceStrategies: [range sticky] must be unset with ConsumerProtocol: the brokers assign the partitions\n" +
			`HeartbeatInterval: 3s must be unset with ConsumerProtocol: the brokers choose the interval`},
		{"drain as long as the rebalance with the consumer protocol", func(c *ConsumerConfig) {
			c.GroupProtocol, c.RebalanceTimeout, c.DrainTimeout = ConsumerProtocol, time.Second, time.Second
		}, `DrainTimeout: 1s is not less than RebalanceTimeout (1s)`},

		{"session negative", func(c *ConsumerConfig) { c.SessionTimeout = -1 }, `SessionTimeout: -1ns is negative`},
		{"session below default heartbeats", func(c *ConsumerConfig) { c.SessionTimeout = 2 * time.Second },
			`SessionTimeout: 2s is less than 3 x HeartbeatInterval (3s)`},
		{"heartbeat above a third", func(c *ConsumerConfig) { c.HeartbeatInterval = 3334 * time.Millisecond },
			`SessionTimeout: 10s is less than 3 x HeartbeatInterval (3.334s)`},
		{"heartbeat negative", func(c *ConsumerConfig) { c.HeartbeatInterval = -time.Minute },
			`HeartbeatInterval: -1m0s is negative`},
		{"rebalance negative", func(c *ConsumerConfig) { c.RebalanceTimeout = -time.Minute },
			`RebalanceTimeout: -1m0s is negative`},
		{"rebalance below session", func(c *ConsumerConfig) { c.RebalanceTimeout = 9 * time.Second },
			`RebalanceTimeout: 9s is less than SessionTimeout (10s)`},
		{"drain negative", func(c *ConsumerConfig) { c.DrainTimeout = -time.Hour }, `DrainTimeout: -1h0m0s is negative`},
		{"drain as long as the rebalance", func(c *ConsumerConfig) { c.DrainTimeout = time.Minute },
			`DrainTimeout: 1m0s is not less than RebalanceTimeout (1m0s)`},
		{"processing time negative", func(c *ConsumerConfig) { c.MaxProcessingTime = -time.Second },
			`MaxProcessingTime: -1s is negative`},

		{"message bytes negative", func(c *ConsumerConfig) { c.MaxMessageBytes = -1 }, `MaxMessageBytes: -1 is negative`},
		{"message bytes above 100 MiB", func(c *ConsumerConfig) { c.MaxMessageBytes = 100<<20 + 1 },
			`MaxMessageBytes: 104857601 is more than 100 MiB (104857600)`},
		{"buffered messages", func(c *ConsumerConfig) { c.MaxBufferedMessages = -1 }, `MaxBufferedMessages: -1 is negative`},
		{"buffered bytes", func(c *ConsumerConfig) { c.MaxBufferedBytes = -2 }, `MaxBufferedBytes: -2 is negative`},
		{"batch size", func(c *ConsumerConfig) { c.MaxBatchSize = -3 }, `MaxBatchSize: -3 is negative`},

		{"backoff min negative", func(c *ConsumerConfig) { c.Backoff.Min = -time.Second }, `Backoff.Min: -1s is negative`},
		{"backoff max negative", func(c *ConsumerConfig) { c.Backoff.Max = -time.Second }, `Backoff.Max: -1s is negative`},
		{"backoff min above max", func(c *ConsumerConfig) { c.Backoff = Backoff{Min: 3 * time.Second, Max: 2 * time.Second} },
			`Backoff.Min: 3s is more than Backoff.Max (2s)`},
		{"multiplier one", func(c *ConsumerConfig) { c.Backoff.Multiplier = 1 },
			`Backoff.Multiplier: 1 is not a number above 1`},
		{"multiplier negative", func(c *ConsumerConfig) { c.Backoff.Multiplier = -2 },
			`Backoff.Multiplier: -2 is not a number above 1`},
		{"multiplier NaN", func(c *ConsumerConfig) { c.Backoff.Multiplier = math.NaN() },
			`Backoff.Multiplier: NaN is not a number above 1`},
		{"multiplier infinite", func(c *ConsumerConfig) { c.Backoff.Multiplier = math.Inf(1) },
			`Backoff.Multiplier: +Inf is not a number above 1`},
		{"jitter above one", func(c *ConsumerConfig) { c.Backoff.Jitter = 1.5 },
			`Backoff.Jitter: 1.5 is neither in 0..1 nor NoJitter (-1)`},
		{"jitter negative", func(c *ConsumerConfig) { c.Backoff.Jitter = -0.5 },
			`Backoff.Jitter: -0.5 is neither in 0..1 nor NoJitter (-1)`},
		{"jitter NaN", func(c *ConsumerConfig) { c.Backoff.Jitter = math.NaN() },
			`Backoff.Jitter: NaN is neither in 0..1 nor NoJitter (-1)`},
		{"total buffer", func(c *ConsumerConfig) { c.MaxTotalBufferedBytes = -1 }, `MaxTotalBufferedBytes: -1 is negative`},
		{"decompressed bytes", func(c *ConsumerConfig) { c.MaxDecompressedBytes = 1000 }, `MaxDecompressedBytes: 1000 is outside 1048576 to 1073741824`},
		{"disabled retry", func(c *ConsumerConfig) { c.DisabledRetry = time.Millisecond }, `DisabledRetry: 1ms is less than 1s`},
		{"errors in a row", func(c *ConsumerConfig) { c.MaxConsecutiveErrors = -2 }, `MaxConsecutiveErrors: -2 is negative and not Unlimited (-1)`},
	})
}

func TestB35_ANilConfigurationIsAnError(t *testing.T) {
	_, _, err := resolveConsumer(nil, slog.New(slog.DiscardHandler), false)
	wantLines(t, err, "", `kafka: consumer "": GetConfig: returned nil`)
}

func TestB35_EverythingWrongShowsAtOnceInTheFieldsOrder(t *testing.T) {
	cfg := ConsumerConfig{
		JobName:              " a/b",
		Topics:               []string{"ok", "", "ok"},
		BootstrapServers:     "host,h:0",
		CommitInterval:       -1,
		InitialOffset:        9,
		IsolationLevel:       8,
		BalanceStrategies:    []BalanceStrategy{7},
		SessionTimeout:       time.Second,
		DrainTimeout:         2 * time.Minute,
		MaxMessageBytes:      -5,
		Backoff:              Backoff{Min: time.Hour, Max: time.Minute, Jitter: 3},
		MaxConsecutiveErrors: -2,
		InstanceID:           "a b",
		TLS:                  &TLSConfig{CertFile: "c"},
		SASL:                 &SASLConfig{Mechanism: "scram"},
	}
	const want = `JobName: " a/b" begins or ends with white space
JobName: " a/b" has a '/'
Topics[1]: is empty
Topics[2]: "ok" is named by Topics[0] already
BootstrapServers[0]: "host": missing port in address
BootstrapServers[1]: "h:0": port must be 1..65535
ConsumerGroup: is empty
CommitInterval: -1ns is negative
InitialOffset: 9 is none of OffsetNewest, OffsetOldest
IsolationLevel: 8 is none of ReadCommitted, ReadUncommitted
BalanceStrategies[0]: 7 is none of RoundRobin, Range, Sticky, CooperativeSticky
SessionTimeout: 1s is less than 3 x HeartbeatInterval (3s)
DrainTimeout: 2m0s is not less than RebalanceTimeout (1m0s)
MaxMessageBytes: -5 is negative
Backoff.Min: 1h0m0s is more than Backoff.Max (1m0s)
Backoff.Jitter: 3 is neither in 0..1 nor NoJitter (-1)
MaxConsecutiveErrors: -2 is negative and not Unlimited (-1)
InstanceID: "a b" has a character outside a-z, A-Z, 0-9, '.', '_' and '-'
TLS.KeyFile: is empty, and CertFile is set
SASL.Mechanism: "scram" is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER`
	for range 20 {
		_, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
		wantLines(t, err, `kafka: consumer " a/b": `, want)
	}
}

func TestFieldErrorIsForErrorsAs(t *testing.T) {
	cause := errors.New("cause")
	p := &problems{kind: "producer", name: "p"}
	p.wrap("TLS.CAFile", cause, "%q is bad", "x")
	p.add("Compression", "%d is bad", 9)
	err := p.report(nil)
	var field *FieldError
	require.ErrorAs(t, err, &field)
	require.Equal(t, &FieldError{Kind: "producer", Name: "p", Field: "TLS.CAFile", Problem: `"x" is bad`, Err: cause}, field)
	require.ErrorIs(t, err, cause)
	wantLines(t, err, `kafka: producer "p": `, "TLS.CAFile: \"x\" is bad: cause\nCompression: 9 is bad")
}

func TestConsumerDefaults(t *testing.T) {
	cfg := goodConsumer()
	got, forDriver, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
	require.NoError(t, err)
	want := ConsumerConfig{
		JobName:              "orders",
		Topics:               []string{"t"},
		BootstrapServers:     "host:9092",
		ConsumerGroup:        "g",
		CommitInterval:       time.Second,
		BalanceStrategies:    []BalanceStrategy{RoundRobin, Range},
		SessionTimeout:       10 * time.Second,
		HeartbeatInterval:    3 * time.Second,
		RebalanceTimeout:     60 * time.Second,
		DrainTimeout:         30 * time.Second,
		MaxProcessingTime:    100 * time.Millisecond,
		MaxMessageBytes:      1 << 20,
		MaxBufferedMessages:  10000,
		MaxBufferedBytes:     4 << 20,
		MaxDecompressedBytes: 64 << 20,
		MaxBatchSize:         100,
		Parallelism:          1,
		Backoff:              Backoff{Min: time.Second, Max: time.Minute, Multiplier: 2, Jitter: 0.1},
		MaxConsecutiveErrors: 10,
		ClientID:             defaultClientID(programPath(), "orders"),
	}
	require.Equal(t, want, got)
	forDriver.Logger = nil
	wantForDriver := driver.ConsumerConfig{
		Brokers:           []string{"host:9092"},
		ClientID:          defaultClientID(programPath(), "orders"),
		Group:             "g",
		Topics:            []string{"t"},
		BalanceStrategies: []BalanceStrategy{RoundRobin, Range},
		SessionTimeout:    10 * time.Second,
		HeartbeatInterval: 3 * time.Second,
		RebalanceTimeout:  60 * time.Second,
		DrainTimeout:      30 * time.Second,
		MaxProcessingTime: 100 * time.Millisecond,
		MaxMessageBytes:   1 << 20,

		MaxDecompressedBytes: 64 << 20,
	}
	require.Equal(t, wantForDriver, forDriver)
}

// With ConsumerProtocol the session timeout is the member's own, and nothing relates the
// rebalance timeout to it.
func TestConsumerProtocolDefaults(t *testing.T) {
	for _, rebalance := range []time.Duration{0, 20 * time.Second} {
		cfg := goodConsumer()
		cfg.GroupProtocol, cfg.RebalanceTimeout = ConsumerProtocol, rebalance
		got, forDriver, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
		require.NoError(t, err)
		classic := goodConsumer()
		want, wantForDriver, err := resolveConsumer(&classic, slog.New(slog.DiscardHandler), false)
		require.NoError(t, err)
		want.GroupProtocol, want.BalanceStrategies, want.HeartbeatInterval = ConsumerProtocol, nil, 0
		want.SessionTimeout, want.RebalanceTimeout = 45*time.Second, or(rebalance, time.Minute)
		want.DrainTimeout = want.RebalanceTimeout / 2
		require.Equal(t, want, got)
		tell(&wantForDriver, want)
		wantForDriver.Logger, forDriver.Logger = nil, nil
		require.Equal(t, wantForDriver, forDriver)
		again, _, err := resolveConsumer(&got, slog.New(slog.DiscardHandler), false)
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
}

// full sets every field to something other than its default, except for GroupProtocol,
// with which two others must be unset.
func full() ConsumerConfig {
	return ConsumerConfig{
		JobName:               "orders",
		Topic:                 "t",
		Topics:                []string{"u", "v"},
		BootstrapServers:      "a:1, b:2",
		ConsumerGroup:         "g",
		CommitInterval:        2 * time.Second,
		InitialOffset:         OffsetOldest,
		OutOfRange:            OutOfRangeNewest,
		IsolationLevel:        ReadUncommitted,
		BalanceStrategies:     []BalanceStrategy{CooperativeSticky, Range},
		SessionTimeout:        45 * time.Second,
		HeartbeatInterval:     15 * time.Second,
		RebalanceTimeout:      45 * time.Second,
		DrainTimeout:          44 * time.Second,
		MaxProcessingTime:     time.Second,
		MaxMessageBytes:       100 << 20,
		MaxBufferedMessages:   1,
		MaxBufferedBytes:      2,
		MaxTotalBufferedBytes: 4,
		MaxDecompressedBytes:  1 << 20,
		DisabledRetry:         time.Second,
		MaxBatchSize:          3,
		MaxBatchBytes:         5,
		BatchLinger:           time.Second,
		Order:                 OrderByKey,
		Parallelism:           1,
		MaxConcurrency:        6,
		MaxRate:               2.5,
		NoCommitMetadata:      true,
		HandlerTimeout:        time.Minute,
		Backoff:               Backoff{Min: time.Second, Max: time.Second, Multiplier: 1.5, Jitter: NoJitter},
		MaxConsecutiveErrors:  1,
		Failure:               FailurePolicy{Then: FailureSkip, MaxAttempts: 3},
		ClientID:              "client",
		InstanceID:            "instance-0",
		RackID:                "rack a",
		TLS:                   &TLSConfig{ServerName: "kafka.example"},
		SASL:                  &SASLConfig{Mechanism: SASLPlain, User: "u", Password: "p"},
	}
}

func TestB34_EveryConsumerFieldIsTaken(t *testing.T) {
	cfg := full()
	v := reflect.ValueOf(cfg)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		left := name == "GroupProtocol" || name == "AutoCommit" // which refuses a Failure
		require.Equal(t, left, v.Field(i).IsZero(), "what this test sets of %s", name)
	}
	got, forDriver, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
	require.NoError(t, err)
	want := full()
	want.Topic, want.Topics = "", []string{"t", "u", "v"}
	require.Equal(t, want, got)
	v = reflect.ValueOf(forDriver)
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		left := name == "GroupProtocol" || name == "OldestTopics" // no consumer has retry topics yet
		assert.Equal(t, left, v.Field(i).IsZero(), "what the driver gets of %s", name)
	}
	require.Equal(t, []string{"a:1", "b:2"}, forDriver.Brokers)
	require.Equal(t, &driver.SASL{Mechanism: SASLPlain, User: "u", Password: "p"}, forDriver.SASL)
	require.Equal(t, "kafka.example", forDriver.TLS.ServerName)
}

func TestSessionTimeoutOutsideTheBrokersDefaultsWarns(t *testing.T) {
	for _, row := range []struct {
		protocol GroupProtocol
		session  time.Duration
		warns    bool
	}{
		{ClassicProtocol, 10 * time.Millisecond, true},
		{ClassicProtocol, 6*time.Second - 1, true},
		{ClassicProtocol, 6 * time.Second, false},
		{ClassicProtocol, 30 * time.Minute, false},
		{ClassicProtocol, 31 * time.Minute, true},
		{ConsumerProtocol, 15*time.Second - 1, true},
		{ConsumerProtocol, 15 * time.Second, false},
		{ConsumerProtocol, 45 * time.Second, false},
		{ConsumerProtocol, 45*time.Second + 1, true},
	} {
		cfg := goodConsumer()
		cfg.GroupProtocol, cfg.SessionTimeout, cfg.RebalanceTimeout = row.protocol, row.session, time.Hour
		if row.protocol == ClassicProtocol {
			cfg.HeartbeatInterval = time.Millisecond
		}
		var out bytes.Buffer
		_, _, err := resolveConsumer(&cfg, slog.New(slog.NewTextHandler(&out, nil)), false)
		require.NoError(t, err, "%v", row.session)
		warned := strings.Contains(out.String(), "SessionTimeout") && strings.Contains(out.String(), "consumer=orders")
		assert.Equal(t, row.warns, warned, "%v: logged %q", row.session, &out)
	}
}

func TestTheDriversLogNamesTheConsumer(t *testing.T) {
	var out bytes.Buffer
	cfg := goodConsumer()
	_, forDriver, err := resolveConsumer(&cfg, slog.New(slog.NewTextHandler(&out, nil)), false)
	require.NoError(t, err)
	forDriver.Logger.Info("joined")
	require.Contains(t, out.String(), "consumer=orders")
}

// A default that depends on another field does not contradict it.
func TestDefaultsFitWhatIsSet(t *testing.T) {
	cfg := testConfig()
	cfg.SessionTimeout, cfg.Backoff.Max = 2*time.Minute, 500*time.Millisecond
	got, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
	require.NoError(t, err)
	require.Equal(t, 2*time.Minute, got.RebalanceTimeout)
	require.Equal(t, 500*time.Millisecond, got.Backoff.Min)
}

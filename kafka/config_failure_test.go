package kafka

import (
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFailurePoliciesAreChecked(t *testing.T) {
	dead := func(c *ConsumerConfig) *FailurePolicy {
		c.Failure = FailurePolicy{Then: FailureDeadLetter, MaxAttempts: 3, DeadLetter: DeadLetterConfig{Topic: "dead"}}
		return &c.Failure
	}
	with := func(change func(*FailurePolicy)) func(*ConsumerConfig) {
		return func(c *ConsumerConfig) { change(dead(c)) }
	}
	producer := func(change func(*ProducerConfig)) func(*ConsumerConfig) {
		return with(func(f *FailurePolicy) {
			f.DeadLetter.Producer = &ProducerConfig{}
			change(f.DeadLetter.Producer)
		})
	}
	yes := true
	refuseConsumers(t, []badConsumer{
		{"hold after attempts", with(func(f *FailurePolicy) { f.Then = FailureHold }),
			`Failure.Then: FailureHold counts no attempts; ask for it by Hold or Classify`},
		{"no constant", with(func(f *FailurePolicy) { f.Then = 9 }),
			`Failure.Then: 9 is none of FailureKeep, FailureDeadLetter, FailureSkip, FailureStop`},
		{"negative attempts", with(func(f *FailurePolicy) { f.MaxAttempts = -1 }), `Failure.MaxAttempts: -1 is negative`},
		{"no attempts", with(func(f *FailurePolicy) { f.MaxAttempts = 0 }),
			`Failure.MaxAttempts: is missing, and Failure.Then is not FailureKeep`},
		{"attempts without effect", with(func(f *FailurePolicy) { f.Then = FailureKeep }),
			`Failure.MaxAttempts: 3 has no effect where Failure.Then is FailureKeep`},
		{"no topic", with(func(f *FailurePolicy) { f.DeadLetter.Topic = "" }),
			`Failure.DeadLetter.Topic: is empty, so is TopicFor, and Failure.Then is FailureDeadLetter`},
		{"two topics", with(func(f *FailurePolicy) { f.DeadLetter.TopicFor = func(*Message, error) string { return "" } }),
			`Failure.DeadLetter.TopicFor: is set, and so is Topic`},
		{"the topic that is read", with(func(f *FailurePolicy) { f.DeadLetter.Topic = "{topic}" }),
			`Failure.DeadLetter.Topic: "t" is a topic that the consumer reads`},
		{"an unknown word", with(func(f *FailurePolicy) { f.DeadLetter.Topic = "{job}.dlq" }),
			`Failure.DeadLetter.Topic: for "t": "{job}.dlq" has a character outside a-z, A-Z, 0-9, '.', '_' and '-'`},
		{"a group that is no topic", func(c *ConsumerConfig) { dead(c).DeadLetter.Topic = "{group}.dlq"; c.ConsumerGroup = "a b" },
			`Failure.DeadLetter.Topic: for "t": "a b.dlq" has a character outside a-z, A-Z, 0-9, '.', '_' and '-'`},
		{"with AutoCommit", func(c *ConsumerConfig) { dead(c); c.AutoCommit = true },
			`Failure: needs AutoCommit to be false: with it the position moves before the handler runs`},
		{"Classify with AutoCommit", func(c *ConsumerConfig) {
			c.AutoCommit, c.Failure.Classify = true, func(error) Failure { return FailureSkip }
		}, `Failure: needs AutoCommit to be false: with it the position moves before the handler runs`},
		{"in a row", with(func(f *FailurePolicy) { f.DeadLetter.MaxInARow = -2 }),
			`Failure.DeadLetter.MaxInARow: -2 is negative and not Unlimited (-1)`},
		{"acks", producer(func(p *ProducerConfig) { p.RequiredAcks = WaitForLocal }),
			`Failure.DeadLetter.Producer.RequiredAcks: acks=1 is less than WaitForAll: a dead letter must not be lost`},
		{"name", producer(func(p *ProducerConfig) { p.Name = "x" }),
			`Failure.DeadLetter.Producer.Name: "x" is set; the producer is named after the consumer`},
		{"sync and async", producer(func(p *ProducerConfig) { p.EnableSyncProducer, p.EnableAsyncProducer = &yes, &yes }),
			"Failure.DeadLetter.Producer.EnableSyncProducer: is set; no program sends with this producer\n" +
				"Failure.DeadLetter.Producer.EnableAsyncProducer: is set; no program sends with this producer"},
		{"a field of the producer", producer(func(p *ProducerConfig) { p.MaxRetries = -7; p.BootstrapServers = "h:0" }),
			"Failure.DeadLetter.Producer.BootstrapServers[0]: \"h:0\": port must be 1..65535\n" +
				"Failure.DeadLetter.Producer.MaxRetries: -7 is neither in 0..10000 nor NoRetries (-1)"},
		{"handler timeout", func(c *ConsumerConfig) { c.HandlerTimeout = time.Microsecond },
			`HandlerTimeout: 1µs is less than 1ms`},
		{"handler timeout negative", func(c *ConsumerConfig) { c.HandlerTimeout = -1 }, `HandlerTimeout: -1ns is negative`},
		{"linger", func(c *ConsumerConfig) { c.BatchLinger = -time.Second }, `BatchLinger: -1s is negative`},
		{"batch bytes", func(c *ConsumerConfig) { c.MaxBatchBytes = -1 }, `MaxBatchBytes: -1 is negative`},
	})
}

// The producer of dead letters connects as the consumer does, unless it says otherwise.
func TestDefaultsOfDeadLetters(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	cfg := full()
	cfg.Failure = FailurePolicy{Then: FailureDeadLetter, MaxAttempts: 3, DeadLetter: DeadLetterConfig{Topic: "{topic}.{group}.dlq"}}
	got, _, err := resolveConsumer(&cfg, log, false)
	require.NoError(t, err)
	d := got.Failure.DeadLetter
	assert.Equal(t, 100, d.MaxInARow)
	assert.Equal(t, "u.g.dlq", d.topic("u", "g"))
	p := d.Producer
	assert.Equal(t, cfg.BootstrapServers, p.BootstrapServers)
	assert.Equal(t, got.TLS, p.TLS)
	assert.Equal(t, got.SASL, p.SASL)
	assert.Equal(t, WaitForAll, p.RequiredAcks)
	assert.Equal(t, CompressionZSTD, p.Compression)
	assert.Equal(t, 100<<20, p.MaxMessageBytes)
	assert.Equal(t, 2*time.Hour, p.DeliveryTimeout)
	assert.True(t, *p.EnableIdempotent)
	require.Nil(t, cfg.Failure.DeadLetter.Producer, "the caller's configuration was changed")

	given := ProducerConfig{Compression: CompressionGZIP, MaxMessageBytes: 5}
	cfg.Failure.DeadLetter.Producer = &given
	got, _, err = resolveConsumer(&cfg, log, false)
	require.NoError(t, err)
	p = got.Failure.DeadLetter.Producer
	assert.Equal(t, cfg.BootstrapServers, p.BootstrapServers)
	assert.Equal(t, CompressionGZIP, p.Compression)
	assert.Equal(t, 5, p.MaxMessageBytes)
	assert.Zero(t, p.DeliveryTimeout)
	assert.Equal(t, ProducerConfig{Compression: CompressionGZIP, MaxMessageBytes: 5}, given, "the caller's configuration was changed")

	given = ProducerConfig{BootstrapServers: "other:1"}
	got, _, err = resolveConsumer(&cfg, log, false)
	require.NoError(t, err)
	p = got.Failure.DeadLetter.Producer
	assert.Equal(t, "other:1", p.BootstrapServers)
	assert.Nil(t, p.TLS)
	assert.Nil(t, p.SASL)
}

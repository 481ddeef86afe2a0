package kafka

import (
	"log/slog"
	"slices"
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

func TestRetryTopicsAreChecked(t *testing.T) {
	with := func(change func(*ConsumerConfig), topics ...RetryTopic) func(*ConsumerConfig) {
		return func(c *ConsumerConfig) {
			c.Order = OrderNone
			c.Failure = FailurePolicy{Then: FailureDeadLetter, MaxAttempts: 3, DeadLetter: DeadLetterConfig{Topic: "dead"}, RetryTopics: topics}
			if change != nil {
				change(c)
			}
		}
	}
	five, minute := RetryTopic{Delay: 5 * time.Second}, RetryTopic{Delay: time.Minute}
	named := func(topic string) RetryTopic { return RetryTopic{Delay: time.Second, Topic: topic} }
	refuseConsumers(t, []badConsumer{
		{"by partition", with(func(c *ConsumerConfig) { c.Order = OrderByPartition }, five),
			`Failure.RetryTopics: need Order to be OrderNone: a record that waits in another topic is overtaken; OrderByKey keeps the order of a key and retries in memory`},
		{"by key", with(func(c *ConsumerConfig) { c.Order = OrderByKey }, five),
			`Failure.RetryTopics: need Order to be OrderNone: a record that waits in another topic is overtaken; OrderByKey keeps the order of a key and retries in memory`},
		{"keep", with(func(c *ConsumerConfig) { c.Failure.Then, c.Failure.MaxAttempts = FailureKeep, 0 }, five),
			`Failure.Then: FailureKeep does not go with RetryTopics: a record that has failed in the last one must go somewhere`},
		{"then a retry topic", with(func(c *ConsumerConfig) { c.Failure.Then = FailureRetryTopic }, five),
			`Failure.Then: FailureRetryTopic is what comes before it; RetryTopics ask for that`},
		{"no attempts", with(func(c *ConsumerConfig) { c.Failure.MaxAttempts = 0 }, five),
			`Failure.MaxAttempts: is missing, and Failure.Then is not FailureKeep`},
		{"AutoCommit", with(func(c *ConsumerConfig) { c.AutoCommit = true }, five),
			`Failure: needs AutoCommit to be false: with it the position moves before the handler runs` + "\n" +
				`Order: "none" needs AutoCommit to be false: with it the position moves before the handler runs`},
		{"nine", with(nil, five, five, five, five, five, five, five, five, five), `Failure.RetryTopics: 9 are more than 8`},
		{"nine, and other problems", with(func(c *ConsumerConfig) {
			c.Order, c.Failure.Then, c.Failure.MaxAttempts = OrderByPartition, FailureKeep, 0
		}, five, five, five, five, five, five, five, five, five), "Failure.Then: FailureKeep does not go with RetryTopics: a record that has failed in the last one must go somewhere\n" +
			"Failure.RetryTopics: 9 are more than 8\n" +
			"Failure.RetryTopics: need Order to be OrderNone: a record that waits in another topic is overtaken; OrderByKey keeps the order of a key and retries in memory"},
		{"no delay", with(nil, RetryTopic{}), `Failure.RetryTopics[0]: Delay is missing`},
		{"short", with(nil, five, RetryTopic{Delay: 99 * time.Millisecond}), `Failure.RetryTopics[1]: Delay 99ms is outside 100ms to 24h0m0s`},
		{"long", with(nil, RetryTopic{Delay: 25 * time.Hour}), `Failure.RetryTopics[0]: Delay 25h0m0s is outside 100ms to 24h0m0s`},
		{"uneven", with(nil, RetryTopic{Delay: time.Second + 1}), `Failure.RetryTopics[0]: Delay 1.000000001s is no whole number of milliseconds`},
		{"no group", with(nil, named("{topic}.retry")), `Failure.RetryTopics[0]: Topic "{topic}.retry" has no {group}: another group would get its records`},
		{"one name", with(nil, minute, RetryTopic{Delay: 60 * time.Second}),
			`Failure.RetryTopics[1]: for "t": "t.g.retry.1m" is the topic of another retry topic, too`},
		{"one name, drained", with(nil, named("{topic}.{group}.r"), RetryTopic{Delay: time.Minute, Topic: "t.{group}.r", Drain: true}),
			`Failure.RetryTopics[1]: for "t": "t.g.r" is the topic of another retry topic, too`},
		{"the name of another source's", with(func(c *ConsumerConfig) { c.Topics = []string{"tx"} }, named("{topic}x.{group}"), named("{topic}.{group}")),
			`Failure.RetryTopics[1]: for "tx": "tx.g" is the topic of another retry topic, too`},
		{"a source", with(func(c *ConsumerConfig) { c.Topics = []string{"t.g.retry.5s"} }, five),
			`Failure.RetryTopics[0]: for "t": "t.g.retry.5s" is a topic that the consumer reads`},
		{"the dead letters", with(func(c *ConsumerConfig) { c.Failure.DeadLetter.Topic = "{topic}.g.retry.5s" }, five),
			`Failure.RetryTopics[0]: for "t": "t.g.retry.5s" is the dead-letter topic`},
		{"no topic", with(nil, named("{topic}/{group}")),
			`Failure.RetryTopics[0]: for "t": "t/g" has a character outside a-z, A-Z, 0-9, '.', '_' and '-'`},
		{"a group that is no topic", with(func(c *ConsumerConfig) { c.ConsumerGroup = "a b"; c.Failure.DeadLetter.Topic = "dead" }, five),
			`Failure.RetryTopics[0]: for "t": "t.a b.retry.5s" has a character outside a-z, A-Z, 0-9, '.', '_' and '-'`},
	})
}

// Retry topics are read from their beginning, and so is one that is only drained. They
// have a producer also where there are no dead letters.
func TestDefaultsOfRetryTopics(t *testing.T) {
	cfg := goodConsumer()
	cfg.Order, cfg.Topics = OrderNone, []string{"u"}
	cfg.Failure = FailurePolicy{Then: FailureSkip, MaxAttempts: 2, RetryTopics: []RetryTopic{
		{Delay: 1500 * time.Millisecond}, {Delay: 90 * time.Second, Drain: true}, {Delay: 24 * time.Hour, Topic: "{group}.{delay}"},
	}}
	given := slices.Clone(cfg.Failure.RetryTopics)
	got, d, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
	require.NoError(t, err)
	assert.Equal(t, given, cfg.Failure.RetryTopics, "the caller's configuration was changed")
	retry := []string{"t.g.retry.1500ms", "u.g.retry.1500ms", "t.g.retry.90s", "u.g.retry.90s", "g.24h"}
	assert.Equal(t, append([]string{"t", "u"}, retry...), d.Topics)
	assert.Equal(t, retry, d.OldestTopics)
	assert.Equal(t, OffsetOldest, d.Initial("g.24h"))
	assert.NotNil(t, got.Failure.DeadLetter.Producer)
	r := newRetries(&got)
	assert.Equal(t, []string{"t.g.retry.1500ms", "u.g.retry.1500ms", "g.24h"}, r.topics(true))
	for _, tt := range []struct{ at, source, want string }{
		{"t", "t", "t.g.retry.1500ms"}, {"u", "u", "u.g.retry.1500ms"},
		{"u.g.retry.1500ms", "u", "g.24h"}, {"t.g.retry.90s", "t", "g.24h"}, {"g.24h", "u", ""},
		{"u.g.retry.1500ms", "u.g.retry.1500ms", "g.24h"},
	} {
		next, ok := r.next(tt.at, tt.source)
		assert.Equal(t, tt.want, next)
		assert.Equal(t, tt.want != "", ok)
	}
	for d, want := range map[time.Duration]string{
		500 * time.Millisecond: "500ms", 5 * time.Second: "5s", 10 * time.Minute: "10m", 24 * time.Hour: "24h",
		90 * time.Minute: "90m", 60 * time.Second: "1m", 1001 * time.Millisecond: "1001ms",
	} {
		assert.Equal(t, want, delayText(d))
	}
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

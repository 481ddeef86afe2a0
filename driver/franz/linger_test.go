package franz

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// hand passes messages to the producer, and returns the recorder of their
// acknowledgements.
func hand(t testing.TB, p *producer, messages ...*driver.Message) *acks {
	t.Helper()
	answers := newAcks()
	for i, m := range messages {
		m.Acker = ack{answers, i}
		require.NoError(t, p.Produce(within(t, patienceTest), m))
	}
	return answers
}

// TestFault_C5_MissingTopicIsAlwaysTheReason: every message to a missing topic fails
// with that reason, and messages are sent as soon as the topic exists.
func TestFault_C5_MissingTopicIsAlwaysTheReason(t *testing.T) {
	t.Parallel()
	h, _ := fakeHarness(t)
	p := openProducer(t, producerConfig(h.brokers))
	message := func() *driver.Message { return &driver.Message{Topic: "late", Partition: -1, Value: []byte("v")} }
	var all []*driver.Message
	for range 10 {
		all = append(all, message())
	}
	answers := hand(t, p, all...)
	require.NoError(t, p.Flush(within(t, patienceTest)))
	for i := range all {
		var de *driver.Error
		require.Len(t, answers.of(i), 1)
		require.ErrorAs(t, answers.of(i)[0], &de)
		assert.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", de.Code)
		assert.Nil(t, de.Kind)
	}
	waits := hand(t, p, message())
	require.NoError(t, h.CreateTopic(t.Context(), "late", 1))
	began := time.Now()
	require.NoError(t, send(t, p, message()))
	assert.Less(t, time.Since(began), 5*time.Second, "a circuit breaker would stay open for ten")
	require.NoError(t, p.Flush(within(t, patienceTest)))
	assert.Equal(t, []error{nil}, waits.of(0), "the message that was accepted before the topic was there")
}

// TestFault_C5_UnreachableBrokersAlwaysSayWhy: the error of each failed message
// names the cause of the missing connection.
func TestFault_C5_UnreachableBrokersAlwaysSayWhy(t *testing.T) {
	testkit.Slow(t, "waits for an unreachable broker")
	t.Parallel()
	cluster := fake(t)
	cfg := producerConfig(cluster.ListenAddrs())
	cfg.MaxRetries, cfg.RetryBackoff = 2, 10*time.Millisecond
	p := openProducer(t, cfg)
	require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	addrs := cluster.ListenAddrs()
	cluster.Close()
	testkit.Refuse(t, addrs...)
	for i, topic := range []string{"t", "t", "t", "t", "never-seen", "t"} {
		err := send(t, p, &driver.Message{Topic: topic, Partition: 0, Value: []byte("v")})
		require.Error(t, err)
		if i >= 2 { // the first ones may have met the connection as it broke
			assert.ErrorIs(t, err, errRefused, "message %d", i)
		}
	}
}

// TestFault_A5_NeighboursDoNotWait: a partition that does not exist delays no
// other, and is found as soon as it is added.
func TestFault_A5_NeighboursDoNotWait(t *testing.T) {
	h, _ := fakeHarness(t)
	cfg := producerConfig(h.brokers)
	cfg.DeliveryTimeout = patienceTest
	p := openProducer(t, cfg)
	require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	missing := hand(t, p, &driver.Message{Topic: "t", Partition: 1, Value: []byte("early")})
	there := hand(t, p, sized("t", 1, 1)...)
	require.Eventually(t, func() bool { return len(there.of(0)) == 1 }, patienceTest, time.Millisecond)
	require.Empty(t, missing.of(0))
	require.NoError(t, h.AddPartitions(t.Context(), "t", 2))
	require.NoError(t, p.Flush(within(t, patienceTest)))
	assert.Equal(t, []error{nil}, missing.of(0))
}

// openWith opens a producer with options of the user.
func openWith(t testing.TB, cfg driver.ProducerConfig, options ...kgo.Opt) *producer {
	t.Helper()
	p, err := Driver{Options: options}.OpenProducer(within(t, patienceTest), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close(within(t, 5*time.Second)) })
	return p.(*producer)
}

func TestFault_A3_WhatLingersIsSentAtOnce(t *testing.T) {
	for end, send := range map[string]func(*testing.T, *producer) error{
		"Flush": func(t *testing.T, p *producer) error { return p.Flush(within(t, patienceTest)) },
		"Close": func(t *testing.T, p *producer) error { return p.Close(within(t, patienceTest)) },
	} {
		t.Run(end, func(t *testing.T) {
			p := openWith(t, producerConfig(fake(t).ListenAddrs()), kgo.ProducerLinger(time.Minute))
			answers := hand(t, p, sized("t", 10, 10)...)
			time.Sleep(20 * time.Millisecond) // long enough for a batch that is sent too early
			require.Empty(t, answers.of(0), "the message did not linger")
			require.NoError(t, send(t, p))
			for i := range 10 {
				require.Equal(t, []error{nil}, answers.of(i))
			}
		})
	}
}

// TestFault_A3_FullBufferDoesNotLinger: a producer that waits for space must not wait for a
// linger that waits for more messages.
func TestFault_A3_FullBufferDoesNotLinger(t *testing.T) {
	p := openWith(t, producerConfig(fake(t).ListenAddrs()), kgo.ProducerLinger(time.Minute))
	hand(t, p, sized("t", maxMessages+10, 10)...)
}

// TestFault_A3_WhatWaitsForItsTopicDoesNotLinger: messages wait until their topic is found.
// They do not linger if a full buffer, Flush or Close has asked for them by then.
func TestFault_A3_WhatWaitsForItsTopicDoesNotLinger(t *testing.T) {
	for _, row := range []struct {
		asks     string
		messages int
		ask      func(context.Context, *producer) error
	}{
		{"a full buffer", maxMessages, func(ctx context.Context, p *producer) error {
			m := sized("t", 1, 10)[0]
			m.Acker = ack{newAcks(), 0}
			return p.Produce(ctx, m)
		}},
		{"Flush", 100, func(ctx context.Context, p *producer) error { return p.Flush(ctx) }},
		{"Close", 100, func(ctx context.Context, p *producer) error { return p.Close(ctx) }},
	} {
		t.Run(row.asks, func(t *testing.T) {
			cluster := fake(t)
			looked, found := make(chan struct{}), make(chan struct{})
			cluster.ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
				if len(r.(*kmsg.MetadataRequest).Topics) == 0 {
					cluster.KeepControl()
					return nil, nil, false
				}
				close(looked)
				cluster.SleepControl(func() { <-found })
				return nil, nil, false
			})
			p := openWith(t, producerConfig(cluster.ListenAddrs()), kgo.ProducerLinger(time.Minute))
			hand(t, p, sized("t", row.messages, 10)...)
			<-looked
			ctx, done := within(t, patienceTest), make(chan error)
			go func() { done <- row.ask(ctx, p) }()
			time.Sleep(20 * time.Millisecond) // long enough for what comes too early to have passed
			close(found)
			require.NoError(t, <-done)
		})
	}
}

// A wilful partitioner sends every message to partition 0, or panics.
type wilful struct{ panics bool }

func (w wilful) ForTopic(string) kgo.TopicPartitioner { return w }
func (wilful) RequiresConsistency(*kgo.Record) bool   { return true }
func (w wilful) Partition(*kgo.Record, int) int {
	if w.panics {
		panic("no idea")
	}
	return 0
}

func TestFault_A5_PartitionGoesBeforePartitioner(t *testing.T) {
	t.Parallel()
	for name, partitioner := range map[string]kgo.Partitioner{
		"ours": java{}, "round robin": kgo.RoundRobinPartitioner(), "sticky": kgo.StickyKeyPartitioner(nil),
		"least backup": kgo.LeastBackupPartitioner(), "wilful": wilful{},
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := fakeHarness(t)
			require.NoError(t, h.CreateTopic(t.Context(), "eight", 8))
			cfg := producerConfig(h.brokers)
			cfg.MaxRetries = 1
			p := openWith(t, cfg, kgo.RecordPartitioner(partitioner))
			require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: -1, Value: []byte("any")}))
			for i := range 8 {
				m := &driver.Message{Topic: "eight", Partition: 3, Key: fmt.Append(nil, i), Value: []byte("v")}
				require.NoError(t, send(t, p, m))
				assert.Equal(t, int32(3), m.Partition)
			}
			for _, none := range []int32{99, -2} {
				err := send(t, p, &driver.Message{Topic: "eight", Partition: none, Value: []byte("v")})
				var de *driver.Error
				require.ErrorAs(t, err, &de, "partition %d", none)
				assert.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", de.Code)
				assert.Nil(t, de.Kind, "it may be added, and was not sent")
			}
			for id := range int32(8) {
				records, err := h.Read(t.Context(), "eight", id)
				require.NoError(t, err)
				assert.Len(t, records, map[bool]int{true: 8}[id == 3], "partition %d", id)
			}
		})
	}
}

func TestFault_A5_PartitionerMayPanic(t *testing.T) {
	p := openWith(t, producerConfig(fake(t).ListenAddrs()), kgo.RecordPartitioner(wilful{panics: true}))
	err := send(t, p, &driver.Message{Topic: "t", Partition: -1, Value: []byte("v")})
	require.ErrorContains(t, err, "partitioner panicked: no idea")
	require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("v")}))
}

func TestPartitioner(t *testing.T) {
	p := java{}.ForTopic("t")
	for _, key := range []string{"", "1", "21", "foobar", "a-little-bit-long-string", "\xff\x00\xfe"} {
		r := &kgo.Record{Key: []byte(key)}
		assert.Equal(t, int(javaPartition(key, 1000)), p.Partition(r, 1000), "key %q", key)
		assert.True(t, p.RequiresConsistency(r))
	}
	changes, last, seen := 0, -1, map[int]bool{}
	for range 64 * 100 {
		got := p.Partition(&kgo.Record{Value: make([]byte, 1024)}, 8)
		require.GreaterOrEqual(t, got, 0)
		require.Less(t, got, 8)
		if got != last {
			changes++
		}
		last, seen[got] = got, true
	}
	assert.Len(t, seen, 8, "partitions used without a key")
	assert.LessOrEqual(t, changes, 110, "changes of the partition in 100 batches without a key")
	assert.Zero(t, p.Partition(&kgo.Record{}, 1), "with fewer partitions than before")
}

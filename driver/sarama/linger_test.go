package sarama

import (
	"fmt"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// openWith opens a producer whose configuration of Sarama is changed.
func openWith(t testing.TB, cfg driver.ProducerConfig, configure func(*ibm.Config)) *producer {
	t.Helper()
	p, err := Driver{Configure: configure}.OpenProducer(within(t, patienceTest), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { p.Close(within(t, 5*time.Second)) })
	return p.(*producer)
}

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

func lingerLong(c *ibm.Config) { c.Producer.Flush.Frequency = time.Hour }

func TestFault_A3_WhatLingersIsSentAtOnce(t *testing.T) {
	settings := map[string]func(*ibm.Config){
		"frequency": lingerLong,
		"messages":  func(c *ibm.Config) { c.Producer.Flush.Messages = 1_000_000 },
		"bytes":     func(c *ibm.Config) { c.Producer.Flush.Bytes = 500_000 },
	}
	ends := map[string]func(*testing.T, *producer) error{
		"Flush": func(t *testing.T, p *producer) error { return p.Flush(within(t, patienceTest)) },
		"Close": func(t *testing.T, p *producer) error { return p.Close(within(t, patienceTest)) },
	}
	for setting, configure := range settings {
		for end, send := range ends {
			t.Run(setting+"/"+end, func(t *testing.T) {
				cluster := fake(t)
				p := openWith(t, producerConfig(cluster.ListenAddrs()), configure)
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
}

// TestFault_A3_LingerEnds: a batch is sent by time, by number of messages, and by size.
func TestFault_A3_LingerEnds(t *testing.T) {
	for name, configure := range map[string]func(*ibm.Config){
		"frequency": func(c *ibm.Config) { c.Producer.Flush.Frequency = 50 * time.Millisecond },
		"messages":  func(c *ibm.Config) { lingerLong(c); c.Producer.Flush.Messages = 10 },
		"bytes":     func(c *ibm.Config) { lingerLong(c); c.Producer.Flush.Bytes = 1000 },
	} {
		t.Run(name, func(t *testing.T) {
			cluster := fake(t)
			p := openWith(t, producerConfig(cluster.ListenAddrs()), configure)
			answers := hand(t, p, sized("t", 10, 100)...)
			require.Eventually(t, func() bool { return len(answers.of(0)) == 1 }, patienceTest, time.Millisecond)
			assert.Equal(t, []error{nil}, answers.of(0))
		})
	}
}

// TestFault_A3_FullBufferDoesNotLinger: a producer that waits for space must not
// wait for a linger that waits for more messages.
func TestFault_A3_FullBufferDoesNotLinger(t *testing.T) {
	cluster := fake(t)
	p := openWith(t, producerConfig(cluster.ListenAddrs()), lingerLong)
	hand(t, p, sized("t", bufferBytes/900_000+2, 900_000)...)
}

// TestFault_A3_WhatWasNeverSentIsCertain: at the end of Close's context,
// messages that lingered or waited behind another have a certain outcome.
func TestFault_A3_WhatWasNeverSentIsCertain(t *testing.T) {
	h, _ := fakeHarness(t)
	p := openProducer(t, producerConfig(h.brokers))
	require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
	heal := h.gate.Stall()
	first := hand(t, p, sized("t", 1, 10)...)
	require.Eventually(t, func() bool { return p.line.Produces(h.brokers[0]) == 2 }, patienceTest, time.Millisecond)
	rest := hand(t, p, sized("t", 20, 10)...)
	require.ErrorIs(t, p.Close(within(t, 100*time.Millisecond)), within(t, 0).Err())
	heal()
	require.Len(t, first.of(0), 1)
	assert.ErrorIs(t, first.of(0)[0], driver.ErrUnknownOutcome)
	for i := range 20 {
		got := rest.of(i)
		require.Len(t, got, 1)
		assert.Error(t, got[0])
		assert.NotErrorIs(t, got[0], driver.ErrUnknownOutcome, "message %d", i)
	}
	time.Sleep(20 * time.Millisecond)
	records, err := h.Read(t.Context(), "t", 0)
	require.NoError(t, err)
	assert.LessOrEqual(t, len(records), 2, "records in the log")
}

// A wilful partitioner sends every message to partition 0, or panics.
type wilful struct{ panics bool }

func (w wilful) Partition(*ibm.ProducerMessage, int32) (int32, error) {
	if w.panics {
		panic("no idea")
	}
	return 0, nil
}
func (wilful) RequiresConsistency() bool { return true }

func TestFault_A5_PartitionGoesBeforePartitioner(t *testing.T) {
	testkit.Slow(t, "waits for a partition")
	t.Parallel()
	for name, partitioner := range map[string]ibm.PartitionerConstructor{
		"ours": newPartitioner, "random": ibm.NewRandomPartitioner, "hash": ibm.NewHashPartitioner,
		"wilful": func(string) ibm.Partitioner { return wilful{} },
	} {
		t.Run(name, func(t *testing.T) {
			h, _ := fakeHarness(t)
			require.NoError(t, h.CreateTopic(t.Context(), "eight", 8))
			p := openWith(t, producerConfig(h.brokers), func(c *ibm.Config) { c.Producer.Partitioner = partitioner })
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

func TestFault_A5_PartitionerMayPanic(t *testing.T) {
	cluster := fake(t)
	p := openWith(t, producerConfig(cluster.ListenAddrs()), func(c *ibm.Config) {
		c.Producer.Partitioner = func(string) ibm.Partitioner { return wilful{panics: true} }
	})
	err := send(t, p, &driver.Message{Topic: "t", Partition: -1, Value: []byte("v")})
	require.ErrorContains(t, err, "partitioner panicked: no idea")
	require.NoError(t, send(t, p, &driver.Message{Topic: "t", Partition: 0, Value: []byte("v")}))
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

// TestSplitBatchDoesNotLinger: a number of messages was awaited and has come. The broker
// refuses the batch as too large. Its parts have fewer messages, and are sent at once.
func TestSplitBatchDoesNotLinger(t *testing.T) {
	t.Parallel()
	h, _ := fakeHarness(t)
	require.NoError(t, h.CreateTopicWith(t.Context(), "small", 1, map[string]string{"max.message.bytes": fmt.Sprint(smallLimit)}))
	p := openWith(t, producerConfig(h.brokers), func(c *ibm.Config) { c.Producer.Flush.Messages = 100 })
	answers := hand(t, p, sized("small", 100, 1000)...)
	require.Eventually(t, func() bool { return len(answers.of(99)) == 1 }, patienceTest, time.Millisecond)
	for i := range 100 {
		assert.Equal(t, []error{nil}, answers.of(i))
	}
}

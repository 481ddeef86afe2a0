package kafka_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// Of 10,000 records 30 % fail once, and of these one in ten once more. Each is handled
// once, in the topic in which it must be, not before its time, and everything is committed.
func TestRealRetryTopics(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	const records, partitions = 10_000, 4
	topic := fmt.Sprintf("retried-%d", time.Now().UnixNano())
	first, second := topic+"."+topic+".retry.1s", topic+"."+topic+".retry.5s"
	delays := map[string]time.Duration{first: time.Second, second: 5 * time.Second}
	for _, name := range []string{topic, first, second, topic + ".dlq"} {
		require.NoError(t, cluster.CreateTopic(t.Context(), name, partitions, nil))
	}
	fails := func(id int) int { // how often
		switch {
		case id%100 < 3:
			return 2
		case id%10 < 3:
			return 1
		}
		return 0
	}

	var mu sync.Mutex
	calls, handled, early, late := map[int]int{}, map[int]string{}, 0, time.Duration(0)
	handle := func(_ context.Context, m *kafka.Message) error {
		mu.Lock()
		defer mu.Unlock()
		id, err := strconv.Atoi(string(m.Value))
		assert.NoError(t, err)
		if delay, waits := delays[m.Topic]; waits {
			over := time.Since(m.Timestamp.Add(delay))
			late = max(late, over)
			if over < 0 {
				early++
			}
		}
		calls[id]++
		s := m.Source()
		assert.Equal(t, topic, s.Topic)
		assert.Equal(t, calls[id], m.Attempt)
		assert.Empty(t, m.Headers)
		if calls[id] <= fails(id) {
			return errBad
		}
		handled[id] = m.Topic
		return nil
	}
	m := newManager(t, realDriver())
	cfg := kafka.ConsumerConfig{
		JobName: "retried", Topic: topic, ConsumerGroup: topic, BootstrapServers: cluster.Bootstrap(),
		InitialOffset: kafka.OffsetOldest, Order: kafka.OrderNone, Parallelism: 16,
		Failure: kafka.FailurePolicy{
			Then: kafka.FailureDeadLetter, MaxAttempts: 1, DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.dlq"},
			RetryTopics: []kafka.RetryTopic{{Delay: time.Second}, {Delay: 5 * time.Second}},
		},
	}
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handle)))
	require.NoError(t, m.SetConsumerSwitch("retried", true))
	require.NoError(t, m.StartAllConsumers(context.Background()))

	client, err := cluster.Client(kgo.DefaultProduceTopic(topic))
	require.NoError(t, err)
	for id := range records {
		client.Produce(context.Background(), &kgo.Record{Key: fmt.Append(nil, id), Value: fmt.Append(nil, id)}, func(_ *kgo.Record, err error) { assert.NoError(t, err) })
	}
	require.NoError(t, client.Flush(t.Context()))
	client.Close()
	sent := time.Now()

	want := map[string]int64{topic: records, first: 3000, second: 300}
	for deadline := sent.Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		offsets, err := cluster.CommittedOffsets(t.Context(), topic)
		got := map[string]int64{}
		for name := range want {
			for _, o := range offsets[name] {
				got[name] += max(o, 0)
			}
		}
		if err == nil && assert.ObjectsAreEqual(want, got) {
			break
		}
		require.True(t, time.Now().Before(deadline), "not within two minutes: committed %v, wanted %v; %v", got, want, err)
	}
	s, err := m.Consumer("retried")
	require.NoError(t, err)
	mu.Lock()
	defer mu.Unlock()
	t.Logf("all is committed %v after the last send; the latest call came %v after it was due", time.Since(sent).Round(time.Millisecond), late.Round(time.Millisecond))
	assert.Zero(t, early, "calls before their time")
	assert.Len(t, handled, records)
	for id := range records {
		assert.Equal(t, fails(id)+1, calls[id], "calls for record %d", id)
		assert.Equal(t, []string{topic, first, second}[fails(id)], handled[id], "where record %d was handled", id)
	}
	assert.EqualValues(t, 3300, s.Retried)
	assert.Zero(t, s.DeadLetters+s.Skipped+s.PassedOver+s.Unmarked)
	assert.True(t, strings.HasSuffix(s.RetryTopics[1], ".retry.5s"), "%v", s.RetryTopics)
}

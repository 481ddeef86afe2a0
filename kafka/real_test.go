package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// realDriver returns the driver of the tests on a real broker: the one whose turn it is, or
// the Sarama driver.
func realDriver() driver.Driver {
	if os.Getenv("GOPKG_DRIVER") == "franz" {
		return franz.Driver{}
	}
	return sarama.Driver{}
}

// TestReal is what a user sees of a real Kafka that is not as it should be:
// the state and the reason, attempts with backoff, recovery, and nothing lost.
func TestReal(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{
		Private:  true, // a broker is killed
		Security: &kafkacluster.Security{Users: map[string]string{"alice": "right-password"}, SuperUsers: []string{"User:alice"}},
	})
	t.Run("NoBroker", func(t *testing.T) { realNoBroker(t) })
	t.Run("WrongPassword", func(t *testing.T) { realWrongPassword(t, cluster) })
	t.Run("UnknownTopic", func(t *testing.T) { realUnknownTopic(t, cluster) })
	t.Run("BrokerDies", func(t *testing.T) { realBrokerDies(t, cluster) })
}

// eventually waits until ok, for at most a minute.
func eventually(t *testing.T, m *kafka.Manager, what string, ok func(kafka.ConsumerStatus) bool) kafka.ConsumerStatus {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		s, err := m.Consumer("orders")
		require.NoError(t, err)
		if ok(s) {
			return s
		}
		require.True(t, time.Now().Before(deadline), "not within a minute: %s; the consumer is %v since %v, because of %v, driver error %v, %+v",
			what, s.State, s.Since, s.Reason, s.DriverError, s.Partitions)
	}
}

// run starts a consumer of topic that counts each value it handles.
func run(t *testing.T, brokers, topic string, change func(*kafka.ConsumerConfig)) (*kafka.Manager, func() map[string]int) {
	t.Helper()
	var mu sync.Mutex
	handled := map[string]int{}
	cfg := kafka.ConsumerConfig{
		JobName: "orders", Topic: topic, ConsumerGroup: topic, BootstrapServers: brokers, InitialOffset: kafka.OffsetOldest,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second,
	}
	if change != nil {
		change(&cfg)
	}
	m := newManager(t, realDriver())
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(_ context.Context, r *kafka.Message) error {
		time.Sleep(5 * time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		handled[string(r.Value)]++
		return nil
	})))
	require.NoError(t, m.SetConsumerSwitch("orders", true))
	require.NoError(t, m.StartAllConsumers(context.Background()))
	return m, func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		all := map[string]int{}
		for v, n := range handled {
			all[v] = n
		}
		return all
	}
}

func realNoBroker(t *testing.T) {
	m, _ := run(t, "127.0.0.1:1", "orders", nil)
	s := eventually(t, m, "backing off for the second time", func(s kafka.ConsumerStatus) bool {
		return s.State == kafka.StateBackingOff && s.Errors >= 2
	})
	require.Error(t, s.Reason)
	require.NotErrorIs(t, s.Reason, kafka.ErrPermanent)
	require.NotZero(t, s.NextRetry)
	began := time.Now()
	require.NoError(t, m.SetConsumerSwitch("orders", false))
	eventually(t, m, "off", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateOff })
	require.LessOrEqual(t, time.Since(began), time.Second, "switching off")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := m.RegisterProducer(ctx, kafka.ProducerConfig{BootstrapServers: "127.0.0.1:1"})
	require.ErrorIs(t, err, context.DeadlineExceeded, "the end of the context")
	wantCode(t, err, "CONNECTION_FAILED")
}

func realWrongPassword(t *testing.T, cluster *kafkacluster.Cluster) {
	const secret = "not-the-password"
	m, _ := run(t, cluster.Addr("SASL_PLAINTEXT"), "orders", func(c *kafka.ConsumerConfig) {
		c.SASL = &kafka.SASLConfig{Mechanism: kafka.SASLScramSHA512, User: "alice", Password: secret}
	})
	s := eventually(t, m, "disabled", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateDisabled })
	require.ErrorIs(t, s.Reason, kafka.ErrPermanent)
	wantCode(t, s.Reason, "SASL_AUTHENTICATION_FAILED")
	require.False(t, s.Switch)
	require.NotContains(t, fmt.Sprintf("%+v %#v", s, s.Reason), secret)
}

func realUnknownTopic(t *testing.T, cluster *kafkacluster.Cluster) {
	topic := fmt.Sprintf("late-%d", time.Now().UnixNano())
	m, handled := run(t, cluster.Bootstrap(), topic, nil)
	eventually(t, m, "the topic is unknown", func(s kafka.ConsumerStatus) bool {
		return isCode(errors.Join(s.Reason, s.DriverError), "UNKNOWN_TOPIC_OR_PARTITION")
	})
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 1, nil))
	produce(t, cluster, topic, 0, 3)
	eventually(t, m, "consuming the topic that exists now", func(kafka.ConsumerStatus) bool { return len(handled()) == 3 })
}

func realBrokerDies(t *testing.T, cluster *kafkacluster.Cluster) {
	topic := fmt.Sprintf("orders-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(t.Context(), topic, 2, nil))
	produce(t, cluster, topic, 0, 500)
	m, handled := run(t, cluster.Bootstrap(), topic, nil)
	eventually(t, m, "some records handled", func(kafka.ConsumerStatus) bool { return len(handled()) > 50 })
	broker := cluster.Broker(1)
	require.NoError(t, broker.Kill())
	eventually(t, m, "the broker is gone", func(s kafka.ConsumerStatus) bool {
		return s.DriverError != nil || s.Reason != nil || s.CommitError != nil
	})
	require.NoError(t, broker.Restart(t.Context()))
	produce(t, cluster, topic, 500, 600)
	eventually(t, m, "everything handled and committed", func(kafka.ConsumerStatus) bool {
		offsets, err := cluster.CommittedOffsets(t.Context(), topic)
		return err == nil && len(handled()) == 600 && offsets[topic][0]+offsets[topic][1] == 600
	})
	again := 0
	for _, n := range handled() {
		again += n - 1
	}
	t.Logf("600 records handled, %d of them again", again)
}

// produce sends values from..to-1 by a client that is not ours.
func produce(t *testing.T, cluster *kafkacluster.Cluster, topic string, from, to int) {
	t.Helper()
	client, err := cluster.Client(kgo.DefaultProduceTopic(topic))
	require.NoError(t, err)
	defer client.Close()
	for i := from; i < to; i++ {
		client.Produce(t.Context(), &kgo.Record{Value: fmt.Append(nil, i)}, func(_ *kgo.Record, err error) { assert.NoError(t, err) })
	}
	require.NoError(t, client.Flush(t.Context()))
}

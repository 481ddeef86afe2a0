package kafka_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/kafka"
)

// TestRealLag compares Lag of a group whose consumer is switched off with what Kafka's own
// program says of it, for both drivers, and commits for the group by each.
func TestRealLag(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	topic := fmt.Sprintf("lag-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(ctx, topic, 3, nil))
	for p := range int32(3) {
		sendReal(t, cluster, topic, p, 10*int(p+1))
	}
	for _, d := range []driver.Driver{sarama.Driver{}, franz.Driver{}} {
		t.Run(strings.TrimSuffix(fmt.Sprintf("%T", d), ".Driver"), func(t *testing.T) { realLag(ctx, t, cluster, topic, d) })
	}
}

func sendReal(t *testing.T, cluster *kafkacluster.Cluster, topic string, partition int32, n int) {
	t.Helper()
	var records []driver.Record
	for i := range n {
		records = append(records, driver.Record{Value: fmt.Appendf(nil, "%d", i)})
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, outside.Of(strings.Split(cluster.Bootstrap(), ",")...).Send(ctx, topic, partition, records...))
}

func realLag(ctx context.Context, t *testing.T, cluster *kafkacluster.Cluster, topic string, d driver.Driver) {
	cfg := kafka.ConsumerConfig{
		JobName: "orders", Topics: []string{topic, topic + "-missing"}, ConsumerGroup: fmt.Sprintf("%s-%T", topic, d),
		BootstrapServers: cluster.Bootstrap(), InitialOffset: kafka.OffsetOldest,
		SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second,
	}
	m := newManager(t, d)
	require.NoError(t, m.RegisterConsumer(ctx, kafka.NewConsumer(cfg, handleNothing)))
	lag := func() map[string]string {
		t.Helper()
		all, err := m.Lag(ctx, "orders")
		require.NoError(t, err)
		require.Len(t, all, 4)
		wantCode(t, all[3].Err, "UNKNOWN_TOPIC_OR_PARTITION")
		found := map[string]string{}
		for _, l := range all[:3] {
			assert.NoError(t, l.Err)
			if l.Committed >= 0 { // of the others the program says nothing
				found[fmt.Sprint(l.Partition)] = fmt.Sprintf("%d %d %d", l.Committed, l.End, l.Lag)
			}
		}
		return found
	}
	all, err := m.Lag(ctx, "orders") // of a group that does not exist
	require.NoError(t, err)
	require.Equal(t, kafka.PartitionLag{Topic: topic, Partition: 2, Committed: -1, End: all[2].End, Lag: all[2].End}, all[2])

	require.NoError(t, m.StartAllConsumers(context.Background()))
	require.NoError(t, m.SetConsumerSwitch("orders", true))
	eventually(t, m, "all is handled and committed", func(s kafka.ConsumerStatus) bool {
		done := len(s.Partitions) == 3
		for _, p := range s.Partitions {
			done = done && p.Lag == 0 && p.Committed == p.HighWatermark
		}
		return done
	})
	// This process is a member of the group, too.
	require.Equal(t, describeGroup(ctx, t, cluster, cfg.ConsumerGroup), lag())
	g, err := d.(driver.GroupReader).OpenGroup(ctx, driver.ConsumerConfig{
		Brokers: strings.Split(cluster.Bootstrap(), ","), ClientID: "lag", Group: cfg.ConsumerGroup, Topics: []string{topic},
		BalanceStrategies: []driver.BalanceStrategy{driver.RoundRobin}, SessionTimeout: 6 * time.Second, HeartbeatInterval: time.Second,
		RebalanceTimeout: time.Minute, DrainTimeout: time.Second, MaxProcessingTime: time.Second, MaxMessageBytes: 1 << 20, MaxDecompressedBytes: 64 << 20,
	})
	require.NoError(t, err)
	defer func() { assert.NoError(t, g.Close(ctx)) }()
	back := []driver.GroupMark{{Topic: topic, Partition: 1, Offset: 3}}
	require.ErrorIs(t, g.Commit(ctx, back), driver.ErrGroupHasMembers)

	require.NoError(t, m.SetConsumerSwitch("orders", false))
	eventually(t, m, "off", func(s kafka.ConsumerStatus) bool { return s.State == kafka.StateOff })
	sendReal(t, cluster, topic, 0, 7)
	require.NoError(t, g.Commit(ctx, back))
	want := describeGroup(ctx, t, cluster, cfg.ConsumerGroup)
	require.Len(t, want, 3)
	require.Equal(t, want, lag())
	require.NotEqual(t, want["0"], want["2"])
	t.Logf("%T and the program agree: %v", d, want)
}

// describeGroup returns what kafka-consumer-groups says of the partitions of a group:
// position, end and lag.
func describeGroup(ctx context.Context, t *testing.T, cluster *kafkacluster.Cluster, group string) map[string]string {
	t.Helper()
	out, err := cluster.Tool(ctx, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
		"--bootstrap-server", cluster.Bootstrap(), "--describe", "--group", group)
	require.NoError(t, err)
	found := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 5 && f[0] == group {
			found[f[2]] = fmt.Sprintf("%s %s %s", f[3], f[4], f[5])
		}
	}
	require.NotEmpty(t, found, out)
	return found
}

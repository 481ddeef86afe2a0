package differential

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
)

// A system is a driver and a cluster, which can be changed from outside.
type system interface {
	drivertest.Harness
	drivertest.SessionEnder
	drivertest.Truncater
	drivertest.PartitionAdder
	drivertest.HoleMaker
	drivertest.TopicRecreater
	String() string

	// settleTime is how long a group may take to come to rest, and be read up.
	settleTime() time.Duration
}

// production is the production driver, but that it learns of new partitions soon.
var production = sarama.Driver{Configure: func(c *ibm.Config) {
	c.Metadata.RefreshFrequency = 200 * time.Millisecond
}}

// overFake is the production driver over kfake.
func overFake(t testing.TB) system {
	t.Helper()
	c := fakeCluster(t)
	return &cluster{outside.Of(c.ListenAddrs()...), "kfake", c.ListenAddrs()}
}

func fakeCluster(t testing.TB) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	require.NoError(t, err)
	t.Cleanup(c.Close)
	keepWaiting(t, c)
	return c
}

// overKafka is the production driver over a real Kafka.
func overKafka(t testing.TB) system {
	t.Helper()
	c := kafkacluster.ForTest(t, kafkacluster.Config{})
	return &cluster{outside.Client{New: c.Client}, "kafka", []string{c.Bootstrap()}}
}

// inMemory is the broker in memory, which is its own outside.
type inMemory struct{ broker *memory.Broker }

func newMemory() system { return inMemory{memory.NewBroker()} }

func (s inMemory) String() string          { return "memory" }
func (inMemory) settleTime() time.Duration { return 30 * time.Second }

func (s inMemory) Driver() driver.Driver { return s.broker }
func (s inMemory) Brokers() []string     { return []string{"memory:9092"} }

func (s inMemory) CreateTopic(_ context.Context, topic string, partitions int32) error {
	return s.broker.CreateTopic(topic, int(partitions))
}

func (s inMemory) Send(_ context.Context, topic string, partition int32, records ...driver.Record) error {
	for _, r := range records {
		err := s.broker.Send(topic, r.Key, r.Value,
			memory.ToPartition(partition), memory.Headers(r.Headers...), memory.Timestamp(r.Timestamp))
		if err != nil {
			return err
		}
	}
	return nil
}

func (s inMemory) Read(_ context.Context, topic string, partition int32) ([]driver.Record, error) {
	return s.broker.Records(topic, partition, driver.ReadCommitted)
}

func (s inMemory) Committed(_ context.Context, group, topic string, partition int32) (int64, error) {
	return s.broker.Committed(group, topic, partition), nil
}

func (s inMemory) EndSessions(_ context.Context, group string) error {
	for _, m := range s.broker.Members(group) {
		m.Expire()
	}
	return nil
}

func (s inMemory) Truncate(_ context.Context, topic string, partition int32, before int64) error {
	return s.broker.DeleteRecords(topic, partition, before)
}

func (s inMemory) AddPartitions(_ context.Context, topic string, total int32) error {
	return s.broker.AddPartitions(topic, int(total))
}

func (s inMemory) RecreateTopic(_ context.Context, topic string, partitions int32) error {
	return s.broker.RecreateTopic(topic, int(partitions))
}

func (s inMemory) MakeHole(_ context.Context, topic string, partition int32, n int) error {
	for range n {
		if err := s.broker.AppendControl(topic, partition); err != nil {
			return err
		}
	}
	return nil
}

package franz

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// patienceTest is how long a test waits for an event that must come.
const patienceTest = 15 * time.Second

// shortTime is what -short gives the tests over kfake, which take minutes.
var shortTime = testkit.Budget{Total: 10 * time.Second}

func fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	shortTime.Spend(t)
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(1, "t"),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
		kfake.GroupMinSessionTimeout(time.Second),
	}, opts...)...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

func consumerConfig(brokers []string) driver.ConsumerConfig {
	return driver.ConsumerConfig{
		Brokers: brokers, ClientID: "test", Group: "g", Topics: []string{"t"},
		InitialOffset:     driver.OffsetOldest,
		BalanceStrategies: []driver.BalanceStrategy{driver.RoundRobin},
		SessionTimeout:    10 * time.Second, HeartbeatInterval: 200 * time.Millisecond,
		RebalanceTimeout: 20 * time.Second, DrainTimeout: 5 * time.Second,
		MaxProcessingTime: 100 * time.Millisecond, MaxMessageBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func producerConfig(brokers []string) driver.ProducerConfig {
	return driver.ProducerConfig{
		Brokers: brokers, ClientID: "test", Idempotent: true,
		MaxRetries: 10, RetryBackoff: 50 * time.Millisecond, MaxMessageBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// seed writes records to one partition by another client.
func seed(t testing.TB, brokers []string, topic string, partition int32, values ...string) {
	t.Helper()
	require.NoError(t, write(t.Context(), brokers, topic, partition, values...))
}

// write is seed for goroutines beside the test's.
func write(ctx context.Context, brokers []string, topic string, partition int32, values ...string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
	return cl.ProduceSync(ctx, records...).FirstErr()
}

func numbered(from, to int) (values []string) {
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprint(i))
	}
	return values
}

// within returns a context that ends after d. Unlike testkit.Within, it does not end
// with the test, so that cleanups can use it.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// wantError checks the code of the driver's error in err, and whether it is
// permanent.
func wantError(t testing.TB, err error, code string, permanent bool, msgAndArgs ...any) {
	t.Helper()
	var de *driver.Error
	if assert.ErrorAs(t, err, &de, msgAndArgs...) {
		assert.Equal(t, code, de.Code, msgAndArgs...)
		assert.Equal(t, permanent, isPermanent(err), "permanent: %v", err)
	}
}

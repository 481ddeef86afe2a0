package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// The tests of package kafka_test run the core on the broker in memory: those that
// take more than one member, or a broker that keeps positions.

// newBroker returns a broker with the topics "orders" and "results".
func newBroker(t *testing.T, partitions int) *memory.Broker {
	t.Helper()
	b := memory.NewBroker()
	require.NoError(t, b.CreateTopic("orders", partitions))
	require.NoError(t, b.CreateTopic("results", 1))
	return b
}

func orders() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName:          "orders",
		Topic:            "orders",
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    "orders",
		InitialOffset:    kafka.OffsetOldest,
	}
}

func send(t testing.TB, b *memory.Broker, partition int32, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		require.NoError(t, b.Send("orders", nil, fmt.Appendf(nil, "%d/%d", partition, i), memory.ToPartition(partition)))
	}
}

// launch starts a manager with one consumer on b.
func launch(t *testing.T, b driver.Driver, cfg kafka.ConsumerConfig, handle func(context.Context, *kafka.Message) error, opts ...kafka.Option) *kafka.Manager {
	t.Helper()
	m := newManager(t, b, opts...)
	require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handle)))
	require.NoError(t, m.SetConsumerSwitch(cfg.JobName, true))
	require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
	synctest.Wait()
	return m
}

// wantCode holds that err carries Kafka's name of an error.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var typed interface {
		error
		ErrorType() string
	}
	require.ErrorAs(t, err, &typed)
	require.Equal(t, code, typed.ErrorType())
}

func isCode(err error, code string) bool {
	var typed interface{ ErrorType() string }
	return errors.As(err, &typed) && typed.ErrorType() == code
}

// newManager returns a manager that is shut down with the test.
func newManager(t testing.TB, d driver.Driver, opts ...kafka.Option) *kafka.Manager {
	m := kafka.New(d, append([]kafka.Option{kafka.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	t.Cleanup(func() { assert.NoError(t, m.Shutdown(context.Background())) })
	return m
}

func handleNothing(context.Context, *kafka.Message) error { return nil }

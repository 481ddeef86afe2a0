package kafkatest_test

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// These tests are about what a program gets of an end that is not in order.

// serveOrders starts a consumer of a broker with one record.
func serveOrders(t *testing.T, m *kafka.Manager, broker *memory.Broker, handle func(context.Context, *kafka.Message) error) context.CancelFunc {
	t.Helper()
	require.NoError(t, broker.CreateTopic("orders", 1))
	require.NoError(t, broker.Send("orders", nil, []byte("v")))
	ctx, cancel := context.WithCancel(t.Context())
	cfg := kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", BootstrapServers: "memory:1", ConsumerGroup: "g",
		InitialOffset: kafka.OffsetOldest,
	}
	require.NoError(t, m.RegisterConsumer(ctx, kafka.NewConsumer(cfg, handle)))
	require.NoError(t, m.SetConsumerSwitch("orders", true))
	require.NoError(t, m.StartAllConsumers(ctx))
	synctest.Wait()
	return cancel
}

func TestShutdownReportsThatAGroupCouldNotBeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.NewBroker()
		unheard := fault.On(fault.CloseConsumer, fault.After(fault.Error("CONNECTION_FAILED")))
		m := kafka.New(fault.Wrap(broker, unheard), kafka.WithLogger(slog.New(slog.DiscardHandler)))
		defer serveOrders(t, m, broker, func(context.Context, *kafka.Message) error { return nil })()
		err := m.Shutdown(t.Context())
		require.ErrorIs(t, err, fault.ErrInjected)
		require.ErrorContains(t, err, `consumer "orders": close: CONNECTION_FAILED`)
		require.Equal(t, int64(1), broker.Committed("g", "orders", 0), "what was handled is committed all the same")
	})
}

func TestWaitStopLogsTheHandlerThatDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.NewBroker()
		var log bytes.Buffer
		m := kafka.New(broker, kafka.WithLogger(slog.New(slog.NewTextHandler(&log, nil))), kafka.WithShutdownTimeout(5*time.Second))
		release := make(chan struct{})
		cancel := serveOrders(t, m, broker, func(context.Context, *kafka.Message) error { // deaf to its context
			<-release
			return nil
		})
		cancel()
		began := time.Now()
		m.WaitStop()
		assert.Equal(t, 5*time.Second, time.Since(began))
		synctest.Wait()
		assert.Contains(t, log.String(), "handler of orders/0 at offset 0")
		close(release)
		synctest.Wait()
	})
}

func TestShutdownNamesTheProducerWhoseCallbackHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.NewBroker()
		require.NoError(t, broker.CreateTopic("orders", 1))
		m := kafka.New(broker, kafka.WithLogger(slog.New(slog.DiscardHandler)), kafka.WithShutdownTimeout(3*time.Second))
		p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "memory:1", EnableAsyncProducer: kafka.BoolPtr(true)})
		require.NoError(t, err)
		release := make(chan struct{})
		p.SendAsync(t.Context(), "orders", nil, nil, func(*kafka.ProducerMessage, error) { <-release })
		synctest.Wait()

		assert.ErrorContains(t, p.Close(), "callbacks still run after 3s")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = m.Shutdown(ctx)
		if stuck := new(kafka.StopError); assert.ErrorAs(t, err, &stuck) {
			assert.Contains(t, stuck.Running, `producer "`+p.ID()+`": flush or callbacks`)
		}
		close(release)
		require.NoError(t, m.Shutdown(t.Context()), "the callback has returned")
	})
}

package simulation

import (
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

// The simulation found this bug: a consumer that is on and runs is switched on once
// more, and later its session fails. It must back off as if that call had never been
// made.
func TestSwitchOnWhileRunningKeepsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.NewBroker()
		require.NoError(t, broker.CreateTopic(orders, 1))
		crash := fault.On(fault.Run, fault.First(1, fault.All(fault.Delay(time.Second), fault.After(fault.Error("CONNECTION_FAILED")))))
		m := kafka.New(fault.Wrap(broker, crash), kafka.WithLogger(slog.New(slog.DiscardHandler)))
		cfg := kafka.ConsumerConfig{JobName: "one", Topic: orders, BootstrapServers: "localhost:9092", ConsumerGroup: "one"}
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { return nil })))
		m.SetConsumerSwitch("one", true)
		require.NoError(t, m.StartAllConsumers(context.Background()))
		synctest.Wait()
		m.SetConsumerSwitch("one", true)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		s, err := m.Consumer("one")
		require.NoError(t, err)
		assert.Equal(t, kafka.StateBackingOff, s.State, "for about a second")
		assert.NoError(t, m.Shutdown(context.Background()))
	})
}

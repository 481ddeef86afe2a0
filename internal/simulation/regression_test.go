package simulation

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// Each bug that the simulation has found has a test here.

// A consumer that is on and runs is switched on once more; later its session
// fails. It must back off as if that call had never been made.
func TestSwitchOnWhileRunningKeepsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.NewBroker()
		if err := broker.CreateTopic(orders, 1); err != nil {
			t.Fatal(err)
		}
		crash := fault.On(fault.Run, fault.First(1, fault.All(fault.Delay(time.Second), fault.After(fault.Error("CONNECTION_FAILED")))))
		m := kafka.New(fault.Wrap(broker, crash), kafka.WithLogger(slog.New(slog.DiscardHandler)))
		cfg := kafka.ConsumerConfig{JobName: "one", Topic: orders, BootstrapServers: "localhost:9092", ConsumerGroup: "one"}
		if err := m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { return nil })); err != nil {
			t.Fatal(err)
		}
		m.SetConsumerSwitch("one", true)
		if err := m.StartAllConsumers(context.Background()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		m.SetConsumerSwitch("one", true)
		time.Sleep(1100 * time.Millisecond)
		synctest.Wait()
		if s, err := m.Consumer("one"); err != nil || s.State != kafka.StateBackingOff {
			t.Errorf("%v, %v: want backing off for about a second", s.State, err)
		}
		if err := m.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

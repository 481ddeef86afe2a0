package kafkatest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// These tests are about what a program hears of an end that is not in order.

// serveOrders starts a consumer of a broker with one record.
func serveOrders(t *testing.T, m *kafka.Manager, broker *memory.Broker, handle func(context.Context, *kafka.Message) error) context.CancelFunc {
	t.Helper()
	if err := broker.CreateTopic("orders", 1); err != nil {
		t.Fatal(err)
	}
	if err := broker.Send(&driver.Message{Topic: "orders", Value: []byte("v")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cfg := kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", BootstrapServers: "memory:1", ConsumerGroup: "g",
		InitialOffset: kafka.OffsetOldest,
	}
	for _, err := range []error{
		m.RegisterConsumer(ctx, kafka.NewConsumer(cfg, handle)),
		m.SetConsumerSwitch("orders", true),
		m.StartAllConsumers(ctx),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	synctest.Wait()
	return cancel
}

func TestShutdownTellsThatAGroupCouldNotBeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.NewBroker()
		unheard := fault.On(fault.CloseConsumer, fault.After(fault.Error("CONNECTION_FAILED")))
		m := kafka.New(fault.Wrap(broker, unheard), kafka.WithLogger(slog.New(slog.DiscardHandler)))
		defer serveOrders(t, m, broker, func(context.Context, *kafka.Message) error { return nil })()
		err := m.Shutdown(t.Context())
		if !errors.Is(err, fault.ErrInjected) || !strings.Contains(err.Error(), `consumer "orders": close: CONNECTION_FAILED`) {
			t.Errorf("Shutdown = %v, want it to name the consumer and why", err)
		}
		if got := broker.Committed("g", "orders", 0); got != 1 {
			t.Errorf("committed %d, want 1: what was handled is committed all the same", got)
		}
	})
}

func TestWaitStopLogsWhatDoesNotEnd(t *testing.T) {
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
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("WaitStop took %v, want 5s", took)
		}
		synctest.Wait()
		if want := "handler of orders/0 at offset 0"; !strings.Contains(log.String(), want) {
			t.Errorf("logged %q, want it to name the %s", &log, want)
		}
		close(release)
		synctest.Wait()
	})
}

func TestShutdownNamesTheProducerWhoseCallbackHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broker := memory.NewBroker()
		if err := broker.CreateTopic("orders", 1); err != nil {
			t.Fatal(err)
		}
		m := kafka.New(broker, kafka.WithLogger(slog.New(slog.DiscardHandler)), kafka.WithShutdownTimeout(3*time.Second))
		p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "memory:1", EnableAsyncProducer: kafka.BoolPtr(true)})
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		p.SendAsync(t.Context(), "orders", nil, nil, func(*kafka.ProducerMessage, error) { <-release })
		synctest.Wait()

		if err := p.Close(); err == nil || !strings.Contains(err.Error(), "callbacks still run after 3s") {
			t.Errorf("Close = %v, want it to tell of the callback", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err = m.Shutdown(ctx)
		stuck, ok := errors.AsType[*kafka.StopError](err)
		if want := `producer "` + p.ID() + `": flush or callbacks`; !ok || !slices.Contains(stuck.Running, want) {
			t.Errorf("Shutdown = %v, want it to name %s", err, want)
		}
		close(release)
		if err := m.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown, when the callback has returned: %v", err)
		}
	})
}

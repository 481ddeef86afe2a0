package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A handler with a retry loop of its own ends the loop when the process drains:
// otherwise it would hold the shutdown until its deadline is near.
func ExampleDraining() {
	broker := memory.NewBroker()
	_ = broker.CreateTopic("orders", 1)
	_ = broker.Send("orders", nil, []byte("1"))

	waiting := make(chan struct{}, 1)
	store := func([]byte) error { return errors.New("the database is away") }
	handle := func(ctx context.Context, m *kafka.Message) error {
		for {
			err := store(m.Value)
			if err == nil {
				return nil
			}
			waiting <- struct{}{}
			select {
			case <-time.After(time.Hour):
			case <-kafka.Draining(ctx):
				return err // the record is delivered again to the next owner
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}

	m := kafka.New(broker, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	_ = m.RegisterConsumer(context.Background(), kafka.NewConsumer(kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "orders",
		BootstrapServers: "localhost:9092", InitialOffset: kafka.OffsetOldest,
	}, handle))
	_ = m.SetConsumerSwitch("orders", true)
	_ = m.StartAllConsumers(context.Background())
	<-waiting

	began := time.Now()
	fmt.Println("shutdown:", m.Shutdown(context.Background()))
	fmt.Println("within 5s:", time.Since(began) < 5*time.Second)
	// Output:
	// shutdown: <nil>
	// within 5s: true
}

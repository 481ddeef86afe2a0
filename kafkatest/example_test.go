package kafkatest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// An Invoicer writes an invoice for each order. It is what is tested.
type Invoicer struct {
	invoices *kafka.Producer
}

func (*Invoicer) GetConfig() *kafka.ConsumerConfig {
	return &kafka.ConsumerConfig{
		JobName:          "invoicer",
		Topic:            "orders",
		BootstrapServers: "kafka-1:9092,kafka-2:9092",
		ConsumerGroup:    "billing",
	}
}

func (i *Invoicer) Handle(ctx context.Context, value []byte) error {
	return i.invoices.Send(ctx, "invoices", nil, append([]byte("invoice for "), value...))
}

// run calls a test as go test would, and prints how it fails.
func run(test func(t testing.TB)) {
	if s := failure(nil, test); s != "" {
		fmt.Println(s)
	}
}

// The body of the function literal is a whole test, which go test calls.
func Example() {
	run(func(t testing.TB) {
		k := kafkatest.New(t)
		k.Start(&Invoicer{invoices: k.Producer()})
		k.WaitHandled(k.Send("orders", "customer-7", "order 1"))
		for _, m := range k.Produced("invoices") {
			fmt.Printf("%s\n", m.Value)
		}
	})
	// Output: invoice for order 1
}

// A record that fails is tried again until it is handled.
func ExampleKafka_WaitFailed() {
	run(func(t testing.TB) {
		k := kafkatest.New(t)
		k.Start(kafka.NewConsumer(kafka.ConsumerConfig{
			JobName:          "invoicer",
			Topic:            "orders",
			BootstrapServers: "localhost:9092",
			ConsumerGroup:    "billing",
			Backoff:          kafka.Backoff{Min: time.Millisecond},
		}, func(_ context.Context, m *kafka.Message) error {
			if m.Attempt < 3 {
				return errors.New("no paper")
			}
			return nil
		}))
		r := k.Send("orders", "", "order 1")
		fmt.Println(k.WaitFailed(r, 2))
		k.WaitHandled(r)
		k.WaitCommitted("invoicer")
		fmt.Println(k.Attempts(r), "attempts, committed", k.Committed("invoicer", "orders", 0))
	})
	// Output:
	// no paper
	// 3 attempts, committed 1
}

// What was handled and could not be committed is handled again after a crash.
func ExampleKafka_Crash() {
	run(func(t testing.TB) {
		k := kafkatest.New(t)
		k.Start(&Invoicer{invoices: k.Producer()})
		k.FailCommits(1000, nil)
		r := k.Send("orders", "customer-7", "order 1")
		k.WaitHandled(r)
		k.Crash("invoicer")
		k.WaitAttempts(r, 2)
		k.FailCommits(0, nil)
		fmt.Println(k.Attempts(r), "attempts, committed", k.Committed("invoicer", "orders", 0))
	})
	// Output: 2 attempts, committed 0
}

// A consumer that is switched off leaves its group.
func ExampleKafka_WaitState() {
	run(func(t testing.TB) {
		k := kafkatest.New(t)
		k.Start(kafka.NewConsumer(kafka.ConsumerConfig{
			JobName:          "invoicer",
			Topic:            "orders",
			BootstrapServers: "localhost:9092",
			ConsumerGroup:    "billing",
		}, func(context.Context, *kafka.Message) error {
			return nil
		}))
		k.SetConsumerSwitch("invoicer", false)
		fmt.Println(k.WaitState("invoicer", kafka.StateOff).State)
	})
	// Output: off
}

// A test that fails says what is known.
func ExampleKafka_WaitHandled() {
	run(func(t testing.TB) {
		k := kafkatest.New(t)
		k.Start(kafka.NewConsumer(kafka.ConsumerConfig{
			JobName:          "invoicer",
			Topic:            "orders",
			BootstrapServers: "localhost:9092",
			ConsumerGroup:    "billing",
			Backoff:          kafka.Backoff{Min: time.Hour, Jitter: kafka.NoJitter},
		}, func(context.Context, *kafka.Message) error {
			panic("no paper")
		}))
		r := k.Send("orders", "", "order 1")
		k.WaitFailed(r, 1)
		k.Timeout = 200 * time.Millisecond
		k.WaitHandled(r)
	})
	// Output:
	// kafkatest: waited 200ms for orders/0 offset 0 to be handled
	// consumer "invoicer": running
	//   orders/0: at 0 of 1, committed 0, 1 failure in a row, the next attempt in 1h0m0s, the latest: handler panicked: no paper
	//   the record: 1 attempt, 1 failure, the latest: handler panicked: no paper
}

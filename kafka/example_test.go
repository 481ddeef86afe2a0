package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// ordersConfig is the configuration of a consumer of the examples. A program names its own
// brokers; here the broker in memory takes any address.
func ordersConfig() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName:          "orders",
		Topic:            "orders",
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    "billing",
		InitialOffset:    kafka.OffsetOldest,
	}
}

// newExample returns a broker in memory with one partition of orders, and a manager
// that uses it.
func newExample(opts ...kafka.Option) (*memory.Broker, *kafka.Manager) {
	broker := memory.NewBroker()
	if err := broker.CreateTopic("orders", 1); err != nil {
		panic(err)
	}
	silent := kafka.WithLogger(slog.New(slog.DiscardHandler))
	return broker, kafka.New(broker, append([]kafka.Option{silent}, opts...)...)
}

// A program that consumes is one call. Its context ends with a signal, as that of
// signal.NotifyContext does; here it ends with the first record.
func Example() {
	broker := memory.NewBroker(memory.WithAutoCreate(1)) // sarama.Driver{} in a program
	m := kafka.New(broker, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	invoices, err := m.RegisterProducer(ctx, kafka.ProducerConfig{BootstrapServers: "localhost:9092"})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = broker.Send("orders", []byte("customer-7"), []byte("order 1"))

	err = m.Run(ctx, kafka.NewConsumer(ordersConfig(), func(ctx context.Context, m *kafka.Message) error {
		defer stop()
		fmt.Printf("%s of %s at offset %d\n", m.Value, m.Key, m.Offset)
		return invoices.Send(ctx, "invoices", m.Key, append([]byte("invoice for "), m.Value...))
	}))
	fmt.Println("run:", err)
	_, end, _ := broker.Offsets("invoices", 0)
	fmt.Println("invoices:", end)
	fmt.Println("committed:", broker.Committed("billing", "orders", 0))
	// Output:
	// order 1 of customer-7 at offset 0
	// run: <nil>
	// invoices: 1
	// committed: 1
}

// Registration reports everything that is wrong at once, and nothing is started.
func ExampleManager_Run_refused() {
	_, m := newExample()
	cfg := ordersConfig()
	cfg.ConsumerGroup, cfg.HeartbeatInterval = "", 5*time.Second
	handle := func(context.Context, *kafka.Message) error { return nil }
	err := m.Run(context.Background(), kafka.NewConsumer(cfg, handle))
	fmt.Println(err)
	var wrong *kafka.FieldError
	if errors.As(err, &wrong) {
		fmt.Println("the first field:", wrong.Field)
	}
	fmt.Println("consumers:", len(m.Consumers()))
	// Output:
	// kafka: consumer "orders": ConsumerGroup: is empty
	// kafka: consumer "orders": SessionTimeout: 10s is less than 3 x HeartbeatInterval (5s)
	// the first field: ConsumerGroup
	// consumers: 0
}

// Several records are handled by one call, such as one insert into a database.
func ExampleNewBatchConsumer() {
	broker, m := newExample()
	for i := range 5 {
		_ = broker.Send("orders", nil, fmt.Append(nil, i))
	}
	ctx, stop := context.WithCancel(context.Background())
	cfg := ordersConfig()
	cfg.MaxBatchSize = 3
	err := m.Run(ctx, kafka.NewBatchConsumer(cfg, func(_ context.Context, ms []*kafka.Message) error {
		var values []string
		for _, m := range ms {
			values = append(values, string(m.Value))
		}
		fmt.Println(strings.Join(values, " "))
		if ms[len(ms)-1].Offset == 4 {
			stop()
		}
		return nil
	}))
	fmt.Println("run:", err)
	// Output:
	// 0 1 2
	// 3 4
	// run: <nil>
}

// A switch acts at once. It belongs to the process: another instance of the service
// has its own.
func ExampleManager_SetConsumerSwitch() {
	states := make(chan kafka.State, 10)
	_, m := newExample(kafka.WithHook(stateHook{states: states}))
	handle := func(context.Context, *kafka.Message) error { return nil }
	_ = m.RegisterConsumer(context.Background(), kafka.NewConsumer(ordersConfig(), handle))
	_ = m.StartAllConsumers(context.Background())
	await := func(want kafka.State) {
		for s := range states {
			if s == want {
				fmt.Println(s)
				return
			}
		}
	}
	_ = m.SetConsumerSwitch("orders", true)
	await(kafka.StateRunning)
	_ = m.SetConsumerSwitch("orders", false)
	await(kafka.StateOff)
	fmt.Println(m.SetConsumerSwitch("invoices", true))
	_ = m.Shutdown(context.Background())
	// Output:
	// running
	// off
	// kafka: consumer "invoices": no consumer of that job name is registered
}

// A stateHook passes on the states of consumers.
type stateHook struct {
	kafka.NopHook
	states chan<- kafka.State
}

func (h stateHook) Event(e kafka.Event) {
	if e, ok := e.(kafka.StateChanged); ok {
		h.states <- e.To
	}
}

// An event has its partitions as values, and is readable as JSON.
func ExampleWithHook() {
	broker, m := newExample(kafka.WithHook(assignedHook{}))
	_ = broker.Send("orders", nil, nil)
	ctx, stop := context.WithCancel(context.Background())
	_ = m.Run(ctx, kafka.NewConsumer(ordersConfig(), func(context.Context, *kafka.Message) error {
		stop()
		return nil
	}))
	// Output:
	// assigned orders/0
	// {"JobName":"orders","Group":"billing","Partitions":["orders/0"]}
}

type assignedHook struct{ kafka.NopHook }

func (assignedHook) Event(e kafka.Event) {
	if e, ok := e.(kafka.PartitionsAssigned); ok {
		fmt.Println("assigned", e.Partitions[0])
		text, _ := json.Marshal(e)
		fmt.Printf("%s\n", text)
	}
}

// Middleware wraps the handlers of all consumers: for tracing, logging, or values that
// handlers expect in their context.
func ExampleWithMiddleware() {
	counting := func(next kafka.HandlerFunc) kafka.HandlerFunc {
		return func(ctx context.Context, ms []*kafka.Message) error {
			err := next(ctx, ms)
			fmt.Printf("%s: %d record, %v\n", kafka.JobName(ctx), len(ms), err)
			return err
		}
	}
	broker, m := newExample(kafka.WithMiddleware(counting))
	_ = broker.Send("orders", nil, nil)
	ctx, stop := context.WithCancel(context.Background())
	_ = m.Run(ctx, kafka.NewConsumer(ordersConfig(), func(context.Context, *kafka.Message) error {
		stop()
		return nil
	}))
	// Output: orders: 1 record, <nil>
}

// A message can have headers. After it has been sent it has its place.
func ExampleProducer_SendMessage() {
	_, m := newExample()
	defer m.Shutdown(context.Background())
	p, err := m.RegisterProducer(context.Background(), kafka.ProducerConfig{Name: "orders", BootstrapServers: "localhost:9092"})
	if err != nil {
		fmt.Println(err)
		return
	}
	sent := &kafka.ProducerMessage{
		Topic:   "orders",
		Key:     []byte("customer-7"),
		Value:   []byte("order 1"),
		Headers: []kafka.Header{{Key: "source", Value: []byte("shop")}},
	}
	fmt.Println(p.ID(), p.SendMessage(context.Background(), sent))
	fmt.Printf("%s/%d at %d\n", sent.Topic, sent.Partition, sent.Offset)
	err = p.Send(context.Background(), "no such topic", nil, nil)
	fmt.Println(errors.Is(err, kafka.ErrPermanent), err)
	// Output:
	// orders <nil>
	// orders/0 at 0
	// true kafka: send to "no such topic": INVALID_TOPIC_EXCEPTION: message.Topic: "no such topic" has a character outside a-z, A-Z, 0-9, '.', '_' and '-' (permanent)
}

// Callbacks run one after the other, in the order of the answers. Close waits for the
// last one.
func ExampleProducer_SendAsync() {
	_, m := newExample()
	defer m.Shutdown(context.Background())
	p, err := m.RegisterProducer(context.Background(), kafka.ProducerConfig{
		BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 3 {
		p.SendAsync(context.Background(), "orders", nil, fmt.Append(nil, "order ", i), func(m *kafka.ProducerMessage, err error) {
			fmt.Printf("%s at %d: %v\n", m.Value, m.Offset, err)
		})
	}
	fmt.Println("close:", p.Close())
	// Output:
	// order 0 at 0: <nil>
	// order 1 at 1: <nil>
	// order 2 at 2: <nil>
	// close: <nil>
}

func ExampleMessage_Header() {
	m := &kafka.Message{Headers: []kafka.Header{
		{Key: "hop", Value: []byte("shop")},
		{Key: "hop", Value: []byte("billing")},
	}}
	fmt.Printf("%s %q\n", m.Header("hop"), m.Header("none"))
	// Output: billing ""
}

// A handler that retries a call by itself waits as the library does.
func ExampleBackoff_Wait() {
	b := kafka.Backoff{Min: 100 * time.Millisecond, Max: time.Second, Jitter: kafka.NoJitter}
	for n := 1; n <= 5; n++ {
		fmt.Print(b.Wait(n), " ")
	}
	// Output: 100ms 200ms 400ms 800ms 1s
}

func ExampleTopicPartition() {
	var p kafka.TopicPartition
	fmt.Println(p.UnmarshalText([]byte("orders/3")), p.Topic, p.Partition, p)
	fmt.Println(p.UnmarshalText([]byte("orders")))
	// Output:
	// <nil> orders 3 orders/3
	// partition "orders" is not of the form topic/partition
}

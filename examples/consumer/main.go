// Command consumer is a service as teams write them: a handler that works on
// each order and sends a result, until the process is asked to stop. Then the
// orders under way are finished and their results sent, the offsets committed,
// the group left, and the producer closed.
//
//	consumer -brokers localhost:9092 -topic orders -results results
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

// An OrderConsumer handles the values of one topic.
type OrderConsumer struct {
	config   kafka.ConsumerConfig
	producer *kafka.Producer
	results  string
	work     time.Duration
}

// GetConfig returns the configuration.
func (c *OrderConsumer) GetConfig() *kafka.ConsumerConfig { return &c.config }

// Handle works on one order. A nil error lets it be committed: so the result
// is sent first, and its acknowledgement awaited.
func (c *OrderConsumer) Handle(ctx context.Context, value []byte) error {
	fmt.Printf("start %s\n", value)
	select {
	case <-time.After(c.work):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := c.producer.Send(ctx, c.results, nil, append([]byte("done "), value...)); err != nil {
		return err
	}
	fmt.Printf("handled %s\n", value)
	return nil
}

func main() {
	brokers := flag.String("brokers", "localhost:9092", "comma-separated host:port")
	topic := flag.String("topic", "orders", "topic to consume")
	results := flag.String("results", "results", "topic to send results to")
	group := flag.String("group", "orders", "consumer group")
	work := flag.Duration("work", 100*time.Millisecond, "how long one order takes")
	session := flag.Duration("session", 10*time.Second, "how long the group waits for a silent member")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	kafka.SetDefault(kafka.New(sarama.Driver{}))
	producer, err := kafka.RegisterProducer(ctx, kafka.ProducerConfig{BootstrapServers: *brokers})
	if err != nil {
		log.Fatal(err)
	}
	consumer := &OrderConsumer{
		config: kafka.ConsumerConfig{
			JobName:           "orders",
			Topic:             *topic,
			BootstrapServers:  *brokers,
			ConsumerGroup:     *group,
			InitialOffset:     kafka.OffsetOldest,
			SessionTimeout:    *session,
			HeartbeatInterval: *session / 4,
		},
		producer: producer,
		results:  *results,
		work:     *work,
	}
	if err := kafka.Run(ctx, consumer); err != nil {
		log.Fatal(err)
	}
}

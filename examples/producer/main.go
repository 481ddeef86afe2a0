// Command producer sends messages, some waiting for each acknowledgement and
// some with a callback, over the same client, and exits when all have been
// answered.
//
//	producer -brokers localhost:9092 -topic orders -n 10
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

func main() {
	brokers := flag.String("brokers", "localhost:9092", "comma-separated host:port")
	topic := flag.String("topic", "orders", "topic to send to")
	n := flag.Int("n", 10, "how many messages to send each way")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	kafka.SetDefault(kafka.New(sarama.Driver{}))
	if err := run(ctx, kafka.Default(), *brokers, *topic, *n, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "producer:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, m *kafka.Manager, brokers, topic string, n int, out io.Writer) error {
	producer, err := m.RegisterProducer(ctx, kafka.ProducerConfig{
		BootstrapServers:    brokers,
		RequiredAcks:        kafka.WaitForAll,
		MaxRetries:          3,
		RetryBackoff:        200 * time.Millisecond,
		EnableSyncProducer:  kafka.BoolPtr(true),
		EnableAsyncProducer: kafka.BoolPtr(true),
	})
	if err != nil {
		return err
	}
	sendErr := sendSync(ctx, producer, topic, n, out)
	if sendErr == nil {
		sendErr = sendAsync(ctx, producer, topic, n, out)
	}
	// Close answers every callback that is still to come.
	return errors.Join(sendErr, producer.Close())
}

func sendSync(ctx context.Context, producer *kafka.Producer, topic string, n int, out io.Writer) error {
	for i := range n {
		m := &kafka.ProducerMessage{Topic: topic, Key: fmt.Appendf(nil, "key-%d", i), Value: []byte("sync")}
		if err := producer.SendMessage(ctx, m); err != nil {
			return explain(err)
		}
		fmt.Fprintf(out, "sync:  %s/%d at %d\n", m.Topic, m.Partition, m.Offset)
	}
	return nil
}

func sendAsync(ctx context.Context, producer *kafka.Producer, topic string, n int, out io.Writer) error {
	var (
		pending sync.WaitGroup
		errs    []error // callbacks of one producer never overlap
	)
	for i := range n {
		pending.Add(1)
		producer.SendAsync(ctx, topic, fmt.Appendf(nil, "key-%d", i), []byte("async"), func(m *kafka.ProducerMessage, err error) {
			defer pending.Done()
			if err != nil {
				errs = append(errs, explain(err))
				return
			}
			fmt.Fprintf(out, "async: %s/%d at %d\n", m.Topic, m.Partition, m.Offset)
		})
	}
	pending.Wait()
	return errors.Join(errs...)
}

// explain says what a failed send means for the sender.
func explain(err error) error {
	if errors.Is(err, kafka.ErrUnknownOutcome) {
		return fmt.Errorf("may or may not be in the log: %w", err)
	}
	return fmt.Errorf("not in the log: %w", err)
}

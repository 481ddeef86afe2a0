// Command quickstart sends a few messages, consumes them, and prints what
// happens: on a broker inside the program, or with -brokers on a real Kafka,
// where the topic must exist. -driver chooses between the two drivers for a
// real Kafka. The program is the same with each driver but for the function
// that chooses it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

type options struct {
	driver, brokers, topic, group string
	count                         int
	follow                        bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	var o options
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.StringVar(&o.driver, "driver", "", "memory, sarama or franz; empty: memory, or sarama with -brokers")
	flags.StringVar(&o.brokers, "brokers", "", "host:port of a real Kafka; empty: a broker inside this program")
	flags.StringVar(&o.topic, "topic", "quickstart", "topic to send to and to consume")
	flags.StringVar(&o.group, "group", "quickstart", "consumer group")
	flags.IntVar(&o.count, "n", 5, "how many messages to send")
	flags.BoolVar(&o.follow, "follow", false, "go on consuming until interrupted")
	if err := flags.Parse(args); err != nil {
		return err
	}
	d, err := chooseDriver(&o)
	if err != nil {
		return err
	}
	out = &lockedWriter{w: out} // handlers of several partitions print at once
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	m := kafka.New(d, kafka.WithLogger(log))
	if err := send(ctx, m, o, out); err != nil {
		return err
	}
	return consume(ctx, m, o, out)
}

// chooseDriver returns the embedded broker with its topic, or a real client.
func chooseDriver(o *options) (driver.Driver, error) {
	name := o.driver
	if name == "" {
		name = "memory"
		if o.brokers != "" {
			name = "sarama"
		}
	}
	switch {
	case name == "memory" && o.brokers != "":
		return nil, errors.New("-driver memory has its broker inside the program and takes no -brokers")
	case name == "memory":
		o.brokers = "localhost:9092" // the embedded broker dials nothing
		broker := memory.NewBroker()
		return broker, broker.CreateTopic(o.topic, 3)
	case name != "sarama" && name != "franz":
		return nil, fmt.Errorf("-driver %q is none of memory, sarama, franz", name)
	case o.brokers == "":
		return nil, fmt.Errorf("-driver %s needs -brokers", name)
	case name == "franz":
		return franz.Driver{}, nil
	}
	return sarama.Driver{}, nil
}

// consume runs until all messages have been handled, or ctx ends. Then running handlers
// finish, their positions are committed, and the group is left.
func consume(ctx context.Context, m *kafka.Manager, o options, out io.Writer) error {
	if o.count == 0 && !o.follow {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var handled atomic.Int64
	return m.Run(ctx, kafka.NewConsumer(kafka.ConsumerConfig{
		JobName:          "quickstart",
		Topic:            o.topic,
		BootstrapServers: o.brokers,
		ConsumerGroup:    o.group,
		InitialOffset:    kafka.OffsetOldest,
	}, func(_ context.Context, r *kafka.Message) error {
		fmt.Fprintf(out, "handled %s/%d at %d: key %q, value %q%s\n", r.Topic, r.Partition, r.Offset, r.Key, r.Value, headers(r.Headers))
		if handled.Add(1) == int64(o.count) && !o.follow {
			stop()
		}
		return nil
	}))
}

// send sends the messages, and closes its producer.
func send(ctx context.Context, m *kafka.Manager, o options, out io.Writer) (err error) {
	producer, err := m.RegisterProducer(ctx, kafka.ProducerConfig{BootstrapServers: o.brokers})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, producer.Close()) }()
	for i := range o.count {
		r := &kafka.ProducerMessage{
			Topic:   o.topic,
			Key:     fmt.Appendf(nil, "key-%d", i),
			Value:   fmt.Appendf(nil, "message %d", i),
			Headers: []kafka.Header{{Key: "sender", Value: []byte("quickstart")}},
		}
		if err := producer.SendMessage(ctx, r); err != nil {
			return err
		}
		fmt.Fprintf(out, "sent    %s/%d at %d: key %q\n", r.Topic, r.Partition, r.Offset, r.Key)
	}
	return nil
}

type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func headers(hs []kafka.Header) string {
	var s string
	for _, h := range hs {
		s += fmt.Sprintf(", %s=%s", h.Key, h.Value)
	}
	return s
}

func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// Command operations shows the page for operators: three consumers on a broker inside
// the program, one with records that its handler fails, and one with dead letters. It prints
// the address.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkahttp"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "where to listen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *addr, os.Stdout); err != nil {
		log.Fatal("operations: ", err)
	}
}

func run(ctx context.Context, addr string, out io.Writer) error {
	broker, err := newBroker()
	if err != nil {
		return err
	}
	m := kafka.New(broker, kafka.WithLogger(slog.New(slog.DiscardHandler)))
	if err := register(ctx, m, emails(), payments(), invoices()); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "http://%s/kafka/\n", listener.Addr())
	server := &http.Server{Handler: routes(m), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	sending, stop := context.WithCancel(ctx)
	var sent sync.WaitGroup
	sent.Go(func() { send(sending, broker) })
	err = m.Run(ctx)
	stop() // also if Run has failed before ctx ended
	sent.Wait()
	err = errors.Join(err, server.Close())
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// newBroker returns a broker with the topics of the program.
func newBroker() (*memory.Broker, error) {
	broker := memory.NewBroker()
	for topic, partitions := range map[string]int{"emails": 3, "payments": 4, "payments.dlq": 1, "invoices": 2, "invoices.dlq": 1} {
		if err := broker.CreateTopic(topic, partitions); err != nil {
			return nil, err
		}
	}
	return broker, nil
}

// register registers consumers and switches them on, before the probes are served: a
// manager without consumers is ready.
func register(ctx context.Context, m *kafka.Manager, consumers ...kafka.Consumer) error {
	for _, c := range consumers {
		if err := m.RegisterConsumer(ctx, c); err != nil {
			return err
		}
		if err := m.SetConsumerSwitch(c.GetConfig().JobName, true); err != nil {
			return err
		}
	}
	return nil
}

// routes has the page below /kafka/. A program that others can reach puts its
// authentication in front of it.
func routes(m *kafka.Manager) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/kafka/", http.StripPrefix("/kafka", kafkahttp.New(m, kafkahttp.WithControls())))
	mux.Handle("/{$}", http.RedirectHandler("/kafka/", http.StatusSeeOther))
	return mux
}

func config(name string) kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: name, Topic: name, ConsumerGroup: "shop", BootstrapServers: "in-memory:9092",
		InitialOffset: kafka.OffsetOldest,
	}
}

// emails handles whatever comes.
func emails() kafka.Consumer {
	return kafka.NewConsumer(config("emails"), func(context.Context, *kafka.Message) error { return nil })
}

// payments fails some records until an operator decides.
func payments() kafka.Consumer {
	cfg := config("payments")
	cfg.Failure.DeadLetter.Topic = "{topic}.dlq"
	return kafka.NewConsumer(cfg, func(_ context.Context, m *kafka.Message) error {
		if string(m.Value) == "a currency that does not exist" {
			return errors.New(`charge: currency "XXX" does not exist`)
		}
		return nil
	})
}

// invoices makes a dead letter of each invoice whose customer has no address yet. When an
// operator redrives it, the address is there.
func invoices() kafka.Consumer {
	cfg := config("invoices")
	cfg.Failure = kafka.FailurePolicy{Then: kafka.FailureDeadLetter, MaxAttempts: 1}
	cfg.Failure.DeadLetter.Topic = "{topic}.dlq"
	return kafka.NewConsumer(cfg, func(_ context.Context, m *kafka.Message) error {
		if string(m.Value) == "no address" && m.Header(kafka.HeaderRedrives) == nil {
			return errors.New("the customer has no address")
		}
		return nil
	})
}

// send sends records until ctx ends: every fiftieth payment cannot be handled, and every
// twentieth invoice not yet.
func send(ctx context.Context, broker *memory.Broker) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		payment, invoice := "10 EUR", "an address"
		if n%20 == 3 {
			invoice = "no address"
		}
		if n%50 == 5 {
			payment = "a currency that does not exist"
		}
		key := fmt.Appendf(nil, "customer-%d", rand.IntN(1000))
		for topic, value := range map[string]string{"emails": "hello", "payments": payment, "invoices": invoice} {
			if err := broker.Send(topic, key, []byte(value)); err != nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

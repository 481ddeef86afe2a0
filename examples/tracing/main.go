// Command tracing shows one order's trace: the request that sends it, the topic,
// a handler that fails twice, and the result that it sends on. It runs on a
// broker inside the program and ends by itself:
//
//	go -C examples/tracing run .
//
// On a real Kafka, whose topics exist, producer and consumer may be two
// processes, and make one trace all the same:
//
//	go -C examples/tracing run . -brokers localhost:9092 -role consume
//	go -C examples/tracing run . -brokers localhost:9092 -role produce
//
// Spans and metrics are printed at the end, and sent by OTLP where -otlp, or
// OTEL_EXPORTER_OTLP_ENDPOINT, names a receiver.
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
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
	otelkafka "github.com/aarontianqx/gopkg/otel"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tracing:", err)
		os.Exit(1)
	}
}

type options struct {
	brokers, orders, results, group, role, otlp string
}

func (o options) produces() bool { return o.role != "consume" }
func (o options) consumes() bool { return o.role != "produce" }

func parse(args []string) (options, error) {
	var o options
	flags := flag.NewFlagSet("tracing", flag.ContinueOnError)
	flags.StringVar(&o.brokers, "brokers", "", "host:port of a real Kafka; empty: a broker inside this program")
	flags.StringVar(&o.orders, "topic", "orders", "topic of the orders")
	flags.StringVar(&o.results, "results", "results", "topic of the results")
	flags.StringVar(&o.group, "group", "shop", "consumer group")
	flags.StringVar(&o.role, "role", "both", "produce, consume, or both")
	flags.StringVar(&o.otlp, "otlp", os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), "URL of an OTLP/HTTP endpoint, as http://localhost:4318")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch o.role {
	case "both":
	case "produce", "consume":
		if o.brokers == "" {
			return o, errors.New("a role of its own needs -brokers")
		}
	default:
		return o, fmt.Errorf("unknown role %q", o.role)
	}
	return o, nil
}

// run does the program's work, and then stops in order: what consumes and
// sends, and after that, when the last span has ended, what exports.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	d, err := chooseDriver(&o)
	if err != nil {
		return err
	}
	t, err := startTelemetry(ctx, o)
	if err != nil {
		return err
	}
	committed := commits{made: make(chan struct{}, 1)}
	m := kafka.New(d,
		kafka.WithLogger(slog.New(slog.DiscardHandler)), // the trace shows the same
		kafka.WithHook(committed, otelkafka.New(
			otelkafka.WithTracerProvider(t.tracers),
			otelkafka.WithMeterProvider(t.meters),
			otelkafka.WithAttemptSpans(true),
		)))
	err = work(ctx, m, t, committed, o)
	bound, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	measured, failed := t.measure(bound) // before the shutdown, after which there is no lag
	err = errors.Join(err, failed, m.Shutdown(bound), t.shutdown(bound))
	t.spans.print(out)
	printMetrics(out, measured)
	return err
}

// commits is a hook of our own, beside OpenTelemetry's: it reports commits.
type commits struct {
	kafka.NopHook
	made chan struct{}
}

// Start asks for the end of commits.
func (c commits) Start(ctx context.Context, op *kafka.Op) (context.Context, kafka.OpToken) {
	if op.Kind == kafka.OpCommit {
		return ctx, c
	}
	return ctx, nil
}

// End reports a commit that was made.
func (c commits) End(_ kafka.OpToken, op *kafka.Op) {
	if op.Err != nil {
		return
	}
	select {
	case c.made <- struct{}{}:
	default:
	}
}

// chooseDriver returns the embedded broker with its topics, or a real client.
func chooseDriver(o *options) (driver.Driver, error) {
	if o.brokers != "" {
		return sarama.Driver{}, nil
	}
	o.brokers = "localhost:9092" // the embedded broker dials nothing
	broker := memory.NewBroker()
	return broker, errors.Join(broker.CreateTopic(o.orders, 1), broker.CreateTopic(o.results, 1))
}

// work takes an order, if the program produces, and waits until one has been
// handled and committed, if it consumes.
func work(ctx context.Context, m *kafka.Manager, t *telemetry, committed commits, o options) error {
	p, err := m.RegisterProducer(ctx, kafka.ProducerConfig{BootstrapServers: o.brokers, ClientID: "shop-" + o.role})
	if err != nil {
		return err
	}
	if o.consumes() {
		if err := consume(ctx, m, &shipping{p, o.results}, o); err != nil {
			return err
		}
	}
	if o.produces() {
		if err := takeOrder(ctx, t, p, o.orders); err != nil {
			return err
		}
	}
	if o.consumes() {
		select {
		case <-committed.made:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// takeOrder stands for the handler of a request, whose span is the root of the
// trace: the send's is its child, since the send gets its context.
func takeOrder(ctx context.Context, t *telemetry, p *kafka.Producer, topic string) error {
	ctx, span := t.tracers.Tracer("shop").Start(ctx, "POST /orders")
	defer span.End()
	return p.Send(ctx, topic, []byte("order-17"), []byte(`{"book": 1}`))
}

func consume(ctx context.Context, m *kafka.Manager, s *shipping, o options) error {
	err := m.RegisterConsumer(ctx, kafka.NewConsumer(kafka.ConsumerConfig{
		JobName:          "shipping",
		Topic:            o.orders,
		BootstrapServers: o.brokers,
		ConsumerGroup:    o.group,
		InitialOffset:    kafka.OffsetOldest,
		Backoff:          kafka.Backoff{Min: 50 * time.Millisecond},
	}, s.handle))
	if err != nil {
		return err
	}
	if err := m.SetConsumerSwitch("shipping", true); err != nil {
		return err
	}
	return m.StartAllConsumers(ctx)
}

// A shipping handles orders. Its first two attempts at one fail.
type shipping struct {
	producer *kafka.Producer
	results  string
}

// errNoCourier is an error with a name, which becomes the error.type of spans
// and metrics: a type of the caller's own, or Kafka's, and never the text.
type errNoCourier struct{ attempt int }

func (e errNoCourier) Error() string     { return fmt.Sprintf("no courier at attempt %d", e.attempt) }
func (e errNoCourier) ErrorType() string { return "NO_COURIER" }

// handle sends with the context that it gets, so that the result belongs to the
// order's trace.
func (s *shipping) handle(ctx context.Context, m *kafka.Message) error {
	if m.Attempt < 3 {
		return errNoCourier{m.Attempt}
	}
	return s.producer.Send(ctx, s.results, m.Key, []byte("shipped"))
}

package kafkatest

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A Kafka is a broker in memory with a manager on it, for one test. Two of them
// share nothing.
type Kafka struct {
	*kafka.Manager

	// Broker is the cluster, with the hands that a test needs beyond those here.
	Broker *memory.Broker

	// Timeout bounds each wait, and the shutdown at the end of the test. Default
	// 5s; in a synctest bubble, where waiting costs nothing, ten minutes, which is
	// more than the default backoffs of ten attempts.
	Timeout time.Duration

	t testing.TB

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced when a wait may be over
	records  map[position]*history
	members  []*member
	states   []kafka.StateChanged
	refusals refusals

	retryTopics map[string][]string // by job
}

// New returns a Kafka without topics that is shut down when t ends, as the
// package comment says. A topic that is asked for comes into being with one
// partition; for more see [Kafka.CreateTopic].
//
// The manager logs to t's output. opts are applied after that.
func New(t testing.TB, opts ...kafka.Option) *Kafka {
	t.Helper()
	k := &Kafka{
		Broker:  memory.NewBroker(memory.WithAutoCreate(1)),
		Timeout: defaultTimeout(),
		t:       t,
		changed: make(chan struct{}),
		records: make(map[position]*history),

		retryTopics: make(map[string][]string),
	}
	out := &output{w: t.Output()}
	// The observation is the outermost middleware, so that it sees what the core
	// sees, and the last hook, so that a wait is over when the test's own have
	// returned.
	first := []kafka.Option{
		kafka.WithLogger(slog.New(slog.NewTextHandler(out, nil))),
		kafka.WithMiddleware(k.observe),
	}
	opts = slices.Concat(first, opts, []kafka.Option{kafka.WithHook(hook{k: k})})
	k.Manager = kafka.New(&cluster{k.Broker, k}, opts...)
	t.Cleanup(func() {
		t.Helper()
		k.close()
		out.end()
	})
	return k
}

// defaultTimeout recognizes a bubble by its clock, which begins with the year 2000.
func defaultTimeout() time.Duration {
	if time.Now().UTC().Year() == 2000 {
		return 10 * time.Minute
	}
	return 5 * time.Second
}

// close shuts down in the manager's order. The switches follow after a while, to
// cancel the contexts of the handlers that still run: by itself a shutdown does
// that only when its deadline is near. Before it they would be too early. This
// could happen: a test ends while a handler sends, the switch cancels the send,
// and what was all but done is not committed.
func (k *Kafka) close() {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), k.Timeout)
	defer cancel()
	off := make(chan struct{})
	grace := time.AfterFunc(k.Timeout/graceShare, func() {
		defer close(off)
		k.switchOff()
	})
	err := k.Shutdown(ctx)
	if !grace.Stop() {
		<-off
	}
	if err != nil {
		k.t.Errorf("kafkatest: %v", err)
	}
}

// graceShare is the share of the timeout that handlers have at the end of a test
// before their contexts are cancelled: 100ms by default.
const graceShare = 50

// switchOff switches all consumers off.
func (k *Kafka) switchOff() {
	k.t.Helper()
	for _, s := range k.Consumers() {
		if err := k.SetConsumerSwitch(s.JobName, false); err != nil {
			k.t.Errorf("kafkatest: %v", err)
		}
	}
}

// Start registers consumers, switches them on, starts the manager, and waits
// until every consumer that is switched on is running and has its partitions.
// It may be called again with more consumers.
func (k *Kafka) Start(consumers ...kafka.Consumer) {
	k.t.Helper()
	for _, c := range consumers {
		if err := k.register(c); err != nil {
			k.t.Fatalf("kafkatest: start: %v", err)
		}
	}
	if err := k.StartAllConsumers(context.Background()); err != nil {
		k.t.Fatalf("kafkatest: start: %v", err)
	}
	k.wait(k.allSettled, func() string {
		return "the consumers to have their partitions\n" + k.describeAll()
	})
}

// Producer returns a new producer for sync and async sends, with defaults for
// the rest. It is closed with the test.
func (k *Kafka) Producer() *kafka.Producer {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), k.Timeout)
	defer cancel()
	p, err := k.RegisterProducer(ctx, kafka.ProducerConfig{
		BootstrapServers:    "localhost:9092",
		EnableAsyncProducer: kafka.BoolPtr(true),
	})
	if err != nil {
		k.t.Fatalf("kafkatest: producer: %v", err)
	}
	return p
}

// CreateTopic creates a topic, which must not exist yet.
func (k *Kafka) CreateTopic(name string, partitions int) {
	k.t.Helper()
	if err := k.Broker.CreateTopic(name, partitions); err != nil {
		k.t.Fatalf("kafkatest: create topic: %v", err)
	}
}

// Send appends a record, as a producer elsewhere would, and returns it. An
// empty key stands for none: the record then goes to any partition.
func (k *Kafka) Send(topic, key, value string) *kafka.Message {
	k.t.Helper()
	m := &kafka.ProducerMessage{Topic: topic, Value: []byte(value)}
	if key != "" {
		m.Key = []byte(key)
	}
	return k.SendMessage(m)
}

// SendMessage is Send for a message with headers, a timestamp or a partition, a
// tombstone, or an empty key. It sets m.Partition and m.Offset.
func (k *Kafka) SendMessage(m *kafka.ProducerMessage) *kafka.Message {
	k.t.Helper()
	at := m.Timestamp
	if at.IsZero() {
		at = time.Now()
	}
	at = at.Truncate(time.Millisecond)
	opts := []memory.SendOption{memory.Headers(m.Headers...), memory.Timestamp(at), memory.Placed(&m.Partition, &m.Offset)}
	if m.ToPartition != nil {
		opts = append(opts, memory.ToPartition(*m.ToPartition))
	}
	if err := k.Broker.Send(m.Topic, m.Key, m.Value, opts...); err != nil {
		k.t.Fatalf("kafkatest: send to %q: %v", m.Topic, err)
	}
	return &kafka.Message{
		Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: at,
		Key: m.Key, Value: m.Value, Headers: m.Headers,
	}
}

// Produced returns what a committed reader finds in a topic, whoever sent it: by
// partition, in the order of the log. Of an unknown topic that is nothing.
func (k *Kafka) Produced(topic string) []*kafka.Message {
	k.t.Helper()
	var all []*kafka.Message
	for p := range int32(k.Broker.Partitions(topic)) {
		records, err := k.Broker.Records(topic, p, driver.ReadCommitted)
		if err != nil {
			k.t.Fatalf("kafkatest: read %s/%d: %v", topic, p, err)
		}
		for _, r := range records {
			all = append(all, &kafka.Message{
				Topic: topic, Partition: p, Offset: r.Offset, Timestamp: r.Timestamp,
				Key: r.Key, Value: r.Value, Headers: r.Headers,
			})
		}
	}
	return all
}

// Committed returns the position that a job's group has committed for a
// partition: the offset after the last record that is done, or -1.
func (k *Kafka) Committed(job, topic string, partition int32) int64 {
	k.t.Helper()
	return k.Broker.Committed(k.must(job).Group, topic, partition)
}

// must returns the status of the consumer of that job name.
func (k *Kafka) must(job string) kafka.ConsumerStatus {
	k.t.Helper()
	s, err := k.Consumer(job)
	if err != nil {
		k.t.Fatalf("kafkatest: there is no consumer %q\n%s", job, k.describeAll())
	}
	return s
}

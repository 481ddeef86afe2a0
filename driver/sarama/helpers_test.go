package sarama

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// patienceTest is how long a test waits for what must happen.
const patienceTest = 15 * time.Second

// shortTime is what -short gives the tests over kfake, which take minutes.
var shortTime = testkit.Budget{Total: 10 * time.Second}

func fake(t testing.TB, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	shortTime.Spend(t)
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(1, "t"),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
		kfake.GroupMinSessionTimeout(time.Second),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func consumerConfig(brokers []string) driver.ConsumerConfig {
	return driver.ConsumerConfig{
		Brokers: brokers, ClientID: "test", Group: "g", Topics: []string{"t"},
		InitialOffset:     driver.OffsetOldest,
		BalanceStrategies: []driver.BalanceStrategy{driver.RoundRobin},
		SessionTimeout:    10 * time.Second, HeartbeatInterval: 200 * time.Millisecond,
		RebalanceTimeout: 20 * time.Second, DrainTimeout: 5 * time.Second,
		MaxProcessingTime: 100 * time.Millisecond, MaxMessageBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func producerConfig(brokers []string) driver.ProducerConfig {
	return driver.ProducerConfig{
		Brokers: brokers, ClientID: "test", Idempotent: true,
		MaxRetries: 10, RetryBackoff: 50 * time.Millisecond, MaxMessageBytes: 1 << 20,
		Logger: slog.New(slog.DiscardHandler),
	}
}

// seed writes n records to one partition by another client.
func seed(t testing.TB, brokers []string, topic string, partition int32, values ...string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	var records []*kgo.Record
	for _, v := range values {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: []byte(v)})
	}
	if err := cl.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func numbered(from, to int) (values []string) {
	for i := from; i < to; i++ {
		values = append(values, fmt.Sprint(i))
	}
	return values
}

// A recorder is a Handler that writes down what happens, and can be made to act.
type recorder struct {
	onRevoke func(ctx context.Context, cs []*driver.Claim)
	onAssign func(cs []*driver.Claim)
	onRecord func(c *driver.Claim, r driver.Record)
	onLost   func()

	mu       sync.Mutex
	changed  chan struct{}
	joins    int // calls of Assign
	assigned []*driver.Claim
	live     map[*driver.Claim]bool
	records  []got
	revoked  []*driver.Claim
	lost     []*driver.Claim
	causes   []error
	errs     []error
	starts   []driver.NoPositionError
	faults   []string // violations of the order of calls
	next     map[*driver.Claim]int64
}

type got struct {
	claim     *driver.Claim
	partition int32
	offset    int64
	value     string
}

func newRecorder() *recorder {
	return &recorder{live: map[*driver.Claim]bool{}, next: map[*driver.Claim]int64{}, changed: make(chan struct{})}
}

func (r *recorder) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *recorder) Assign(cs []*driver.Claim) {
	if r.onAssign != nil {
		r.onAssign(cs)
	}
	r.update(func() {
		r.joins++
		for _, c := range cs {
			for other := range r.live {
				if other.Topic == c.Topic && other.Partition == c.Partition {
					r.fault("two claims of %s/%d are live", c.Topic, c.Partition)
				}
			}
			r.live[c] = true
			r.next[c] = c.Start
		}
		r.assigned = append(r.assigned, cs...)
	})
}

func (r *recorder) Deliver(c *driver.Claim, b driver.Batch) {
	if r.onRecord != nil {
		for _, rec := range b.Records {
			r.onRecord(c, rec)
		}
	}
	r.update(func() {
		if !r.live[c] {
			r.fault("delivery for a claim that is not live")
		}
		for _, rec := range b.Records {
			if rec.Offset < r.next[c] {
				r.fault("%s/%d: offset %d after %d", c.Topic, c.Partition, rec.Offset, r.next[c]-1)
			}
			r.next[c] = rec.Offset + 1
			r.records = append(r.records, got{c, c.Partition, rec.Offset, string(rec.Value)})
		}
	})
}

func (r *recorder) Revoke(ctx context.Context, cs []*driver.Claim) {
	if _, ok := ctx.Deadline(); !ok {
		r.update(func() { r.fault("Revoke without a deadline") })
	}
	if r.onRevoke != nil {
		r.onRevoke(ctx, cs)
	}
	r.update(func() { r.revoked = append(r.revoked, cs...); r.ended(cs) })
}

func (r *recorder) Lost(cs []*driver.Claim, cause error) {
	if r.onLost != nil {
		r.onLost()
	}
	r.update(func() { r.lost = append(r.lost, cs...); r.causes = append(r.causes, cause); r.ended(cs) })
}

func (r *recorder) ended(cs []*driver.Claim) {
	for _, c := range cs {
		if !r.live[c] {
			r.fault("%s/%d ended twice", c.Topic, c.Partition)
		}
		delete(r.live, c)
	}
}

// Error keeps starts without a position apart: most tests begin with one.
func (r *recorder) Error(err error) {
	r.update(func() {
		var start *driver.NoPositionError
		if errors.As(err, &start) {
			r.starts = append(r.starts, *start)
			return
		}
		r.errs = append(r.errs, err)
	})
}

// wait waits until cond, which is called with the recorder locked, is true.
func (r *recorder) wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	r.waitFor(t, patienceTest, what, cond)
}

func (r *recorder) waitFor(t testing.TB, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Fatalf("%s did not happen; joins %d, assigned %d, records %d, revoked %d, lost %d, errors %v",
				what, r.joins, len(r.assigned), len(r.records), len(r.revoked), len(r.lost), r.errs)
		}
	}
}

func (r *recorder) waitRecords(t testing.TB, n int) {
	t.Helper()
	r.wait(t, fmt.Sprintf("delivery of %d records", n), func() bool { return len(r.records) >= n })
}

func (r *recorder) values() (values []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.records {
		values = append(values, g.value)
	}
	return values
}

// claim returns the live claim of a partition.
func (r *recorder) claim(partition int32) *driver.Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.live {
		if c.Partition == partition {
			return c
		}
	}
	return nil
}

// A member is a running consumer.
type running struct {
	*consumer
	*recorder
	done chan error
}

func start(t testing.TB, d Driver, cfg driver.ConsumerConfig, r *recorder) *running {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patienceTest)
	defer cancel()
	c, err := d.OpenConsumer(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	m := &running{c.(*consumer), r, make(chan error, 1)}
	go func() { m.done <- c.Run(r) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := m.Close(ctx); err != nil {
			t.Errorf("Close = %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.faults) > 0 {
			t.Errorf("handler was called against the contract: %q", r.faults)
		}
		if len(r.live) > 0 {
			t.Errorf("%d claims were never ended", len(r.live))
		}
	})
	return m
}

// stop closes the consumer and returns what Run returned.
func (m *running) stop(t testing.TB) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patienceTest)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Fatalf("Close = %v", err)
	}
	return m.ranOut(t)
}

func (m *running) ranOut(t testing.TB) error {
	t.Helper()
	select {
	case err := <-m.done:
		m.done <- err
		return err
	case <-time.After(patienceTest):
		t.Fatal("Run did not return")
		return nil
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// acks counts acknowledgements by message.
type acks struct {
	mu      sync.Mutex
	results map[int][]error
}

func newAcks() *acks { return &acks{results: map[int][]error{}} }

type ack struct {
	to *acks
	id int
}

func (a ack) Ack(err error) {
	a.to.mu.Lock()
	defer a.to.mu.Unlock()
	a.to.results[a.id] = append(a.to.results[a.id], err)
}

func (a *acks) of(id int) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.results[id])
}

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A recorder is a Handler that records its calls. It fails the test when a call breaks
// the life of a claim.
type recorder struct {
	t        require.TestingT
	onAssign func()
	onRevoke func(ctx context.Context, cs []*driver.Claim)

	mu     sync.Mutex
	claims []*driver.Claim // live, in the order of assignment
	window map[*driver.Claim]context.Context
	all    []*driver.Claim
	values map[*driver.Claim][]string
	next   map[*driver.Claim]int64
	lost   []error
	errs   []error // except the starts without a position
	starts []*driver.NoPositionError
	log    []string // "assign t/0", "revoke t/0", "lost t/0"
	joins  int
}

func newRecorder(t require.TestingT) *recorder {
	return &recorder{
		t: t, window: map[*driver.Claim]context.Context{},
		values: map[*driver.Claim][]string{}, next: map[*driver.Claim]int64{},
	}
}

func name(c *driver.Claim) string { return fmt.Sprintf("%s/%d", c.Topic, c.Partition) }

func (r *recorder) Assign(cs []*driver.Claim) {
	if r.onAssign != nil {
		r.onAssign()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.joins++
	for _, c := range cs {
		for _, live := range r.claims {
			over := r.window[live] != nil && r.window[live].Err() != nil
			assert.Falsef(r.t, name(live) == name(c) && !over, "assign %s: another claim of it is live", name(c))
		}
		r.log = append(r.log, "assign "+name(c))
		r.claims, r.all = append(r.claims, c), append(r.all, c)
		r.next[c] = c.Start
	}
}

func (r *recorder) Deliver(c *driver.Claim, b driver.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Truef(r.t, slices.Contains(r.claims, c), "deliver %s: the claim is not live", name(c))
	for _, rec := range b.Records {
		assert.GreaterOrEqualf(r.t, rec.Offset, r.next[c], "deliver %s", name(c))
		r.next[c] = rec.Offset + 1
		r.values[c] = append(r.values[c], string(rec.Value))
	}
	if b.Next != 0 {
		r.next[c] = b.Next
	}
}

func (r *recorder) Revoke(ctx context.Context, cs []*driver.Claim) {
	r.mu.Lock()
	for _, c := range cs {
		r.window[c] = ctx
	}
	r.mu.Unlock()
	if r.onRevoke != nil {
		r.onRevoke(ctx, cs)
	}
	r.end("revoke ", cs)
}

func (r *recorder) Lost(cs []*driver.Claim, cause error) {
	r.end("lost ", cs)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = append(r.lost, cause)
}

func (r *recorder) end(how string, cs []*driver.Claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range cs {
		i := slices.Index(r.claims, c)
		if !assert.GreaterOrEqualf(r.t, i, 0, "%s%s: the claim is not live", how, name(c)) {
			continue
		}
		r.claims = slices.Delete(r.claims, i, i+1)
		r.log = append(r.log, how+name(c))
	}
}

func (r *recorder) Error(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if start, ok := errors.AsType[*driver.NoPositionError](err); ok {
		r.starts = append(r.starts, start)
		return
	}
	r.errs = append(r.errs, err)
}

// held returns the partitions that are assigned, in order.
func (r *recorder) held() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := []string{}
	for _, c := range r.claims {
		names = append(names, name(c))
	}
	slices.Sort(names)
	return names
}

func (r *recorder) takeLog() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.log
	r.log = nil
	slices.Sort(l)
	return l
}

func (r *recorder) claim(partition int32) *driver.Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.claims, func(c *driver.Claim) bool { return c.Partition == partition })
	require.GreaterOrEqualf(r.t, i, 0, "partition %d is not assigned", partition)
	return r.claims[i]
}

func (r *recorder) got(c *driver.Claim) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.values[c])
}

func (r *recorder) position(c *driver.Claim) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next[c]
}

// A runner is a consumer that runs.
type runner struct {
	*recorder
	driver.Consumer
	done chan struct{}
	err  error // what Run has returned, when done is closed
}

func consumerConfig(change ...func(*driver.ConsumerConfig)) driver.ConsumerConfig {
	cfg := driver.ConsumerConfig{
		Brokers: []string{"memory:9092"}, ClientID: "test", Group: "g", Topics: []string{"t"},
		InitialOffset:     driver.OffsetOldest,
		BalanceStrategies: []driver.BalanceStrategy{driver.RoundRobin},
		SessionTimeout:    10 * time.Second, HeartbeatInterval: 3 * time.Second,
		RebalanceTimeout: time.Minute, DrainTimeout: 5 * time.Second, MaxMessageBytes: 1 << 20,
	}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}

func producerConfig() driver.ProducerConfig {
	return driver.ProducerConfig{
		Brokers: []string{"memory:9092"}, Idempotent: true,
		MaxRetries: 3, RetryBackoff: 100 * time.Millisecond, MaxMessageBytes: 1 << 20,
	}
}

// run opens a consumer and runs it until the end of the test.
func run(t *testing.T, b *memory.Broker, change ...func(*driver.ConsumerConfig)) *runner {
	t.Helper()
	return runWith(t, b, newRecorder(t), change...)
}

func runWith(t *testing.T, b *memory.Broker, rec *recorder, change ...func(*driver.ConsumerConfig)) *runner {
	t.Helper()
	c, err := b.OpenConsumer(t.Context(), consumerConfig(change...))
	require.NoError(t, err)
	r := &runner{recorder: rec, Consumer: c, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = c.Run(rec)
	}()
	t.Cleanup(func() { c.Close(testkit.Ended()) })
	synctest.Wait()
	return r
}

func newBroker(t testing.TB, partitions int, opts ...memory.Option) *memory.Broker {
	t.Helper()
	b := memory.NewBroker(opts...)
	require.NoError(t, b.CreateTopic("t", partitions))
	return b
}

// send appends values to one partition without a producer.
func send(t *testing.T, b *memory.Broker, partition int32, values ...string) {
	t.Helper()
	for _, v := range values {
		require.NoError(t, b.Send("t", nil, []byte(v), memory.ToPartition(partition)))
	}
}

func mark(c *driver.Claim, offset int64) []driver.Mark {
	return []driver.Mark{{Claim: c, Offset: offset}}
}

// gone is the time until a group removes a member whose link was cut just after it had
// sent a heartbeat.
const gone = 10*time.Second + time.Millisecond

// batches is a Handler that records the sizes of the batches of one claim.
type batches struct {
	testkit.Idle
	sizes []int
}

func (b *batches) Deliver(_ *driver.Claim, bt driver.Batch) {
	b.sizes = append(b.sizes, len(bt.Records))
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func TestMain(m *testing.M) { testkit.NoLeaksBesideSarama(m) }

// A fakeDriver lets a test play the driver's part by hand: it delivers, revokes and
// loses claims at the moment the test chooses, which no broker would. It allows what
// the contract allows.
type fakeDriver struct {
	mu         sync.Mutex
	consumers  []*fakeConsumer
	producers  []*fakeProducer
	openErr    func(n int) error                      // for the n-th OpenConsumer, from 1
	opening    func(ctx context.Context, n int) error // likewise; may take its time
	configured func(driver.ConsumerConfig)            // sees what OpenConsumer gets
	opened     int
	commit     func(ctx context.Context, marks []driver.Mark) error

	openProducer func(ctx context.Context, n int) error // for the n-th OpenProducer, from 1
	producerN    int
}

func (d *fakeDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	if d.configured != nil {
		d.mu.Lock()
		d.configured(cfg)
		d.mu.Unlock()
	}
	if d.opening != nil {
		if err := d.opening(ctx, d.openCount()+1); err != nil {
			d.mu.Lock()
			d.opened++
			d.mu.Unlock()
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opened++
	if d.openErr != nil {
		if err := d.openErr(d.opened); err != nil {
			return nil, err
		}
	}
	c := &fakeConsumer{d: d, cfg: cfg, end: make(chan error, 1), ran: make(chan struct{})}
	d.consumers = append(d.consumers, c)
	return c, nil
}

func (d *fakeDriver) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	p := &fakeProducer{d: d, cfg: cfg}
	d.mu.Lock()
	d.producerN++
	n, open := d.producerN, d.openProducer
	d.mu.Unlock()
	if open != nil {
		if err := open(ctx, n); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.producers = append(d.producers, p)
	return p, nil
}

func (d *fakeDriver) openCount() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opened
}

// consumer returns the latest consumer that was opened.
func (d *fakeDriver) consumer(t testing.TB) *fakeConsumer {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	require.NotEmpty(t, d.consumers, "no consumer was opened")
	return d.consumers[len(d.consumers)-1]
}

type fakeConsumer struct {
	d       *fakeDriver
	cfg     driver.ConsumerConfig
	end     chan error            // Run returns what is sent
	closing func(context.Context) // what Close does first, if anything
	pausing func()                // what Pause and Resume do first, if anything
	ran     chan struct{}         // closed when Run has returned, or Close came first

	mu      sync.Mutex
	h       driver.Handler
	claims  []*driver.Claim
	durable []driver.Mark // in the order of the answers
	closed  bool
	pauses  []string
	paused  map[*driver.Claim]bool
}

func (c *fakeConsumer) Run(h driver.Handler) error {
	defer close(c.ran)
	c.mu.Lock()
	c.h = h
	c.mu.Unlock()
	h.Assign(nil)
	err := <-c.end
	c.mu.Lock()
	left := c.claims
	c.claims = nil
	c.mu.Unlock()
	if err != nil && len(left) > 0 {
		h.Lost(left, err)
	}
	return err
}

func (c *fakeConsumer) Commit(ctx context.Context, marks []driver.Mark) error {
	if c.d.commit != nil {
		if err := c.d.commit(ctx, marks); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.durable = append(c.durable, marks...)
	return nil
}

func (c *fakeConsumer) Pause(claims ...*driver.Claim) { c.notePause("pause", claims) }

func (c *fakeConsumer) Resume(claims ...*driver.Claim) { c.notePause("resume", claims) }

func (c *fakeConsumer) notePause(what string, claims []*driver.Claim) {
	if c.pausing != nil {
		c.pausing()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.paused == nil {
		c.paused = map[*driver.Claim]bool{}
	}
	for _, cl := range claims {
		c.pauses = append(c.pauses, fmt.Sprintf("%s %d", what, cl.Partition))
		c.paused[cl] = what == "pause"
	}
}

// isPaused reports whether the core has paused a claim.
func (c *fakeConsumer) isPaused(cl *driver.Claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.paused[cl]
}

func (c *fakeConsumer) pauseLog() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.pauses)
}

func (c *fakeConsumer) Close(ctx context.Context) error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	h, claims := c.h, c.claims
	c.claims = nil
	c.mu.Unlock()
	if c.closing != nil {
		c.closing(ctx)
	}
	if h == nil {
		return nil
	}
	if len(claims) > 0 {
		revoked := make(chan struct{})
		go func() { defer close(revoked); h.Revoke(ctx, claims) }()
		<-revoked
	}
	select {
	case c.end <- nil:
	default:
	}
	<-c.ran
	return ctx.Err()
}

// assign makes a claim of the job's topic that starts at start.
func (c *fakeConsumer) assign(partition int32, start int64) *driver.Claim {
	cl := &driver.Claim{Topic: c.cfg.Topics[0], Partition: partition, Start: start}
	c.mu.Lock()
	c.claims = append(c.claims, cl)
	h := c.h
	c.mu.Unlock()
	h.Assign([]*driver.Claim{cl})
	return cl
}

// deliver hands over records with the offsets from up to and including to,
// whose values are their offsets.
func (c *fakeConsumer) deliver(cl *driver.Claim, from, to int64) {
	var b driver.Batch
	for o := from; o <= to; o++ {
		b.Records = append(b.Records, driver.Record{Offset: o, Value: fmt.Append(nil, o)})
	}
	c.h.Deliver(cl, b)
}

// take removes a claim from those that Close would revoke.
func (c *fakeConsumer) take(cl *driver.Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.claims = slices.DeleteFunc(c.claims, func(x *driver.Claim) bool { return x == cl })
}

// revoke runs a revocation with the configured window, to its end.
func (c *fakeConsumer) revoke(cl *driver.Claim) {
	c.take(cl)
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.DrainTimeout)
	defer cancel()
	c.h.Revoke(ctx, []*driver.Claim{cl})
}

func (c *fakeConsumer) lose(cl *driver.Claim) {
	c.take(cl)
	c.h.Lost([]*driver.Claim{cl}, errors.New("session expired"))
}

// committed returns the positions that were made durable for a claim.
func (c *fakeConsumer) committed(cl *driver.Claim) []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	var offsets []int64
	for _, m := range c.durable {
		if m.Claim == cl {
			offsets = append(offsets, m.Offset)
		}
	}
	return offsets
}

// position returns the last committed position of cl, or -1. A test that delivers to
// two partitions at once asks for it: either may run empty first, and what the other
// has handled by then is committed, too.
func (c *fakeConsumer) position(cl *driver.Claim) int64 {
	if offsets := c.committed(cl); len(offsets) > 0 {
		return offsets[len(offsets)-1]
	}
	return -1
}

// A fakeProducer acknowledges at once, or when the test releases what it holds.
type fakeProducer struct {
	d   *fakeDriver
	cfg driver.ProducerConfig

	mu      sync.Mutex
	pending []*driver.Message
	sent    []driver.Message // copies: after Ack the message is the core's again
	hold    bool             // do not acknowledge at once
	closed  bool
	block   bool                        // no buffer space
	flush   func(context.Context) error // instead of releasing what is held
}

func (p *fakeProducer) Produce(ctx context.Context, m *driver.Message) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return driver.ErrClosed
	}
	if p.block {
		p.mu.Unlock()
		<-ctx.Done()
		return ctx.Err()
	}
	if p.hold {
		p.pending = append(p.pending, m)
		p.mu.Unlock()
		return nil
	}
	p.sent = append(p.sent, *m)
	m.Partition, m.Offset = 0, int64(len(p.sent)-1)
	p.mu.Unlock()
	m.Acker.Ack(nil)
	return nil
}

func (p *fakeProducer) release(err error) {
	p.mu.Lock()
	pending := p.pending
	p.pending = nil
	p.mu.Unlock()
	for i, m := range pending {
		m.Partition, m.Offset = 0, int64(i)
		m.Acker.Ack(err)
	}
}

func (p *fakeProducer) Flush(ctx context.Context) error {
	if p.flush != nil {
		return p.flush(ctx)
	}
	p.release(nil)
	return nil
}

func (p *fakeProducer) Close(ctx context.Context) error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.release(nil)
	return nil
}

// A handlerFunc is a plain consumer: it sees values only.
type handlerFunc struct {
	cfg    ConsumerConfig
	handle func(ctx context.Context, value []byte) error
}

func (h *handlerFunc) GetConfig() *ConsumerConfig { return &h.cfg }

func (h *handlerFunc) Handle(ctx context.Context, value []byte) error { return h.handle(ctx, value) }

func testConfig() ConsumerConfig {
	return ConsumerConfig{
		JobName:          "job",
		Topic:            "orders",
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    "group",
		InitialOffset:    OffsetOldest,
		Backoff:          Backoff{Jitter: NoJitter},
	}
}

func quiet() Option { return WithLogger(slog.New(slog.DiscardHandler)) }

// start registers a plain consumer, switches it on, starts the manager, and
// waits until it is a member. The manager is shut down with the test.
func start(t *testing.T, d *fakeDriver, cfg ConsumerConfig, handle func(context.Context, []byte) error, opts ...Option) *Manager {
	t.Helper()
	m := New(d, append([]Option{quiet()}, opts...)...)
	t.Cleanup(func() { stop(t, m) })
	startOn(t, m, &handlerFunc{cfg, handle})
	return m
}

// startOn does what start does on a manager that the test shuts down itself.
func startOn(t *testing.T, m *Manager, c Consumer) {
	t.Helper()
	require.NoError(t, m.RegisterConsumer(t.Context(), c))
	require.NoError(t, m.SetConsumerSwitch(c.GetConfig().JobName, true))
	require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
	synctest.Wait()
}

func stop(t *testing.T, m *Manager) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	assert.NoError(t, m.Shutdown(ctx))
}

// pass lets virtual time pass, and everything come to rest.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// noContext is the context of a caller that passes nil.
func noContext() context.Context { return nil }

func state(t testing.TB, m *Manager) ConsumerStatus {
	t.Helper()
	s, err := m.Consumer("job")
	require.NoError(t, err)
	return s
}

// A seen records the values that a handler gets.
type seen struct {
	mu     sync.Mutex
	values []string
}

func (s *seen) add(value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values = append(s.values, string(value))
}

func (s *seen) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.values)
}

// A deadlinedDriver is a fakeDriver whose consumers know when their session ends:
// at the moment that the test sets.
type deadlinedDriver struct {
	fakeDriver
	until atomic.Pointer[time.Time]
}

func (d *deadlinedDriver) setDeadline(in time.Duration) {
	t := time.Now().Add(in)
	d.until.Store(&t)
}

type deadlinedConsumer struct {
	*fakeConsumer
	d *deadlinedDriver
}

func (c deadlinedConsumer) SessionDeadline() time.Time {
	if t := c.d.until.Load(); t != nil {
		return *t
	}
	return time.Time{}
}

func (d *deadlinedDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.fakeDriver.OpenConsumer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return deadlinedConsumer{c.(*fakeConsumer), d}, nil
}

var errDial = errors.New("no broker answers")

func nothing(context.Context, []byte) error { return nil }

var errHandler = errors.New("handler failed")

type batchConsumer struct {
	handlerFunc
	batch func(ctx context.Context, ms []*Message) error
}

func (b *batchConsumer) HandleBatch(ctx context.Context, ms []*Message) error {
	return b.batch(ctx, ms)
}

// startKind starts a consumer of a kind that hands each value to one.
func startKind(t *testing.T, d *fakeDriver, kind string, one func([]byte) error, opts ...Option) *Manager {
	m := New(d, append([]Option{quiet()}, opts...)...)
	t.Cleanup(func() { stop(t, m) })
	startOn(t, m, consumerOfKind(testConfig(), kind, one))
	return m
}

// consumerOfKind passes each value to one.
func consumerOfKind(cfg ConsumerConfig, kind string, one func([]byte) error) Consumer {
	switch kind {
	case "message":
		return NewConsumer(cfg, func(_ context.Context, m *Message) error { return one(m.Value) })
	case "batch":
		return &batchConsumer{handlerFunc{cfg: cfg}, func(_ context.Context, ms []*Message) error {
			for _, m := range ms {
				if err := one(m.Value); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	return &handlerFunc{cfg, func(_ context.Context, v []byte) error { return one(v) }}
}

package drivertest_test

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
)

// A wrongHarness is a memory harness whose driver has been tampered with.
type wrongHarness struct {
	*memoryHarness
	wrong    wrong
	released chan struct{} // closed at the end of the case: ends what hangs
	cut      atomic.Bool
	beenCut  atomic.Bool
	expired  atomic.Bool // sessions have been ended
	shorter  atomic.Bool // a log has lost its end

	consumers, producers, groups atomic.Int32 // opened

	mu     sync.Mutex
	shadow map[position]int64 // what a wrong driver pretends to have committed
}

type position struct {
	group, topic string
	partition    int32
}

func newWrongHarness(t drivertest.T, w wrong) *wrongHarness {
	h := &wrongHarness{
		memoryHarness: newMemoryHarnessOf(w.protocol),
		wrong:         w,
		released:      make(chan struct{}),
		shadow:        make(map[position]int64),
	}
	t.Cleanup(func() { close(h.released) })
	return h
}

func (h *wrongHarness) Driver() driver.Driver { return wrongDriver{h} }

// pretend makes a position look committed from outside.
func (h *wrongHarness) pretend(p position, offset int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shadow[p] = offset
}

func (h *wrongHarness) stopPretending(p position) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.shadow, p)
}

// waitForBroker hangs while the broker is unreachable.
func (h *wrongHarness) waitForBroker() {
	for h.cut.Load() {
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *wrongHarness) Committed(ctx context.Context, group, topic string, partition int32) (int64, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if offset, ok := h.shadow[position{group, topic, partition}]; ok {
		return offset, nil
	}
	return h.memoryHarness.Committed(ctx, group, topic, partition)
}

func (h *wrongHarness) EndSessions(ctx context.Context, group string) error {
	h.expired.Store(true)
	return h.memoryHarness.EndSessions(ctx, group)
}

func (h *wrongHarness) TruncateEnd(ctx context.Context, topic string, partition int32, end int64) error {
	h.shorter.Store(true)
	return h.memoryHarness.TruncateEnd(ctx, topic, partition, end)
}

func (h *wrongHarness) Cut(ctx context.Context) (func(), error) {
	h.cut.Store(true)
	h.beenCut.Store(true)
	start, err := h.memoryHarness.Cut(ctx)
	return func() { h.cut.Store(false); start() }, err
}

type wrongDriver struct{ h *wrongHarness }

// SupportsGroupProtocol implements driver.GroupProtocolSupporter.
func (d wrongDriver) SupportsGroupProtocol(p driver.GroupProtocol) bool {
	return !d.h.wrong.denies && d.h.broker.SupportsGroupProtocol(p)
}

// ValidateConsumer implements driver.ConsumerValidator.
func (d wrongDriver) ValidateConsumer(driver.ConsumerConfig) error { return d.h.wrong.validate }

func (d wrongDriver) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	d.h.consumers.Add(1)
	asked := cfg
	if d.h.wrong.open != nil {
		d.h.wrong.open(d.h, cfg)
	}
	if d.h.wrong.config != nil {
		d.h.wrong.config(&cfg)
	}
	inner, err := d.h.broker.OpenConsumer(ctx, cfg)
	if err != nil || d.h.wrong.consumer == nil {
		return inner, err
	}
	c := &consumer{Consumer: inner, h: d.h, ctx: ctx, cfg: asked}
	d.h.wrong.consumer(c)
	return c, nil
}

func (d wrongDriver) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	d.h.producers.Add(1)
	if d.h.wrong.sends != nil {
		d.h.wrong.sends(&cfg)
	}
	inner, err := d.h.lossy.OpenProducer(ctx, cfg)
	if err != nil || d.h.wrong.producer == nil {
		return inner, err
	}
	p := &producer{Producer: inner, h: d.h, ctx: ctx, cfg: cfg}
	d.h.wrong.producer(p)
	return p, nil
}

// A consumer calls its functions in place of the methods of the one below.
type consumer struct {
	driver.Consumer
	h   *wrongHarness
	ctx context.Context // of Open
	cfg driver.ConsumerConfig

	ran, joined, closing atomic.Bool // read by some of the wrong drivers

	run     func(h driver.Handler) error
	handler func(h *handler) // tampers with the Handler
	commit  func(ctx context.Context, marks []driver.Mark) error
	pause   func(claims []*driver.Claim)
	resume  func(claims []*driver.Claim)
	close   func(ctx context.Context) error
	seek    func(ctx context.Context, to []driver.Mark) error

	highWatermark func(claim *driver.Claim) int64
	deadline      func(at time.Time) time.Time // changes the session deadline
}

func (c *consumer) SessionDeadline() time.Time {
	at := c.Consumer.(driver.SessionDeadliner).SessionDeadline()
	if c.deadline != nil {
		return c.deadline(at)
	}
	return at
}

// Seek implements driver.Seeker.
func (c *consumer) Seek(ctx context.Context, to []driver.Mark) error {
	if c.seek != nil {
		return c.seek(ctx, to)
	}
	return c.rightSeek(ctx, to)
}

func (c *consumer) rightSeek(ctx context.Context, to []driver.Mark) error {
	return c.Consumer.(driver.Seeker).Seek(ctx, to)
}

func (c *consumer) HighWatermark(claim *driver.Claim) int64 {
	if c.highWatermark != nil {
		return c.highWatermark(claim)
	}
	return c.Consumer.(driver.HighWatermarker).HighWatermark(claim)
}

func (c *consumer) Run(h driver.Handler) error {
	if c.handler != nil {
		tampered := &handler{Handler: h}
		c.handler(tampered)
		h = tampered
	}
	if c.run != nil {
		return c.run(h)
	}
	return c.Consumer.Run(h)
}

func (c *consumer) Commit(ctx context.Context, marks []driver.Mark) error {
	if c.commit != nil {
		return c.commit(ctx, marks)
	}
	return c.Consumer.Commit(ctx, marks)
}

func (c *consumer) Pause(claims ...*driver.Claim) {
	if c.pause != nil {
		c.pause(claims)
		return
	}
	c.Consumer.Pause(claims...)
}

func (c *consumer) Resume(claims ...*driver.Claim) {
	if c.resume != nil {
		c.resume(claims)
		return
	}
	c.Consumer.Resume(claims...)
}

func (c *consumer) Close(ctx context.Context) error {
	if c.close != nil {
		return c.close(ctx)
	}
	return c.Consumer.Close(ctx)
}

// A handler calls its functions in place of the methods of the one above.
type handler struct {
	driver.Handler
	assign  func(claims []*driver.Claim)
	deliver func(c *driver.Claim, b driver.Batch)
	revoke  func(ctx context.Context, claims []*driver.Claim)
	lost    func(claims []*driver.Claim, cause error)
	error   func(err error)
}

func (h *handler) Assign(claims []*driver.Claim) {
	if h.assign != nil {
		h.assign(claims)
		return
	}
	h.Handler.Assign(claims)
}

func (h *handler) Deliver(c *driver.Claim, b driver.Batch) {
	if h.deliver != nil {
		h.deliver(c, b)
		return
	}
	h.Handler.Deliver(c, b)
}

func (h *handler) Revoke(ctx context.Context, claims []*driver.Claim) {
	if h.revoke != nil {
		h.revoke(ctx, claims)
		return
	}
	h.Handler.Revoke(ctx, claims)
}

func (h *handler) Lost(claims []*driver.Claim, cause error) {
	if h.lost != nil {
		h.lost(claims, cause)
		return
	}
	h.Handler.Lost(claims, cause)
}

func (h *handler) Error(err error) {
	if h.error != nil {
		h.error(err)
		return
	}
	h.Handler.Error(err)
}

// A producer calls its functions in place of the methods of the one below.
type producer struct {
	driver.Producer
	h   *wrongHarness
	ctx context.Context // of Open
	cfg driver.ProducerConfig

	produce func(ctx context.Context, m *driver.Message) error
	flush   func(ctx context.Context) error
	close   func(ctx context.Context) error
	find    func(ctx context.Context, topic string) error
}

// FindTopic implements driver.TopicFinder.
func (p *producer) FindTopic(ctx context.Context, topic string) error {
	if p.find != nil {
		return p.find(ctx, topic)
	}
	return p.Producer.(driver.TopicFinder).FindTopic(ctx, topic)
}

func (p *producer) Produce(ctx context.Context, m *driver.Message) error {
	if p.produce != nil {
		return p.produce(ctx, m)
	}
	return p.Producer.Produce(ctx, m)
}

func (p *producer) Flush(ctx context.Context) error {
	if p.flush != nil {
		return p.flush(ctx)
	}
	return p.Producer.Flush(ctx)
}

func (p *producer) Close(ctx context.Context) error {
	if p.close != nil {
		return p.close(ctx)
	}
	return p.Producer.Close(ctx)
}

// A flight is a WaitGroup that allows Go during Wait: Wait waits for a moment at which no
// task runs.
type flight struct {
	mu     sync.Mutex
	n      int
	landed chan struct{} // closed and replaced when n becomes 0
}

func newFlight() *flight { return &flight{landed: make(chan struct{})} }

func (f *flight) Go(task func()) {
	f.mu.Lock()
	f.n++
	f.mu.Unlock()
	go func() {
		task()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.n--; f.n == 0 {
			close(f.landed)
			f.landed = make(chan struct{})
		}
	}()
}

func (f *flight) Wait() {
	f.mu.Lock()
	n, landed := f.n, f.landed
	f.mu.Unlock()
	if n > 0 {
		<-landed
	}
}

package franz

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// severGrace is how long it may take until every message is given back once the connections
// are severed. Close abandons the messages that are left.
const severGrace = 300 * time.Millisecond

// lingerLook is the time after which unlinger looks for messages that have come to kgo.
const lingerLook = 5 * time.Millisecond

// A producer serves all goroutines over one client of kgo.
//
// A message goes from Produce through its topic to kgo, which builds the batches and calls
// answered with the outcome. On the wire, the producer sees each batch and each answer before
// kgo does.
type producer struct {
	cfg         driver.ProducerConfig
	line        *dialer.Dialer
	cl          *kgo.Client
	partitioner kgo.Partitioner // for messages that ask for no partition
	linger      time.Duration
	together    int // bytes of several messages that may be in one batch, or 0: see topic.batchBytes

	buffer  *buffer
	slots   sync.Pool
	roster  roster
	trouble atomic.Pointer[error] // why the latest connection could not be made, or nil

	mu     sync.RWMutex // guards topics
	topics map[string]*topic

	tasks    sync.WaitGroup
	starting sync.Mutex    // held while a task starts, and while stopped is closed
	stopped  chan struct{} // closed when no work is left

	closing  chan struct{} // closed as Close begins
	begin    sync.Once
	ended    chan struct{} // closed when kgo and the tasks have ended, after Close if it abandons
	closed   chan struct{} // closed when Close has its answer
	closeErr error         // valid once closed is closed
}

// OpenProducer implements [driver.Driver].
func (d Driver) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	p := newProducer(cfg)
	opts, err := d.producerOptions(cfg, p.line)
	if err != nil {
		return nil, err
	}
	if err := p.open(ctx, opts); err != nil {
		return nil, fmt.Errorf("franz: open producer: %w", err)
	}
	return p, nil
}

func newProducer(cfg driver.ProducerConfig) *producer {
	p := &producer{
		cfg: cfg, line: newLine(cfg.TLS, 0), partitioner: java{}, together: together(cfg), buffer: newBuffer(),
		topics: map[string]*topic{}, stopped: make(chan struct{}),
		closing: make(chan struct{}), closed: make(chan struct{}), ended: make(chan struct{}),
	}
	p.slots.New = func() any {
		s := new(slot)
		s.promise = s.answered
		p.roster.add(s)
		return s
	}
	p.line.Closing = p.closing
	p.line.Wrap = func(c net.Conn) net.Conn { return &produceConn{Conn: c, p: p} }
	if log := cfg.Logger; log != nil {
		p.line.Report = func(err error) { log.Warn("kafka producer: a broker is out of order", "error", err) }
	}
	return p
}

// open reaches the cluster, and asks for a producer ID if one is needed.
func (p *producer) open(ctx context.Context, opts []kgo.Opt) error {
	got, err := values(opts, []any{kgo.RecordPartitioner, kgo.ProducerLinger})
	if err != nil {
		return err
	}
	p.partitioner, _ = got[0][0].(kgo.Partitioner)
	p.linger, _ = got[1][0].(time.Duration)
	opts = append(opts, kgo.RecordPartitioner(asked{p}), kgo.WithHooks(p))
	if p.cl, err = open(ctx, producerCluster(p.cfg), p.line, opts); err != nil {
		return err
	}
	if p.cfg.Idempotent {
		if _, _, err := p.cl.ProducerID(ctx); err != nil {
			p.line.Sever()
			p.cl.Close()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return credentials.Soften(wrap(err), p.cfg.SASL)
		}
	}
	if p.cfg.DeliveryTimeout > 0 {
		p.task(p.expireAll)
	}
	return nil
}

var (
	_ kgo.HookBrokerConnect            = (*producer)(nil)
	_ kgo.HookProduceRecordPartitioned = (*producer)(nil)
)

// OnBrokerConnect implements kgo's HookBrokerConnect.
func (p *producer) OnBrokerConnect(b kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		p.trouble.Store(nil)
	} else if !errors.Is(err, context.Canceled) {
		p.trouble.Store(&err)
	}
}

// OnProduceRecordPartitioned implements kgo's HookProduceRecordPartitioned. kgo calls it while
// it holds the lock of the partition's buffer, so in the order in which it sends the records.
func (p *producer) OnProduceRecordPartitioned(r *kgo.Record, _ int32) {
	s := slotOf(r)
	l := s.topic.lane(r.Partition)
	s.lane = l
	r.Context = l.leash.context()
	l.enter(s)
	if s.probes {
		s.probes = false
		t := s.topic
		go func() { p.end(t.found()) }() // not here: kgo holds a lock
	}
}

// Produce implements [driver.Producer].
func (p *producer) Produce(ctx context.Context, m *driver.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	n := cost(m)
	e, err := p.buffer.add(ctx, n, p.hurry, p.closing)
	if err != nil {
		return err
	}
	s := p.slots.Get().(*slot)
	s.fill(m, n, e)
	err = s.refuse(p.cfg.MaxMessageBytes)
	s.pending.Store(true) // from here on, the message may be abandoned
	if err != nil {
		p.finish(s, err)
		return nil
	}
	p.topic(m.Topic).accept(s)
	return nil
}

// topic returns the topic of a name.
func (p *producer) topic(name string) *topic {
	p.mu.RLock()
	t := p.topics[name]
	p.mu.RUnlock()
	if t != nil {
		return t
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics[name] == nil {
		p.topics[name] = newTopic(p, name)
	}
	return p.topics[name]
}

func (p *producer) allTopics() (topics []*topic) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, t := range p.topics {
		topics = append(topics, t)
	}
	return topics
}

// answered is called by kgo with the outcome of a record, for all records on one goroutine.
func (s *slot) answered(r *kgo.Record, err error) {
	t, l := s.topic, s.lane
	p := t.p
	switch {
	case l == nil:
		p.end(t.strand(s, err))
	case err == nil:
		emptied := l.store()
		if s.take() {
			s.m.Partition, s.m.Offset = r.Partition, r.Offset
			if p.cfg.RequiredAcks == driver.NoResponse {
				s.m.Offset = -1 // kgo invents one
			}
			p.acknowledge(s, nil)
		}
		if emptied {
			p.end(t.moveOn(l))
		}
	case p.line.IsSevered(): // everything comes back, and Close must return soon
		p.finish(s, abandoned(l.leave()))
	default:
		p.end(t.giveBack(l, s, err))
	}
}

// end acknowledges messages. No lock may be held.
func (p *producer) end(endings []ending) {
	for _, e := range endings {
		p.finish(e.s, e.err)
	}
}

// finish acknowledges a message, unless Close has abandoned it.
func (p *producer) finish(s *slot, err error) {
	if s.take() {
		p.acknowledge(s, err)
	}
}

// acknowledge acknowledges a message that was taken, and makes its slot free first: Ack may
// call Produce, and kgo has one goroutine for all acknowledgements.
func (p *producer) acknowledge(s *slot, err error) {
	acker, e, n := s.m.Acker, s.epoch, s.cost
	s.empty()
	p.slots.Put(s)
	p.buffer.release(n)
	acker.Ack(err)
	e.leave()
}

// mayWait reports whether a message may go on waiting for its partition.
func (p *producer) mayWait(s *slot) bool {
	if p.line.IsSevered() {
		return false
	}
	return p.cfg.DeliveryTimeout > 0 || s.tries <= p.cfg.MaxRetries
}

// pause sleeps for d. It reports false when the producer has stopped or is severed.
func (p *producer) pause(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.stopped:
		return false
	case <-p.line.Severed():
		return false
	}
	return true
}

// Flush implements [driver.Producer]. kgo's own Flush would wait for later messages, too.
func (p *producer) Flush(ctx context.Context) error {
	epochs := p.buffer.turn(false)
	if p.linger > 0 {
		stop := p.unlinger(ctx)
		defer stop()
	}
	return await(ctx, epochs)
}

// unlinger has no message linger until stop is called or ctx ends. kgo's Flush returns when
// kgo has no message. Those that wait in a topic may come to it later, and must not linger
// either, so it is called again.
func (p *producer) unlinger(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for p.cl.Flush(ctx); ctx.Err() == nil; p.cl.Flush(ctx) {
			select {
			case <-time.After(lingerLook):
			case <-ctx.Done():
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// hurry has no message linger until stop is called, because the messages fill the buffer.
func (p *producer) hurry() (stop func()) {
	if p.linger == 0 {
		return func() {}
	}
	return p.unlinger(background)
}

// Close implements [driver.Producer].
func (p *producer) Close(ctx context.Context) error {
	first := false
	p.begin.Do(func() { first = true })
	if !first {
		select {
		case <-p.closed:
			return p.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	epochs := p.buffer.turn(true)
	close(p.closing)
	var err error
	go func() { // ends when kgo does; Sever makes sure of that
		defer close(p.ended)
		err = p.shutDown(ctx, epochs)
	}()
	select {
	case <-p.ended:
		p.closeErr = err
	case <-ctx.Done():
		p.closeErr = ctx.Err()
		p.line.Sever()
		select {
		case <-p.ended: // usually: kgo gives everything back at once
		case <-time.After(severGrace):
			p.abandon(epochs)
		}
	}
	close(p.closed)
	return p.closeErr
}

// shutDown waits for the answers until ctx ends. Then it closes the client, which gives back
// all messages that it has, and acknowledges those that the driver has.
func (p *producer) shutDown(ctx context.Context, epochs []*epoch) error {
	if p.linger > 0 {
		stop := p.unlinger(ctx)
		defer stop()
	}
	err := await(ctx, epochs)
	if err != nil {
		p.line.Sever()
		p.giveUp()
	}
	p.stopTasks()
	p.cl.Close()
	p.line.Sever()
	p.giveUp()
	_ = await(background, epochs)
	return err
}

// task runs f beside everything else, until the tasks are stopped. It reports false if they are.
func (p *producer) task(f func()) bool {
	p.starting.Lock()
	defer p.starting.Unlock()
	select {
	case <-p.stopped:
		return false
	default:
	}
	p.tasks.Go(f)
	return true
}

// stopTasks returns when no task runs, and lets none start.
func (p *producer) stopTasks() {
	p.starting.Lock()
	close(p.stopped)
	p.starting.Unlock()
	p.tasks.Wait()
}

// giveUp acknowledges all messages that the driver has.
func (p *producer) giveUp() {
	for _, t := range p.allTopics() {
		p.end(t.giveUp())
	}
}

// giveUp ends all messages that the driver has.
func (t *topic) giveUp() (over []ending) {
	t.gate.Lock()
	defer t.gate.Unlock()
	take := func(list *[]*slot) {
		over = append(over, endAll(*list, abandonedUnsent)...)
		*list = nil
	}
	take(&t.pending)
	lanes := *t.lanes.Load()
	for _, l := range t.missing {
		lanes = append(lanes, l)
	}
	for _, l := range lanes {
		take(&l.back)
		take(&l.todo)
		take(&l.pending)
	}
	return over
}

package sarama

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// severGrace is how long it may take until every message is given back once the connections
// are severed. Messages that are left then are acknowledged all the same.
const severGrace = 300 * time.Millisecond

var errNoIdentity = errors.New("no producer ID")

// A producer serves all goroutines over one client.
//
// A message goes from Produce into the lane of its partition, from there in a batch to the
// worker of the broker that leads the partition, and with the answer to its Acker. The
// producer does not use Sarama's AsyncProducer, which takes a broker's verdict on a batch
// for one on each message, and so cannot split a batch; which cannot be flushed; and which
// has rules of its own about retries. Connections, metadata and the format on the wire are
// Sarama's.
type producer struct {
	cfg    driver.ProducerConfig
	conf   *ibm.Config
	line   *dialer.Dialer
	client ibm.Client

	buffer      *buffer
	producerIDs producerIDs
	reasons     reasons

	mu      sync.RWMutex // guards what follows
	topics  map[string]*topic
	workers map[int32]*worker

	tasks   sync.WaitGroup
	stopped chan struct{} // closed when no work is left

	closing  chan struct{} // closed as Close begins
	closed   chan struct{} // closed when Close has its answer
	closeErr error         // valid once closed is closed
}

func newProducer(cfg driver.ProducerConfig, conf *ibm.Config) *producer {
	p := &producer{
		cfg: cfg, line: newLine(cfg.TLS, 0), conf: conf, buffer: newBuffer(),
		producerIDs: producerIDs{now: noIdentity},
		topics:      map[string]*topic{}, workers: map[int32]*worker{}, stopped: make(chan struct{}),
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
	p.line.Closing = p.closing
	if log := cfg.Logger; log != nil {
		p.line.Report = func(err error) { log.Warn("kafka producer: a broker is out of order", "error", err) }
	}
	return p
}

// open reaches the cluster, and asks for a producer ID if one is needed.
func (p *producer) open() error {
	conf := on(p.line, p.conf, p.conf.Net.ReadTimeout)
	refresh := conf.Metadata.RefreshFrequency
	conf.Metadata.RefreshFrequency = 0 // see refreshAll
	if err := reach(p.line, p.cfg.Brokers, conf); err != nil {
		return err
	}
	client, err := ibm.NewClient(p.cfg.Brokers, conf)
	if err != nil {
		return wrap(err)
	}
	p.client = client
	if p.cfg.Idempotent {
		p.producerIDs.ask = p.askIdentity
	}
	if err := p.producerIDs.ensure(); err != nil {
		client.Close()
		return wrap(err)
	}
	if refresh > 0 {
		p.tasks.Go(func() { p.refreshAll(refresh) })
	}
	p.tasks.Go(func() { p.forgetIdle(idleAfter) })
	if p.cfg.DeliveryTimeout > 0 {
		p.tasks.Go(p.expireAll)
	}
	return nil
}

// Produce implements [driver.Producer].
func (p *producer) Produce(ctx context.Context, m *driver.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := p.buffer.add(ctx, cost(m), p.hurry)
	if err != nil {
		return err
	}
	s.fill(m)
	if err := s.refuse(p.conf.Producer.MaxMessageBytes); err != nil {
		p.buffer.ack([]*slot{s}, func(int, *slot) error { return err })
		return nil
	}
	for {
		t, err := p.topic(m.Topic)
		if err != nil {
			p.buffer.ack([]*slot{s}, func(int, *slot) error { return wrap(err) })
			return nil
		}
		if t.accept(s) {
			return nil
		}
	}
}

// topic returns the topic of a name. The constructor of a partitioner may be the
// user's: it runs without a lock, and may panic.
func (p *producer) topic(name string) (t *topic, err error) {
	p.mu.RLock()
	t = p.topics[name]
	p.mu.RUnlock()
	if t != nil {
		return t, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the constructor of the partitioner panicked: %v", r)
		}
	}()
	fresh := newTopic(p, name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.topics[name] == nil {
		p.topics[name] = fresh
	}
	return p.topics[name], nil
}

func (p *producer) allTopics() (topics []*topic) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, t := range p.topics {
		topics = append(topics, t)
	}
	return topics
}

// refreshAll reads from time to time how many partitions the topics have.
func (p *producer) refreshAll(every time.Duration) {
	for p.pause(every, nil) {
		for _, t := range p.allTopics() {
			asOf, _ := t.doubted()
			err := p.client.RefreshMetadata(t.name)
			v := t.view(nil, asOf, err)
			t.mu.Lock()
			t.update(v)
			t.mu.Unlock()
			t.placeSoon()
		}
	}
}

// severed reports whether nothing can be sent any longer.
func (p *producer) severed() bool { return p.line.IsSevered() }

// pause sleeps for d, or until wake. It reports false when the producer has
// stopped or is severed.
func (p *producer) pause(d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-wake:
	case <-p.stopped:
		return false
	case <-p.line.Severed():
		return false
	}
	return true
}

// Flush implements [driver.Producer].
func (p *producer) Flush(ctx context.Context) error {
	return p.buffer.flush(ctx, p.hurry)
}

// hurry sends the messages that may linger no longer.
func (p *producer) hurry() {
	f := &p.conf.Producer.Flush
	if f.Frequency == 0 && f.Messages == 0 && f.Bytes == 0 {
		return
	}
	for _, t := range p.allTopics() {
		t.mu.Lock()
		for _, l := range t.lanes {
			if l.state == lingering {
				l.move()
			}
		}
		t.mu.Unlock()
	}
}

// Close implements [driver.Producer].
func (p *producer) Close(ctx context.Context) error {
	if !p.buffer.close(p.closing) {
		select {
		case <-p.closed:
			return p.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	done := make(chan struct{})
	go func() { // ends when every message is acknowledged; Sever makes sure of that
		defer close(done)
		p.shutDown()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		p.line.Sever()
		p.giveUp(ctx.Err())
		select {
		case <-done: // usually: requests fail with their connections
		case <-time.After(severGrace):
			p.buffer.abandon(abandoned(ctx.Err(), true))
		}
		p.closeErr = ctx.Err()
	}
	close(p.closed)
	return p.closeErr
}

// shutDown waits for all answers before it takes everything down.
func (p *producer) shutDown() {
	p.buffer.flush(context.Background(), p.hurry)
	p.mu.Lock() // so that no look-up begins after this
	close(p.stopped)
	p.mu.Unlock()
	p.tasks.Wait()
	p.client.Close()
	p.line.Sever()
}

// giveUp acknowledges all messages that are not on their way. The producer is severed when
// it is called, so later messages are refused.
func (p *producer) giveUp(why error) {
	for _, t := range p.allTopics() {
		t.acknowledge(t.giveUp(why))
	}
}

func (t *topic) giveUp(why error) (endings []ending) {
	t.mu.Lock()
	defer t.mu.Unlock()
	endings = append(endings, ending{slots: t.pending, err: abandoned(why, false)})
	t.pending, t.lost = nil, nil
	for _, l := range t.lanes {
		l.stopLinger()
		if b := l.batch; b != nil && l.state != sent {
			endings = append(endings, ending{slots: b.slots, err: abandoned(why, b.unknown)})
			l.batch = nil
		}
		endings = append(endings, ending{slots: l.queue.pop(l.queue.len()), err: abandoned(why, false)})
	}
	return endings
}

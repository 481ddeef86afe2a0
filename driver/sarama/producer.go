package sarama

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// severGrace is how long Sarama may take to give back all messages once the
// connections are severed. It needs 20 to 40 ms. What it still has then is
// acknowledged all the same.
const severGrace = 300 * time.Millisecond

// A producer serves all goroutines over one AsyncProducer.
type producer struct {
	cfg   driver.ProducerConfig
	conf  *ibm.Config
	line  *line
	async ibm.AsyncProducer
	data  *metadataClient

	buffer *buffer
	// retries counts the rounds of retries that Sarama has begun for whatever
	// message. See outcome.
	retries atomic.Int64

	drains sync.WaitGroup
	input  chan<- *ibm.ProducerMessage

	closing  chan struct{} // closed as Close begins
	closed   chan struct{} // closed when Close has its answer
	closeErr error         // valid once closed is closed
}

func newProducer(cfg driver.ProducerConfig, conf *ibm.Config) *producer {
	return &producer{
		cfg: cfg, line: newLine(cfg.TLS, 0), conf: conf, buffer: newBuffer(),
		closing: make(chan struct{}), closed: make(chan struct{}),
	}
}

// open reaches the cluster and starts Sarama's producer.
func (p *producer) open() error {
	conf := on(p.line, p.conf, p.conf.Net.ReadTimeout)
	backoff := conf.Producer.Retry.Backoff
	conf.Producer.Retry.BackoffFunc = func(int, int) time.Duration {
		p.retries.Add(1)
		p.line.wait(backoff)
		return 0
	}
	if err := p.line.reach(p.cfg.Brokers, conf); err != nil {
		return err
	}
	client, err := ibm.NewClient(p.cfg.Brokers, conf)
	if err != nil {
		return wrap(err)
	}
	p.data = newMetadataClient(client, p.line)
	// With idempotence this asks for a producer id.
	if p.async, err = ibm.NewAsyncProducerFromClient(p.data); err != nil {
		client.Close()
		return wrap(err)
	}
	p.input = p.async.Input()
	p.drains.Go(p.drainSuccesses)
	p.drains.Go(p.drainErrors)
	return nil
}

// Produce implements [driver.Producer].
func (p *producer) Produce(ctx context.Context, m *driver.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := p.buffer.add(ctx, cost(m))
	if err != nil {
		return err
	}
	s.produces = p.line.produces.Load()
	s.fill(m, p.retries.Load())
	select { // Sarama is usually ready, and this costs a third of what comes next
	case p.input <- &s.message:
		return nil
	default:
	}
	select {
	case p.input <- &s.message:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-p.closing:
		err = driver.ErrClosed
	}
	if !p.buffer.withdraw(s) {
		return nil // Close has acknowledged it already
	}
	return err
}

func (p *producer) drainSuccesses() {
	for msg := range p.async.Successes() {
		p.buffer.ack(msg.Metadata.(*slot), p.stored)
	}
}

// stored tells the user where the record lies.
func (p *producer) stored(s *slot) error {
	s.user.Partition, s.user.Offset = s.message.Partition, s.message.Offset
	if p.cfg.RequiredAcks == driver.NoResponse {
		s.user.Offset = -1
	}
	return nil
}

func (p *producer) drainErrors() {
	for failed := range p.async.Errors() {
		p.buffer.ack(failed.Msg.Metadata.(*slot), func(s *slot) error { return p.outcome(s, failed.Err) })
	}
}

// Flush implements [driver.Producer]. Nothing lingers, unless Configure has set
// Producer.Flush: then what lingers is sent at its own time.
func (p *producer) Flush(ctx context.Context) error {
	return p.buffer.flush(ctx)
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
	go func() { // ends when Sarama has answered everything; to sever sees to that
		defer close(done)
		p.shutDown()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		p.line.sever()
		select {
		case <-done: // usually: Sarama gives back what can not be sent
		case <-time.After(severGrace):
			p.buffer.abandon(abandoned(ctx.Err()))
		}
		p.closeErr = ctx.Err()
	}
	close(p.closed)
	return p.closeErr
}

// shutDown waits for all answers before it closes Sarama's producer, which
// would fail a batch that is being retried. Nobody writes to it then: whoever is
// in Produce has a slot.
func (p *producer) shutDown() {
	p.buffer.flush(context.Background())
	p.async.AsyncClose()
	p.drains.Wait()
	p.data.Client.Close()
	p.line.sever()
}

// abandoned is the error of a message whose answer was not waited for.
func abandoned(why error) error {
	return &driver.Error{
		Code: "PRODUCER_CLOSED", Kind: driver.ErrUnknownOutcome,
		Err: errors.Join(errors.New("closed before an answer came"), why),
	}
}

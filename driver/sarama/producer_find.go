package sarama

import (
	"context"
	"errors"
	"fmt"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

var _ driver.TopicFinder = (*producer)(nil)

// FindTopic implements [driver.TopicFinder].
func (p *producer) FindTopic(ctx context.Context, topic string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	answer := make(chan error, 1)
	if !p.begin(func() { answer <- p.findTopic(ctx, topic) }) {
		return driver.ErrClosed
	}
	select {
	case err := <-answer:
		return wrap(err)
	case <-ctx.Done():
		return ctx.Err()
	case <-p.closing:
		return driver.ErrClosed
	}
}

// begin starts a task, unless the producer has stopped.
func (p *producer) begin(task func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.stopped:
		return false
	default:
	}
	p.tasks.Go(task)
	return true
}

// findTopic asks the brokers one after the other, until one answers, on connections of
// its own: the client knows no broker before it has sent something. A topic whose
// partitions have no leader exists.
func (p *producer) findTopic(ctx context.Context, topic string) error {
	var errs []error
	for _, addr := range p.cfg.Brokers {
		if ctx.Err() != nil || p.severed() {
			break
		}
		resp, err := lookUp(ibm.NewBroker(addr), p.client.Config(), topic)
		if err == nil {
			return found(resp, topic)
		}
		errs = append(errs, fmt.Errorf("%s: %w", driver.Printable(addr, 0), err))
	}
	if errs == nil {
		return ibm.ErrOutOfBrokers
	}
	return errors.Join(errs...)
}

// found returns what a broker has answered for a topic.
func found(resp *ibm.MetadataResponse, topic string) error {
	for _, t := range resp.Topics {
		switch {
		case t.Name != topic:
		case t.Err == ibm.ErrNoError, t.Err == ibm.ErrLeaderNotAvailable:
			return nil
		default:
			return fmt.Errorf("topic %q: %w", topic, t.Err)
		}
	}
	return ibm.ErrIncompleteResponse
}

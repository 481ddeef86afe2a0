package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Producer sends messages over one client, so that there is one order: the
// messages that one goroutine sends to a partition lie there in that order,
// whether it uses Send or SendAsync. Make one with RegisterProducer.
//
// All its methods may be called by several goroutines at once.
type Producer struct {
	m      *Manager
	id     string
	cfg    ProducerConfig
	driver driver.Producer

	// What has ended without an error is used again.
	syncSends  sync.Pool // of *syncSend
	asyncSends sync.Pool // of chains of *asyncSend
	sendOps    sync.Pool // of *sendOp

	callbacks callbacks
	losses    losses
	sending   gate // async sends between their check and the driver's answer
	pending   pending

	client *Client // for hooks

	closing  sync.Once
	closed   chan struct{} // closed when closing has begun
	done     chan struct{} // closed when it has ended
	closeErr error         // read after done
}

// allProducers returns the producers that are open, in order of ID.
func (m *Manager) allProducers() []*Producer {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*Producer, 0, len(m.producers))
	for _, p := range m.producers {
		if p != nil {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *Producer) int { return strings.Compare(a.id, b.id) })
	return all
}

// ID returns the producer's name, unique in its manager: ProducerConfig.Name, or
// what took its place.
func (p *Producer) ID() string { return p.id }

// Flush waits until every message that was accepted before the call has been
// acknowledged, or ctx ends. The callbacks of these may still be to come.
//
// The error wraps a *LostError if messages without a callback have failed since
// the last Flush that said so. It is ctx's own if ctx ended first; then the next
// Flush, or Close, reports what was lost. Inside a hook Flush waits for nothing
// and returns ErrInside.
func (p *Producer) Flush(ctx context.Context) error {
	if ctx == nil {
		return errors.New("kafka: flush: ctx is nil")
	}
	if isClosed(p.closed) {
		return fmt.Errorf("kafka: flush: %w", ErrClosed)
	}
	if p.m.insideHook() {
		return fmt.Errorf("kafka: flush inside a hook: %w", ErrInside)
	}
	if err := p.driver.Flush(ctx); err != nil {
		return err
	}
	return p.losses.take(p.id)
}

// Close sends what was accepted, waits for every acknowledgement and callback,
// and closes the client, within the manager's shutdown timeout. What is
// unanswered near its end ends with ErrUnknownOutcome. A send during or after
// Close gives ErrClosed; the callback of one that begins after Close is the only
// one that may still run when Close has returned. A second Close waits for the
// first and gives the same answer.
//
// The error wraps a *LostError if messages without a callback have failed since
// the last Flush that said so.
//
// Inside a callback of this producer, and inside a hook, Close begins the closing
// and waits for nothing: it returns nil in a callback and ErrInside in a hook.
func (p *Producer) Close() error {
	p.beginClose(p.m.shutdownTimeout * 9 / 10)
	switch {
	case p.callbacks.inside():
		return nil
	case p.m.insideHook():
		return fmt.Errorf("kafka: close producer %q inside a hook; it has begun to close: %w", p.id, ErrInside)
	}
	select {
	case <-p.done:
		return p.closeErr
	case <-time.After(p.m.shutdownTimeout):
		return fmt.Errorf("kafka: close producer %q: callbacks still run after %v", p.id, p.m.shutdownTimeout)
	}
}

// beginClose begins to close p, unless that has begun already. The flush is
// bounded by timeout, if that is not 0, and by the stage of a shutdown.
func (p *Producer) beginClose(timeout time.Duration) {
	p.closing.Do(func() {
		close(p.closed)
		go p.shut(timeout)
	})
}

// shut is the goroutine of the closing. It ends when the last callback has
// returned.
func (p *Producer) shut(timeout time.Duration) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if timeout > 0 {
		defer time.AfterFunc(timeout, cancel).Stop()
	}
	defer context.AfterFunc(p.m.until(producersFlush), cancel)()
	if err := p.driver.Close(ctx); err != nil {
		p.closeErr = fmt.Errorf("kafka: close producer %q: %w", p.id, err)
	}
	<-p.sending.close()
	p.callbacks.end()
	p.losses.end()
	p.closeErr = errors.Join(p.closeErr, p.losses.take(p.id))
	p.m.mu.Lock()
	delete(p.m.producers, foldName(p.id))
	p.m.mu.Unlock()
	close(p.done)
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// RegisterProducer opens a producer and keeps it until Close or the shutdown,
// which closes producers after the consumers have drained. It reports every
// problem of the configuration at once, before it opens a socket.
//
// While no broker can be reached it tries again, with a growing wait of up to 5s
// between two attempts, until ctx ends; if ctx has no deadline, for 30s. Then the
// error wraps why the latest attempt failed, and ctx's error. It does not try
// again after an error that wraps ErrPermanent, and a shutdown ends it at once.
//
// The error wraps ErrNoDriver, ErrClosed, ErrDuplicate for a name that another
// producer has, or a *FieldError for each problem.
func (m *Manager) RegisterProducer(ctx context.Context, cfg ProducerConfig) (*Producer, error) {
	if err := m.ready(); err != nil {
		return nil, err
	}
	if ctx == nil {
		return nil, errors.New("kafka: register producer: ctx is nil")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	id, err := m.beginOpen(cfg.Name)
	if err != nil {
		return nil, err
	}
	var p *Producer
	defer func() { m.endOpen(id, p) }() // also if the driver panics or ends the goroutine
	p, err = m.open(ctx, id, cfg)
	return p, err
}

// open checks the configuration of the producer id and connects it.
func (m *Manager) open(ctx context.Context, id string, cfg ProducerConfig) (*Producer, error) {
	cfg, dcfg, err := resolveProducer(cfg, id, m.log)
	if err != nil {
		return nil, err
	}
	if m.driver == nil {
		return nil, fmt.Errorf("kafka: producer %q: %w", id, ErrNoDriver)
	}
	if err := checkProducer(m.driver, dcfg); err != nil {
		return nil, fmt.Errorf("kafka: producer %q: %w", id, err)
	}
	d, err := m.connect(ctx, id, dcfg)
	if err != nil {
		return nil, fmt.Errorf("kafka: producer %q: connect: %w", id, err)
	}
	return m.newProducer(id, cfg, dcfg.Brokers, d), nil
}

// connect opens the driver's producer. It tries again until ctx ends or a
// shutdown begins, unless the error is permanent, and logs the first failure
// alone: the last one is its answer.
func (m *Manager) connect(ctx context.Context, id string, cfg driver.ProducerConfig) (driver.Producer, error) {
	ctx, cancel := m.openContext(ctx)
	defer cancel()
	backoff := Backoff{Min: 100 * time.Millisecond, Max: 5 * time.Second, Multiplier: 2, Jitter: 0.1}
	var why error // the latest failure that is more than the end of ctx
	for n := 1; ; n++ {
		d, err := m.openProducer(ctx, cfg)
		if err == nil {
			return d, nil
		}
		if why == nil || ctx.Err() == nil {
			why = err
		}
		if errors.Is(err, ErrPermanent) {
			return nil, err
		}
		if n == 1 && ctx.Err() == nil {
			m.log.Warn("kafka: producer cannot connect; it tries again", "producer", id, "error", err)
		}
		if end := m.awaitRetry(ctx, backoff.Wait(n)); end != nil {
			return nil, fmt.Errorf("%w: %w", why, end)
		}
	}
}

// openContext bounds the opening of a producer: by ctx, by openTimeout if ctx
// has no deadline, and by the beginning of a shutdown.
func (m *Manager) openContext(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if _, bounded := ctx.Deadline(); bounded {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, openTimeout)
	}
	unhook := context.AfterFunc(m.begun.ctx, cancel)
	return ctx, func() { unhook(); cancel() }
}

// openProducer makes one attempt. A panic of the driver is an error.
func (m *Manager) openProducer(ctx context.Context, cfg driver.ProducerConfig) (d driver.Producer, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	err = guard(func() (err error) {
		d, err = m.driver.OpenProducer(ctx, cfg)
		return err
	})
	return d, err
}

// awaitRetry waits, and returns why there is no other attempt if ctx ends first.
func (m *Manager) awaitRetry(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
	}
	if isClosed(m.stopping) {
		return ErrClosed
	}
	return ctx.Err()
}

// beginOpen reserves the name of a producer that is being opened, and counts it, so
// that a shutdown waits for it.
func (m *Manager) beginOpen(name string) (id string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return "", fmt.Errorf("kafka: register producer: %w", ErrClosed)
	}
	id = name
	for taken := id == ""; taken; _, taken = m.producers[foldName(id)] {
		m.ids++
		id = fmt.Sprintf("producer-%d", m.ids)
	}
	if _, taken := m.producers[foldName(id)]; taken {
		return "", fmt.Errorf("kafka: producer %s: %w", quote(id), ErrDuplicate)
	}
	m.producers[foldName(id)] = nil
	m.opening.Add(1)
	m.openingCount++
	return id, nil
}

// endOpen keeps p under the name that was reserved for it, or frees the name if p is
// nil. A shutdown that has begun meanwhile waits for this, and so finds p.
func (m *Manager) endOpen(id string, p *Producer) {
	m.mu.Lock()
	if p != nil {
		m.producers[foldName(id)] = p
	} else {
		delete(m.producers, foldName(id))
	}
	m.openingCount--
	m.mu.Unlock()
	m.opening.Done()
}

func (m *Manager) newProducer(id string, cfg ProducerConfig, brokers []string, d driver.Producer) *Producer {
	p := &Producer{
		m:      m,
		id:     id,
		cfg:    cfg,
		client: &Client{ID: cfg.ClientID, Bootstrap: brokers},
		driver: d,
		closed: make(chan struct{}),
		done:   make(chan struct{}),
	}
	p.sending.init()
	p.losses.report = p.logLost
	p.callbacks.init(&p.asyncSends, p.callbackPanicked)
	p.syncSends.New = func() any { return &syncSend{acked: make(chan error, 1)} }
	return p
}

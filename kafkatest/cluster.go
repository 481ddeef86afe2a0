package kafkatest

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// A cluster is the broker as the manager sees it. It reports joins, and refuses
// commits when a test wants that.
type cluster struct {
	*memory.Broker
	k *Kafka
}

func (c *cluster) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	dc, err := c.Broker.OpenConsumer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &member{Consumer: dc, k: c.k, group: cfg.Group}, nil
}

func (c *cluster) OpenProducer(ctx context.Context, cfg driver.ProducerConfig) (driver.Producer, error) {
	p, err := c.Broker.OpenProducer(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &finder{p, c.k}, nil
}

// A member is a consumer of the manager that may be in its group.
type member struct {
	driver.Consumer
	k     *Kafka
	group string

	// Guarded by k.mu.
	joins  int  // how often it has got its partitions
	joined bool // it has got them, and none was taken since
}

// Run serves, and is listed meanwhile.
func (m *member) Run(h driver.Handler) error {
	m.k.mu.Lock()
	m.k.members = append(m.k.members, m)
	m.k.mu.Unlock()
	defer func() {
		m.k.mu.Lock()
		defer m.k.mu.Unlock()
		m.k.members = slices.DeleteFunc(m.k.members, func(n *member) bool { return n == m })
		m.k.fire()
	}()
	return m.Consumer.Run(joining{h, m})
}

func (m *member) Commit(ctx context.Context, marks []driver.Mark) error {
	if err := m.k.refusal(); err != nil {
		ce := new(driver.CommitError)
		for _, mark := range marks {
			ce.Failed = append(ce.Failed, driver.MarkError{Mark: mark, Err: err})
		}
		return ce
	}
	return m.Consumer.Commit(ctx, marks)
}

// HighWatermark implements driver.HighWatermarker.
func (m *member) HighWatermark(c *driver.Claim) int64 {
	return m.Consumer.(driver.HighWatermarker).HighWatermark(c)
}

// Seek implements driver.Seeker.
func (m *member) Seek(ctx context.Context, to []driver.Mark) error {
	return m.Consumer.(driver.Seeker).Seek(ctx, to)
}

// SessionDeadline implements driver.SessionDeadliner.
func (m *member) SessionDeadline() time.Time {
	return m.Consumer.(driver.SessionDeadliner).SessionDeadline()
}

// joining follows the joins of a member.
type joining struct {
	driver.Handler
	m *member
}

func (j joining) Assign(claims []*driver.Claim) {
	j.m.note(false)
	j.Handler.Assign(claims)
	j.m.note(true)
}

func (j joining) Revoke(ctx context.Context, claims []*driver.Claim) {
	j.m.note(false)
	j.Handler.Revoke(ctx, claims)
}

func (j joining) Lost(claims []*driver.Claim, cause error) {
	j.m.note(false)
	j.Handler.Lost(claims, cause)
}

func (m *member) note(joined bool) {
	m.k.mu.Lock()
	defer m.k.mu.Unlock()
	m.joined = joined
	if joined {
		m.joins++
	}
	m.k.fire()
}

// refusals are the commits that a test wants to fail.
type refusals struct {
	left int
	err  error
}

// FailCommits makes the next n commits of all consumers fail with err, as from a
// broker that refuses them; nil stands for an error that a retry cures. Records
// stay handled, and are committed with the first commit that succeeds, or
// handled again if the consumer loses its partitions before.
func (k *Kafka) FailCommits(n int, err error) {
	if err == nil {
		err = errors.New("refused by the test")
	}
	var de *driver.Error
	if !errors.As(err, &de) {
		err = &driver.Error{Code: "UNKNOWN_SERVER_ERROR", Err: err}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refusals = refusals{n, err}
}

// refusal returns the error of a commit that is to fail.
func (k *Kafka) refusal() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.refusals.left <= 0 {
		return nil
	}
	k.refusals.left--
	return k.refusals.err
}

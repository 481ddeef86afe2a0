package memory

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A consumer is one member of a group, as a client sees it.
type consumer struct {
	b   *Broker
	g   *group
	cfg driver.ConsumerConfig

	// Of the goroutine that runs Run.
	handler  driver.Handler
	revokes  sync.WaitGroup // Revokes that run, also beyond their window
	previous []TopicPartition
	trouble  error // to be reported

	pulse atomic.Pointer[pulse] // nil while it is no member; only set under the broker's mutex

	ended  chan struct{} // closed when Run has ended, or will never begin
	closed chan struct{} // closed when the first Close has its answer

	// The broker's mutex guards the rest.
	running    bool
	closeCtx   context.Context // that of the first Close, for Run to drain by; nil before
	closeErr   error           // its answer, once closed is
	overran    bool            // Run ended after the end of closeCtx
	cut        bool            // by a test
	severed    bool            // for good
	told       bool            // that the broker can not be reached
	id         string
	generation int32
	joining    bool
	attending  bool                      // Run goes through a generation
	claims     []*claim                  // that have not ended
	astray     []*claim                  // whose position is no longer in the log, and which deliver nothing
	fence      *time.Timer               // wakes Run when the session of a cut member is over
	delay      time.Duration             // of the answers to heartbeats; 0 is the default
	known      map[string]int            // by topic: the ID for which the group was joined last
	buried     []grave                   // not yet reported
	unplaced   []*driver.NoPositionError // not yet reported
}

var _ driver.HighWatermarker = (*consumer)(nil)

func newConsumer(b *Broker, cfg driver.ConsumerConfig) *consumer {
	b.mu.Lock()
	defer b.mu.Unlock()
	cfg.Topics = slices.Clone(cfg.Topics)
	cfg.BalanceStrategies = slices.Clone(cfg.BalanceStrategies)
	return &consumer{
		b: b, g: b.group(cfg.Group), cfg: cfg, known: make(map[string]int),
		ended: make(chan struct{}), closed: make(chan struct{}),
	}
}

// reachable reports whether consumer and broker can talk.
func (c *consumer) reachable() bool { return !c.b.stopped && !c.cut && !c.severed }

// cooperative reports whether the consumer keeps its claims while it joins. As
// for Java's client, one strategy that can not do that decides for all.
func (c *consumer) cooperative() bool {
	return !slices.ContainsFunc(c.cfg.BalanceStrategies, func(s driver.BalanceStrategy) bool {
		return s != driver.CooperativeSticky
	})
}

func (c *consumer) wakeClaims() {
	for _, k := range c.claims {
		k.changed.fire()
	}
}

// outOfRange has Run see to k, or end because of it.
func (c *consumer) outOfRange(k *claim) {
	c.astray = append(c.astray, k)
	c.g.changed.fire()
}

// firstAstray returns the claim that lost its place first, or nil.
func (c *consumer) firstAstray() *claim {
	if len(c.astray) == 0 {
		return nil
	}
	return c.astray[0]
}

func (c *consumer) Pause(claims ...*driver.Claim)  { c.setPaused(claims, true) }
func (c *consumer) Resume(claims ...*driver.Claim) { c.setPaused(claims, false) }

func (c *consumer) setPaused(claims []*driver.Claim, paused bool) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	for _, dc := range claims {
		if k := c.live(dc); k != nil && k.paused != paused {
			k.paused = paused
			k.changed.fire()
		}
	}
}

// live returns the claim behind dc, or nil if it has ended or is another's.
func (c *consumer) live(dc *driver.Claim) *claim {
	if k, ok := dc.Backend.(*claim); ok && k.c == c && !k.ended {
		return k
	}
	return nil
}

// HighWatermark implements driver.HighWatermarker.
func (c *consumer) HighWatermark(dc *driver.Claim) int64 {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if k, ok := dc.Backend.(*claim); ok && k.c == c {
		return k.highWatermark()
	}
	return -1
}

func (c *consumer) Close(ctx context.Context) error {
	if !c.beginClose(ctx) {
		select {
		case <-c.closed:
			return c.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	c.closeErr = c.waitEnded(ctx)
	close(c.closed)
	return c.closeErr
}

// beginClose reports whether this is the first Close.
func (c *consumer) beginClose(ctx context.Context) bool {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.closeCtx != nil {
		return false
	}
	c.closeCtx = ctx
	if !c.running {
		close(c.ended)
	}
	c.g.changed.fire()
	return true
}

// waitEnded answers with ctx's error if ctx has ended before Run has, whichever
// of the two it sees first.
func (c *consumer) waitEnded(ctx context.Context) error {
	select {
	case <-c.ended:
	default:
		select {
		case <-c.ended:
		case <-ctx.Done():
			c.sever()
			return ctx.Err()
		}
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.overran {
		return ctx.Err()
	}
	return nil
}

// sever drops the connection for good. The member's session runs out.
func (c *consumer) sever() {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.severed = true
	c.linkChanged()
	if m, err := c.g.member(c.cfg.InstanceID, c.id); err == nil {
		c.g.linkChanged(m)
	}
	c.g.changed.fire()
}

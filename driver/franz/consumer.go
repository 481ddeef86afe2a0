package franz

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// A consumer is one member of one group. Its parts know each other only as far as they
// need to: see newConsumer and open.
//
// It has two kgo clients. One belongs to no group and outlives sessions: commits, and all
// questions about topics and positions, go by it. The other belongs to the session: it
// joins and fetches.
type consumer struct {
	cfg     driver.ConsumerConfig
	driver  Driver
	cluster cluster

	line   *dialer.Dialer // of client
	client *kgo.Client
	base   context.Context // of client; its end severs it
	cut    context.CancelFunc

	core        *core.Calls
	claims      *claims
	membership  *membership
	topics      *topics
	coordinator *coordinator
	leaders     *leaders
	committer   *committer
	positions   *positions
	endAsker    *endAsker

	// hard ends when the context of Close does: no window outlives it.
	hard    context.Context
	abandon context.CancelCauseFunc

	// watching ends as Close begins, or as serve ends.
	watching     context.Context
	stopWatching context.CancelFunc

	closing  chan struct{} // closed as Close begins
	finished chan struct{} // closed when Run returns, or will never run
	closed   chan struct{} // closed when Close has its answer
	closeErr error         // valid once closed is closed

	revokes sync.WaitGroup // running calls of Handler.Revoke

	mu        sync.Mutex // guards what follows
	running   bool       // Run has begun
	isClosing bool       // Close has begun
	deadline  time.Time  // of Close; zero is none
	fatal     error      // why Run cannot go on
	outages   map[string]time.Time
}

var (
	_ driver.HighWatermarker  = (*consumer)(nil)
	_ driver.SessionDeadliner = (*consumer)(nil)
	_ driver.Seeker           = (*consumer)(nil)
)

// Commit implements [driver.Consumer].
func (c *consumer) Commit(ctx context.Context, marks []driver.Mark) error {
	return c.committer.commit(ctx, marks)
}

// Pause implements [driver.Consumer].
func (c *consumer) Pause(claims ...*driver.Claim) {
	for _, dc := range claims {
		if cl := c.claims.own(dc); cl != nil {
			cl.pause()
		}
	}
}

// Resume implements [driver.Consumer].
func (c *consumer) Resume(claims ...*driver.Claim) {
	for _, dc := range claims {
		if cl := c.claims.own(dc); cl != nil {
			cl.resume()
		}
	}
}

// HighWatermark implements [driver.HighWatermarker].
func (c *consumer) HighWatermark(dc *driver.Claim) int64 {
	if cl := c.claims.own(dc); cl != nil {
		return cl.high.Load()
	}
	return -1
}

// SessionDeadline implements [driver.SessionDeadliner].
func (c *consumer) SessionDeadline() time.Time { return c.membership.deadline() }

// wrap is wrap for an error of c. A refused OAUTHBEARER token is no reason to give up: its
// source has another one next time.
func (c *consumer) wrap(err error) error { return credentials.Soften(wrap(err), c.cfg.SASL) }

// verdict returns why Run cannot go on, if that is known, and whether Close has begun.
func (c *consumer) verdict() (fatal error, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fatal, c.isClosing
}

// fail ends Run with err.
func (c *consumer) fail(err error) {
	c.mu.Lock()
	if c.fatal == nil {
		c.fatal = err
	}
	c.mu.Unlock()
	c.membership.end(err)
}

// outageEvery is the least distance of reports that brokers cannot be reached.
const outageEvery = 500 * time.Millisecond

// outage reports that a broker cannot be reached, unless the same was reported lately: kgo
// tries for as long as it takes.
func (c *consumer) outage(err error) {
	err = c.wrap(err)
	code, now := codeOf(err), time.Now()
	c.mu.Lock()
	due := now.Sub(c.outages[code]) >= outageEvery
	if due {
		c.outages[code] = now
	}
	c.mu.Unlock()
	if due {
		c.core.Report(err)
	}
}

func (c *consumer) sever() {
	c.line.Sever()
	c.cut()
	if s := c.membership.current(); s != nil {
		s.line.Sever()
		s.cut()
	}
}

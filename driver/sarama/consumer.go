package sarama

import (
	"context"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

// A consumer is one member of one group. Its parts know each other only as far as they
// need to: see newConsumer and open.
//
// It has three Sarama clients, so that neither a fetch nor a join, which may wait at the
// broker, holds up any other request: Sarama serializes the requests of a connection.
type consumer struct {
	cfg  driver.ConsumerConfig
	conf *ibm.Config

	// The connections of data, coord and the coordinator's client, and of endAsker.
	fetches, groups, commits, ends *dialer.Dialer

	data, coord ibm.Client
	split       *splitClient
	group       ibm.ConsumerGroup

	core        *core.Calls
	claims      *claims
	membership  *membership
	topics      *topics
	coordinator *coordinator
	leaders     *leaders
	committer   *committer
	positions   *positions
	inspector   *inspector
	mender      *mender
	watchdog    *watchdog
	judge       *judge
	endAsker    *endAsker

	// hard ends when the context of Close does: no window outlives it.
	hard    context.Context
	abandon context.CancelCauseFunc

	// watching ends as Close begins, or as serve ends.
	watching     context.Context
	stopWatching context.CancelFunc

	closing  chan struct{} // closed as Close begins
	served   chan struct{} // closed when the group is consumed no longer
	finished chan struct{} // closed when Run returns, or will never run
	closed   chan struct{} // closed when Close has its answer
	closeErr error         // valid once closed is closed

	revokes sync.WaitGroup // running calls of Handler.Revoke
	drained sync.WaitGroup // goroutines that read Sarama's errors, and act on them

	mu        sync.Mutex // guards what follows
	running   bool       // Run has begun
	isClosing bool       // Close has begun
	deadline  time.Time  // of Close; zero is none
	fatal     error      // why Run cannot go on
	failed    partition  // where that happened, if at one
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
		return cl.highWatermark()
	}
	return -1
}

// SessionDeadline implements [driver.SessionDeadliner].
func (c *consumer) SessionDeadline() time.Time { return c.membership.deadline() }

// wrap is wrap for an error of c. A refused OAUTHBEARER token is no reason to give up: its
// source has another one next time.
func (c *consumer) wrap(err error) error { return soften(wrap(err), c.cfg.SASL) }

// verdict returns why Run cannot go on, if that is known, and whether Close has begun.
func (c *consumer) verdict() (fatal error, closing bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fatal, c.isClosing
}

// fail ends Run with err. Sarama fetches nothing from then on; it would go on for some
// seconds to look for the leader of a claim that it is to give up.
func (c *consumer) fail(err error, where partition) {
	c.mu.Lock()
	if c.fatal == nil {
		c.fatal, c.failed = err, where
	}
	c.mu.Unlock()
	c.membership.end(err)
	c.fetches.Sever()
}

// failedAt reports whether p is the partition that ended Run.
func (c *consumer) failedAt(p partition) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fatal != nil && c.failed == p
}

func (c *consumer) sever() {
	c.fetches.Sever()
	c.ends.Sever()
	c.groups.Sever()
	c.commits.Sever()
}

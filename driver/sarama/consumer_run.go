package sarama

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// Run implements [driver.Consumer].
func (c *consumer) Run(h driver.Handler) error {
	if ok, err := c.begin(h); !ok {
		return err
	}
	defer close(c.finished)
	c.drained.Go(c.drainErrors)
	looking, stop := context.WithCancel(c.hard)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() { c.watchdog.run(c.watching, watchEvery) })
	watch.Go(func() { c.mender.run(c.watching) })
	watch.Go(func() { c.endAsker.run(c.watching, askEnds, endAge) })
	watch.Go(func() { c.topics.lookOut(looking, lookEvery) })
	watch.Go(func() { c.membership.guard(looking) })
	watch.Go(func() { c.membership.keepBeating(looking) })
	err := c.serve()
	close(c.served)
	if err != nil {
		go c.leave()
	}
	stop()
	c.stopWatching()
	c.fetches.Sever() // the watchdog may wait for an answer
	c.ends.Sever()
	watch.Wait()
	c.revokes.Wait()
	c.core.Close()
	return err
}

// leave leaves the group, once. When Run fails that begins at once: Close comes when Run has
// returned, which a Revoke that overruns its window delays. Until then the other members would
// wait for this one, until its session has timed out.
func (c *consumer) leave() {
	c.group.Close() // the error may be an earlier one of the queue
}

func (c *consumer) begin(h driver.Handler) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.isClosing {
		return false, nil
	}
	if c.running {
		return false, invalid(errors.New("Run: called for the second time"))
	}
	c.core.SetHandler(h)
	c.running = true
	return true, nil
}

// serve joins the group again and again, until Close or an error that a rejoin does not
// cure.
func (c *consumer) serve() error {
	var pace pace
	for {
		began := time.Now()
		err := c.wrap(c.join())
		fatal, closing := c.verdict()
		switch {
		case closing:
			return nil
		case fatal != nil:
			return fatal
		case isPermanent(err) && !c.topics.passes(err), isCode(err, ibm.ErrSASLAuthenticationFailed):
			return err // if it is not permanent it is a refused token, and the core starts again
		case err != nil && !errors.Is(err, errNoTopic):
			c.core.Report(err)
		}
		if time.Since(began) >= shortSession && err == nil {
			c.topics.settled()
		}
		select {
		case <-time.After(pace.next(err, time.Since(began))):
		case <-c.closing:
			return nil
		}
	}
}

// join is one session: from before the join until every claim has ended.
func (c *consumer) join() error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	err := c.joinUnder(ctx, cancel)
	return because(err, context.Cause(ctx))
}

// joinUnder is join under ctx, which cancel ends.
func (c *consumer) joinUnder(ctx context.Context, cancel context.CancelCauseFunc) error {
	c.membership.join(cancel)
	if fatal, closing := c.verdict(); closing || fatal != nil { // before there was a session to end
		return nil
	}
	topics, err := c.topics.choose(ctx)
	if err != nil {
		return err
	}
	asOf := c.topics.known.Eras()
	refused, err := c.positions.restartHeld(ctx, asOf, topics)
	if err != nil {
		return err
	}
	if topics, err = c.topics.without(topics, refused); err != nil {
		return err
	}
	if refused, err = c.positions.moveIntoLog(ctx, asOf, topics); err != nil {
		return err
	}
	if topics, err = c.topics.without(topics, refused); err != nil {
		return err
	}
	pins, failed, err := c.positions.pinNewest(ctx, asOf, topics)
	if err != nil {
		return err
	}
	if topics, err = c.topics.without(topics, failed); err != nil {
		return err
	}
	s := &session{c: c, end: cancel, topics: topics, pins: pins, eras: asOf}
	err = c.group.Consume(ctx, topics, s)
	s.moveSought()
	return err
}

// because returns why a join has failed. If the driver has ended it, Sarama knows only that
// it had to stop.
func because(err, cause error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(cause, errSessionExpired), errors.Is(cause, errJoinRefused):
		return cause
	case errors.Is(cause, errRecreated), errors.Is(cause, errTopicsChanged), errors.Is(cause, errSought):
		return nil
	case cause != nil && errors.Is(err, context.Canceled):
		// The cause has been dealt with, so it must not end Run.
		return fmt.Errorf("join: %w: %v", err, cause)
	}
	return err
}

// A pace spaces out attempts to join. A rebalance must not wait, so it spaces sessions that
// end without an error only when they keep ending at once.
type pace struct{ quick int }

const (
	shortSession  = time.Second
	freeSessions  = 3
	firstInterval = 100 * time.Millisecond
	lastInterval  = 5 * time.Second
)

// next returns how long to wait after a session that ended with err.
func (p *pace) next(err error, lived time.Duration) time.Duration {
	if lived >= shortSession && err == nil {
		p.quick = 0
		return 0
	}
	p.quick++
	n := p.quick
	if err == nil {
		if n -= freeSessions; n <= 0 {
			return 0
		}
	}
	return min(firstInterval<<min(n-1, 10), lastInterval)
}

// onAssignment is called when the group has agreed, before Sarama acts on it. A rejoin that
// brings nothing new to a session shows nowhere else; a new claim shows in ConsumeClaim, and
// the first join of a session in Setup.
func (c *consumer) onAssignment(claims map[string][]int32, _ int32) {
	assigned := map[partition]bool{}
	for topic, ids := range claims {
		for _, id := range ids {
			assigned[partition{Topic: topic, ID: id}] = true
		}
	}
	if c.membership.assign(assigned) {
		defer c.core.Recovered("Assign")
		c.core.Handler.Assign(nil)
	}
}

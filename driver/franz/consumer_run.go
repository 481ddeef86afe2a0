package franz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/aarontianqx/gopkg/driver"
)

// Run implements [driver.Consumer].
func (c *consumer) Run(h driver.Handler) error {
	if ok, err := c.begin(h); !ok {
		return err
	}
	defer close(c.finished)
	looking, stop := context.WithCancel(c.hard)
	defer stop()
	var watch sync.WaitGroup
	watch.Go(func() { c.endAsker.run(c.watching, askEnds, endAge) })
	watch.Go(func() { c.topics.lookOut(looking, lookEvery) })
	watch.Go(func() { c.membership.guard(looking) })
	if !byEpochs(c.cfg) { // kgo sends the others at all times
		watch.Go(func() { c.membership.keepBeating(looking) })
	}
	err := c.serve()
	stop()
	c.stopWatching()
	watch.Wait()
	c.topics.asking.Wait()
	c.revokes.Wait()
	c.core.Close()
	return err
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

// serve runs one session after the other, until Close or an error that a rejoin does not
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
		case isPermanent(err), isCode(err, kerr.SaslAuthenticationFailed):
			return err // if it is not permanent it is a refused token, and the core starts again
		case err != nil && !errors.Is(err, errNoTopic):
			c.core.Report(err)
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
	ctx, cancel := context.WithCancel(c.hard)
	defer cancel()
	defer context.AfterFunc(c.watching, cancel)()
	topics, seen, err := c.topics.choose(ctx)
	if err != nil {
		return err
	}
	asOf := c.topics.known.Eras()
	pins, failed, err := c.positions.pinNewest(ctx, asOf, seen, topics)
	if err != nil {
		return err
	}
	if topics, err = c.topics.without(topics, failed); err != nil {
		return err
	}
	c.membership.learnTimeout(ctx)
	s, err := c.newSession(asOf, pins)
	if err != nil {
		return err
	}
	s.seen.learn(seen)
	c.membership.enter(s)
	s.endIfChanged()                                            // it changed since choose, when there was no session to end
	if fatal, closing := c.verdict(); closing || fatal != nil { // before there was a session to end
		s.end(errClosing)
	}
	s.jobs.Go(s.mend)
	if c.membership.byEpochs {
		s.jobs.Go(s.lookForCoordinator)
	}
	s.run(topics)
	s.finish()
	return because(context.Cause(s.running))
}

var errClosing = errors.New("consumer is closing")

// because returns what is to be reported of the end of a session, if it has not been.
func because(cause error) error {
	switch {
	case errors.Is(cause, driver.ErrMembershipLost), errors.Is(cause, errRecreated),
		errors.Is(cause, errTopicsChanged), errors.Is(cause, errClosing):
		return nil
	case cause == nil:
		return fmt.Errorf("the session has ended")
	}
	return cause
}

// extend subscribes to topics that have appeared.
func (c *consumer) extend(ctx context.Context, seen survey, appeared []string) {
	s := c.membership.current()
	if s == nil || s.isOver() {
		return
	}
	before := c.topics.subscription()
	pins, failed, err := c.positions.pinNewest(ctx, s.eras, seen, appeared)
	if err != nil {
		c.core.Report(c.wrap(err)) // the next look tries it again
		return
	}
	if appeared, err = c.topics.without(appeared, failed); err != nil {
		c.topics.subscribe(before)
		return
	}
	s.addPins(pins)
	s.seen.learn(seen)
	c.topics.subscribe(append(before, appeared...))
	s.client.AddConsumeTopics(appeared...)
}

// A pace spaces out attempts to join. A session that ends without an error is followed by
// the next one at once, unless they keep ending at once.
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

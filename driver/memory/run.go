package memory

import (
	"context"
	"errors"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// errClosing ends a generation because Close has been called.
var errClosing = errors.New("closing")

func (c *consumer) Run(h driver.Handler) error {
	if !c.begin(h) {
		return nil
	}
	defer c.finish()
	err := c.serve()
	c.endClaims(err)
	c.leave()
	c.revokes.Wait()
	return err
}

func (c *consumer) begin(h driver.Handler) bool {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.closeCtx != nil {
		return false
	}
	c.handler, c.running = h, true
	return true
}

func (c *consumer) finish() {
	c.b.mu.Lock()
	c.overran = c.closeCtx != nil && c.closeCtx.Err() != nil
	c.endPulse()
	c.b.mu.Unlock()
	close(c.ended)
}

// serve goes from generation to generation. It returns nil for Close, and else
// what joining anew does not cure.
func (c *consumer) serve() error {
	for {
		c.attend(true)
		err := c.participate()
		c.attend(false)
		k, closing := c.strayed()
		switch {
		case err == errClosing || closing:
			return nil
		case err == errOrphaned:
			c.loseOrphans()
		case k != nil:
			c.goOn(k)
		case errors.Is(err, driver.ErrPermanent):
			return err
		case code(err) != "REBALANCE_IN_PROGRESS":
			c.loseSession(err)
		}
	}
}

func (c *consumer) attend(is bool) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	c.attending = is
}

// strayed returns the claim whose position is no longer in the log, if that is
// not the end, and whether the consumer is being closed.
func (c *consumer) strayed() (k *claim, closing bool) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.cfg.OutOfRange != driver.OutOfRangeStop {
		k = c.firstAstray()
	}
	return k, c.closeCtx != nil
}

// goOn ends a claim that has lost its place and moves the group's position into
// the log. What was handled is committed before that.
func (c *consumer) goOn(k *claim) {
	if err := c.revoke([]*claim{k}); err != nil {
		c.loseSession(err) // the next owner finds the same
		return
	}
	if gap := c.moveIntoLog(k); gap != nil {
		c.b.observer.tell()
		c.handler.Error(&driver.Error{Code: gap.ErrorType(), Err: gap})
	}
}

func (c *consumer) moveIntoLog(k *claim) *driver.DataLossError {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	from := c.g.committed(k.partition())
	if c.answer() != nil {
		return nil // the group has gone on without this member, or can not be asked
	}
	if from < 0 || from >= k.log.start && from <= k.log.end {
		return nil // it has no position, or somebody else has seen to it
	}
	to := k.log.start
	if c.cfg.OutOfRange == driver.OutOfRangeNewest {
		to = k.log.limit(c.cfg.IsolationLevel)
	}
	c.g.offsets[k.partition()] = to
	c.b.observer.applied(Commit{c.g.name, c.id, c.generation, k.partition(), to, true})
	c.g.progress.fire()
	return &driver.DataLossError{
		Topic: k.Topic, Partition: k.Partition, From: from, To: to, Begin: k.log.start, End: k.log.end,
	}
}

// participate goes through one generation and returns why it is over.
func (c *consumer) participate() error {
	c.b.mu.Lock()
	orphaned := c.orphanErr()
	c.b.mu.Unlock()
	if orphaned != nil {
		return orphaned
	}
	if !c.cooperative() {
		if err := c.revoke(c.liveClaims()); err != nil {
			return err
		}
	}
	if err := c.join(); err != nil {
		return err
	}
	tps, err := c.sync()
	if err != nil {
		return err
	}
	if err := c.adopt(tps); err != nil {
		return err
	}
	return c.await(func() (bool, error) {
		if c.reachable() && c.g.state != stable {
			return false, errRebalance(c.g)
		}
		return false, nil
	})
}

// join waits until the group is complete under a new generation. While another
// member's balance strategies have nothing in common with its own, it asks again
// whenever the group has changed.
func (c *consumer) join() error {
	c.b.mu.Lock()
	c.joining = true
	c.b.mu.Unlock()
	asked, reported := false, false
	return c.await(func() (bool, error) {
		if !c.reachable() {
			return false, nil
		}
		if !asked {
			switch err := c.ask(); {
			case code(err) == "INCONSISTENT_GROUP_PROTOCOL":
				if !reported {
					c.trouble, reported = err, true
				}
				return false, nil
			case err != nil:
				return false, err
			}
			asked = true
		}
		m, err := c.g.member(c.cfg.InstanceID, c.id)
		if err != nil || m.joining {
			return false, err
		}
		c.joining, c.generation = false, m.generation
		c.beginPulse()
		c.remember()
		c.g.changed.fire()
		return true, nil
	})
}

// ask sends the request to join. Kafka takes it from a member that the group has
// passed by, too, whose heartbeats it would refuse; then this could happen: the
// member gives up, under the new generation, claims that others have had since, and
// its last commits rewind theirs. So here such a member loses its claims first.
func (c *consumer) ask() error {
	if m, err := c.g.member(c.cfg.InstanceID, c.id); err == nil && len(c.claims) > 0 && m.generation != c.g.generation {
		return errIllegalGeneration(c.g, m.generation)
	}
	var owned []TopicPartition
	for _, k := range c.claims {
		owned = append(owned, k.partition())
	}
	m, err := c.g.join(c, c.id, owned, c.previous)
	if err == nil {
		c.id = m.id
	}
	return err
}

// sync returns what is assigned; the leader decides it for all.
func (c *consumer) sync() (tps []TopicPartition, err error) {
	err = c.await(func() (bool, error) {
		if !c.reachable() {
			return false, nil
		}
		m, err := c.g.member(c.cfg.InstanceID, c.id)
		if err != nil {
			return false, err
		}
		if c.g.state == completing && c.g.leader == m {
			c.g.assign()
		}
		switch c.g.state {
		case completing:
			return false, nil
		case stable:
			tps = slices.Clone(m.assignment)
			return true, nil
		}
		return false, errRebalance(c.g)
	})
	if err == nil {
		c.previous = tps
	}
	return tps, err
}

// await blocks until f, called under the mutex, is done or gives an error, or
// until something comes between: Close, a lost session, a lost place, a lost topic.
func (c *consumer) await(f func() (bool, error)) error {
	for {
		done, changed, err := c.look(f)
		if c.trouble != nil {
			c.handler.Error(c.trouble)
			c.trouble = nil
		}
		if done || err != nil {
			return err
		}
		<-changed
	}
}

func (c *consumer) look(f func() (bool, error)) (done bool, changed <-chan struct{}, err error) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	down := !c.reachable()
	if down && !c.told {
		c.trouble = errUnreachable()
	}
	c.told = down
	if err = c.interruption(); err == nil {
		done, err = f()
	}
	return done, c.g.changed.wait(), err
}

// interruption returns what comes between.
func (c *consumer) interruption() error {
	switch {
	case c.closeCtx != nil:
		return errClosing
	case c.orphanErr() != nil:
		return errOrphaned
	case len(c.astray) > 0:
		k := c.firstAstray()
		return errOutOfRange(k.log, k.partition(), k.next)
	}
	return c.sessionErr()
}

// sessionErr returns what the broker answers to a heartbeat, but for a
// rebalance. Nothing is heard while the broker can not be reached, and nothing for
// too long is an answer, too.
func (c *consumer) sessionErr() error {
	switch {
	case c.id == "":
		return nil
	case c.fenced():
		return errFenced(c.cfg.SessionTimeout)
	case !c.reachable():
		return nil
	}
	if _, err := c.g.member(c.cfg.InstanceID, c.id); err != nil {
		return err
	}
	if !c.joining && c.generation != c.g.generation {
		return errIllegalGeneration(c.g, c.generation)
	}
	return nil
}

// loseSession ends all claims of a member that the group no longer counts on.
func (c *consumer) loseSession(cause error) {
	c.b.mu.Lock()
	if _, err := c.g.member(c.cfg.InstanceID, c.id); err != nil {
		c.id = ""
	}
	c.endPulse()
	c.b.mu.Unlock()
	cause = lostMembership(cause)
	c.previous = nil
	c.handler.Error(cause)
	c.lose(c.liveClaims(), cause)
}

// endClaims ends what is left when serve has returned.
func (c *consumer) endClaims(err error) {
	c.b.mu.Lock()
	k := c.firstAstray()
	c.b.mu.Unlock()
	switch {
	case err == nil:
		c.revoke(c.liveClaims())
	case k != nil:
		c.lose([]*claim{k}, err)
		c.revoke(c.liveClaims())
	default:
		c.lose(c.liveClaims(), err)
	}
}

// leave takes the member out of its group, as soon as the broker can be reached,
// or gives up when the session or Close has ended. A static member stays.
func (c *consumer) leave() {
	for {
		gone, changed, over := c.tryLeave()
		if gone {
			return
		}
		select {
		case <-changed:
		case <-over:
		}
	}
}

func (c *consumer) tryLeave() (gone bool, changed, over <-chan struct{}) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	m, err := c.g.member(c.cfg.InstanceID, c.id)
	ctx := c.closeContext()
	switch {
	case err != nil:
		return true, nil, nil
	case ctx.Err() != nil || c.cfg.InstanceID != "" || c.severed:
		c.severed = true
		c.g.linkChanged(m)
		return true, nil, nil
	case c.reachable():
		c.g.remove(m)
		return true, nil, nil
	}
	return false, c.g.changed.wait(), ctx.Done()
}

// closeContext returns the context of Close, or one without end before it.
func (c *consumer) closeContext() context.Context {
	if c.closeCtx == nil {
		return context.Background()
	}
	return c.closeCtx
}

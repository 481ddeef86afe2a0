package memory

import (
	"context"
	"fmt"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

func (c *consumer) Commit(ctx context.Context, marks []driver.Mark) error {
	var failed []driver.MarkError
	for {
		a := c.attempt(ctx, marks)
		failed = append(failed, a.failed...)
		c.b.observer.tell()
		if len(a.again) == 0 {
			break
		}
		marks = a.again
		select {
		case <-a.changed:
		case <-ctx.Done():
		}
	}
	if len(failed) > 0 {
		return &driver.CommitError{Failed: failed}
	}
	return nil
}

// An attempt is what became of marks at one try.
type attempt struct {
	failed  []driver.MarkError
	again   []driver.Mark // when changed is closed
	changed <-chan struct{}
}

func (a *attempt) fail(marks []driver.Mark, err error) {
	for _, m := range marks {
		a.failed = append(a.failed, driver.MarkError{Mark: m, Err: err})
	}
}

// attempt tries marks under the identity that the member has now. That and the
// claims' ends are seen under one hold of the mutex, so no mark is ever sent in
// the name of an assignment that it does not belong to.
func (c *consumer) attempt(ctx context.Context, marks []driver.Mark) (a attempt) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	marks = c.current(marks, &a)
	if len(marks) == 0 {
		return a
	}
	c.keepUp()
	err := c.answer()
	switch {
	case err == nil && ctx.Err() == nil:
		c.apply(marks, &a)
	case ctx.Err() != nil:
		a.fail(marks, timedOut(ctx, err))
	case c.worthRetrying(err):
		a.again, a.changed = marks, c.g.changed.wait()
	default:
		a.fail(marks, err)
	}
	return a
}

// keepUp does for the group what Run does not when something has come between: it
// takes the member into the generation that its join has come to, and decides the
// assignment if it is the leader. A member that is closed, or that has lost its
// place, still has claims to commit, and until the leader has decided nobody's
// commit is accepted.
func (c *consumer) keepUp() {
	m, err := c.g.member(c.cfg.InstanceID, c.id)
	if c.attending || err != nil || !c.reachable() || m.joining {
		return
	}
	c.joining, c.generation = false, m.generation // which may be over by now
	if c.g.state == completing && c.g.leader == m && c.generation == c.g.generation {
		c.g.assign()
	}
}

// current drops the marks whose claims have ended and those that are behind.
func (c *consumer) current(marks []driver.Mark, a *attempt) []driver.Mark {
	return slices.DeleteFunc(slices.Clone(marks), func(m driver.Mark) bool {
		k := c.live(m.Claim)
		if k == nil {
			a.fail([]driver.Mark{m}, driver.ErrClaimEnded)
		}
		return k == nil || m.Offset <= k.committed
	})
}

// answer is what the broker says to a commit now.
func (c *consumer) answer() error {
	if !c.reachable() {
		return errUnreachable()
	}
	return c.g.mayCommit(c.cfg.InstanceID, c.id, c.generation)
}

// worthRetrying reports whether a later attempt may succeed: when the broker is
// back, when the assignment is there, or when the member has learned of the
// generation that it is in.
func (c *consumer) worthRetrying(err error) bool {
	switch code(err) {
	case "CONNECTION_FAILED", "REBALANCE_IN_PROGRESS":
		return true
	case "ILLEGAL_GENERATION":
		return c.joining
	}
	return false
}

func (c *consumer) apply(marks []driver.Mark, a *attempt) {
	for _, m := range marks {
		k := c.live(m.Claim)
		tp := k.partition()
		if err := c.b.commitErr(k); err != nil {
			a.fail([]driver.Mark{m}, err)
			continue
		}
		k.committed, c.g.offsets[tp] = m.Offset, m.Offset
		c.b.observer.applied(Commit{c.g.name, c.id, c.generation, tp, m.Offset, false})
	}
	c.g.progress.fire()
}

// commitErr returns what the broker answers to a position in a claim's partition:
// the topic's ID travels with it.
func (b *Broker) commitErr(k *claim) error {
	switch t := b.topics[k.Topic]; {
	case t == nil:
		return errUnknownPartition(k.Topic, k.Partition)
	case k.orphaned():
		return fail("UNKNOWN_TOPIC_ID", "%s/%d: the topic was created again", k.Topic, k.Partition)
	case t.forbidden:
		return errForbidden(k.Topic)
	}
	return nil
}

// timedOut says what the last attempt of a commit was waiting for.
func timedOut(ctx context.Context, last error) error {
	err := ctx.Err()
	if last != nil {
		err = fmt.Errorf("%w, waiting for the end of %w", err, last)
	}
	return &driver.Error{Code: "REQUEST_TIMED_OUT", Err: err}
}

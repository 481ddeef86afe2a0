package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// Claims are what a session's driver has assigned to it, and its driver.Handler: what
// the driver reports arrives here. They start, stop and end the partitions.
type claims struct {
	job       *job
	env       *env
	member    *membership
	committer *committer
	deadline  deadline

	mu     sync.Mutex
	halted bool // partitions that are assigned now stay still
	parts  []*partition

	troubled atomic.Bool                   // troubles is not empty
	troubles map[TopicPartition]TopicError // of what is not owned, and of whole topics; the mutex guards it
}

// live returns the partitions whose claims have not ended.
func (c *claims) live() []*partition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.parts)
}

// halt halts all partitions, now and to come. With a cause it also cancels the
// contexts of the handlers that run. It does not wait.
func (c *claims) halt(cause error) {
	c.mu.Lock()
	c.halted = true
	parts := slices.Clone(c.parts)
	c.mu.Unlock()
	for _, p := range parts {
		p.brake.halt(cause)
	}
}

// progressed notes that a record has been handled. Each lane reports its first one.
func (c *claims) progressed() {
	c.member.handled.Store(true)
}

// stop switches the consumer off because of a record, unless the session is no longer
// wanted.
func (c *claims) stop(reason error) {
	if w, _ := c.job.want(); w.offs == c.committer.offs {
		c.job.disable(reason, w)
	}
}

// Assign starts a lane per claim. A partition that an earlier claim's
// handler is still at, because its window ran out, waits for that one. A broker has
// confirmed the membership, also if there are no claims.
func (c *claims) Assign(claims []*driver.Claim) {
	c.job.noteJoined()
	c.member.join()
	if len(claims) == 0 {
		c.env.log.Info("kafka: partitions assigned: none")
		return
	}
	parts := make([]*partition, len(claims))
	for i, cl := range claims {
		parts[i] = newPartition(c.env, cl)
		cl.Owner = parts[i]
		c.env.ledger.open(cl)
	}
	c.mu.Lock()
	c.parts = append(c.parts, parts...)
	c.env.budget.split(len(c.parts))
	halted := c.halted
	for _, cl := range claims {
		c.endTrouble(keyOf(cl))
	}
	c.mu.Unlock()
	c.watchDeadline()
	c.env.log.Info("kafka: partitions assigned", "partitions", listed(parts), "generation", claims[0].Generation)
	for _, p := range parts {
		if halted {
			p.brake.halt(nil)
		}
		p.intake.syncFlow() // for a pause of the operator
		go p.work(c.env.workers.enlist(p))
		if p.intake.stale() {
			c.env.schedule.moved()
		}
	}
	c.reflow()
	c.env.event(PartitionsAssigned{JobName: c.env.job, Group: c.env.group, Partitions: topicPartitions(parts)})
}

// Deliver queues records for their partition's lane.
func (c *claims) Deliver(cl *driver.Claim, b driver.Batch) {
	cl.Owner.(*partition).deliver(b)
	c.job.watch.arm()
	c.delivered(cl)
}

// Revoke stops the claims' lanes, waits for the handlers that run, commits
// what is done, and lets the claims go. While a shutdown drains, handlers are
// left in peace until its deadline is near; otherwise the group is waiting, and
// their contexts are cancelled at once. Those of claims that Seek ends are cancelled a little
// before the window is over.
func (c *claims) Revoke(ctx context.Context, claims []*driver.Claim) {
	began := time.Now()
	parts := partitionsOf(claims)
	var cause error
	if !c.job.stopping() {
		cause = ErrRevoked
	}
	for _, p := range parts {
		if p.sought.Load() {
			p.brake.halt(nil)
		} else {
			p.brake.halt(cause)
		}
	}
	drained, cancel := c.job.reserve(ctx)
	spared := c.endSends(drained, parts, cause)
	stuck := awaitLanes(drained, parts)
	spared()
	cancel()
	for _, p := range stuck {
		// Its window is over: whether it obeys its context now makes no difference
		// to what is committed, only to how long it stays behind.
		p.giveUp()
		p.brake.cancel(ErrRevoked)
		c.env.log.Error("kafka: handler outlived the drain window; its record will be delivered again",
			"topic", p.claim.Topic, "partition", p.claim.Partition, "offset", p.intake.undone())
	}
	if len(stuck) > 0 {
		c.reflow() // the budget has room again
	}
	c.committer.commit(ctx)
	c.end(parts)
	took := time.Since(began)
	c.env.log.Info("kafka: partitions revoked", "partitions", listed(parts), "took", took)
	c.env.event(PartitionsRevoked{
		JobName: c.env.job, Group: c.env.group,
		Partitions: topicPartitions(parts), Stuck: topicPartitions(stuck), Took: took,
	})
}

// endSends ends the waits for answers to what lanes send, a little before drained
// ends, or with the handlers of a shutdown: no handler runs that could be stuck. What is
// acknowledged later is delivered again. With a cause it also cancels the contexts of
// handlers that were left in peace. The function that it returns calls it off.
func (c *claims) endSends(drained context.Context, parts []*partition, cause error) (off func()) {
	ctx, cancel := c.job.reserve(drained)
	unhook := context.AfterFunc(ctx, func() {
		for _, p := range parts {
			p.brake.endSends()
			if cause != nil {
				p.brake.cancel(cause)
			}
		}
	})
	shut := context.AfterFunc(c.job.m.until(handlersFinish), cancel)
	return func() { unhook(); shut(); cancel() }
}

// Lost stops the claims' lanes. Nothing of them can be committed from now on.
func (c *claims) Lost(claims []*driver.Claim, cause error) {
	parts := partitionsOf(claims)
	for _, p := range parts {
		p.brake.halt(ErrPartitionLost)
	}
	c.end(parts)
	if errors.Is(cause, driver.ErrMembershipLost) {
		c.member.heed(cause)
	}
	c.env.log.Warn("kafka: partitions lost", "partitions", listed(parts), "error", loggable(cause))
	c.env.event(PartitionsLost{JobName: c.env.job, Group: c.env.group, Partitions: topicPartitions(parts), Err: cause})
}

// end forgets partitions whose claims have ended. The job still waits for those
// whose lane runs.
func (c *claims) end(parts []*partition) {
	c.mu.Lock()
	c.parts = slices.DeleteFunc(c.parts, func(p *partition) bool { return slices.Contains(parts, p) })
	c.env.budget.split(len(c.parts))
	c.mu.Unlock()
	for _, p := range parts {
		p.giveUp()
		p.intake.discard()
		c.env.ledger.end(p.claim)
		p.closeFailing()
	}
	c.reflow()
}

// abandon halts what a driver has left alive that panicked, since it neither
// revokes it nor reports that it is lost.
func (c *claims) abandon() {
	left := c.live()
	for _, p := range left {
		p.brake.halt(ErrPartitionLost)
	}
	c.end(left)
}

func partitionsOf(claims []*driver.Claim) []*partition {
	parts := make([]*partition, len(claims))
	for i, c := range claims {
		parts[i] = c.Owner.(*partition)
	}
	return parts
}

// maxListed is how many partitions a log line names.
const maxListed = 20

// listed returns the names of parts for a log line: the first ones, and how many
// there are beyond.
func listed(parts []*partition) string {
	var list []string
	for _, p := range parts[:min(len(parts), maxListed)] {
		list = append(list, keyOf(p.claim).String())
	}
	if more := len(parts) - maxListed; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, " ")
}

// awaitLanes waits until the lanes of parts have ended or ctx ends, and
// returns those that have not.
func awaitLanes(ctx context.Context, parts []*partition) (stuck []*partition) {
	for _, p := range parts {
		select {
		case <-p.done:
		case <-ctx.Done():
			select {
			case <-p.done:
			default:
				stuck = append(stuck, p)
			}
		}
	}
	return stuck
}

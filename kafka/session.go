package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A session is one life of a job's driver consumer, from open to close. It is
// the driver's Handler.
type session struct {
	job       *job
	driver    driver.Consumer
	committer *committer
	budget    budget

	// The parent of all handlers' contexts.
	ctx    context.Context
	cancel context.CancelCauseFunc

	deadline func() time.Time // the driver's SessionDeadline; nil if it has none

	offs       int           // the job's count of switch-offs when it began
	joined     chan struct{} // closed by the first Assign
	joinOnce   sync.Once
	joinedAt   time.Time   // set before joined is closed
	progressed atomic.Bool // a record has been handled

	stood    chan struct{} // one token: standing has changed
	troubled atomic.Bool   // troubles is not empty

	mu       sync.Mutex
	halted   bool // partitions that are assigned now stay still
	parts    []*partition
	standing standing
	troubles map[TopicPartition]TopicError // of what is not owned, and of whole topics

	timer     *time.Timer    // for the deadline; nil while it is not set
	unwatched bool           // no timer is set any more
	watching  sync.WaitGroup // the timer, until it has run or is stopped
}

// newSession prepares a session whose handlers' contexts carry the values of
// ctx, but not its end: that begins a shutdown, in which handlers may finish.
func newSession(ctx context.Context, j *job, d driver.Consumer, offs int) *session {
	s := &session{
		job: j, driver: d, offs: offs, deadline: sessionDeadline(d),
		joined: make(chan struct{}), stood: make(chan struct{}, 1),
	}
	ctx = context.WithValue(context.WithoutCancel(ctx), handlerKey{}, j)
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	s.committer = newCommitter(s)
	s.budget.most = int64(j.cfg.MaxTotalBufferedBytes)
	return s
}

// live returns the partitions whose claims have not ended.
func (s *session) live() []*partition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*partition(nil), s.parts...)
}

// healthy reports whether s was worth its start: it has handled a record, or
// has been a member for longer than the longest backoff.
func (s *session) healthy() bool {
	return s.progressed.Load() || isClosed(s.joined) && time.Since(s.joinedAt) > s.job.cfg.Backoff.Max
}

// halt halts all partitions, now and to come. With a cause it also cancels the
// contexts of the handlers that run. It does not wait.
func (s *session) halt(cause error) {
	s.mu.Lock()
	s.halted = true
	parts := append([]*partition(nil), s.parts...)
	s.mu.Unlock()
	for _, p := range parts {
		p.halt(cause)
	}
	if cause != nil {
		s.cancel(cause)
	}
}

// Assign starts a worker for each claim. A partition that an earlier claim's
// handler is still at, because its window ran out, waits for that one. A broker has
// confirmed the membership, also if there are no claims.
func (s *session) Assign(claims []*driver.Claim) {
	s.joinOnce.Do(func() {
		s.joinedAt = time.Now()
		close(s.joined)
	})
	s.joinGroup()
	if len(claims) == 0 {
		s.job.log.Info("kafka: partitions assigned: none")
		return
	}
	parts := make([]*partition, len(claims))
	for i, c := range claims {
		parts[i] = newPartition(s, c)
		c.Owner = parts[i]
	}
	s.mu.Lock()
	s.parts = append(s.parts, parts...)
	s.budget.sharers.Store(int64(len(s.parts)))
	halted := s.halted
	for _, c := range claims {
		s.endTrouble(keyOf(c))
	}
	s.mu.Unlock()
	s.watchDeadline()
	s.job.log.Info("kafka: partitions assigned", "partitions", listed(parts), "generation", claims[0].Generation)
	for _, p := range parts {
		if halted {
			p.halt(nil)
		}
		go p.work(s.job.enlist(p))
	}
	s.reflow()
	s.job.event(PartitionsAssigned{JobName: s.job.name(), Group: s.job.cfg.ConsumerGroup, Partitions: topicPartitions(parts)})
}

// Deliver queues records for their partition's worker.
func (s *session) Deliver(c *driver.Claim, b driver.Batch) {
	c.Owner.(*partition).deliver(b)
	s.delivered(c)
}

// Revoke stops the claims' workers, waits for the handlers that run, commits
// what is done, and lets the claims go. While a shutdown drains, handlers are
// left in peace until its deadline is near; otherwise the group is waiting, and
// their contexts are cancelled at once.
func (s *session) Revoke(ctx context.Context, claims []*driver.Claim) {
	began := time.Now()
	parts := partitionsOf(claims)
	var cause error
	if !s.job.stopping() {
		cause = ErrRevoked
	}
	for _, p := range parts {
		p.halt(cause)
	}
	drained, cancel := s.job.reserve(ctx)
	stuck := awaitWorkers(drained, parts)
	cancel()
	for _, p := range stuck {
		// Its window is over: whether it obeys its context now makes no difference
		// to what is committed, only to how long it stays behind.
		p.giveUp()
		p.cancel(ErrRevoked)
		s.job.log.Error("kafka: handler outlived the drain window; its record will be delivered again",
			"topic", p.claim.Topic, "partition", p.claim.Partition, "offset", p.tracker.position())
	}
	s.committer.commit(ctx)
	s.end(parts)
	took := time.Since(began)
	s.job.log.Info("kafka: partitions revoked", "partitions", listed(parts), "took", took)
	s.job.event(PartitionsRevoked{
		JobName: s.job.name(), Group: s.job.cfg.ConsumerGroup,
		Partitions: topicPartitions(parts), Stuck: topicPartitions(stuck), Took: took,
	})
}

// Lost stops the claims' workers. Nothing of them can be committed any more.
func (s *session) Lost(claims []*driver.Claim, cause error) {
	parts := partitionsOf(claims)
	for _, p := range parts {
		p.halt(ErrPartitionLost)
	}
	s.end(parts)
	if errors.Is(cause, driver.ErrMembershipLost) {
		s.heed(cause)
	}
	s.job.log.Warn("kafka: partitions lost", "partitions", listed(parts), "error", loggable(cause))
	s.job.event(PartitionsLost{JobName: s.job.name(), Group: s.job.cfg.ConsumerGroup, Partitions: topicPartitions(parts), Err: cause})
}

// end forgets partitions whose claims have ended. The job still waits for those
// whose worker runs.
func (s *session) end(parts []*partition) {
	s.mu.Lock()
	var rest []*partition
	for _, p := range s.parts {
		if !contains(parts, p) {
			rest = append(rest, p)
		}
	}
	s.parts = rest
	s.budget.sharers.Store(int64(len(rest)))
	s.mu.Unlock()
	for _, p := range parts {
		p.giveUp()
	}
	s.reflow()
}

// guard calls a driver's method, and makes a panic in it an error like any other.
func guard(call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("driver panicked: %v\n%s", v, debug.Stack())
		}
	}()
	return call()
}

// errRunEnded is what a driver reports that returns from Run though nobody has
// closed it.
var errRunEnded = errors.New("driver stopped without being closed")

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

func contains(parts []*partition, p *partition) bool {
	for _, q := range parts {
		if p == q {
			return true
		}
	}
	return false
}

// awaitWorkers waits until the workers of parts have ended or ctx ends, and
// returns those that have not.
func awaitWorkers(ctx context.Context, parts []*partition) (stuck []*partition) {
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

// reserve returns a context that ends a little before ctx, and in a shutdown a
// stage before consumers are severed, so that there is time for a commit after
// what it bounds.
func (j *job) reserve(ctx context.Context) (context.Context, context.CancelFunc) {
	var cancel context.CancelFunc
	if deadline, ok := ctx.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/5, time.Second)))
	} else {
		ctx, cancel = context.WithCancel(ctx)
	}
	unhook := context.AfterFunc(j.m.stages[handlersGivenUp].ctx, cancel)
	return ctx, func() { unhook(); cancel() }
}

package kafka

import (
	"context"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A partition is the core's side of one claim: its queue, the goroutine that
// hands records to the handler one after the other, and what is known of its
// progress. The goroutine is started by Assign and ends after halt; Revoke
// waits for it, or else the job does.
//
// What the worker alone touches stands apart from what others read.
type partition struct {
	s       *session
	claim   *driver.Claim
	tracker *tracker
	watched *delivery // the worker's own; nil without hooks

	// The handler's context, cancelled with the cause for which the partition
	// has to stop. It is set by newPartition and lives as long as the claim.
	ctx    context.Context
	cancel context.CancelCauseFunc

	halted  atomic.Bool   // no record is handed out any more
	fenced  atomic.Bool   // halted because the session's deadline has passed: nothing is committed
	givenUp atomic.Bool   // what the handler comes to is not committed any more
	haltC   chan struct{} // closed when halted
	done    chan struct{} // closed when the worker has handed out its last record
	clear   chan struct{} // closed when done, and before is clear too

	// before is the worker of the claim before on the same partition, if that was
	// not clear yet. The job's mutex guards it.
	before *partition

	goroutine atomic.Uint64 // the worker's latest, for calls that a handler must not make

	handed    atomic.Int64 // the offset after the last record handed out
	committed atomic.Int64 // the position that is durable, or -1

	mu        sync.Mutex
	queue     queue
	next      int64 // Batch.Next of the latest batch
	waiting   bool  // the worker waits for a wake
	flow      flow
	counted   int  // what the session's budget has counted of queue.bytes
	uncounted bool // the claim has ended: nothing is counted any more
	failures  int  // in a row
	lastErr   error
	nextRetry time.Time
	trouble   fetchTrouble

	wake chan struct{} // holds one token

	// The worker's own.
	batch   []driver.Record // what it has taken and not released
	msgs    []Message       // batch, for handlers of messages
	i       int             // the record in batch that comes next
	attempt int             // of that record; 0 before the first
	goexit  bool            // the handler ended the worker's last goroutine
	poison  bool            // a record may have failed under an earlier claim
	one     [1]*Message
}

// takeLimit is how many records the worker takes from the queue at once, and
// messageLimit the same for handlers of messages: these share one allocation, so a
// handler that keeps one Message keeps them all.
const (
	takeLimit    = 128
	messageLimit = 32
)

func newPartition(s *session, c *driver.Claim) *partition {
	p := &partition{
		s:       s,
		claim:   c,
		tracker: newTracker(c.Start),
		haltC:   make(chan struct{}),
		done:    make(chan struct{}),
		clear:   make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
	if s.job.m.hooks != nil {
		p.watched = newDelivery(s.job, c)
	}
	p.ctx, p.cancel = context.WithCancelCause(s.ctx)
	p.handed.Store(c.Start)
	p.committed.Store(c.Start)
	return p
}

// ended reports whether the worker has handed out its last record.
func (p *partition) ended() bool { return isClosed(p.done) }

// halt lets no further record be handed out, but for one that is just on its
// way. With a cause it also cancels the context of the handler that runs. It
// does not wait.
func (p *partition) halt(cause error) {
	if p.halted.CompareAndSwap(false, true) {
		close(p.haltC)
	}
	if cause != nil {
		p.cancel(cause)
	}
}

// giveUp says that the claim has ended, or that its window has: a handler that
// runs is no longer waited for, and what it comes to is not committed.
//
// It is called before the last commit reads the position, and finish asks before
// it publishes one. So a record that the hooks hear of as late is never part of
// that commit, and will certainly be delivered again.
func (p *partition) giveUp() {
	p.givenUp.Store(true)
	p.uncount()
}

// position is what may be committed.
func (p *partition) position() int64 {
	if p.s.job.cfg.AutoCommit {
		return max(p.handed.Load(), p.tracker.position())
	}
	return p.tracker.position()
}

// deliver queues a batch and pauses the claim if the queue is above its bounds.
func (p *partition) deliver(b driver.Batch) {
	p.mu.Lock()
	if p.halted.Load() {
		p.mu.Unlock()
		return
	}
	p.queue.push(b.Records)
	p.next = b.Next
	if p.trouble.err != nil {
		p.trouble.pass(b)
	}
	p.judgeQueue()
	turned := p.count()
	waiting, unmet := p.waiting, p.flow.unmet()
	p.waiting = false
	p.mu.Unlock()
	if waiting {
		p.wake <- struct{}{}
	}
	if unmet {
		p.syncFlow()
	}
	if turned {
		p.s.reflow()
	}
}

// work is the worker's goroutine. It begins when no handler of an earlier claim
// of this partition runs in this process: one whose window ran out may still be
// at it. A handler that calls runtime.Goexit ends the goroutine: then another
// one takes its place.
func (p *partition) work(before *partition) {
	ended := false
	defer func() {
		if !ended {
			p.goexit = true
			go p.work(before)
		}
	}()
	if before.awaitClear(p.haltC) {
		p.s.job.unchain(p)
		before = nil
		p.poison = p.s.job.poisoned(keyOf(p.claim))
		p.goroutine.Store(goroutineID())
		p.loop()
	}
	ended = true
	p.cancel(context.Canceled)
	close(p.done)
	before.awaitClear(nil)
	close(p.clear)
	p.s.job.forgetWorker(p)
}

// awaitClear waits until p and all before it have ended, or stop is closed, and
// reports which. A nil p has.
func (p *partition) awaitClear(stop <-chan struct{}) bool {
	if p == nil {
		return true
	}
	select {
	case <-p.clear:
		return true
	case <-stop:
		return false
	}
}

// loop hands out records until the partition is halted. Before each chunk, and each
// time that a record is handed out again, the clock decides whether the session is
// over; see deadline.go.
func (p *partition) loop() {
	for {
		if p.s.expired() {
			p.s.fence(p)
		}
		err := p.handle()
		interrupted := err != nil && p.ctx.Err() != nil
		p.endAttempt(err, interrupted)
		switch {
		case p.halted.Load():
			p.leave(err, interrupted)
			return
		case interrupted:
			// A handler that its context interrupts has not failed. Whoever cancels it
			// halts the partition, too, though a shutdown whose time is up already may
			// do so only afterwards.
			p.leave(err, interrupted)
			<-p.haltC
			return
		case err != nil:
			if !p.retry(err) {
				p.leave(err, false)
				return
			}
		case p.i == len(p.batch):
			if !p.nextBatch() {
				return
			}
		}
	}
}

// nextBatch releases the batch that is done and waits for the next one. It
// returns false when the partition is halted.
func (p *partition) nextBatch() bool {
	limit := takeLimit
	switch {
	case p.s.job.handler.batch:
		limit = p.s.job.cfg.MaxBatchSize
	case p.s.job.handler.messages != nil:
		limit = messageLimit
	}
	if p.watched != nil {
		p.watched.beginReceive(p.ctx)
		defer func() { p.watched.endReceive(p.received()) }()
	}
	for {
		p.mu.Lock()
		p.queue.release(len(p.batch))
		p.batch, p.i = p.queue.take(limit), 0
		p.judgeQueue()
		turned := p.count()
		empty, next, unmet := len(p.batch) == 0, p.next, p.flow.unmet()
		p.waiting = empty
		p.mu.Unlock()
		if unmet {
			p.syncFlow()
		}
		if turned {
			p.s.reflow()
		}
		if !empty {
			p.newMessages()
			return true
		}
		if next > 0 {
			p.tracker.skip(next)
		}
		p.msgs, p.one[0] = nil, nil // each keeps a whole fetch in memory
		p.s.committer.ranEmpty(p)
		select {
		case <-p.wake:
		case <-p.haltC:
			return false
		}
	}
}

// newMessages makes what handlers of messages get of the batch.
func (p *partition) newMessages() {
	if p.s.job.handler.messages == nil {
		return
	}
	p.msgs = make([]Message, len(p.batch))
	for i := range p.batch {
		r := &p.batch[i]
		p.msgs[i] = Message{
			Topic:     p.claim.Topic,
			Partition: p.claim.Partition,
			Offset:    r.Offset,
			Timestamp: r.Timestamp,
			Key:       r.Key,
			Value:     r.Value,
			Headers:   r.Headers,
		}
	}
}

// handle hands out what is left of the batch until something fails or the
// partition is halted. A panic of the handler is an error like any other; its
// Goexit ends this goroutine, and the next one reports it from here.
func (p *partition) handle() (err error) {
	if p.goexit {
		p.goexit = false
		return errGoexit
	}
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	switch h := &p.s.job.handler; {
	case h.value != nil:
		return p.handleValues(h.value)
	case h.batch:
		return p.handleBatch(h.messages)
	default:
		return p.handleMessages(h.messages)
	}
}

func (p *partition) handleValues(handle func(context.Context, []byte) error) error {
	for p.i < len(p.batch) && !p.halted.Load() {
		r := &p.batch[p.i]
		ctx := p.begin(p.i, p.i+1)
		if err := handle(ctx, r.Value); err != nil {
			return err
		}
		p.finish(p.i + 1)
	}
	return nil
}

func (p *partition) handleMessages(handle HandlerFunc) error {
	for p.i < len(p.batch) && !p.halted.Load() {
		ctx := p.begin(p.i, p.i+1)
		p.one[0] = p.message(p.i)
		if err := handle(ctx, p.one[:]); err != nil {
			return err
		}
		p.finish(p.i + 1)
	}
	return nil
}

func (p *partition) handleBatch(handle HandlerFunc) error {
	if p.i == len(p.batch) || p.halted.Load() {
		return nil
	}
	ctx := p.begin(p.i, len(p.batch))
	ms := make([]*Message, 0, len(p.batch)-p.i)
	for i := p.i; i < len(p.batch); i++ {
		ms = append(ms, p.message(i))
	}
	if err := handle(ctx, ms); err != nil {
		return err
	}
	p.finish(len(p.batch))
	return nil
}

// message returns the i-th record of the batch for the attempt under way. Each
// attempt gets its own, since the handler may have kept the one before.
func (p *partition) message(i int) *Message {
	m := &p.msgs[i]
	if p.attempt > 1 {
		again := *m
		m = &again
	}
	m.Attempt = p.attempt
	return m
}

// begin says that the records from batch[from] up to batch[to] go to the handler,
// and returns the context for it.
func (p *partition) begin(from, to int) context.Context {
	p.attempt++
	if p.attempt == 1 {
		for i := from; i < to; i++ {
			p.tracker.begin(p.batch[i].Offset)
		}
		p.handed.Store(p.batch[to-1].Offset + 1)
		if p.s.job.cfg.AutoCommit {
			p.s.committer.moved()
		}
	}
	if p.watched != nil {
		return p.watched.beginAttempt(p.ctx, p.batch[from:to], p.attempt)
	}
	return p.ctx
}

// finish says that the records up to batch[to] are done, unless the handler has
// outlived its claim. The position is published before the committer is told, so
// none is overlooked.
func (p *partition) finish(to int) {
	late := p.givenUp.Load() && !p.s.job.cfg.AutoCommit
	if p.watched != nil {
		p.watched.done(late)
	}
	if late {
		p.i = to
	}
	for ; p.i < to; p.i++ {
		p.tracker.finish(p.batch[p.i].Offset)
	}
	p.s.committer.moved()
	if p.attempt > 1 || p.poison {
		p.clearFailures()
		p.poison = false
	}
	p.attempt = 0
	if !p.s.progressed.Load() {
		p.s.progressed.Store(true)
		p.s.job.forgetRestarts()
	}
}

// endAttempt tells the hooks of an attempt that came to err.
func (p *partition) endAttempt(err error, interrupted bool) {
	if p.watched != nil {
		p.watched.endAttempt(outcomeOf(err, interrupted))
	}
}

// leave tells the hooks that the record at hand, whose latest attempt came to
// err, is left to the next owner. Without an error the next attempt was on its
// way: a delivery that is still open is never done.
func (p *partition) leave(err error, interrupted bool) {
	if p.watched != nil {
		p.watched.end(outcomeOf(err, interrupted || err == nil))
	}
}

// received returns what was taken and will be handed out.
func (p *partition) received() []driver.Record {
	if p.halted.Load() {
		return nil
	}
	return p.batch
}

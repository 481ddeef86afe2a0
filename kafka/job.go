package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A job is one registered consumer. Once started, its goroutine, run, is the
// only one that changes its state; other goroutines change what is wanted of it
// and wake it.
type job struct {
	m       *Manager
	cfg     ConsumerConfig
	dcfg    driver.ConsumerConfig
	handler handler
	client  *Client      // the job to hooks
	log     *slog.Logger // thinned out; the driver's, too
	lines   *kinds       // what log has withheld
	workers *workers     // partitions whose goroutine runs, across claims
	ledger  *ledger      // failures of records, likewise
	retries *retries     // nil without retry topics
	seen    *arrivals    // records of those that are dated ahead
	policy  *policy
	hold    *hold
	pauses  *pauses
	rate    *rate
	watch   *watch
	places  *places       // of handlers that run, across claims; nil is no bound
	seeking chan struct{} // holds a token while Seek moves the consumer

	forwarder forwarder     // of dead letters, in place of what a session opens; nil but in tests
	done      chan struct{} // closed when run has returned

	mu      sync.Mutex
	wish    wish
	changed chan struct{} // closed and replaced when wish changes
	session *session      // the one that lives, if any
	status  jobStatus

	// silent says that nothing has come of the brokers since the driver's latest
	// error: a contact may not be counted but while it is true.
	silent atomic.Bool

	deadLetters, skipped, retried, passedOver, unmarked atomic.Int64 // records, since the registration

	absent int // starts in a row that a missing topic has kept waiting; only run uses it

	stopErr error // what went wrong in leaving the group; read after done
}

// A wish is what is wanted of a job. The counters make sure that no change is
// missed: off and on again in quick succession still ends the session that ran.
type wish struct {
	on       bool
	stop     bool      // permanently
	offs     int       // how often it was switched off, or disabled
	ons      int       // how often it was switched on
	disabled error     // why it was, since it was last switched on
	retryAt  time.Time // when it is to be switched on again by itself; zero is never
}

// jobStatus is what Consumers reports of a job itself.
type jobStatus struct {
	state     State
	reason    error
	since     time.Time
	failures  int // restarts in a row
	nextRetry time.Time
	driverErr error
	driverAt  time.Time // when driverErr was reported
	commitErr error
}

func newJob(m *Manager, cfg ConsumerConfig, dcfg driver.ConsumerConfig, h handler) *job {
	all := m.log.With("consumer", cfg.JobName) // also each line of an operator's doing
	log, lines := thin(all)
	dcfg.Logger = log
	j := &job{
		m:       m,
		cfg:     cfg,
		dcfg:    dcfg,
		handler: h,
		client:  &Client{ID: cfg.ClientID, JobName: cfg.JobName, Group: cfg.ConsumerGroup, Bootstrap: dcfg.Brokers},
		log:     log,
		lines:   lines,
		done:    make(chan struct{}),
		changed: make(chan struct{}),
		status:  jobStatus{since: time.Now()},
		workers: newWorkers(),
		ledger:  newLedger(),
		retries: newRetries(&cfg),
		seen:    newArrivals(),
		policy:  &policy{FailurePolicy: cfg.Failure, log: log},
		hold:    newHold(&cfg, log, m.event),
		pauses:  newPauses(cfg.JobName, all, m.event),
		rate:    newRate(&cfg, all, m.event),
		places:  newPlaces(cfg.MaxConcurrency),
		seeking: make(chan struct{}, 1),
	}
	j.watch = newWatch(j, m.stuckLimit(&cfg))
	return j
}

func (j *job) name() string { return j.cfg.JobName }

// many reports whether the records of a partition may be handled in another order than
// they lie in. Those of a BatchConsumer are not: its batches come one after the other.
func (j *job) many() bool {
	_, batch := j.handler.(batchHandler)
	return j.cfg.Order != OrderByPartition && !batch
}

// env returns what the partitions of a session of d need of the job. ctx is the parent
// of their handlers' contexts.
func (j *job) env(ctx context.Context, d driver.Consumer, s *schedule, k keeper) *env {
	e := &env{
		job:            j.name(),
		group:          j.cfg.ConsumerGroup,
		client:         j.client,
		ctx:            ctx,
		log:            j.log,
		event:          j.event,
		unmarked:       func() { j.unmarked.Add(1) },
		handler:        j.handler,
		autoCommit:     j.cfg.AutoCommit,
		batchSize:      j.cfg.MaxBatchSize,
		batchBytes:     j.cfg.MaxBatchBytes,
		batchLinger:    j.cfg.BatchLinger,
		handlerTimeout: j.cfg.HandlerTimeout,
		many:           j.many(),
		keyed:          j.cfg.Order == OrderByKey,
		parallelism:    j.cfg.Parallelism,
		metadata:       j.many() && !j.cfg.NoCommitMetadata,
		readMetadata:   !j.cfg.NoCommitMetadata,
		places:         j.places,
		backoff:        j.cfg.Backoff,
		policy:         j.policy,
		sessionTimeout: j.cfg.SessionTimeout,
		maxMessages:    j.cfg.MaxBufferedMessages,
		maxBytes:       j.cfg.MaxBufferedBytes,
		driver:         d,
		schedule:       s,
		keeper:         k,
		budget:         &budget{most: int64(j.cfg.MaxTotalBufferedBytes)},
		ledger:         j.ledger,
		retries:        j.retries,
		arrivals:       j.seen,
		hold:           j.hold,
		pauses:         j.pauses,
		rate:           j.rate,
		workers:        j.workers,
		forwarder:      j.forwarder,
	}
	if m := j.m; m.hooks != nil {
		e.hooks = m
	}
	return e
}

// event reports e to the hooks, and counts the records that were given up.
func (j *job) event(e Event) {
	switch e.(type) {
	case RecordForwarded:
		j.deadLetters.Add(1)
	case RecordSkipped:
		j.skipped.Add(1)
	case RecordRetried:
		j.retried.Add(1)
	case RecordPassedOver:
		j.passedOver.Add(1)
	}
	j.m.event(e)
}

// want returns what is wanted now, and a channel that is closed when that changes.
func (j *job) want() (wish, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.wish, j.changed
}

// stopping reports whether the job drains for a shutdown.
func (j *job) stopping() bool {
	w, _ := j.want()
	return w.stop
}

// change applies f to what is wanted, under the mutex, wakes run, and returns the session that
// lives, for the caller to halt once it holds no lock.
func (j *job) change(f func(*wish)) *session {
	j.mu.Lock()
	f(&j.wish)
	close(j.changed)
	j.changed = make(chan struct{})
	s := j.session
	j.mu.Unlock()
	return s
}

// setSwitch turns the job on or off. When it returns after off, no further
// record is handed out, but for those that are just on their way.
func (j *job) setSwitch(on bool) {
	fresh := false
	s := j.change(func(w *wish) {
		switch {
		case on:
			if fresh = !w.on; fresh {
				j.ledger.reset()
			}
			j.switchOn(w)
		case w.on:
			w.on = false
			w.offs++
		case !w.retryAt.IsZero():
			w.disabled, w.retryAt = nil, time.Time{}
		}
	})
	if !on && s != nil {
		s.halt(ErrSwitchedOff)
	}
	if fresh || !on {
		j.hold.reset()
	}
}

// switchOn notes in w, under the mutex, that the job is wanted. One that was not
// starts to count its failed starts from zero.
func (j *job) switchOn(w *wish) {
	if !w.on {
		j.status.failures = 0
	}
	w.on, w.disabled, w.retryAt = true, nil, time.Time{}
	w.ons++
}

// stop asks the job to end permanently: nothing more is handed out, and handlers
// that run may finish.
func (j *job) stop() {
	if s := j.change(func(w *wish) { w.stop = true }); s != nil {
		s.halt(nil)
	}
	j.hold.end()
}

// run is the job's goroutine, from the start of the manager to its shutdown.
// The values of ctx reach the handlers.
func (j *job) run(ctx context.Context) {
	defer close(j.done)
	defer j.lines.close()
	defer j.watch.close()
	for {
		w, ok := j.awaitOn()
		if !ok {
			break
		}
		j.follow(j.runSession(ctx, w))
	}
	j.workers.await()
	j.hold.close()
	j.rate.close()
	j.setState(StateStopped, nil)
}

// follow decides what comes after a session: nothing if it was no longer wanted,
// a disabled consumer, or a backoff. A switch-on that came after the failure, while
// the failed session was closing, is heard: neither follows, and the next session
// begins at once.
func (j *job) follow(e ending) {
	now, _ := j.want()
	switch {
	case now.stop || now.offs != e.wish.offs:
	case now.ons != e.wish.ons:
		j.forgetRestarts()
	case errors.Is(e.err, ErrPermanent):
		j.disable(e.err, now)
	case isMissingTopic(e.err):
		j.absent++
		wait := j.cfg.Backoff.Wait(j.absent)
		j.log.Warn("kafka: consumer waits for a topic; that is no failed start", "wait", wait, "error", loggable(e.err))
		j.awaitStart(e.err, now, wait)
		return
	default:
		if e.healthy {
			j.forgetRestarts()
		}
		j.backOff(e.err, now)
	}
	j.absent = 0
}

// awaitOn waits until the switch is on. It returns false if the job is to stop.
func (j *job) awaitOn() (wish, bool) {
	for {
		w, changed := j.want()
		switch {
		case w.stop:
			return w, false
		case w.on:
			return w, true
		case w.disabled != nil:
			j.enter(StateDisabled, w.disabled, w.retryAt)
		default:
			j.setState(StateOff, nil)
		}
		j.rest(w, changed)
	}
}

// backOff waits before the next start after a session failed with err, or disables
// the job. w is the wish as it was then. The wait ends at once when it changes: a
// switch-on does not wait, and starts the count from zero.
func (j *job) backOff(err error, w wish) {
	n := j.countFailure()
	if most := j.cfg.MaxConsecutiveErrors; most != Unlimited && n >= most {
		j.disable(fmt.Errorf("%d failures in a row, the last: %w", n, err), w)
		return
	}
	wait := j.cfg.Backoff.Wait(n)
	j.log.Warn("kafka: consumer failed; it will be started again", "failures", n, "wait", wait, "error", loggable(err))
	j.awaitStart(err, w, wait)
}

// awaitStart waits before the next start, as backOff says.
func (j *job) awaitStart(err error, w wish, wait time.Duration) {
	j.enter(StateBackingOff, err, time.Now().Add(wait))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		now, changed := j.want()
		if now.stop || now.offs != w.offs || now.ons != w.ons {
			j.forgetRestarts()
			return
		}
		select {
		case <-timer.C:
			return
		case <-changed:
		}
	}
}

// setState enters a state in which nothing is due.
func (j *job) setState(s State, reason error) { j.enter(s, reason, time.Time{}) }

// enter notes a state, its reason, and when it ends by itself, and notifies the
// hooks if the state is another one than before. A reason alone only shows in the
// status.
func (j *job) enter(s State, reason error, nextRetry time.Time) {
	j.mu.Lock()
	from := j.status.state
	j.status.state, j.status.reason, j.status.nextRetry = s, reason, nextRetry
	if from == s {
		j.mu.Unlock()
		return
	}
	j.status.since = time.Now()
	j.mu.Unlock()
	j.logState(from, s, reason)
	j.event(StateChanged{JobName: j.name(), From: from, To: s, Reason: reason})
}

// logState logs a change of state, but for a backoff, of which backOff says more.
func (j *job) logState(from, to State, reason error) {
	if to == StateBackingOff {
		return
	}
	level, attrs := slog.LevelInfo, []any{"was", from.String()}
	if reason != nil {
		attrs = append(attrs, "reason", loggable(reason))
	}
	if to == StateDisabled {
		level = slog.LevelError
	}
	j.log.Log(context.Background(), level, "kafka: consumer is "+to.String(), attrs...)
}

// reason returns that of the state. It stays the same while the job starts again
// after a failure, so that a look at the status never finds it gone for a moment.
func (j *job) reason() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.status.reason
}

func (j *job) countFailure() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.failures++
	return j.status.failures
}

// forgetRestarts sets the count of restarts to zero.
func (j *job) forgetRestarts() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.failures = 0
}

// noteDriverError notes an error of the driver.
func (j *job) noteDriverError(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.driverErr, j.status.driverAt = err, time.Now()
	j.silent.Store(true)
}

// noteJoined notes that the group has been joined: what kept the driver from it is
// over. The trouble of one topic may go on.
func (j *job) noteJoined() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, ofOne := errors.AsType[*driver.PartitionError](j.status.driverErr); !ofOne {
		j.status.driverErr = nil
	}
	j.silent.Store(false)
}

// noteContact notes that a broker has answered: with records, or to a commit. It
// costs one atomic load where the driver is in no trouble.
func (j *job) noteContact() {
	if j.silent.Load() {
		j.silent.Store(false)
	}
}

// staleAfter is how long a driver's error is shown when brokers have answered
// since. A driver that goes on failing reports it again within that time; one
// broker may answer while another does not.
const staleAfter = time.Minute

// driverError returns when the driver had its latest error, and the error, unless
// it is over.
func (j *job) driverError(st jobStatus) (at time.Time, err error) {
	if st.driverErr == nil || !j.silent.Load() && time.Since(st.driverAt) > staleAfter {
		return time.Time{}, nil
	}
	return st.driverAt, st.driverErr
}

func (j *job) noteCommit(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.commitErr = err
}

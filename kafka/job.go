package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A job is one registered consumer. Once started, its goroutine, run, is the
// only one that changes its state; everybody else changes what is wanted of it
// and wakes it.
type job struct {
	m       *Manager
	cfg     ConsumerConfig
	dcfg    driver.ConsumerConfig
	handler handler
	client  *Client // the job to hooks
	log     *slog.Logger
	done    chan struct{} // closed when run has returned

	mu      sync.Mutex
	wish    wish
	changed chan struct{} // closed and replaced when wish changes
	session *session      // the one that lives, if any
	status  jobStatus
	workers map[partitionKey]*partition // the latest of each partition, until it is clear
	poison  map[partitionKey]poison     // records that fail, across claims

	stopErr error // what went wrong in leaving the group for good; read after done
}

// A wish is what is wanted of a job. The counters make sure that no change is
// missed: off and on again in quick succession still ends the session that ran.
type wish struct {
	on       bool
	stop     bool  // for good
	offs     int   // how often it was switched off, or disabled
	ons      int   // how often it was switched on
	disabled error // why it was, since it was last switched on
}

// jobStatus is what Consumers reports of a job itself.
type jobStatus struct {
	state     State
	reason    error
	since     time.Time
	failures  int // restarts in a row
	nextRetry time.Time
	driverErr error
	commitErr error
}

type partitionKey struct {
	topic     string
	partition int32
}

func keyOf(c *driver.Claim) partitionKey { return partitionKey{c.Topic, c.Partition} }

func newJob(m *Manager, cfg ConsumerConfig, dcfg driver.ConsumerConfig, h handler) *job {
	return &job{
		m:       m,
		cfg:     cfg,
		dcfg:    dcfg,
		handler: h,
		client:  &Client{ID: cfg.ClientID, JobName: cfg.JobName, Group: cfg.ConsumerGroup, Bootstrap: dcfg.Brokers},
		log:     m.log.With("consumer", cfg.JobName),
		done:    make(chan struct{}),
		changed: make(chan struct{}),
		status:  jobStatus{since: time.Now()},
		workers: make(map[partitionKey]*partition),
		poison:  make(map[partitionKey]poison),
	}
}

func (j *job) name() string { return j.cfg.JobName }

func (j *job) event(e Event) { j.m.event(e) }

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
	s := j.change(func(w *wish) {
		switch {
		case on:
			if !w.on { // a fresh start
				j.status.failures = 0
				clear(j.poison)
			}
			w.on, w.disabled = true, nil
			w.ons++
		case w.on:
			w.on = false
			w.offs++
		}
	})
	if !on && s != nil {
		s.halt(ErrSwitchedOff)
	}
}

// disable switches the job off because of what happened in a session that began
// with offs. If it has been switched off since, or off and on again, that was
// another time.
func (j *job) disable(reason error, offs int) {
	s := j.change(func(w *wish) {
		if w.offs != offs {
			return
		}
		w.on, w.disabled = false, reason
		w.offs++
	})
	if s != nil && s.offs == offs {
		s.halt(ErrSwitchedOff)
	}
}

// stop asks the job to end for good: nothing more is handed out, and handlers
// that run may finish.
func (j *job) stop() {
	if s := j.change(func(w *wish) { w.stop = true }); s != nil {
		s.halt(nil)
	}
}

// run is the job's goroutine, from the start of the manager to its shutdown.
// The values of ctx reach the handlers.
func (j *job) run(ctx context.Context) {
	defer close(j.done)
	for {
		w, ok := j.awaitOn()
		if !ok {
			break
		}
		healthy, err := j.runSession(ctx, w.offs)
		now, _ := j.want()
		switch {
		case now.stop || now.offs != w.offs:
		case errors.Is(err, ErrPermanent):
			j.disable(err, w.offs)
		default:
			if healthy {
				j.forgetRestarts()
			}
			j.backOff(err, now)
		}
	}
	j.awaitWorkers()
	j.setState(StateStopped, nil)
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
			j.setState(StateDisabled, w.disabled)
		default:
			j.setState(StateOff, nil)
		}
		<-changed
	}
}

// backOff waits before the next start after a session failed with err, or
// disables the job. w is the wish as it was then. The wait ends at once when it
// changes: a switch-on does not wait, and starts the count anew.
func (j *job) backOff(err error, w wish) {
	n, wait := j.countFailure(err)
	if most := j.cfg.MaxConsecutiveErrors; most != Unlimited && n >= most {
		j.disable(fmt.Errorf("%d failures in a row, the last: %w", n, err), w.offs)
		return
	}
	j.log.Warn("kafka: consumer failed; it will be started again", "failures", n, "wait", wait, "error", err)
	j.setState(StateBackingOff, err)
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

// setState notes a new state and tells the hook, unless nothing has changed.
func (j *job) setState(s State, reason error) {
	j.mu.Lock()
	from := j.status.state
	if from == s {
		j.mu.Unlock()
		return
	}
	j.status.state, j.status.reason, j.status.since = s, reason, time.Now()
	if s != StateBackingOff {
		j.status.nextRetry = time.Time{}
	}
	j.mu.Unlock()
	level, attrs := slog.LevelInfo, []any{"was", from.String()}
	if reason != nil {
		attrs = append(attrs, "reason", reason)
	}
	if s == StateDisabled {
		level = slog.LevelError
	}
	j.log.Log(context.Background(), level, "kafka: consumer is "+s.String(), attrs...)
	j.event(StateChanged{JobName: j.name(), From: from, To: s, Reason: reason})
}

func (j *job) countFailure(err error) (n int, wait time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.failures++
	wait = j.cfg.Backoff.wait(j.status.failures)
	j.status.nextRetry = time.Now().Add(wait)
	return j.status.failures, wait
}

// forgetRestarts sets the count of restarts to zero.
func (j *job) forgetRestarts() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.failures = 0
}

func (j *job) noteDriverError(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.driverErr = err
}

func (j *job) noteCommit(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.status.commitErr = err
}

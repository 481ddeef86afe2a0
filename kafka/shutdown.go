package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Shutdown stops everything, in one order: no further record is handed out;
// running handlers finish; what was handled is committed; the groups are left;
// the producers are flushed and closed. So a handler that sends while it
// drains still can.
//
// It is bounded by ctx. As ctx's deadline comes near, the contexts of the
// handlers that still run are cancelled with ErrShutdown, then consumers are
// severed from their brokers, then producers. It returns nil if everything
// stopped in order, and a *StopError at ctx's end if something still runs: a
// handler or a callback that ignores its context. After nil no handler and no
// callback runs, and no goroutine of the manager is left.
//
// A second call waits for the same shutdown, and can only make its deadline
// earlier. Afterwards the manager cannot be started again.
//
// Inside a handler, a callback or a hook of this manager, for which it would
// wait, Shutdown begins the shutdown, waits for nothing, and returns an error that
// wraps ErrInside. ctx's deadline holds for it, or else the shutdown timeout. A
// handler that waits for another goroutine to call Shutdown is not seen: only the
// deadline ends that.
func (m *Manager) Shutdown(ctx context.Context) error {
	if err := m.ready(); err != nil {
		return err
	}
	if ctx == nil {
		return errors.New("kafka: shutdown: ctx is nil")
	}
	if isClosed(m.stopped) {
		return m.stopErr
	}
	if caller := m.caller(); caller != "" {
		return m.shutDownInside(ctx, caller)
	}
	defer m.bound(ctx)()
	m.beginStop()
	return m.awaitStop(ctx)
}

// awaitStop waits for the shutdown until ctx ends, and gives up on it then.
func (m *Manager) awaitStop(ctx context.Context) error {
	select {
	case <-m.stopped:
		return m.stopErr
	case <-ctx.Done():
	}
	m.endStages() // at the latest: bound's AfterFunc may not have run yet
	select {
	case <-m.stopped:
		return m.stopErr
	default:
		return m.giveUp(ctx.Err())
	}
}

// giveUp returns what still runs when the time of a shutdown is up. The first
// one is kept for ShutdownEnded.
func (m *Manager) giveUp(cause error) *StopError {
	e := m.running()
	e.Err = cause
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.ended:
		e.Running, e.Handlers = []string{"hooks, which hear of ShutdownEnded"}, nil
	case m.gaveUp == nil:
		m.gaveUp = e
	}
	return e
}

// endOutcome returns the outcome of the shutdown as ShutdownEnded reports it:
// with what it had to give up on, though that has ended by now. A Shutdown that
// gives up afterwards waits for hooks alone.
func (m *Manager) endOutcome() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	if m.gaveUp == nil {
		return m.stopErr
	}
	return errors.Join(m.gaveUp, m.stopErr)
}

// shutDownInside begins a shutdown whose caller, a handler, a callback or a hook,
// the shutdown has to wait for. It is bounded as ctx says, or else by the
// shutdown timeout.
func (m *Manager) shutDownInside(ctx context.Context, caller string) error {
	limit := m.shutdownTimeout
	if deadline, ok := ctx.Deadline(); ok {
		limit = time.Until(deadline)
	}
	bounded, cancel := context.WithTimeout(context.Background(), limit)
	release := m.bound(bounded)
	unhook := context.AfterFunc(bounded, func() { m.giveUp(bounded.Err()) })
	m.beginStop()
	m.atEnd(func() { unhook(); release(); cancel() })
	return fmt.Errorf("kafka: shutdown inside %s; it has begun: %w", caller, ErrInside)
}

// atEnd has f called when everything has stopped, at once if it has already.
func (m *Manager) atEnd(f func()) {
	m.mu.Lock()
	ended := m.ended
	if !ended {
		m.atEnds = append(m.atEnds, f)
	}
	m.mu.Unlock()
	if ended {
		f()
	}
}

// WaitStop waits until the context of StartAllConsumers ends, or Shutdown is
// called, and then for the shutdown, within the shutdown timeout. It logs an
// error if something did not stop. If nothing was started, it shuts down what
// there is, such as producers, at once. Inside a handler, a callback or a hook it
// logs an error and returns at once.
func (m *Manager) WaitStop() {
	if m.ready() != nil {
		return
	}
	if caller := m.caller(); caller != "" {
		m.log.Error("kafka: WaitStop inside "+caller+" returns at once", "error", ErrInside)
		return
	}
	m.mu.Lock()
	started := m.startCtx
	m.mu.Unlock()
	if started != nil {
		m.awaitEnd(started)
	}
	if err := m.shutDownInTime(); err != nil {
		m.log.Error("kafka: shutdown did not end in order", "error", loggable(err))
	}
}

// awaitEnd waits until ctx ends or a shutdown begins.
func (m *Manager) awaitEnd(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-m.stopping:
	}
}

// shutDownInTime is Shutdown within the shutdown timeout.
func (m *Manager) shutDownInTime() error {
	ctx, cancel := context.WithTimeout(context.Background(), m.shutdownTimeout)
	defer cancel()
	return m.Shutdown(ctx)
}

// stopByContext begins the shutdown when the context of StartAllConsumers has
// ended, for a program that does not wait for it.
func (m *Manager) stopByContext() {
	ctx, cancel := context.WithTimeout(context.Background(), m.shutdownTimeout)
	defer cancel()
	defer m.bound(ctx)()
	m.beginStop()
	_ = m.awaitStop(ctx) // ShutdownEnded has it
	<-m.stopped
}

// A stage of a shutdown ends at the latest when the deadline has come that near.
type stage struct {
	ctx context.Context
	end context.CancelFunc
}

// The stages, in order. Each ends a step before the next, and the last one a
// step before the deadline, so that what follows has time.
const (
	handlersFinish   = iota // then the handlers' contexts are cancelled
	handlersGivenUp         // then what is done is committed, whoever still runs
	consumersLeave          // then consumers are severed from their brokers
	consumersSevered        // then producers are closed, whoever still may want to send
	producersFlush          // then producers are severed
	stageCount
)

func newStage() (s stage) {
	s.ctx, s.end = context.WithCancel(context.Background())
	return s
}

func newStages() (s [stageCount]stage) {
	for i := range s {
		s[i] = newStage()
	}
	return s
}

// until returns a context that ends with a stage.
func (m *Manager) until(stage int) context.Context { return m.stages[stage].ctx }

// bound ends the stages in time for ctx. The returned function lets go of the
// timers that this takes.
func (m *Manager) bound(ctx context.Context) (release func()) {
	unhook := context.AfterFunc(ctx, m.endStages)
	deadline, ok := ctx.Deadline()
	if !ok {
		return func() { unhook() }
	}
	left := time.Until(deadline)
	step := min(left/10, time.Second)
	var timers [stageCount]*time.Timer
	for i, s := range m.stages {
		timers[i] = time.AfterFunc(left-time.Duration(stageCount-i)*step, s.end)
	}
	return func() {
		unhook()
		for _, t := range timers {
			t.Stop()
		}
	}
}

// whenStopping has f called when a shutdown begins, unless off is called before.
func (m *Manager) whenStopping(f func()) (off func() bool) { return context.AfterFunc(m.begun.ctx, f) }

func (m *Manager) endStages() {
	for _, s := range m.stages {
		s.end()
	}
}

// beginStop begins the shutdown, once.
func (m *Manager) beginStop() {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return
	}
	m.closed = true
	m.mu.Unlock()
	m.begun.end()
	go m.stopAll(time.Now())
}

// stopAll is the goroutine of the shutdown: the one order. Handlers that
// outlive their stage do not keep the producers from being flushed, but m.stopped
// is closed only when they, too, have returned.
func (m *Manager) stopAll(began time.Time) {
	if m.unwatch != nil {
		m.unwatch()
	}
	jobs, started := m.allJobs(), m.startCtx != nil
	for _, j := range jobs {
		j.stop()
		if !started {
			j.setState(StateStopped, nil)
			close(j.done)
		}
	}
	for _, j := range jobs {
		select {
		case <-j.done:
		case <-m.stages[consumersSevered].ctx.Done():
		}
	}
	m.opening.Wait()
	errs := []error{m.closeProducers()}
	for _, j := range jobs {
		<-j.done
		if j.stopErr != nil {
			errs = append(errs, fmt.Errorf("kafka: consumer %q: %w", j.name(), j.stopErr))
		}
	}
	m.asking.Wait()
	m.endStages()
	m.stopErr = errors.Join(errs...)
	m.event(ShutdownEnded{Took: time.Since(began), Err: m.endOutcome()})
	for _, f := range m.atEnds {
		f()
	}
	m.detachHooks()
	close(m.stopped)
}

// closeProducers flushes and closes all producers, side by side, and waits for
// their last callbacks. The stage bounds the flush.
func (m *Manager) closeProducers() error {
	producers := m.allProducers()
	for _, p := range producers {
		p.beginClose(0)
	}
	var errs []error
	for _, p := range producers {
		<-p.done
		errs = append(errs, p.closeErr)
	}
	return errors.Join(errs...)
}

// running returns what has not ended yet. Its Err is not set.
func (m *Manager) running() *StopError {
	e := new(StopError)
	for _, j := range m.allJobs() {
		if isClosed(j.done) {
			continue
		}
		busy := j.runningHandlers()
		for _, h := range busy {
			e.Running = append(e.Running, h.String())
		}
		if len(busy) == 0 {
			e.Running = append(e.Running, fmt.Sprintf("consumer %q: %v", j.name(), j.snapshot().State))
		}
		e.Handlers = append(e.Handlers, busy...)
	}
	for _, p := range m.allProducers() {
		e.Running = append(e.Running, fmt.Sprintf("producer %q: flush or callbacks", p.id))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.openingCount > 0 {
		e.Running = append(e.Running, fmt.Sprintf("%d producers that are being opened", m.openingCount))
	}
	if m.askingCount > 0 {
		e.Running = append(e.Running, fmt.Sprintf("%d calls of Lag", m.askingCount))
	}
	for _, r := range m.redrives {
		e.Running = append(e.Running, fmt.Sprintf("redrive of consumer %q", r.j.name()))
	}
	return e
}

// runningHandlers returns the handlers that have not returned, in order of partition.
func (j *job) runningHandlers() []RunningHandler {
	var all []RunningHandler
	for _, p := range j.workers.busy() {
		all = append(all, RunningHandler{j.name(), keyOf(p.claim), p.intake.undone()})
	}
	return all
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

package kafka

import (
	"context"
	"errors"
	"fmt"
)

// Run is a consumer program's whole life. It registers the consumers, switches
// them on, and starts them and all others whose switch is on, as
// StartAllConsumers(ctx) does. When ctx has ended, or Shutdown is called, it shuts
// the manager down within the shutdown timeout, producers included, and returns
// what the shutdown has to report: nil if everything stopped in order, else as
// Shutdown does.
//
// Run checks all consumers before it begins. If one is refused, it returns the
// problems of all of them, as RegisterConsumer does; then none of them is registered
// and nothing has been started. The error wraps ErrNoDriver on a manager without a
// driver, ErrClosed after a shutdown, and ErrInside inside a handler, a callback or
// a hook of the manager. A consumer that is disabled later does not end Run: its
// status and the log say why.
//
// If the manager has been started before, the context of that start stays in force
// beside ctx: the end of either begins the shutdown, and handlers see the values of
// the first one.
func (m *Manager) Run(ctx context.Context, consumers ...Consumer) error {
	if err := m.ready(); err != nil {
		return err
	}
	if ctx == nil {
		return errors.New("kafka: run: ctx is nil")
	}
	if caller := m.caller(); caller != "" {
		return fmt.Errorf("kafka: run inside %s: %w", caller, ErrInside)
	}
	if err := m.registerAndStart(ctx, consumers); err != nil {
		return err
	}
	m.awaitEnd(ctx)
	return m.shutDownInTime()
}

// registerAndStart registers the consumers, switched on, and starts the manager.
// After an error nothing has changed.
func (m *Manager) registerAndStart(ctx context.Context, consumers []Consumer) error {
	var jobs []*job
	var errs []error
	for _, c := range consumers {
		j, err := m.prepareJob(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		j.setSwitch(true)
		jobs = append(jobs, j)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if errs = append(errs, m.refusals(jobs...)...); len(errs) > 0 {
		return errors.Join(errs...)
	}
	if err := m.start(ctx); err != nil {
		return err
	}
	m.addJobs(jobs...)
	return nil
}

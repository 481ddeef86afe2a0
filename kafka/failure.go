package kafka

import (
	"fmt"
	"time"
)

// What happens to a record that its handler failed is decided here, and only
// here: retry in place. Other policies (skip, dead letter, retry topic) would
// answer before it with "done", and so move the position, once they have made
// the record safe.

// retry decides what follows after the handler failed with err: it waits for
// the backoff and returns true to try again, or returns false because the
// partition is halted. It switches the consumer off after too many failures.
func (p *partition) retry(err error) bool {
	offset := p.batch[p.i].Offset
	n, wait := p.countFailure(err)
	job := p.s.job
	job.log.Warn("kafka: handler failed",
		"topic", p.claim.Topic, "partition", p.claim.Partition, "offset", offset,
		"failures", n, "error", err)
	job.event(HandlerFailed{
		JobName: job.name(), Topic: p.claim.Topic, Partition: p.claim.Partition, Offset: offset,
		Failures: n, Err: err,
	})
	if n >= job.cfg.MaxConsecutiveErrors {
		job.disable(fmt.Errorf("%d failures in a row of %s at offset %d, the last: %w", n, p.name(), offset, err))
		return false
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.haltC:
		return false
	}
}

// countFailure notes a failure and returns how many there were in a row and
// how long to wait.
func (p *partition) countFailure(err error) (n int, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures++
	wait = p.s.job.cfg.Backoff.wait(p.failures)
	p.lastErr = err
	p.nextRetry = time.Now().Add(wait)
	return p.failures, wait
}

// clearFailures notes that a record that had failed is done.
func (p *partition) clearFailures() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures, p.lastErr, p.nextRetry = 0, nil, time.Time{}
}

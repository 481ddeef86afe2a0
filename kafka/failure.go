package kafka

import "time"

// What happens to a record that its handler failed is decided here, and only
// here: retry in place. Other policies (skip, dead letter, retry topic) would
// answer before it with "done", and so move the position, once they have made
// the record safe.

// retry waits for the backoff after the handler failed with err, and returns true
// to try again, or returns false because the partition is halted. It never gives
// up and never switches the consumer off: a database that is down for an hour must
// not leave a deployment switched off when it is back.
func (p *partition) retry(err error) bool {
	offset := p.batch[p.i].Offset
	n, wait := p.countFailure(offset, err)
	job := p.s.job
	job.log.Warn("kafka: handler failed",
		"topic", p.claim.Topic, "partition", p.claim.Partition, "offset", offset,
		"failures", n, "error", loggable(err))
	job.event(HandlerFailed{
		JobName: job.name(), Group: job.cfg.ConsumerGroup,
		Topic: p.claim.Topic, Partition: p.claim.Partition, Offset: offset,
		Failures: n, Backoff: wait, Err: err,
	})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		p.noteRetry()
		return true
	case <-p.haltC:
		return false
	}
}

// countFailure notes a failure of the record at offset and returns how many
// there were in a row, in earlier claims too, and how long to wait.
func (p *partition) countFailure(offset int64, err error) (n int, wait time.Duration) {
	n = p.s.job.countPoison(keyOf(p.claim), offset)
	wait = p.s.job.cfg.Backoff.Wait(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = n
	p.lastErr = err
	p.nextRetry = time.Now().Add(wait)
	return n, wait
}

// noteRetry notes that the wait is over: no attempt is due while one is under way.
func (p *partition) noteRetry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nextRetry = time.Time{}
}

// clearFailures notes that a record that had failed is done.
func (p *partition) clearFailures() {
	p.s.job.clearPoison(keyOf(p.claim))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures, p.lastErr, p.nextRetry = 0, nil, time.Time{}
}

// A poison is a record that its handler has failed and not yet handled. It
// outlives the claim, so that HandlerFailed counts on and the backoff goes on
// growing across a rebalance.
type poison struct {
	offset   int64
	failures int
}

func (j *job) countPoison(key TopicPartition, offset int64) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.poison[key]
	if p.offset != offset {
		p = poison{offset: offset}
	}
	p.failures++
	j.poison[key] = p
	return p.failures
}

func (j *job) poisoned(key TopicPartition) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, ok := j.poison[key]
	return ok
}

func (j *job) clearPoison(key TopicPartition) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.poison, key)
}

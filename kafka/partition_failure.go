package kafka

import (
	"sync"
	"time"
)

// What happens to a record that its handler failed is decided here, and only
// here: retry in place. Other policies (skip, dead letter, retry topic) would
// answer before it with "done", and so move the position, once they have made
// the record safe.

// retry waits for the backoff after the handler failed with err, and returns true
// to try again, or returns false because the partition is halted. It never gives
// up and never switches the consumer off: a database that is down for an hour must
// not leave a deployment switched off when it is back.
func (l *lane) retry(err error) bool {
	offset := l.record().Offset
	n := l.env.ledger.count(keyOf(l.claim), offset)
	wait := l.env.backoff.Wait(n)
	l.failing.note(n, err, time.Now().Add(wait))
	l.env.log.Warn("kafka: handler failed",
		"topic", l.claim.Topic, "partition", l.claim.Partition, "offset", offset,
		"failures", n, "error", loggable(err))
	l.env.event(HandlerFailed{
		JobName: l.env.job, Group: l.env.group,
		Topic: l.claim.Topic, Partition: l.claim.Partition, Offset: offset,
		Failures: n, Backoff: wait, Err: err,
	})
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		l.failing.begin()
		return true
	case <-l.brake.haltC:
		return false
	}
}

// clearFailures notes that the records up to offset are done, of which one may have
// failed.
func (l *lane) clearFailures(offset int64) {
	l.env.ledger.clear(keyOf(l.claim), offset)
	l.failing.note(0, nil, time.Time{})
}

// A failing is what a status says of the record at hand, if its handler has failed
// under this claim.
type failing struct {
	mu       sync.Mutex
	failures int // in a row
	err      error
	next     time.Time // when it is tried again
}

func (f *failing) note(failures int, err error, next time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures, f.err, f.next = failures, err, next
}

// begin notes that the wait is over: no attempt is due while one is under way.
func (f *failing) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = time.Time{}
}

// fill sets what a status says of failures.
func (f *failing) fill(ps *PartitionStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	ps.Errors, ps.LastError, ps.NextRetry = f.failures, f.err, f.next
}

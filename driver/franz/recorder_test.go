package franz

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// A recorder is a Handler that writes down what happens, and can be made to act.
type recorder struct {
	onRevoke func(ctx context.Context, cs []*driver.Claim)
	onAssign func(cs []*driver.Claim)
	onRecord func(c *driver.Claim, r driver.Record)
	onLost   func()

	mu       sync.Mutex
	changed  chan struct{}
	joins    int // calls of Assign
	assigned []*driver.Claim
	live     map[*driver.Claim]bool
	records  []got
	revoked  []*driver.Claim
	lost     []*driver.Claim
	causes   []error
	errs     []error
	starts   []driver.NoPositionError
	faults   []string // violations of the order of calls
	next     map[*driver.Claim]int64
}

type got struct {
	claim     *driver.Claim
	partition int32
	offset    int64
	value     string
}

func newRecorder() *recorder {
	return &recorder{live: map[*driver.Claim]bool{}, next: map[*driver.Claim]int64{}, changed: make(chan struct{})}
}

func (r *recorder) update(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) fault(format string, args ...any) {
	r.faults = append(r.faults, fmt.Sprintf(format, args...))
}

func (r *recorder) Assign(cs []*driver.Claim) {
	if r.onAssign != nil {
		r.onAssign(cs)
	}
	r.update(func() {
		r.joins++
		for _, c := range cs {
			for other := range r.live {
				if other.Topic == c.Topic && other.Partition == c.Partition {
					r.fault("two claims of %s/%d are live", c.Topic, c.Partition)
				}
			}
			r.live[c] = true
			r.next[c] = c.Start
		}
		r.assigned = append(r.assigned, cs...)
	})
}

func (r *recorder) Deliver(c *driver.Claim, b driver.Batch) {
	if r.onRecord != nil {
		for _, rec := range b.Records {
			r.onRecord(c, rec)
		}
	}
	r.update(func() {
		if !r.live[c] {
			r.fault("delivery for a claim that is not live")
		}
		for _, rec := range b.Records {
			if rec.Offset < r.next[c] {
				r.fault("%s/%d: offset %d after %d", c.Topic, c.Partition, rec.Offset, r.next[c]-1)
			}
			r.next[c] = rec.Offset + 1
			r.records = append(r.records, got{c, c.Partition, rec.Offset, string(rec.Value)})
		}
	})
}

func (r *recorder) Revoke(ctx context.Context, cs []*driver.Claim) {
	if _, ok := ctx.Deadline(); !ok {
		r.update(func() { r.fault("Revoke without a deadline") })
	}
	if r.onRevoke != nil {
		r.onRevoke(ctx, cs)
	}
	r.update(func() { r.revoked = append(r.revoked, cs...); r.ended(cs) })
}

func (r *recorder) Lost(cs []*driver.Claim, cause error) {
	if r.onLost != nil {
		r.onLost()
	}
	r.update(func() { r.lost = append(r.lost, cs...); r.causes = append(r.causes, cause); r.ended(cs) })
}

func (r *recorder) ended(cs []*driver.Claim) {
	for _, c := range cs {
		if !r.live[c] {
			r.fault("%s/%d ended twice", c.Topic, c.Partition)
		}
		delete(r.live, c)
	}
}

// Error keeps starts without a position in a list of their own: most tests begin with
// such a start.
func (r *recorder) Error(err error) {
	r.update(func() {
		var start *driver.NoPositionError
		if errors.As(err, &start) {
			r.starts = append(r.starts, *start)
			return
		}
		r.errs = append(r.errs, err)
	})
}

// wait waits until cond, which is called with the recorder locked, is true.
func (r *recorder) wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	r.waitFor(t, patienceTest, what, cond)
}

func (r *recorder) waitFor(t testing.TB, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	if r.happens(patience, cond) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	require.FailNow(t, what+" did not happen", "joins %d, assigned %d, records %d, revoked %d, lost %d, errors %v",
		r.joins, len(r.assigned), len(r.records), len(r.revoked), len(r.lost), r.errs)
}

// happens waits until cond, which is called with the recorder locked, is true, and
// reports whether it has become so in time.
func (r *recorder) happens(patience time.Duration, cond func() bool) bool {
	deadline := time.After(patience)
	for {
		r.mu.Lock()
		ok, changed := cond(), r.changed
		r.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-deadline:
			return false
		}
	}
}

func (r *recorder) waitRecords(t testing.TB, n int) {
	t.Helper()
	r.wait(t, fmt.Sprintf("delivery of %d records", n), func() bool { return len(r.records) >= n })
}

func (r *recorder) values() (values []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, g := range r.records {
		values = append(values, g.value)
	}
	return values
}

// claim returns the live claim of a partition.
func (r *recorder) claim(partition int32) *driver.Claim {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.live {
		if c.Partition == partition {
			return c
		}
	}
	return nil
}

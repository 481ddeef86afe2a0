package kafka

import (
	"slices"
	"sync"
	"time"
)

// A failing is the records of a lane that have failed and are not done: what a status
// says of them, and what an operator asks for.
type failing struct {
	kick chan struct{} // one token: an operator has asked for something

	mu     sync.Mutex
	open   []failingRecord // in order of offset
	atWork bool            // the handler is at them: none is due
	calls  int             // how often they came to be with it again
	closed bool            // the lane has ended
}

type failingRecord struct {
	offset  int64
	tries   int
	err     error
	sendErr error // of its copy
	next    time.Time
	orders  []order
}

// An order is what an operator asks for one record.
type order struct {
	do     Failure
	answer chan error // holds one
}

func newFailing() failing { return failing{kick: make(chan struct{}, 1)} }

// note notes the records of fs, which wait.
func (f *failing) note(fs []*failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.atWork = false
	for _, one := range fs {
		i, found := f.find(one.record.Offset)
		if !found {
			f.open = slices.Insert(f.open, i, failingRecord{offset: one.record.Offset})
		}
		r := &f.open[i]
		r.tries, r.err, r.sendErr, r.next = one.attempts, one.err, one.sendErr, one.next
	}
}

func (f *failing) find(offset int64) (int, bool) {
	return slices.BinarySearchFunc(f.open, offset, func(r failingRecord, offset int64) int {
		return int(min(max(r.offset-offset, -1), 1))
	})
}

// begin notes that the wait is over: no attempt is due while one is under way.
func (f *failing) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.atWork = true
	f.calls++
}

// forget notes that a record is done. Orders for it come too late.
func (f *failing) forget(offset int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i, found := f.find(offset); found {
		f.open[i].refuse()
		f.open = slices.Delete(f.open, i, i+1)
	}
}

// close notes that the lane has ended.
func (f *failing) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.open {
		f.open[i].refuse()
	}
	f.open, f.closed = nil, true
}

func (r *failingRecord) refuse() {
	for _, o := range r.orders {
		o.answer <- ErrNotFailing
	}
	r.orders = nil
}

// ask asks for something to be done with a record. The answer may take as long as the
// handler is at the record.
func (f *failing) ask(offset int64, do Failure) (answer <-chan error) {
	o := order{do, make(chan error, 1)}
	f.mu.Lock()
	i, found := f.find(offset)
	if !found || f.closed {
		f.mu.Unlock()
		o.answer <- ErrNotFailing
		return o.answer
	}
	f.open[i].orders = append(f.open[i].orders, o)
	f.mu.Unlock()
	select {
	case f.kick <- struct{}{}:
	default:
	}
	return o.answer
}

// order takes the first order for a record.
func (f *failing) order(offset int64) (o order, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, found := f.find(offset)
	if !found || len(f.open[i].orders) == 0 {
		return order{}, false
	}
	o = f.open[i].orders[0]
	f.open[i].orders = f.open[i].orders[1:]
	return o, true
}

// fill sets what a status says of failures.
func (f *failing) fill(ps *PartitionStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.open) == 0 {
		return
	}
	r := f.open[0]
	ps.Failing = r.offset
	ps.Errors, ps.LastError, ps.ForwardError = r.tries, r.err, r.sendErr
	if !f.atWork {
		ps.NextRetry = r.next
	}
}

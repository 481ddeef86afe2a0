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

	mu       sync.Mutex
	open     []failingRecord // in order of offset
	deciding bool            // nothing is with the handler: the lane decides what comes next, or waits for it
	atWork   bool            // the handler is at them: none is due
	calls    int             // how often they came to be with it again
	closed   bool            // the lane has ended

	breakOff func() // ends the send of copies that is under way, if one is
}

type failingRecord struct {
	offset  int64
	tries   int
	err     error
	sendErr error // of its copy
	next    time.Time
	waits   bool    // with its lane, which can follow an order for it
	sending Failure // FailureDeadLetter or FailureRetryTopic while its copy is being sent, else FailureKeep
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
	for i := range f.open {
		f.open[i].waits = false
	}
	for _, one := range fs {
		i, found := f.find(one.record.Offset)
		if !found {
			f.open = slices.Insert(f.open, i, failingRecord{offset: one.record.Offset})
		}
		r := &f.open[i]
		r.tries, r.err, r.sendErr, r.next = one.attempts, one.err, one.sendErr, one.next
		r.waits = true
	}
}

func (f *failing) find(offset int64) (int, bool) {
	return slices.BinarySearchFunc(f.open, offset, func(r failingRecord, offset int64) int {
		return int(min(max(r.offset-offset, -1), 1))
	})
}

// decide notes that no call of the handler is under way until begin.
func (f *failing) decide() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deciding = true
}

// begin notes that the wait is over, and whether it was that of records that had failed:
// no attempt is due while one is under way.
func (f *failing) begin(again bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deciding = false
	if again {
		f.atWork = true
		f.calls++
	}
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

// beginSend notes that the copies of fs are being sent. breakOff ends the send. It returns
// false if an order that the lane can follow has come before.
func (f *failing) beginSend(fs []*failure, breakOff func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.ContainsFunc(f.open, func(r failingRecord) bool { return r.waits && len(r.orders) > 0 }) {
		return false
	}
	for _, one := range fs {
		if i, found := f.find(one.record.Offset); found {
			f.open[i].sending = one.do
		}
	}
	f.breakOff = breakOff
	return true
}

// endSend notes that no copy is being sent any longer.
func (f *failing) endSend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.breakOff = nil
	for i := range f.open {
		f.open[i].sending = FailureKeep
	}
}

// ask asks for something to be done with a record. The answer comes when the lane can
// follow: a send of copies is broken off for it, and a call of the handler is not.
func (f *failing) ask(offset int64, do Failure) order {
	o := order{do, make(chan error, 1)}
	breakOff, err, answered := f.enqueue(offset, o)
	if answered {
		o.answer <- err
		return o
	}
	if breakOff != nil {
		breakOff()
	}
	select {
	case f.kick <- struct{}{}:
	default:
	}
	return o
}

// enqueue adds an order, unless its answer is known, and returns what has to be broken off
// for it.
func (f *failing) enqueue(offset int64, o order) (breakOff func(), answer error, answered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, found := f.find(offset)
	if !found || f.closed {
		return nil, ErrNotFailing, true
	}
	r := &f.open[i]
	if r.sending.copies() && (o.do == FailureKeep || o.do == r.sending) { // it is under way
		return nil, nil, true
	}
	r.orders = append(r.orders, o)
	if r.waits {
		breakOff = f.breakOff
	}
	return breakOff, nil, false
}

// withdraw takes back an order, and reports whether the lane had not taken it.
func (f *failing) withdraw(offset int64, o order) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	i, found := f.find(offset)
	if !found {
		return false
	}
	r := &f.open[i]
	before := len(r.orders)
	r.orders = slices.DeleteFunc(r.orders, func(other order) bool { return other.answer == o.answer })
	return len(r.orders) < before
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

// first returns the offset of the first record that fails, if one does.
func (f *failing) first() (offset int64, fails bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.open) == 0 {
		return -1, false
	}
	return f.open[0].offset, true
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

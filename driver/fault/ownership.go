package fault

import (
	"context"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// An ownership is what the handler of one consumer owns, as far as it knows.
type ownership struct {
	mu    sync.Mutex
	live  map[*driver.Claim]*progress
	cause error // why all is lost, after a crash
}

type progress struct {
	committed int64
	window    context.Context // of the Revoke that runs, or nil
	cancel    context.CancelCauseFunc
}

// crashed returns the cause of a crash, or nil.
func (o *ownership) crashed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cause
}

// crash ends everything; a Revoke that runs learns of it by its context.
func (o *ownership) crash(cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause = cause
	for _, p := range o.live {
		if p.cancel != nil {
			p.cancel(cause)
		}
	}
}

// assign reports whether the handler is to hear of claims.
func (o *ownership) assign(ks []*driver.Claim) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cause != nil {
		return false
	}
	for _, k := range ks {
		o.live[k] = &progress{committed: k.Start}
	}
	return true
}

// revoke returns the cause of a crash, and otherwise notes the window.
func (o *ownership) revoke(ctx context.Context, cancel context.CancelCauseFunc, ks []*driver.Claim) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cause != nil {
		return o.cause
	}
	for _, k := range ks {
		if p := o.live[k]; p != nil {
			p.window, p.cancel = ctx, cancel
		}
	}
	return nil
}

// end forgets claims and returns those that were live.
func (o *ownership) end(ks []*driver.Claim) []*driver.Claim {
	o.mu.Lock()
	defer o.mu.Unlock()
	var were []*driver.Claim
	for _, k := range ks {
		if o.live[k] != nil {
			were = append(were, k)
			delete(o.live, k)
		}
	}
	return were
}

// asks reports whether m asks for anything: its claim is live, and it is ahead.
func (o *ownership) asks(m driver.Mark) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.live[m.Claim]
	return p != nil && o.cause == nil && (p.window == nil || p.window.Err() == nil) && m.Offset > p.committed
}

// ended reports whether m's claim has ended.
func (o *ownership) ended(m driver.Mark) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.live[m.Claim]
	return p == nil || o.cause != nil || p.window != nil && p.window.Err() != nil
}

// commit notes that m is durable.
func (o *ownership) commit(m driver.Mark) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.live[m.Claim]; p != nil {
		p.committed = max(p.committed, m.Offset)
	}
}

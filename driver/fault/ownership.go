package fault

import (
	"context"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// An ownership tracks the claims of one consumer as its Handler sees them.
type ownership struct {
	mu    sync.Mutex
	live  map[*driver.Claim]*progress
	cause error // of the crash that ended all claims, or nil
}

type progress struct {
	committed int64
	metadata  string
	window    context.Context // of the running Revoke, or nil
	cancel    context.CancelCauseFunc
}

// crashed returns the cause of a crash, or nil.
func (o *ownership) crashed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.cause
}

// crash ends all claims and cancels the contexts of running Revokes.
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

// assign adds claims, unless the consumer has crashed. It reports whether it did.
func (o *ownership) assign(ks []*driver.Claim) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.cause != nil {
		return false
	}
	for _, k := range ks {
		o.live[k] = &progress{committed: k.Start, metadata: k.Metadata}
	}
	return true
}

// revoke records the window of a Revoke, or returns the cause of a crash.
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

// end removes claims and returns those that were live.
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

// asks reports whether m has an effect: its claim is live, and it is ahead of the
// committed position, or changes the metadata there.
func (o *ownership) asks(m driver.Mark) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.live[m.Claim]
	return p != nil && o.cause == nil && (p.window == nil || p.window.Err() == nil) &&
		(m.Offset > p.committed || m.Offset == p.committed && m.Metadata != p.metadata)
}

// ended reports whether m's claim has ended.
func (o *ownership) ended(m driver.Mark) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.live[m.Claim]
	return p == nil || o.cause != nil || p.window != nil && p.window.Err() != nil
}

// commit records that m is durable.
func (o *ownership) commit(m driver.Mark) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p := o.live[m.Claim]; p != nil && m.Offset >= p.committed {
		p.committed, p.metadata = m.Offset, m.Metadata
	}
}

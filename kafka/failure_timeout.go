package kafka

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A timeout bounds the calls of one lane's handler, as ConsumerConfig.HandlerTimeout
// says. It does nothing if that is not set.
type timeout struct {
	env    *env
	claim  *driver.Claim
	end    context.CancelFunc // of the call under way
	timer  *time.Timer        // reports a handler that ignores its context
	over   chan struct{}      // gets a token when it has reported one
	offset atomic.Int64       // of the first record of the call
	stuck  atomic.Int64       // when the call was found stuck, in ns; 0 is not
}

// begin returns the context for a call that is about the record first, or a batch.
func (t *timeout) begin(ctx context.Context, first *driver.Record) context.Context {
	limit := t.env.handlerTimeout
	if limit == 0 {
		return ctx
	}
	ctx, t.end = context.WithTimeoutCause(ctx, limit, ErrHandlerTimeout)
	t.offset.Store(first.Offset)
	if t.timer == nil {
		t.over = make(chan struct{}, 1)
		t.timer = time.AfterFunc(2*limit, t.report)
	} else {
		t.timer.Reset(2 * limit)
	}
	return ctx
}

// done notes that the call has returned. It waits for a report of it that is under way:
// no report comes later than its call, or than its lane.
func (t *timeout) done() {
	if t.end != nil {
		t.end()
		t.end = nil
		if !t.timer.Stop() {
			<-t.over
		}
		t.stuck.Store(0)
	}
}

// report reports a handler that has gone on for as long again as its time was.
func (t *timeout) report() {
	defer func() { t.over <- struct{}{} }()
	t.stuck.Store(time.Now().UnixNano())
	t.env.log.Error("kafka: handler is stuck: it has not returned since its timeout",
		"topic", t.claim.Topic, "partition", t.claim.Partition, "offset", t.offset.Load(),
		"timeout", t.env.handlerTimeout)
}

// since returns when the call under way was found stuck, or the zero time.
func (t *timeout) since() time.Time {
	if ns := t.stuck.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

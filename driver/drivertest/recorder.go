package drivertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A recorder is the Handler of a member. It records all calls and checks the rules of
// every case. The mutex of the case guards its fields. The recorder calls its hooks
// without that mutex.
type recorder struct {
	e    *env
	name string
	cfg  driver.ConsumerConfig

	owned    []*ownership // in the order of assignment
	assigns  int          // calls of Assign
	errs     []error      // of Error
	history  []string
	closing  bool // Close has been called
	returned bool // Run has returned

	onAssign  func(claims []*driver.Claim)
	onDeliver func(c *driver.Claim, b driver.Batch)
	onRevoke  func(ctx context.Context, claims []*driver.Claim)
}

func (r *recorder) Assign(claims []*driver.Claim) {
	r.enter("Assign")
	r.note("assign %s", partitions(claims))
	var hook func([]*driver.Claim)
	r.e.change(func() {
		r.assigns++
		for _, c := range claims {
			r.judgeAssign(c)
			r.owned = append(r.owned, newOwnership(c))
		}
		hook = r.onAssign
	})
	if hook != nil {
		hook(claims)
	}
}

func (r *recorder) Deliver(c *driver.Claim, b driver.Batch) {
	r.enter("Deliver")
	r.begin("Deliver", c)
	var hook func(*driver.Claim, driver.Batch)
	r.e.change(func() {
		if o := r.ownership(c); o != nil {
			r.judgeOrder(o, b)
			o.take(b)
		}
		hook = r.onDeliver
	})
	if hook != nil {
		hook(c, b)
	}
	r.end(c)
}

func (r *recorder) Revoke(ctx context.Context, claims []*driver.Claim) {
	r.enter("Revoke")
	r.note("revoke %s", partitions(claims))
	r.judgeWindow(ctx)
	r.begin("Revoke", claims...)
	var hook func(context.Context, []*driver.Claim)
	r.e.change(func() {
		for _, o := range r.ownerships(claims) {
			o.revoking = ctx
		}
		hook = r.onRevoke
	})
	if hook != nil {
		hook(ctx, claims)
	}
	r.end(claims...)
	r.note("revoked %s", partitions(claims))
	r.e.change(func() {
		for _, o := range r.ownerships(claims) {
			o.revoked = true
		}
	})
}

func (r *recorder) Lost(claims []*driver.Claim, cause error) {
	r.enter("Lost")
	r.note("lost %s: %v", partitions(claims), cause)
	r.e.judgeError("the cause of Lost", cause)
	r.begin("Lost", claims...)
	r.e.change(func() {
		for _, o := range r.ownerships(claims) {
			o.lost, o.cause = true, cause
		}
	})
	r.end(claims...)
}

func (r *recorder) Error(err error) {
	r.enter("Error")
	r.e.judgeError("Handler.Error", err)
	r.note("error %v", err)
	r.e.change(func() { r.errs = append(r.errs, err) })
}

// enter checks the rules for every method of a Handler.
func (r *recorder) enter(method string) {
	if call := callOfTheCore(); call != "" {
		r.e.breach(ruleOwnGoroutine, "%s: %s runs inside %s", r.name, method, call)
	}
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	if r.returned {
		r.e.breach(ruleSilence, "%s: %s after Run has returned", r.name, method)
	}
}

// begin checks that method may be called for claims now.
func (r *recorder) begin(method string, claims ...*driver.Claim) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	for _, c := range claims {
		o := r.ownership(c)
		if o == nil {
			r.e.breach(ruleAssignFirst, "%s: %s of partition %d before Assign", r.name, method, c.Partition)
			continue
		}
		r.judgeLife(method, o)
		o.calls++
	}
}

func (r *recorder) end(claims ...*driver.Claim) {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	for _, o := range r.ownerships(claims) {
		o.calls--
	}
}

func (r *recorder) judgeLife(method string, o *ownership) {
	ended := o.revoking != nil || o.lost
	switch {
	case ended && method == "Deliver":
		r.e.breach(ruleNothingAfterEnd, "%s: Deliver of partition %d after Revoke or Lost", r.name, o.claim.Partition)
	case ended:
		r.e.breach(ruleEndsOnce, "%s: %s of partition %d after Revoke or Lost", r.name, method, o.claim.Partition)
	case o.calls > 0:
		r.e.breach(ruleNoOverlap, "%s: %s of partition %d while another call for it runs", r.name, method, o.claim.Partition)
	}
	if !sameClaim(*o.claim, o.assigned) {
		r.e.breach(ruleFixed, "%s: the claim of partition %d was %+v and is %+v", r.name, o.claim.Partition, o.assigned, *o.claim)
	}
}

func (r *recorder) judgeAssign(c *driver.Claim) {
	if r.ownership(c) != nil {
		r.e.breach(ruleNewClaim, "%s: partition %d came back as the same *Claim", r.name, c.Partition)
	}
	for _, m := range r.e.members {
		for _, o := range m.owned {
			if m.cfg.Group == r.cfg.Group && samePartition(o.claim, c) && o.alive() && (m.recorder == r || !r.e.zombies) {
				r.e.breach(r.ruleOneOwner(), "%s: Assign of partition %d while %s has a live claim of it", r.name, c.Partition, m.name)
			}
		}
	}
}

func (r *recorder) ruleOneOwner() string {
	if slices.Contains(r.cfg.BalanceStrategies, driver.CooperativeSticky) {
		return ruleOneOwnerCooperative
	}
	return ruleOneOwner
}

func (r *recorder) judgeOrder(o *ownership, b driver.Batch) {
	next := max(o.next, o.claim.Start)
	for _, rec := range b.Records {
		if rec.Offset < next {
			r.e.breach(ruleOrder, "%s: partition %d: offset %d delivered, want %d or more", r.name, o.claim.Partition, rec.Offset, next)
		}
		next = rec.Offset + 1
	}
	if b.Next != 0 && b.Next < next {
		r.e.breach(ruleNext, "%s: partition %d: Next is %d after offset %d", r.name, o.claim.Partition, b.Next, next-1)
	}
}

func (r *recorder) judgeWindow(ctx context.Context) {
	r.e.mu.Lock()
	closing := r.closing
	r.e.mu.Unlock()
	deadline, ok := ctx.Deadline()
	switch left := time.Until(deadline); {
	case !ok:
		r.e.breach(ruleWindow, "%s: the context of Revoke has no deadline", r.name)
	case !closing && left > r.cfg.DrainTimeout:
		r.e.breach(ruleWindow, "%s: the window of Revoke is %v, want at most DrainTimeout, %v", r.name, left, r.cfg.DrainTimeout)
	}
}

func (r *recorder) ownership(c *driver.Claim) *ownership {
	i := slices.IndexFunc(r.owned, func(o *ownership) bool { return o.claim == c })
	if i < 0 {
		return nil
	}
	return r.owned[i]
}

func (r *recorder) ownerships(claims []*driver.Claim) []*ownership {
	var found []*ownership
	for _, c := range claims {
		if o := r.ownership(c); o != nil {
			found = append(found, o)
		}
	}
	return found
}

func (r *recorder) note(format string, args ...any) {
	r.e.change(func() { r.history = append(r.history, fmt.Sprintf(format, args...)) })
}

// callOfTheCore returns the name of the member's method that is on the stack of the
// calling goroutine, or "".
func callOfTheCore() string {
	pcs := make([]uintptr, 64)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		for _, method := range []string{"Commit", "Pause", "Resume", "Close", "Seek"} {
			if strings.HasSuffix(f.Function, "drivertest.(*member).call"+method) {
				return method
			}
		}
		if !more {
			return ""
		}
	}
}

// judgeError checks that err has a name, as every error of a driver must.
func (e *env) judgeError(what string, err error) {
	e.t.Helper()
	if !named(err) {
		e.breach(ruleNamedErrors, "%s is %q (%T), which wraps no *driver.Error with a code", what, err, err)
	}
}

func named(err error) bool {
	var de *driver.Error
	if errors.As(err, &de) {
		return de.Code != ""
	}
	for _, known := range []error{
		driver.ErrClosed, driver.ErrClaimEnded, driver.ErrMembershipLost, driver.ErrPermanent, driver.ErrUnknownOutcome,
		context.Canceled, context.DeadlineExceeded,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

func samePartition(a, b *driver.Claim) bool { return a.Topic == b.Topic && a.Partition == b.Partition }

// sameClaim compares the exported fields that never change.
func sameClaim(a, b driver.Claim) bool {
	return samePartition(&a, &b) && a.Start == b.Start && a.Metadata == b.Metadata && a.End == b.End && a.Generation == b.Generation
}

// partitions prints the partitions of claims.
func partitions(claims []*driver.Claim) string {
	ps := make([]int32, len(claims))
	for i, c := range claims {
		ps[i] = c.Partition
	}
	slices.Sort(ps)
	return fmt.Sprint(ps)
}

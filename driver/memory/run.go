package memory

import (
	"errors"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// A run is the goroutine of Consumer.Run: it takes the consumer from generation to
// generation until Close.
type run struct {
	c      *consumer
	h      driver.Handler
	watch  watch
	drains drains
}

func newRun(c *consumer, h driver.Handler) *run {
	return &run{
		c: c, h: h,
		watch:  watch{c: c, h: h},
		drains: drains{b: c.b, h: h, timeout: c.cfg.DrainTimeout, life: &c.life, place: &c.place, claims: &c.claims, topics: &c.topics},
	}
}

func (r *run) run() error {
	err := r.serve()
	r.endClaims(err)
	r.leave()
	r.drains.running.Wait()
	return err
}

// serve goes from generation to generation. It returns nil for Close, and otherwise the
// reason that rejoining does not cure.
func (r *run) serve() error {
	for {
		r.attend(true)
		err := r.participate()
		r.attend(false)
		k, closing := r.strayed()
		switch {
		case err == errClosing || closing:
			return nil
		case err == errOrphaned:
			r.loseOrphans()
		case k != nil:
			r.skipGap(k)
		case errors.Is(err, driver.ErrPermanent):
			return err
		case code(err) != "REBALANCE_IN_PROGRESS":
			r.loseSession(err)
		}
	}
}

func (r *run) attend(is bool) {
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	r.c.place.attending = is
}

// strayed returns the claim whose position is no longer in the log, unless that ends Run,
// and whether the consumer is being closed.
func (r *run) strayed() (k *claim, closing bool) {
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	if r.c.cfg.OutOfRange != driver.OutOfRangeStop {
		k = r.c.claims.firstAstray()
	}
	return k, r.c.life.closing != nil
}

// skipGap ends a claim that has lost its place and moves the group's position into the
// log. The drain commits handled records before that.
func (r *run) skipGap(k *claim) {
	if err := r.drains.revoke([]*claim{k}); err != nil {
		r.loseSession(err) // the next owner finds the same gap
		return
	}
	if gap := r.moveIntoLog(k); gap != nil {
		r.c.b.observer.flush()
		r.h.Error(&driver.Error{Code: gap.ErrorType(), Err: gap})
	}
}

func (r *run) moveIntoLog(k *claim) *driver.DataLossError {
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	from := r.c.g.committed(k.partition())
	if r.c.place.mayCommit() != nil {
		return nil // the group has gone on without this member, or is unreachable
	}
	if from < 0 || from >= k.log.start && from <= k.log.end {
		return nil // the group has no position, or another member has moved it
	}
	to := k.log.start
	if r.c.cfg.OutOfRange == driver.OutOfRangeNewest {
		to = k.log.limit(k.level)
	}
	r.c.place.commit(k.partition(), place{offset: to}, Commit{Gap: true})
	r.c.g.progress.fire()
	return &driver.DataLossError{
		Topic: k.Topic, Partition: k.Partition, From: from, To: to, Begin: k.log.start, End: k.log.end,
	}
}

// loseSession ends all claims of a member that the group no longer counts on.
func (r *run) loseSession(cause error) {
	r.c.b.mu.Lock()
	r.c.place.forget()
	r.c.b.mu.Unlock()
	cause = lostMembership(cause)
	r.h.Error(cause)
	r.drains.lose(r.live(), cause)
}

// loseOrphans ends the claims of deleted topics, and reports the topics that were created
// again. Their new claims come with the next generation, which the group has begun
// already.
func (r *run) loseOrphans() {
	r.c.b.mu.Lock()
	ks := r.c.claims.orphans()
	r.c.b.mu.Unlock()
	r.drains.stop(ks)
	r.drains.end(ks)
	for len(ks) > 0 {
		n := 1
		for n < len(ks) && ks[n].Topic == ks[0].Topic {
			n++
		}
		r.h.Lost(claimsOf(ks[:n]), r.c.b.deletion(ks[0].Topic))
		ks = ks[n:]
	}
	r.reportReborn()
}

// reportReborn reports the topics that were created again.
func (r *run) reportReborn() {
	for _, gap := range r.c.topics.takeReborn(&r.c.place) {
		r.h.Error(&driver.Error{Code: gap.ErrorType(), Err: gap})
	}
}

// endClaims ends the remaining claims after serve has returned err.
func (r *run) endClaims(err error) {
	r.c.b.mu.Lock()
	k := r.c.claims.firstAstray()
	r.c.b.mu.Unlock()
	switch {
	case err == nil:
		r.drains.revoke(r.live())
	case k != nil:
		r.drains.lose([]*claim{k}, err)
		r.drains.revoke(r.live())
	default:
		r.drains.lose(r.live(), err)
	}
}

func (r *run) live() []*claim {
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	return slices.Clone(r.c.claims.live)
}

// leave takes the member out of its group as soon as the broker is reachable. It gives up
// when the session or Close has ended. A static member stays.
func (r *run) leave() {
	for {
		gone, changed, over := r.tryLeave()
		if gone {
			return
		}
		select {
		case <-changed:
		case <-over:
		}
	}
}

func (r *run) tryLeave() (gone bool, changed, over <-chan struct{}) {
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	m, err := r.c.place.member()
	ctx := r.c.life.window()
	switch {
	case err != nil:
		return true, nil, nil
	case r.c.place.byEpochs && r.c.link.up() && ctx.Err() == nil:
		r.c.place.leaveEpochs(m)
		return true, nil, nil
	case ctx.Err() != nil || r.c.cfg.InstanceID != "" && !r.c.place.byEpochs || r.c.link.severed:
		r.c.link.severed = true
		r.c.g.linkChanged(m)
		return true, nil, nil
	case r.c.link.up():
		r.c.g.remove(m)
		return true, nil, nil
	}
	return false, r.c.g.changed.wait(), ctx.Done()
}

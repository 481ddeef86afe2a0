package franz

import (
	"context"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	// askEnds is the time between two rounds of requests for the ends of logs, and endAge
	// how old an end may be at a round. With requestTimeout that stays below the half
	// minute that the contract asks for.
	askEnds = 5 * time.Second
	endAge  = 8 * time.Second

	// stuckAfter is how long nothing of a partition may come although its log goes on. A
	// quota and the other partitions of an answer can be the reason for as long as some
	// answers take.
	stuckAfter = 15 * time.Second
)

// An endAsker asks the leaders for the high watermarks of claims that have not been
// answered for some time: because they are paused, or because nothing of them comes. It
// also reports claims of which nothing comes although their logs go on.
type endAsker struct {
	claims  *claims
	leaders *leaders
	core    *core

	stuck map[*claim]*stall // used by one goroutine
}

// run keeps the high watermarks of all claims young, until ctx ends.
func (a *endAsker) run(ctx context.Context, every, age time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			a.round(ctx, age)
		case <-ctx.Done():
			return
		}
	}
}

func (a *endAsker) round(ctx context.Context, age time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	now := time.Now()
	old := a.claims.all(func(cl *claim) bool { return now.UnixNano()-cl.heard.Load() > int64(age) })
	highs := a.leaders.highs(ctx, places(old))
	for _, cl := range old {
		if end, ok := highs[cl.where]; ok {
			cl.noteEnd(end, time.Now())
		}
	}
	a.look(ctx, now)
}

// look reports the claims of which nothing has come for a while although their logs go on.
// At ReadCommitted a log goes on up to the first open transaction.
func (a *endAsker) look(ctx context.Context, now time.Time) {
	silent := a.claims.all(func(cl *claim) bool { return !cl.isIdle() && cl.high.Load() > cl.next.Load() })
	before := map[*claim]int64{}
	for _, cl := range silent {
		before[cl] = cl.moved.Load()
	}
	ends, _ := a.leaders.some(ctx, places(silent), logEnd)
	stuck := map[*claim]*stall{}
	for _, cl := range silent {
		next, moved := cl.next.Load(), cl.moved.Load()
		if end, ok := ends[cl.where]; !ok || next < 0 || end <= next || cl.isIdle() || moved != before[cl] {
			continue
		}
		st := a.stuck[cl]
		if st == nil || st.moved != moved {
			st = &stall{moved: moved, since: now}
		}
		stuck[cl] = st
		if now.Sub(st.since) < stuckAfter || st.reported {
			continue
		}
		st.reported = true
		a.core.report(&driver.PartitionError{Topic: cl.where.Topic, Partition: cl.where.ID, Offset: next,
			Err: &driver.Error{Code: "FETCH_STALLED", Err: fmt.Errorf("nothing could be read for %v, though the log goes on to %d",
				now.Sub(st.since).Round(time.Second), ends[cl.where])}})
	}
	a.stuck = stuck
}

// A stall is a claim of which nothing comes although its log goes on.
type stall struct {
	moved    int64 // when a record came last
	since    time.Time
	reported bool
}

package franz

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
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
// also reports claims of which nothing comes although their logs go on. It asks each leader
// by a goroutine of its own, so that a silent one delays no other.
type endAsker struct {
	claims  *claims
	leaders *leaders
	core    *core.Calls

	asking sync.WaitGroup

	mu    sync.Mutex // guards what follows
	busy  map[int32]bool
	stuck map[*claim]*stall
}

func newEndAsker(claims *claims, leaders *leaders, core *core.Calls) *endAsker {
	return &endAsker{claims: claims, leaders: leaders, core: core, busy: map[int32]bool{}, stuck: map[*claim]*stall{}}
}

// run keeps the high watermarks of all claims young, until ctx ends.
func (a *endAsker) run(ctx context.Context, every, age time.Duration) {
	defer a.asking.Wait()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			a.round(ctx, age, now)
		case <-ctx.Done():
			return
		}
	}
}

// round asks each leader for its claims whose end is older than age, or of which nothing has
// come though there is more.
func (a *endAsker) round(ctx context.Context, age time.Duration, now time.Time) {
	byLeader := map[int32][]*claim{}
	live := map[*claim]bool{}
	for _, cl := range a.claims.all(nil) {
		live[cl] = true
		if now.UnixNano()-cl.heard.Load() > int64(age) || cl.high.Load() > cl.next.Load() && !cl.isIdle() {
			leader, _, err := cl.session.client.PartitionLeader(cl.where.Topic, cl.where.ID)
			if err == nil {
				byLeader[leader] = append(byLeader[leader], cl)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	maps.DeleteFunc(a.stuck, func(cl *claim, _ *stall) bool { return !live[cl] })
	for leader, led := range byLeader {
		if a.busy[leader] {
			continue
		}
		a.busy[leader] = true
		a.asking.Go(func() {
			a.ask(ctx, led)
			a.mu.Lock()
			defer a.mu.Unlock()
			delete(a.busy, leader)
		})
	}
}

// ask asks the leader of claims.
func (a *endAsker) ask(ctx context.Context, led []*claim) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	highs := a.leaders.highs(ctx, places(led))
	now := time.Now()
	for _, cl := range led {
		if end, ok := highs[cl.where]; ok {
			cl.noteEnd(end, now)
		}
	}
	a.look(ctx, led, now)
}

// look reports the claims of which nothing has come for a while although their logs go on.
// At ReadCommitted a log goes on up to the first open transaction.
func (a *endAsker) look(ctx context.Context, led []*claim, now time.Time) {
	behind := slices.DeleteFunc(slices.Clone(led), func(cl *claim) bool { return cl.isIdle() || cl.high.Load() <= cl.next.Load() })
	before := map[*claim]int64{}
	for _, cl := range behind {
		before[cl] = cl.moved.Load()
	}
	ends, _ := a.leaders.some(ctx, places(behind), logEnd)
	for _, cl := range behind {
		next, moved := cl.next.Load(), cl.moved.Load()
		if end, ok := ends[cl.where]; !ok || next < 0 || end <= next || cl.isIdle() || moved != before[cl] {
			continue
		}
		st, news := a.stalled(cl, moved, now)
		if !news {
			continue
		}
		a.core.Report(&driver.PartitionError{Topic: cl.where.Topic, Partition: cl.where.ID, Offset: next,
			Err: &driver.Error{Code: "FETCH_STALLED", Err: fmt.Errorf("nothing could be read for %v, though the log goes on to %d",
				now.Sub(st.since).Round(time.Second), ends[cl.where])}})
	}
}

// stalled notes that nothing has come of a claim since it moved. It reports whether that has
// lasted, and has not been reported.
func (a *endAsker) stalled(cl *claim, moved int64, now time.Time) (st *stall, news bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if st = a.stuck[cl]; st == nil || st.moved != moved {
		st = &stall{moved: moved, since: now}
		a.stuck[cl] = st
	}
	news = now.Sub(st.since) >= stuckAfter && !st.reported
	st.reported = st.reported || news
	return st, news
}

// A stall is a claim of which nothing comes although its log goes on.
type stall struct {
	moved    int64 // when a record came last
	since    time.Time
	reported bool
}

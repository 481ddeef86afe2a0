package sarama

import (
	"context"
	"fmt"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
)

// watchEvery is the time between two looks of the watchdog.
const watchEvery = time.Minute

// A watchdog ends the session when Sarama has silently stopped to fetch one of its claims,
// as it has done after hiccups of a broker, and the log grows. The claims are revoked and
// the group is joined again.
//
// A claim that is fetched may bring no records. So the watchdog judges it by the end of the
// log that Sarama has seen with its latest records: the claim is stalled if this end has not
// moved from one look to the next although the leader's end was beyond it at the first
// already. Records that were appended between the two looks may still be on their way. The
// watchdog does not judge a claim that is paused at a look, or was between two. It asks a
// leader only for a claim that was silent between two looks, so it finds a stall after two
// to three looks, and a stall within a backlog only when another record is appended.
type watchdog struct {
	claims  *claims
	leaders *leaders
	core    *core.Calls
	closing <-chan struct{} // closed when the consumer begins to close
}

// run looks until ctx ends.
func (w *watchdog) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last map[*claim]pulse
	for {
		select {
		case <-tick.C:
			last = w.check(last)
		case <-ctx.Done():
			return
		}
	}
}

// A pulse is the part of a claim's state that changes while it is fetched.
type pulse struct {
	end    int64 // of the log, according to the latest answer with records
	pauses int64
	leader int64 // the leader's end, or -1 if it was not asked
}

// check takes the pulse of every claim, and ends the session if one has stopped.
func (w *watchdog) check(last map[*claim]pulse) map[*claim]pulse {
	now := map[*claim]pulse{}
	var silent []partition
	for _, cl := range w.fetched() {
		p := pulse{cl.source.HighWaterMarkOffset(), cl.pauses.Load(), -1}
		now[cl] = p
		if before, ok := last[cl]; ok && before.end == p.end && before.pauses == p.pauses {
			silent = append(silent, cl.where)
		}
	}
	// A leader that does not answer shows nothing about the claim.
	ends, _ := w.leaders.some(silent, ibm.OffsetNewest)
	for cl, p := range now {
		leader, asked := ends[cl.where]
		if !asked {
			continue
		}
		end := w.endOf(cl)
		if end != nil && last[cl].leader > p.end && cl.source.HighWaterMarkOffset() == p.end {
			err := &driver.PartitionError{Topic: cl.where.Topic, Partition: cl.where.ID, Offset: cl.feed.position(),
				Err: &driver.Error{Code: "FETCH_STALLED", Err: fmt.Errorf(
					"nothing was fetched since the log ended at %d, and it ends at %d: the group is joined again", p.end, leader)}}
			w.core.Report(err)
			end(err)
			return nil
		}
		p.leader = leader
		now[cl] = p
	}
	return now
}

// endOf returns the function that ends the session of cl and no other, or nil if cl is
// ending anyway: it may be since its leader was asked.
func (w *watchdog) endOf(cl *claim) context.CancelCauseFunc {
	select {
	case <-w.closing:
		return nil
	default:
	}
	if w.claims.at(cl.where) != cl || cl.isRevoking() {
		return nil
	}
	return cl.session.end
}

// fetched returns the claims that Sarama should be fetching.
func (w *watchdog) fetched() []*claim {
	return w.claims.all(func(cl *claim) bool {
		return !cl.paused.Load() && !cl.isRevoking() && !cl.isStanding()
	})
}

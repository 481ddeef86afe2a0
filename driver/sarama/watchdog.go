package sarama

import (
	"context"
	"fmt"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// look is the time between two looks of the watchdog.
const look = time.Minute

// watchdog ends the session when Sarama has stopped to fetch one of its claims
// without a word, as it has done after hiccups of a broker, and the log grows. The
// claims are revoked and the group is joined anew. It ends with Run or with Close.
//
// A claim is not judged by the records that it brings, of which there may be none
// for good reasons, but by the end of the log that Sarama has seen with the latest
// of them: from one look to the next it has not moved, though the leader's end was
// beyond it at the first already. What was appended between the two may still be
// on its way. What is paused at a look, or was between two, is not judged. Since a
// leader is asked only of a claim that was silent between two looks, a stall is
// found after two to three of them; and one within a backlog only when another
// record is appended.
func (c *consumer) watchdog(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last map[*claim]pulse
	for {
		select {
		case <-tick.C:
			last = c.check(last)
		case <-c.served:
			return
		case <-c.closing:
			return
		}
	}
}

// A pulse is what changes in a claim that is fetched.
type pulse struct {
	end    int64 // of the log, as the latest answer with records told
	pauses int64
	leader int64 // the leader's end, or -1 if it was not asked
}

// check takes the pulse of every claim, and ends the session if one has stopped.
func (c *consumer) check(last map[*claim]pulse) map[*claim]pulse {
	now := map[*claim]pulse{}
	var silent []partition
	for _, cl := range c.fetched() {
		p := pulse{cl.source.HighWaterMarkOffset(), cl.pauses.Load(), -1}
		now[cl] = p
		if before, ok := last[cl]; ok && before.end == p.end && before.pauses == p.pauses {
			silent = append(silent, cl.where)
		}
	}
	// A leader that does not answer is not the claim's fault.
	ends, _ := c.leaders.some(silent, ibm.OffsetNewest)
	for cl, p := range now {
		leader, asked := ends[cl.where]
		if !asked {
			continue
		}
		end := c.endOf(cl)
		if end != nil && last[cl].leader > p.end && cl.source.HighWaterMarkOffset() == p.end {
			err := &driver.PartitionError{Topic: cl.where.Topic, Partition: cl.where.ID, Offset: cl.feed.position(),
				Err: &driver.Error{Code: "FETCH_STALLED", Err: fmt.Errorf(
					"nothing was fetched since the log ended at %d, and it ends at %d: the group is joined again", p.end, leader)}}
			c.tell(err)
			end(err)
			return nil
		}
		p.leader = leader
		now[cl] = p
	}
	return now
}

// endOf returns what ends the session of cl and no other, or nil if cl is ending
// anyway: it may have, while its leader was asked.
func (c *consumer) endOf(cl *claim) context.CancelCauseFunc {
	if _, closing := c.verdict(); closing || c.claims.at(cl.where) != cl || cl.isRevoking() {
		return nil
	}
	return cl.session.end
}

// fetched returns the claims that Sarama should be fetching.
func (c *consumer) fetched() []*claim {
	return c.claims.all(func(cl *claim) bool {
		return !cl.paused.Load() && !cl.isRevoking() && !cl.isStanding()
	})
}

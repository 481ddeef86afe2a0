package sarama

import (
	"fmt"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// silence is how long a claim may hear nothing of its log, while that grows,
// before its session is ended.
const silence = time.Minute

// watchdog ends the session when Sarama has stopped to fetch one of its claims
// without a word, as it has done after hiccups of a broker. The claims are revoked
// and the group is joined anew. It ends with Run or with Close.
//
// A claim is not judged by the records that it brings, of which there may be none
// for good reasons, but by the end of the log, which comes with every answer to a
// fetch: it has stood still from one look to the next, and the leader's is beyond
// it. What is paused at a look, or was between two, is not judged.
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
	end    int64 // of the log, as the latest answer told
	pauses int64
}

// check takes the pulse of every claim, and ends the session if one has stopped.
func (c *consumer) check(last map[*claim]pulse) map[*claim]pulse {
	now := map[*claim]pulse{}
	var silent []*claim
	for _, cl := range c.fetched() {
		now[cl] = pulse{cl.source.HighWaterMarkOffset(), cl.pauses.Load()}
		if before, ok := last[cl]; ok && before == now[cl] {
			silent = append(silent, cl)
		}
	}
	for _, cl := range silent {
		// A leader that does not answer is not the claim's fault.
		ends, err := c.logOffsets([]partition{cl.where}, ibm.OffsetNewest)
		if end := ends[cl.where]; err == nil && end > now[cl].end && cl.source.HighWaterMarkOffset() == now[cl].end {
			err := &driver.Error{Code: "FETCH_STALLED", Err: fmt.Errorf(
				"nothing was fetched of %s/%d since its log ended at %d, and it ends at %d: the group is joined anew",
				cl.where.topic, cl.where.id, now[cl].end, end)}
			c.tell(err)
			c.end(err)
			return nil
		}
	}
	return now
}

// fetched returns the claims that Sarama should be fetching.
func (c *consumer) fetched() (claims []*claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cl := range c.live {
		if !cl.paused.Load() && !cl.isRevoking() {
			claims = append(claims, cl)
		}
	}
	return claims
}

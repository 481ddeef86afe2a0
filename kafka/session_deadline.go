package kafka

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// The group gives a member's partitions to others when it has not heard of it for
// the session timeout. From then on nothing may be handed out, and what is handled
// must not be committed, also if this member knows of nothing: its connections may
// lead nowhere, its driver may be stuck, or the process itself may have been
// frozen. The last is why a timer is not enough. It goes like this:
//
//  1. A lane has taken 128 records and is at the third. The process is frozen
//     (SIGSTOP, a paused container).
//  2. SessionTimeout passes. The group removes the member, and another one begins
//     with the first record that is not committed.
//  3. The process is thawed. Timers that are due run on other goroutines, in any
//     order, while the lane goes on at once: it hands out the fourth record to
//     the hundred and twenty-eighth, takes the next chunk, and so on, until a timer
//     or the driver happens to be scheduled.
//  4. The committer's interval is over, too. It would commit what has been handled
//     since, and an old coordinator may not even refuse that.
//
// So a lane compares the driver's deadline with the clock each time before it
// hands out a chunk, or a record once more, and the committer before each commit.
// After a thaw at most the rest of one chunk is handed out. The timer beside it
// cancels the handlers that run. Go measures by a clock that stands still while the
// whole machine is suspended: what happens then shows only in the group's answer.

// errSessionOver is why handlers were stopped before the driver said anything.
var errSessionOver = fmt.Errorf("no answer of the group for the session timeout: %w", driver.ErrMembershipLost)

// A deadline is the clock of one session, and the timer that runs at its end.
type deadline struct {
	until func() time.Time // asks the driver; nil if it does not know

	mu       sync.Mutex
	timer    *time.Timer    // nil while it is not set
	stopped  bool           // no timer is set any longer
	watching sync.WaitGroup // the timer, until it has run or is stopped
}

// passed reports whether the deadline has. A driver that does not know one sets no
// bound, and costs no look at the clock.
func (d *deadline) passed() bool {
	if d.until == nil {
		return false
	}
	until := d.until()
	return !until.IsZero() && !time.Now().Before(until)
}

// watch sets the timer for the deadline as it is now, unless it is set.
func (d *deadline) watch(then func()) {
	until := d.until()
	d.mu.Lock()
	defer d.mu.Unlock()
	if until.IsZero() || d.timer != nil || d.stopped {
		return
	}
	d.watching.Add(1)
	d.timer = time.AfterFunc(time.Until(until), func() {
		defer d.watching.Done()
		then()
	})
}

// fired notes that the timer has, so that it can be set again.
func (d *deadline) fired() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.timer = nil
}

// stop stops the timer permanently, and waits for it if it runs.
func (d *deadline) stop() {
	d.mu.Lock()
	d.stopped = true
	if d.timer != nil && d.timer.Stop() {
		d.watching.Done()
	}
	d.mu.Unlock()
	d.watching.Wait()
}

// checkClock fences the partition of c if the session's deadline has passed.
func (c *claims) checkClock(cl *driver.Claim) {
	if c.deadline.passed() {
		c.fence(cl.Owner.(*partition))
	}
}

// unexpired returns the partitions that live, and fences them first if the session's
// deadline has passed.
func (c *claims) unexpired() []*partition {
	owned := c.live()
	if c.deadline.passed() {
		c.fence(owned...)
	}
	return owned
}

// fence treats partitions as lost until the driver ends their claims, which it has
// to do next: nothing more of them is handed out or committed. The caller has found
// the session expired after it had these partitions: of those that a new membership
// has brought since, the old deadline says nothing.
func (c *claims) fence(parts ...*partition) {
	var stopped []*partition
	for _, p := range parts {
		if p.brake.fence() {
			p.intake.uncount()
			p.brake.cancel(ErrPartitionLost)
			stopped = append(stopped, p)
		}
	}
	if len(stopped) == 0 {
		return
	}
	c.reflow() // the budget has room again
	c.env.log.Warn("kafka: the session timeout has passed without an answer of the group; handlers are stopped",
		"partitions", listed(stopped), "timeout", c.env.sessionTimeout)
	c.standDown(stopped[0])
}

// watchDeadline sets the timer, if there are partitions to fence. It is set again when
// it has fired and the deadline has moved.
func (c *claims) watchDeadline() {
	if c.deadline.until == nil {
		return
	}
	if slices.ContainsFunc(c.live(), func(p *partition) bool { return !p.brake.fenced() }) {
		c.deadline.watch(c.atDeadline)
	}
}

// atDeadline is the timer's goroutine.
func (c *claims) atDeadline() {
	c.unexpired()
	c.deadline.fired()
	c.watchDeadline()
}

package simulation

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
)

// faults is an injector whose faults come and go.
type faults struct {
	stats    *stats
	openedBy fault.Op              // what a consumer opens first
	opening  func(clientID string) // is called as a consumer is opened
	fetching func(fault.Call)      // is called before a partition is paused or resumed

	mu     sync.Mutex
	rules  []*rule
	struck time.Time // until when a call is delayed, at the latest
	hung   bool      // a Run has been kept from joining until it is closed
}

// A rule strikes the next left calls of an operation.
type rule struct {
	op    fault.Op
	fault fault.Fault
	left  int
	topic string // of the calls that it strikes, or how its name ends; "" is any
}

func (r *rule) strikes(topic string) bool { return strings.HasSuffix(topic, r.topic) }

func (f *faults) wrap(d driver.Driver) driver.Driver { return fault.Wrap(d, f) }

func (f *faults) add(r *rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = append(f.rules, r)
}

func (f *faults) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// end ends one rule.
func (f *faults) end(r *rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.left = 0
}

func (f *faults) active() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.left > 0 {
			return true
		}
	}
	return false
}

// since returns how long ago the latest call was struck, its delay over. A rule
// that is used up is not over: a call may lie in its last delay, and what comes of
// it takes its time.
func (f *faults) since() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.struck)
}

// Inject implements fault.Injector.
func (f *faults) Inject(c fault.Call) fault.Fault {
	if c.Op == f.openedBy && strings.Contains(c.ClientID, ".") {
		f.opening(c.ClientID)
	}
	if c.Op == fault.Pause || c.Op == fault.Resume {
		f.fetching(c)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.op == c.Op && r.left > 0 && r.strikes(c.Topic) {
			r.left--
			if end := time.Now().Add(r.fault.Delay); end.After(f.struck) {
				f.struck = end
			}
			f.hung = f.hung || (c.Op == fault.Run || strings.HasSuffix(c.Topic, deadSuffix) || isRetry(c.Topic)) && r.fault.When == fault.InsteadOfIt
			f.stats.count(fmt.Sprintf("fault %v %s", c.Op, whenName(r.fault)))
			return r.fault
		}
	}
	return fault.Fault{}
}

func (f *faults) String() string { return "faults" }

func whenName(f fault.Fault) string {
	return [...]string{"delayed", "before", "after", "no answer"}[f.When]
}

// drawFault leaves Pause and Resume out: by the contract they take no time, and
// while one does, its member gets no calls.
func drawFault(t *rapid.T) *rule {
	ops := []fault.Op{
		fault.OpenConsumer, fault.OpenProducer, fault.Run, fault.Commit, fault.Commit, fault.Mark,
		fault.CloseConsumer, fault.Produce, fault.Ack, fault.Flush, fault.CloseProducer,
	}
	r := &rule{op: rapid.SampledFrom(ops).Draw(t, "op"), left: rapid.IntRange(1, 6).Draw(t, "times")}
	r.fault.When = fault.When(rapid.IntRange(0, 3).Draw(t, "when"))
	r.fault.Delay = time.Duration(rapid.SampledFrom([]int{0, 0, 50, 3_000}).Draw(t, "delay ms")) * time.Millisecond
	r.fault.Err = fault.Error(rapid.SampledFrom([]string{"REQUEST_TIMED_OUT", "NOT_COORDINATOR", "CONNECTION_FAILED"}).Draw(t, "code"))
	if r.fault.When == fault.BeforeCall && rapid.IntRange(0, 9).Draw(t, "permanent") == 0 {
		r.fault.Err = fault.Permanent("GROUP_AUTHORIZATION_FAILED")
	}
	return r
}

// wasHung reports whether a consumer may be in a Run that never joins, or wait for an
// answer to a dead letter that never comes, since it was asked last. Only a switch helps: the contract has no such drivers.
func (f *faults) wasHung() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	hung := f.hung
	f.hung = false
	return hung
}

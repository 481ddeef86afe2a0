package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// A world is one random history: a broker, the processes on it, and their judge.
type world struct {
	broker *memory.Broker
	faults *faults
	judge  *judge.Judge
	stats  *stats
	drawn  settings
	nodes  []*node // all that there have ever been, in order

	read      map[judge.Partition]int64 // up to where the judge knows the log
	open      []*memory.Transaction
	cuts      []cut
	impatient []context.CancelFunc // of shutdowns without a deadline
	timers    []*time.Timer        // of faults that end by themselves
	troubled  time.Time            // the latest moment at which something was out of order
	sent      int
	foreign   []*memory.Foreign         // members of other programs
	damaged   map[judge.Partition]int64 // the first record of each that cannot be read

	seeks      seeks
	calmly     atomic.Bool    // quiet, as of the latest step
	napping    atomic.Int32   // hooks that sleep
	operations opCount        // that hooks have seen begin, and that have not ended
	background sync.WaitGroup // sends, shutdowns, and what else waits

	deadMu   sync.Mutex
	deadRead map[judge.Partition]int64 // up to where the judge knows the dead letters
	deadIDs  map[string]int
	strays   map[place]bool // records of retry topics that the core has not sent there

	mu        sync.Mutex
	down      bool
	back      []judge.Member // whose link came back during an outage
	script    []outcome
	handled   uint64        // calls of handlers so far
	release   chan struct{} // closed when blocked handlers may go on
	values    int
	locations map[string]location
	pinned    map[judge.Subscription]bool // partitions whose first position is known, by group and name
	kept      []kept
	whole     []judge.Subscription // what groups must begin at the beginning of
	poisons   map[string]outcome   // records that fail each time, by value
	illnesses map[string]outcome   // what handlers do with records of a key, by lane
	unsent    map[sendingOf]bool
	broken    string // an invariant that another goroutine has found broken
}

// settings are drawn once for a whole sequence.
type settings struct {
	partitions int
	protocols  map[string]driver.GroupProtocol // of the groups
	strategies []driver.BalanceStrategy        // of groups of the ClassicProtocol
	assignor   memory.Assignor                 // of the others
	session    time.Duration
	patience   time.Duration // the broker's session timeout for groups of the ConsumerProtocol
	rebalance  time.Duration
	drain      time.Duration
	interval   time.Duration
	buffered   int
	fetch      int
	maxErrors  int
	work       time.Duration
	kind       string
	outcomes   []outcome
	isolation  driver.IsolationLevel
	newest     bool // groups begin after what is there
	autoCommit bool // what was handed out counts as done
	middleware bool
	secured    bool
	static     bool // members keep their places while they are away
	outOfRange driver.OutOfRange
	later      bool // one group also reads a topic that does not exist yet
	failing    failing
	orderings  map[string][]ordering // of the groups
	rate       float64               // MaxRate
	keying     keying
}

const (
	orders  = "orders"
	results = "results"
	later   = "later" // does not exist at first
)

// subscriptions are the topics that the two groups read.
func (w *world) subscriptions() []judge.Subscription {
	all := w.sources()
	for _, s := range w.sources() {
		for _, r := range w.drawn.failing.tiers {
			all = append(all, judge.Subscription{Group: s.Group, Topic: r.topic(s.Topic, s.Group)})
		}
	}
	return all
}

// sources are the topics of the two groups.
func (w *world) sources() []judge.Subscription {
	all := []judge.Subscription{{Group: "one", Topic: orders}, {Group: "two", Topic: orders}, {Group: "two", Topic: results}}
	if w.drawn.later {
		all = append(all, judge.Subscription{Group: "two", Topic: later})
	}
	return all
}

func (w *world) topics(group string) (names []string) {
	for _, s := range w.sources() {
		if s.Group == group {
			names = append(names, s.Topic)
		}
	}
	return names
}

func newWorld(t *rapid.T, st *stats) *world {
	w := &world{stats: st, read: make(map[judge.Partition]int64), release: make(chan struct{}), locations: make(map[string]location), pinned: make(map[judge.Subscription]bool), damaged: make(map[judge.Partition]int64),
		poisons: make(map[string]outcome), illnesses: make(map[string]outcome), unsent: make(map[sendingOf]bool), deadRead: make(map[judge.Partition]int64), deadIDs: make(map[string]int), strays: make(map[place]bool)}
	w.drawn = drawSettings(t)
	w.judge = judge.New(judge.Rules{
		AtMostOnce: w.drawn.autoCommit,
		Lane:       laneOf,
		Retry:      w.retry,
		MaxErrors:  w.drawn.maxErrors, BackoffMin: time.Second, BackoffMax: time.Minute, Multiplier: 2, Policy: w.drawn.failing.policy(w.drawn.kind),
	})
	w.broker = memory.NewBroker(memory.WithCommitObserver(w.observe), memory.WithConsumerGroups(memory.ConsumerGroups{
		SessionTimeout: w.drawn.patience, HeartbeatInterval: time.Second, Assignor: w.drawn.assignor,
	}))
	w.faults = &faults{stats: st, openedBy: fault.OpenConsumer, opening: func(clientID string) {
		w.judge.Tell(judge.Opening{Member: memberOf(memory.Member{ClientID: clientID})})
	}, fetching: w.fetching}
	w.must(t, w.broker.CreateTopic(orders, w.drawn.partitions))
	w.must(t, w.broker.CreateTopic(results, 1))
	w.createDead(t)
	w.createRetryTopics(t)
	if w.drawn.failing.copies() {
		w.faults.openedBy = fault.OpenProducer // which comes first
	}
	return w
}

func drawSettings(t *rapid.T) settings {
	pick := func(name string, ms ...int) time.Duration {
		return time.Duration(rapid.SampledFrom(ms).Draw(t, name)) * time.Millisecond
	}
	s := settings{
		partitions: rapid.IntRange(1, 8).Draw(t, "partitions"),
		strategies: rapid.SampledFrom([][]driver.BalanceStrategy{
			{driver.RoundRobin}, {driver.Range}, {driver.Sticky}, {driver.CooperativeSticky}, {driver.CooperativeSticky},
		}).Draw(t, "strategies"),
		session:   pick("session ms", 6_000, 10_000),
		rebalance: pick("rebalance ms", 10_000, 60_000),
		drain:     pick("drain ms", 500, 3_000, 9_000),
		interval:  pick("commit interval ms", 100, 1_000, 5_000),
		buffered:  rapid.SampledFrom([]int{1, 4, 1000}).Draw(t, "buffered"),
		fetch:     rapid.SampledFrom([]int{1, 100, 1 << 20}).Draw(t, "fetch bytes"),
		maxErrors: rapid.SampledFrom([]int{3, 10}).Draw(t, "max errors"),
		work:      pick("work ms", 0, 0, 10, 300),
		kind:      rapid.SampledFrom([]string{"message", "message", "batch", "value"}).Draw(t, "kind"),

		isolation:  rapid.SampledFrom([]driver.IsolationLevel{driver.ReadCommitted, driver.ReadCommitted, driver.ReadUncommitted}).Draw(t, "isolation"),
		newest:     rarely(t, "newest"),
		autoCommit: rarely(t, "auto commit"),
		middleware: rarely(t, "middleware"),
		secured:    rarely(t, "secured"),
		later:      rarely(t, "later"),
		outOfRange: rapid.SampledFrom([]driver.OutOfRange{
			driver.OutOfRangeStop, driver.OutOfRangeStop, driver.OutOfRangeOldest, driver.OutOfRangeNewest,
		}).Draw(t, "out of range"),
	}
	s.protocols = make(map[string]driver.GroupProtocol)
	for _, group := range groups {
		s.protocols[group] = rapid.SampledFrom([]driver.GroupProtocol{driver.ClassicProtocol, driver.ConsumerProtocol}).Draw(t, "protocol of "+group)
	}
	s.assignor = rapid.SampledFrom([]memory.Assignor{memory.Uniform, memory.RangeAssign}).Draw(t, "assignor")
	s.patience = s.session * time.Duration(rapid.IntRange(1, 2).Draw(t, "patience of the broker"))
	// As in Kafka, a static member that comes back between the two steps of a
	// cooperative rebalance leaves the partitions that it gave up without an owner until
	// the next rebalance.
	s.static = rarely(t, "static") && !slices.Contains(s.strategies, driver.CooperativeSticky)
	s.failing = drawFailing(t, &s)
	if rapid.IntRange(0, 7).Draw(t, "rated") == 0 {
		s.rate = drawRate(t)
	}
	s.keying = keying(rapid.IntRange(0, int(keyingCount)-1).Draw(t, "keys"))
	s.orderings = make(map[string][]ordering)
	for _, group := range groups {
		s.orderings[group] = drawOrderings(t, &s)
	}
	for o := range outcomeCount {
		if o >= asksRetry && !s.failing.on {
			break
		}
		if rapid.Bool().Draw(t, o.String()) {
			s.outcomes = append(s.outcomes, o)
		}
	}
	return s
}

// rarely draws true in one sequence of four.
func rarely(t *rapid.T, what string) bool { return rapid.IntRange(0, 3).Draw(t, what) == 3 }

// observe sees all commits that the broker applies.
func (w *world) observe(c memory.Commit) {
	p := judge.Partition{Topic: c.Topic, Number: c.Partition}
	if c.Seek {
		w.sought(c, p)
		return
	}
	w.committed(c, p)
	if c.Gap {
		w.judge.Tell(judge.Positioned{Group: c.Group, Partition: p, Offset: c.Offset})
		return
	}
	done, ok := named(c)
	if !ok {
		w.breaks("commit-metadata-unreadable")
	}
	if len(done) > 0 {
		w.stats.count("order commit names what is done above the position")
	}
	w.judge.Tell(judge.CommitApplied{Group: c.Group, Partition: p, Offset: c.Offset, Done: done})
}

// must ends a sequence in which the harness itself has failed.
func (w *world) must(t *rapid.T, err error) {
	if err != nil {
		t.Logf("%v", err)
		t.Fatalf("the harness failed")
	}
}

// value returns a value that no other record has.
func (w *world) value(prefix string) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.values++
	return fmt.Appendf(nil, "%s-%d", prefix, w.values)
}

// partitions returns all partitions in order.
func (w *world) partitions() (ps []judge.Partition) {
	for _, topic := range w.broker.Topics() {
		if strings.HasSuffix(topic, deadSuffix) {
			continue // the values are those of other records
		}
		for p := range w.broker.Partitions(topic) {
			ps = append(ps, judge.Partition{Topic: topic, Number: int32(p)})
		}
	}
	return ps
}

// recordLog records with the judge what the log has grown by.
func (w *world) recordLog() {
	for _, p := range w.partitions() {
		if _, end, err := w.broker.Offsets(p.Topic, p.Number); err != nil || end <= w.read[p] {
			continue
		}
		records, err := w.broker.Records(p.Topic, p.Number, w.drawn.isolation)
		if err != nil {
			continue
		}
		i, _ := slices.BinarySearchFunc(records, w.read[p], func(r driver.Record, o int64) int { return int(r.Offset - o) })
		for _, r := range records[i:] {
			w.learn(p, r)
			w.judge.Tell(judge.Appended{Partition: p, Offset: r.Offset, Key: identity(r.Key, withoutMarks(p, r.Headers)), Value: valueAt(p, r.Offset, r.Value)})
			w.read[p] = r.Offset + 1
		}
	}
}

// check checks the invariants of every moment.
func (w *world) check(t *rapid.T) {
	synctest.Wait()
	w.recordLog()
	w.recordDead()
	w.checkStatus(t)
	w.fail(t, w.judge.Check())
	w.checkKept(t)
	w.calmly.Store(w.quiet())
}

// fail ends a sequence that has violated something.
func (w *world) fail(t *rapid.T, vs []judge.Violation) {
	if len(vs) == 0 {
		return
	}
	var details []string
	for _, v := range vs {
		details = append(details, v.String())
	}
	w.violated(t, vs[0].Invariant, strings.Join(details, "\n"))
}

// violated ends a sequence in which an invariant does not hold.
func (w *world) violated(t *rapid.T, invariant, details string) {
	text := strings.Join(append(w.judge.Tail(), details), "\n")
	w.stats.failed(text)
	t.Log(text)
	t.Fatalf("violated %s", invariant)
}

// breaks notes from outside the sequence that an invariant does not hold.
func (w *world) breaks(invariant string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.broken = invariant
}

// checkStatus checks the invariants of every status.
func (w *world) checkStatus(t *rapid.T) {
	for _, n := range w.nodes {
		all := n.view.Consumers()
		for _, p := range n.view.Producers() {
			if p.Unacknowledged < 0 || p.UnacknowledgedBytes < 0 || (p.Unacknowledged == 0) != (p.UnacknowledgedBytes == 0) {
				w.violated(t, "status-consistent", fmt.Sprintf("%+v", p))
			}
		}
		if !slices.IsSortedFunc(all, func(a, b kafka.ConsumerStatus) int { return strings.Compare(a.JobName, b.JobName) }) || len(all) != len(n.groups) {
			w.violated(t, "status-lists-all", fmt.Sprintf("%+v", all))
		}
		for _, s := range all {
			if one, err := n.manager.Consumer(s.JobName); err != nil || one.State != s.State {
				w.violated(t, "status-consistent", fmt.Sprintf("%+v, %v, but %+v", one, err, s))
			}
			if s.Switch != n.manager.GetConsumerSwitch(s.JobName) || s.Switch && s.State == kafka.StateDisabled {
				w.violated(t, "status-consistent", fmt.Sprintf("%+v", s))
			}
			w.judge.Tell(status(n.member(s.Group), s))
			for _, p := range s.Partitions {
				if !w.drawn.autoCommit && p.Committed > p.Position || p.BufferedBytes < 0 || p.InFlight < 0 || p.InFlight > p.Buffered {
					w.violated(t, "status-consistent", fmt.Sprintf("%+v", p))
				}
				if w.drawn.fetch == 1 && w.drawn.kind != "batch" && p.Buffered > w.drawn.buffered+2 {
					w.violated(t, "bounded-buffer", fmt.Sprintf("%+v", p))
				}
				w.offer(t, n, s, p)
				w.checkPause(t, n, s, p)
				if p.RateLimited {
					w.stats.strike("rate: a record waits")
				}
			}
		}
	}
}

// status returns a consumer's status as the judge's event.
func status(m judge.Member, s kafka.ConsumerStatus) judge.Status {
	e := judge.Status{Member: m, Restarts: s.Errors}
	for _, p := range s.Partitions {
		e.Owned = append(e.Owned, judge.Partition{Topic: p.Topic, Number: p.Partition})
		e.Failures = append(e.Failures, p.Errors)
		if p.Errors > 0 {
			e.Restarts = -1
		}
	}
	return e
}

// quiet reports whether nothing has been out of order for a while.
func (w *world) quiet() bool {
	return !w.down && len(w.cuts) == 0 && !w.faults.active() && min(time.Since(w.troubled), w.faults.since()) > 2*time.Minute
}

// trouble notes that something is out of order now.
func (w *world) trouble() {
	w.calmly.Store(false)
	w.troubled = time.Now()
}

// live returns the processes that have not been asked to stop.
func (w *world) live() (ns []*node) {
	for _, n := range w.nodes {
		if !n.stopping {
			ns = append(ns, n)
		}
	}
	return ns
}

func (w *world) one(t *rapid.T) *node {
	ns := w.live()
	if len(ns) == 0 {
		t.Skip("no process")
	}
	return rapid.SampledFrom(ns).Draw(t, "process")
}

// settle heals everything and holds that all is done, committed, and stopped.
func (w *world) settle(t *rapid.T) {
	w.check(t)
	w.heal(t)
	hung := w.faults.wasHung()
	for _, n := range w.live() {
		if hung {
			n.switchAll(false)
		}
		n.switchAll(true)
	}
	for _, group := range []string{"one", "two"} {
		if !slices.ContainsFunc(w.live(), func(n *node) bool { return n.has(group) }) {
			w.must(t, w.newNode().launch(group))
		}
	}
	w.letGo()
	time.Sleep(3 * time.Minute)
	w.check(t)
	for _, n := range w.live() {
		n.switchAll(true) // calls that were under way as all was healed may have failed since
	}
	w.repair(t)
	time.Sleep(7 * time.Minute)
	w.check(t)
	w.settleAround(t)
	w.background.Wait()
	w.check(t)
	w.fail(t, w.judge.Settled(w.subscriptions()...))
	w.checkRunning(t)
	w.checkCommittedToEnd(t)
	w.troubled = time.Time{}
	for _, n := range w.live() {
		n.shutdown(w, time.Minute)
		w.check(t)
	}
	if w.drawn.static {
		time.Sleep(w.drawn.patience + time.Second) // static members are expected back that long
	}
	for _, group := range []string{"one", "two"} {
		if ms := w.broker.Members(group); len(ms) > 0 {
			w.violated(t, "group-left", fmt.Sprintf("%+v", ms))
		}
	}
	time.Sleep(2 * time.Minute) // members that were not idle had a minute
	w.background.Wait()
	w.recordLog()
	w.fail(t, w.judge.Final(w.subscriptions()...))
	w.checkKept(t)
	if open := w.operations.open(); open != "" {
		w.violated(t, "operation-not-ended", "operations have not ended, or ended without beginning:"+open)
	}
}

// settleAround holds that a damaged record and a missing topic stop nothing else,
// and then puts them right.
func (w *world) settleAround(t *rapid.T) {
	missing := w.drawn.later && w.broker.Partitions(later) == 0
	if len(w.damaged) == 0 && !missing {
		return
	}
	w.fail(t, w.judge.Settled(w.subscriptions()...))
	for _, p := range w.partitions() {
		w.repairPartition(t, p)
	}
	if missing {
		w.appear(t)
	}
	time.Sleep(5 * time.Minute)
}

// heal ends all faults except damage and missing topics.
func (w *world) heal(t *rapid.T) {
	w.calm()
	for _, tx := range w.open {
		w.must(t, tx.Commit())
	}
	w.open = nil
	w.createDead(t)
	w.check(t)
}

// calm is the part of heal that a failed sequence needs, too.
func (w *world) calm() {
	w.faults.clear()
	w.startBroker()
	w.dismiss()
	for _, c := range w.cuts {
		c.timer.Stop()
		c.heal()
	}
	w.cuts = nil
	for _, timer := range w.timers {
		timer.Stop()
	}
	w.timers = nil
	for _, cancel := range w.impatient {
		cancel()
	}
	w.impatient = nil
	w.mu.Lock()
	w.script = nil
	clear(w.poisons)
	clear(w.illnesses)
	close(w.release)
	w.release = make(chan struct{})
	w.mu.Unlock()
	w.trouble()
}

// repair does an operator's work for groups whose position is no longer in the
// log: all members off, the offset set, all on again.
func (w *world) repair(t *rapid.T) {
	for _, group := range []string{"one", "two"} {
		if !w.astray(group) {
			continue
		}
		for _, n := range w.live() {
			n.switchGroup(group, false)
		}
		time.Sleep(2 * time.Minute)
		w.check(t)
		for _, p := range w.partitions() {
			if !slices.Contains(w.readBy(group), p.Topic) {
				continue
			}
			start, end, err := w.broker.Offsets(p.Topic, p.Number)
			w.must(t, err)
			at := w.broker.Committed(group, p.Topic, p.Number)
			if to := min(max(at, start), end); to != at && at >= 0 {
				w.must(t, w.broker.SetCommitted(group, p.Topic, p.Number, to))
				w.judge.Tell(judge.Positioned{Group: group, Partition: p, Offset: to})
			}
		}
		for _, n := range w.live() {
			n.switchGroup(group, true)
		}
	}
}

// astray reports whether a group's position is no longer in the log.
func (w *world) astray(group string) bool {
	for _, p := range w.partitions() {
		start, end, err := w.broker.Offsets(p.Topic, p.Number)
		if at := w.broker.Committed(group, p.Topic, p.Number); err == nil && at >= 0 && (at < start || at > end) {
			return true
		}
	}
	for _, n := range w.live() {
		for _, s := range n.manager.Consumers() {
			if s.Group == group && s.Reason != nil && strings.Contains(s.Reason.Error(), "OFFSET_OUT_OF_RANGE") {
				return true
			}
		}
	}
	return false
}

// checkRunning holds that every consumer runs when all is healed.
func (w *world) checkRunning(t *rapid.T) {
	for _, n := range w.live() {
		for _, s := range n.manager.Consumers() {
			if s.State != kafka.StateRunning || len(s.Stragglers) != 0 {
				w.violated(t, "runs-when-healed", fmt.Sprintf("%s: %+v", n.name, s))
			}
		}
	}
}

// checkCommittedToEnd holds that no lag is left: offsets behind the last record,
// which compaction and transactions leave, are committed, too.
func (w *world) checkCommittedToEnd(t *rapid.T) {
	for _, s := range w.subscriptions() {
		for p := range w.broker.Partitions(s.Topic) {
			start, end, err := w.broker.Offsets(s.Topic, int32(p))
			w.must(t, err)
			if at := w.broker.Committed(s.Group, s.Topic, int32(p)); at != end && (at >= 0 || start < end) {
				w.violated(t, "lag-left", fmt.Sprintf("%s: %s/%d committed at %d, the log ends at %d", s.Group, s.Topic, p, at, end))
			}
		}
	}
}

// stopAll ends what a sequence has begun, however it ended.
func (w *world) stopAll() {
	w.calm()
	for _, n := range w.live() {
		n.shutdown(w, time.Minute)
	}
	w.background.Wait()
}

package franz

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	limitHolds = 5 * time.Minute        // the limit of a batch that was learned
	askAgain   = 250 * time.Millisecond // the distance of two looks for a partition
)

// A topic passes messages to kgo, and keeps those back that must not overtake others.
//
// Usually a message goes straight to kgo. When the answer to a batch is an error, or does not
// come, the lane of its partition is held: later messages for it wait here. Otherwise this
// would happen: kgo fails everything that it has for the partition; a later message goes to
// kgo; the driver sends the messages again that were not at fault, behind the later one.
type topic struct {
	p    *producer
	name string

	// gate is locked for reading while a message goes to kgo, and for writing while that is
	// decided. It guards what follows, and the lanes' lists.
	gate    sync.RWMutex
	held    int // lanes that are held, missing partitions, 1 while the topic is unknown, and 1 if batches are bounded
	choice  kgo.TopicPartitioner
	missing map[int32]*lane // partitions that do not exist
	limit   int             // bytes of a batch, as the broker's refusals have shown; 0 is unknown
	refused int             // the smallest batch that was too large
	since   time.Time       // when limit was learned
	probing bool            // kgo has one message, and looks for its topic
	probed  time.Time       // when that message was accepted
	pending []*slot         // that wait until the topic is known
	unknown bool            // kgo does not know the topic yet
	leash   *leash          // ends the lookup of the topic

	partitions atomic.Int32 // 0 is unknown
	lanes      atomic.Pointer[[]*lane]
	growing    sync.Mutex // held while lanes grows
}

func newTopic(p *producer, name string) *topic {
	t := &topic{p: p, name: name, missing: map[int32]*lane{}, unknown: true, held: 1}
	if p.together > 0 {
		t.held++ // forever
	}
	t.lanes.Store(new([]*lane))
	t.leash = newLeash(p.cfg.DeliveryTimeout > 0)
	return t
}

// lane returns the lane of a partition that exists.
func (t *topic) lane(id int32) *lane {
	if lanes := *t.lanes.Load(); int(id) < len(lanes) {
		return lanes[id]
	}
	t.growing.Lock()
	defer t.growing.Unlock()
	lanes := slices.Clone(*t.lanes.Load())
	for int(id) >= len(lanes) {
		lanes = append(lanes, newLane(t, int32(len(lanes))))
	}
	t.lanes.Store(&lanes)
	return lanes[id]
}

// known returns the lane of a partition to which kgo has sent something, or nil.
func (t *topic) known(id int32) *lane {
	if lanes := *t.lanes.Load(); id >= 0 && int(id) < len(lanes) {
		return lanes[id]
	}
	return nil
}

// accept takes a message.
func (t *topic) accept(s *slot) {
	s.topic = t
	if t.p.cfg.DeliveryTimeout > 0 {
		s.accepted = time.Now()
	}
	t.gate.RLock()
	if t.held == 0 {
		t.submit(s)
		t.gate.RUnlock()
		return
	}
	t.gate.RUnlock()
	t.p.end(t.queue(s))
}

// submit hands a message to kgo, which calls answered with the outcome. The gate must be held.
func (t *topic) submit(s *slot) {
	s.rec.Context = s
	t.p.cl.TryProduce(background, &s.rec, s.promise)
}

// look hands the first message of a topic to kgo, which looks the topic up. The others wait.
// Otherwise this would happen: the partitions become known; kgo sends the first messages of a
// partition before it has placed the others; the first ones are refused; the others, which no
// gate holds, overtake them.
func (t *topic) look(s *slot) {
	t.probing, t.probed, s.probes = true, s.accepted, true
	s.rec.Context = waiting{t.leash.context(), s}
	t.p.cl.TryProduce(background, &s.rec, s.promise)
}

// resubmit hands messages to kgo again, or for the first time.
func (t *topic) resubmit(slots []*slot) {
	for _, s := range slots {
		s.again()
		t.submit(s)
	}
}

// queue takes a message while a lane of the topic is held, or the topic is unknown.
func (t *topic) queue(s *slot) []ending {
	t.gate.Lock()
	defer t.gate.Unlock()
	return t.route(s)
}

// route decides where a message goes.
func (t *topic) route(s *slot) []ending {
	switch {
	case t.unknown && !t.probing:
		t.look(s)
		return nil
	case t.unknown:
		t.pending = append(t.pending, s)
		return nil
	}
	n := t.partitions.Load()
	if s.want < 0 && n > 0 {
		pick, err := t.pick(s, int(n))
		if err != nil {
			return []ending{{s, err}}
		}
		s.want = int32(pick)
	}
	if l := t.missing[s.want]; l != nil {
		l.pending = append(l.pending, s)
		return nil
	}
	l := t.known(s.want)
	if l == nil && t.p.together > 0 && s.want < n {
		l = t.lane(s.want)
	}
	if l == nil || !l.held.Load() {
		t.submit(s)
		return nil
	}
	l.pending = append(l.pending, s)
	if l.empty() && len(l.back) == 0 {
		return t.step(l)
	}
	return nil
}

// found notes that kgo knows the topic, and lets the messages go on that have waited for that.
func (t *topic) found() (over []ending) {
	t.gate.Lock()
	defer t.gate.Unlock()
	if !t.unknown {
		return nil
	}
	t.unknown, t.probing = false, false
	t.held--
	pending := t.pending
	t.pending = nil
	for _, s := range pending {
		over = append(over, t.route(s)...)
	}
	return over
}

// pick chooses the partition of a message that asks for none.
func (t *topic) pick(s *slot, n int) (pick int, err error) {
	if t.choice == nil {
		t.choice = t.p.partitioner.ForTopic(t.name)
	}
	defer func() {
		if r := recover(); r != nil {
			err = panicked(r)
		}
	}()
	if pick = t.choice.Partition(&s.rec, n); pick < 0 || pick >= n {
		return 0, wrap(fmt.Errorf("the partitioner chose %d of %d: %w", pick, n, kerr.UnknownTopicOrPartition))
	}
	return pick, nil
}

func panicked(r any) error {
	return &driver.Error{Code: "CLIENT_ERROR", Err: fmt.Errorf("the partitioner panicked: %v", r)}
}

// hold has later messages for l wait. It must be called before kgo learns what has happened
// to a batch.
func (t *topic) hold(l *lane) {
	t.gate.Lock()
	defer t.gate.Unlock()
	t.holdLocked(l)
}

func (t *topic) holdLocked(l *lane) {
	if l.held.Load() {
		return
	}
	l.held.Store(true) // before the look, so that answered sees it or the look sees an empty lane
	if l.empty() {
		l.held.Store(false)
		return
	}
	t.held++
}

// open lets messages for l pass, and hands over those that have waited.
func (t *topic) open(l *lane) {
	l.held.Store(false)
	t.held--
	l.window, l.sized = 0, false
	waiting := append(l.todo, l.pending...)
	l.todo, l.pending = nil, nil
	t.resubmit(waiting)
}

// goneWell notes that a broker has stored a batch of l.
func (t *topic) goneWell(l *lane) {
	if !l.held.Load() {
		return
	}
	t.gate.Lock()
	defer t.gate.Unlock()
	if l.held.Load() && l.window == 0 && !l.sized && !l.givesBack() && !l.leash.cut() {
		t.open(l)
	}
}

// moveOn continues with a held lane of which kgo has nothing left.
func (t *topic) moveOn(l *lane) (over []ending) {
	t.gate.Lock()
	defer t.gate.Unlock()
	if l.held.Load() && l.empty() {
		over = t.step(l)
	}
	return over
}

// giveBack takes a message that kgo has given back with err. The message stays with its
// partition. Otherwise this would happen: a message without a key is refused; a later one goes to
// another partition; the first one is sent again, and goes there, too, behind the later one.
func (t *topic) giveBack(l *lane, s *slot, err error) (over []ending) {
	t.gate.Lock()
	defer t.gate.Unlock()
	s.want = l.id
	unknown := l.leave()
	if !l.held.Load() { // kgo gives back without an answer, and gives back everything
		l.held.Store(true)
		t.held++
	}
	if unknown {
		over = append(over, ending{s, t.unknownOutcome(l, err)})
	} else {
		l.back, l.cause = append(l.back, s), err
	}
	if l.empty() {
		over = append(over, t.step(l)...)
	}
	return over
}

// unknownOutcome is the error of a message that kgo has given back and that may be in the log.
func (t *topic) unknownOutcome(l *lane, cause error) error {
	if canceled(cause) {
		return expiry(l.reason(), true)
	}
	return t.p.outcome(cause, l.reason(), true)
}

// step decides how a held lane of which kgo has nothing goes on.
func (t *topic) step(l *lane) (over []ending) {
	was := l.settle()
	back, cause := l.back, l.cause
	l.back, l.cause = nil, nil
	switch {
	case len(back) == 0:
		t.fitted(l)
	case was.astray:
		over = endAll(back, t.unknownOutcome(l, cause))
	default:
		over = t.judge(l, back, cause, was)
	}
	l.feed(t)
	return over
}

// judge decides which messages of those that kgo has given back have failed with cause. The
// others are sent again.
//
// If the driver has had kgo give everything back, only messages that have expired fail, whatever
// the cause is: kgo gives the state of the partition as the cause when it has no leader.
func (t *topic) judge(l *lane, back []*slot, cause error, was settlement) (over []ending) {
	blamed := was.blamed
	keep := func(slots []*slot) { l.todo = append(slices.Clone(slots), l.todo...) }
	switch {
	case errors.Is(cause, kgo.ErrClientClosed):
		return endAll(back, t.p.outcome(cause, nil, false))
	case canceled(cause), was.cut:
		n := 0
		for n < len(back) && t.p.overdue(back[n]) {
			n++
		}
		keep(back[n:])
		reason := l.reason()
		if reason == nil && !canceled(cause) {
			reason = cause
		}
		return endAll(back[:n], expiry(reason, false))
	case spoiled(cause) && len(back) == 1: // it was alone
		return endAll(back, t.p.outcome(cause, nil, false))
	case tooLarge(cause):
		t.learn(min(sizeOf(back), maxBatch(t.p.cfg)))
		l.sized = true
		keep(back)
	case spoiled(cause):
		n := len(back)
		if blamed > 0 {
			n = min(n, blamed)
		}
		l.window = max(1, n/2)
		keep(back)
	default: // a verdict on the partition, for the batch that was tried
		n := len(back)
		if blamed > 0 {
			n = min(n, blamed)
		}
		keep(back[n:])
		return endAll(back[:n], t.p.outcome(cause, l.reason(), false))
	}
	return nil
}

// An ending is a message and its outcome.
type ending struct {
	s   *slot
	err error
}

func endAll(slots []*slot, err error) (over []ending) {
	for _, s := range slots {
		over = append(over, ending{s, err})
	}
	return over
}

func sizeOf(slots []*slot) (n int) {
	for _, s := range slots {
		n += s.size
	}
	return n
}

// learn notes that a batch of so many bytes is too large for the topic.
func (t *topic) learn(size int) {
	if t.refused == 0 || size < t.refused || t.stale() {
		t.refused = size
	}
	t.limit, t.since = max(t.refused/2, 1), time.Now()
}

// fitted notes that what was handed over last is stored.
func (t *topic) fitted(l *lane) {
	if l.window > 0 {
		l.window = min(2*l.window, maxMessages)
	}
}

// batchBytes is how many bytes may go to kgo at a time for a partition of which batches are
// bounded, unless there is one message only.
//
// kgo has one limit, which the largest message must fit in. So with a lower MaxBatchBytes each
// lane is always held, and kgo has no more of a partition than one batch may take.
func (t *topic) batchBytes() int {
	switch most := t.p.together; {
	case t.stale():
		return most
	case most > 0:
		return min(t.limit, most)
	}
	return t.limit
}

// stale reports whether the limit is unknown, or too old to be trusted: an operator may have
// raised it.
func (t *topic) stale() bool { return t.limit == 0 || time.Since(t.since) > limitHolds }

// strand takes a message that kgo has refused before it had a partition for it.
func (t *topic) strand(s *slot, err error) (over []ending) {
	if s.probes {
		s.probes = false
		if t.partitions.Load() == 0 {
			return t.lost(s, err)
		}
		over = t.found()
	}
	switch {
	case s.broken != nil && s.broken != errNoPartition:
		return append(over, ending{s, s.broken})
	case t.p.line.IsSevered(), errors.Is(err, kgo.ErrClientClosed):
		return append(over, ending{s, t.p.outcome(kgo.ErrClientClosed, nil, false)})
	case s.broken == errNoPartition:
		s.broken = nil
		return append(over, t.miss(s)...)
	}
	return append(over, ending{s, t.p.outcome(err, nil, false)})
}

// lost takes the message with which kgo has looked for the topic. The verdict is one on the
// topic, so it holds for all messages that have waited, unless the lookup was cut short for
// those that have expired.
func (t *topic) lost(s *slot, err error) []ending {
	t.gate.Lock()
	defer t.gate.Unlock()
	t.probing = false
	waiting := append([]*slot{s}, t.pending...)
	t.pending = nil
	if !canceled(err) || t.p.cfg.DeliveryTimeout == 0 || t.p.line.IsSevered() {
		return endAll(waiting, t.p.outcome(err, nil, false))
	}
	t.leash.renew()
	n := 0
	for n < len(waiting) && t.p.overdue(waiting[n]) {
		n++
	}
	if n < len(waiting) {
		waiting[n].again()
		t.look(waiting[n])
		t.pending = waiting[n+1:]
	}
	return endAll(waiting[:n], wrap(errTopicNotKnown))
}

var errTopicNotKnown = fmt.Errorf("the topic is not known: %w", kerr.UnknownTopicOrPartition)

var errNoPartition = fmt.Errorf("the topic has no such partition: %w", kerr.UnknownTopicOrPartition)

// miss has a message wait for a partition that does not exist, as long as it may be retried.
func (t *topic) miss(s *slot) []ending {
	t.gate.Lock()
	defer t.gate.Unlock()
	if s.tries++; !t.p.mayWait(s) {
		return []ending{{s, wrap(errNoPartition)}}
	}
	l := t.missing[s.want]
	if l == nil {
		l = newLane(t, s.want)
		if !t.p.task(func() { t.await(l) }) {
			return []ending{{s, abandoned(false)}}
		}
		t.missing[s.want] = l
		t.held++
	}
	l.todo = append(l.todo, s)
	return nil
}

// await looks for a missing partition until it is there or no message waits for it.
func (t *topic) await(l *lane) {
	for t.p.pause(max(askAgain, t.p.cfg.RetryBackoff)) {
		t.p.cl.ForceMetadataRefresh()
		leader, _, err := t.p.cl.PartitionLeader(t.name, l.id)
		over, done := t.ask(l, leader >= 0 || err != nil)
		t.p.end(over)
		if done {
			return
		}
	}
}

func (t *topic) ask(l *lane, found bool) (over []ending, done bool) {
	t.gate.Lock()
	defer t.gate.Unlock()
	waiting := append(l.todo, l.pending...)
	l.todo, l.pending = nil, nil
	for _, s := range waiting {
		if s.tries++; found || t.p.mayWait(s) {
			l.todo = append(l.todo, s)
		} else {
			over = append(over, ending{s, wrap(errNoPartition)})
		}
	}
	if len(l.todo) > 0 && !found {
		return over, false
	}
	delete(t.missing, l.id)
	t.held--
	for _, s := range l.todo {
		s.again()
		over = append(over, t.route(s)...)
	}
	return over, true
}

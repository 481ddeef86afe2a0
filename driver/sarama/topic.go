package sarama

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
)

const (
	// unknownTopicWait is how long a topic or partition that was never seen may stay
	// unknown: it may just have been created.
	unknownTopicWait = time.Second

	// unreachableWait is the same for a cluster that cannot be reached.
	unreachableWait = 5 * time.Second

	askAgain = 100 * time.Millisecond

	// limitHolds is how long the topic's limit of a batch, which refusals have shown, is
	// kept: an operator may raise it.
	limitHolds = time.Minute
)

// A topic knows its partitions and their leaders, and holds a lane per partition that a
// message was sent to.
//
// One goroutine, which runs only while it has work, looks up the partitions of a topic that
// was never seen, and the leaders of lanes that are lost. Sarama's own producer does the
// same, but fails a message as soon as it cannot read metadata, whatever retries the message
// has left, and after three such failures a circuit breaker fails all messages of the topic
// or partition for ten seconds: it hides the reason, and outlasts its cure.
type topic struct {
	p    *producer
	name string
	wake chan struct{} // the look-up has something new to do

	partitioner ibm.Partitioner // used by one goroutine at a time, see choosing

	mu        sync.Mutex // guards what follows, and the lanes
	all       []int32    // the partitions; none before they are known
	writable  []int32    // those with a leader
	lanes     map[int32]*lane
	pending   []*slot // accepted, and not in a lane yet, in order
	choosing  *slot   // the one for which a goroutine chooses a partition; one at a time
	lost      []*lane // lanes that wait for a leader
	doubts    int     // how often the known partitions and leaders have come into doubt
	cleared   int     // how many of these came before the cluster was last asked
	reason    error   // why the partitions are not known
	asked     time.Time
	looking   bool // the goroutine runs
	used      bool // since the last sweep of idle topics
	forgotten bool // see idle.go

	limit      int // bytes of a batch that the broker accepts, if it has refused one; else 0
	limitSince time.Time
}

func newTopic(p *producer, name string) *topic {
	return &topic{
		p: p, name: name, wake: make(chan struct{}, 1),
		partitioner: p.conf.Producer.Partitioner(name), lanes: map[int32]*lane{},
	}
}

// accept takes s, whose message is for this topic. It waits for nothing but a
// partitioner of the user's. It reports false, and does nothing, if the topic has been
// forgotten: p.topic makes another one.
func (t *topic) accept(s *slot) bool {
	ahead, err := t.admit(s)
	switch {
	case err == errForgotten:
		return false
	case err != nil:
		t.p.buffer.ack([]*slot{s}, func(int, *slot) error { return err })
	case ahead > 0:
		t.placeSome(ahead)
		t.placeSoon()
	}
	return true
}

// admit is accept, but returns why the message cannot be sent. A message that needs a
// partitioner of the user's, and those behind it, are pending, to be placed in order. Admit
// returns how many are pending up to s.
func (t *topic) admit(s *slot) (ahead int, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.used = true
	switch {
	case t.forgotten:
		return 0, errForgotten
	case t.p.severed():
		return 0, abandoned(dialer.ErrSevered, false)
	case t.all != nil && len(t.pending) == 0 && t.choosing == nil && t.placeable(s): // else it would overtake them
		return 0, t.place(s)
	}
	s.accepted = time.Now()
	t.pending = append(t.pending, s)
	if t.all == nil {
		t.lookUpSoon()
	}
	return len(t.pending), nil
}

// placeable reports whether no partitioner of the user's is needed to place s.
func (t *topic) placeable(s *slot) bool {
	_, ours := t.partitioner.(*partitioner)
	return ours || s.message.Partition >= 0
}

// place puts s, which is placeable, into the lane of its partition. It is called with
// mu held.
func (t *topic) place(s *slot) error {
	id, err := t.choose(&s.message, t.all, t.writable)
	if err != nil {
		return wrap(err)
	}
	t.enter(s, id)
	return nil
}

// placeSome places up to n pending slots, if the partitions are known and no other goroutine
// does it already. So a partitioner of the user's runs without a lock, in one goroutine at a
// time, and messages that are accepted meanwhile stay in order behind it. A caller of
// Produce places no messages behind its own: with others that produce as fast as the
// partitioner works, it would never return.
func (t *topic) placeSome(n int) {
	for range n {
		s, all, writable := t.next()
		if s == nil {
			return
		}
		id, err := t.choose(&s.message, all, writable)
		if err = t.chosen(s, id, err); err != nil {
			t.p.buffer.ack([]*slot{s}, func(int, *slot) error { return err })
		}
	}
}

func (t *topic) placeAll() { t.placeSome(math.MaxInt) }

// placeSoon has a goroutine of its own place the pending slots, if they can be placed.
func (t *topic) placeSoon() {
	t.mu.Lock()
	needed := t.all != nil && len(t.pending) > 0 && t.choosing == nil
	t.mu.Unlock()
	if needed {
		t.p.tasks.Go(t.placeAll)
	}
}

// next takes the first slot that is pending, for the caller to choose its partition.
func (t *topic) next() (s *slot, all, writable []int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil || len(t.pending) == 0 || t.choosing != nil {
		return nil, nil, nil
	}
	s, t.pending = t.pending[0], t.pending[1:]
	t.choosing = s
	return s, t.all, t.writable
}

// chosen puts s into the lane of id, unless there was an error. It returns why s
// cannot be sent.
func (t *topic) chosen(s *slot, id int32, err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.choosing = nil
	switch {
	case t.p.cfg.DeliveryTimeout > 0 && time.Since(s.accepted) >= t.p.cfg.DeliveryTimeout:
		return expiry(err, false) // expire could not give it up
	case err != nil:
		return wrap(err)
	case t.p.severed(): // giveUp has not seen it
		return abandoned(dialer.ErrSevered, false)
	}
	t.enter(s, id)
	return nil
}

// enter puts s into the lane of a partition. It is called with mu held.
func (t *topic) enter(s *slot, id int32) {
	l := t.lanes[id]
	if l == nil {
		l = &lane{topic: t, id: id, known: slices.Contains(t.all, id), producer: noIdentity}
		t.lanes[id] = l
	}
	l.push(s)
	l.move()
}

// choose returns the partition of m, of all or of those with a leader. The partition that
// the message asks for goes before any partitioner; its lane finds out whether it exists,
// since it may just have been added. A partitioner of the user's may panic.
func (t *topic) choose(m *ibm.ProducerMessage, all, writable []int32) (id int32, err error) {
	if m.Partition >= 0 {
		return m.Partition, nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("partitioner panicked: %v", r)
		}
	}()
	ids := all
	if !t.consistent(m) && len(writable) > 0 {
		ids = writable
	}
	choice, err := t.partitioner.Partition(m, int32(len(ids)))
	if err == nil && (choice < 0 || int(choice) >= len(ids)) {
		err = ibm.ErrInvalidPartition
	}
	if err != nil {
		return 0, err
	}
	return ids[choice], nil
}

// consistent reports whether m must go to one partition, whether that has a leader or not.
func (t *topic) consistent(m *ibm.ProducerMessage) bool {
	if p, ok := t.partitioner.(ibm.DynamicConsistencyPartitioner); ok {
		return p.MessageRequiresConsistency(m)
	}
	return t.partitioner.RequiresConsistency()
}

// lose has the leader of l looked up after a while. It is called with mu held.
func (t *topic) lose(l *lane, wait time.Duration) {
	l.state = lost
	l.retryAt = time.Time{}
	if wait > 0 {
		l.retryAt = time.Now().Add(wait)
	}
	t.lost = append(t.lost, l)
	t.lookUpSoon()
}

// lookUpSoon makes sure that the look-up runs and looks again. It is called with mu held.
func (t *topic) lookUpSoon() {
	if !t.looking {
		t.looking = true
		t.p.tasks.Go(t.lookUp)
		return
	}
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// lookUp runs until nothing waits for the partitions and no lane is lost.
func (t *topic) lookUp() {
	for {
		wait, ok := t.nextLook()
		if !ok {
			return
		}
		if wait > 0 {
			if t.p.pause(wait, t.wake) {
				continue
			}
			t.stopLooking()
			return
		}
		due := t.takeDue()
		asOf, err := t.refresh()
		t.acknowledge(t.apply(due, t.view(due, asOf, err), err))
		t.placeSoon()
	}
}

// stopLooking notes that the look-up ends because the producer does: no message is left, or
// none can be sent.
func (t *topic) stopLooking() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looking = false
}

// nextLook returns how long to wait until the next look-up is due, or false if none is
// left.
func (t *topic) nextLook() (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	unknown := t.all == nil && len(t.pending) > 0
	if !unknown && len(t.lost) == 0 || t.p.severed() {
		t.looking = false
		return 0, false
	}
	first := true
	var next time.Time
	if unknown {
		next, first = t.asked.Add(askAgain), false
	}
	for _, l := range t.lost {
		if first || l.retryAt.Before(next) {
			next, first = l.retryAt, false
		}
	}
	return time.Until(next), true
}

// takeDue takes the lanes out of lost whose retry is due.
func (t *topic) takeDue() (due []*lane) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.lost = slices.DeleteFunc(t.lost, func(l *lane) bool {
		ok := !l.retryAt.After(now)
		if ok {
			due = append(due, l)
		}
		return ok
	})
	return due
}

// doubt notes that the known partitions and leaders may be wrong. It is called with mu held.
func (t *topic) doubt() { t.doubts++ }

// doubted returns the number of doubts so far, and whether the cluster has to be asked
// because of one.
func (t *topic) doubted() (asOf int, stale bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doubts, t.doubts != t.cleared || t.all == nil
}

// refresh asks the cluster, if the known partitions and leaders may be wrong. It returns how
// many doubts the answer may clear: none that comes while the request is under way.
func (t *topic) refresh() (asOf int, err error) {
	asOf, stale := t.doubted()
	if err := t.p.producerIDs.ensure(); err != nil {
		return asOf, err
	}
	if !stale {
		return asOf, nil
	}
	err = t.p.client.RefreshMetadata(t.name)
	t.p.reasons.note(err)
	return asOf, t.p.reasons.blame(err)
}

// A view is the state of a topic in Sarama's client.
type view struct {
	all, writable []int32
	leaders       map[int32]*ibm.Broker
	asOf          int // doubts that came before the cluster was asked
}

// view reads the state of the topic in Sarama's client after a refresh with the result err,
// if that is about the topic. Reading asks the cluster again only for what is unknown.
func (t *topic) view(due []*lane, asOf int, err error) (v view) {
	v.asOf = asOf
	if err != nil && !isCode(err, ibm.ErrLeaderNotAvailable) {
		return v
	}
	v.all, _ = t.p.client.Partitions(t.name)
	v.writable, _ = t.p.client.WritablePartitions(t.name)
	v.leaders = map[int32]*ibm.Broker{}
	for _, l := range due {
		if !slices.Contains(v.writable, l.id) {
			continue
		}
		if leader, err := t.p.client.Leader(t.name, l.id); err == nil {
			v.leaders[l.id] = leader
		}
	}
	return v
}

// An ending is the result of some messages.
type ending struct {
	slots []*slot
	err   error
	free  []*slot // of messages that have expired before
}

func (t *topic) acknowledge(endings []ending) {
	for _, e := range endings {
		t.p.buffer.ack(e.slots, func(int, *slot) error { return e.err })
		t.p.buffer.recycle(e.free)
	}
}

// apply gives the due lanes their leaders, after the cluster was asked with the result err.
// It returns the messages that have waited long enough.
func (t *topic) apply(due []*lane, v view, err error) []ending {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = time.Now()
	t.update(v)
	endings := t.impatient(err)
	for _, l := range due {
		if leader := v.leaders[l.id]; leader != nil {
			l.follow(leader)
			continue
		}
		endings = append(endings, l.missed(t.leaderless(l.id, err))...)
	}
	return endings
}

// update is called with mu held.
func (t *topic) update(v view) {
	if len(v.all) > 0 {
		t.all, t.writable, t.cleared = v.all, v.writable, max(t.cleared, v.asOf)
	}
}

// leaderless returns why a partition has no leader. It is called with mu held.
func (t *topic) leaderless(id int32, err error) error {
	switch {
	case err != nil:
		return err
	case slices.Contains(t.all, id):
		return ibm.ErrLeaderNotAvailable
	}
	return ibm.ErrUnknownTopicOrPartition
}

// impatient ends the messages that have waited too long for the partitions to be known. It
// is called with mu held.
func (t *topic) impatient(err error) (endings []ending) {
	if t.all == nil && err == nil {
		err = ibm.ErrUnknownTopicOrPartition
	}
	t.reason = err
	if t.all != nil {
		return nil
	}
	pending := t.pending
	t.pending = nil
	for _, s := range pending {
		if t.p.patience(s, err) <= 0 {
			endings = append(endings, ending{slots: []*slot{s}, err: wrap(err)})
		} else {
			t.pending = append(t.pending, s)
		}
	}
	return endings
}

// batchBytes is how large a batch may be. It is called with mu held.
func (t *topic) batchBytes() int {
	most := t.p.conf.Producer.MaxMessageBytes
	if b := t.p.cfg.MaxBatchBytes; b > 0 {
		most = min(most, b)
	}
	if t.limit > 0 && time.Since(t.limitSince) > limitHolds {
		t.limit = 0
	}
	if t.limit > 0 {
		return min(t.limit, most)
	}
	return most
}

// learn notes that the broker has refused a batch of so many bytes as too large.
// It is called with mu held.
func (t *topic) learn(bytes int) {
	if half := bytes / 2; t.limit == 0 || half < t.limit {
		t.limit, t.limitSince = half, time.Now()
	}
}

// patience is how long s, which was not sent yet, may still wait for err, of a request for
// metadata, to pass.
func (p *producer) patience(s *slot, err error) time.Duration {
	code, kind := classify(err)
	wait := unreachableWait
	switch {
	case kind == driver.ErrPermanent, err == ibm.ErrClosedClient:
		return 0
	case p.cfg.DeliveryTimeout > 0:
		wait = p.cfg.DeliveryTimeout
	case code == "UNKNOWN_TOPIC_OR_PARTITION":
		wait = unknownTopicWait
	}
	return time.Until(s.accepted.Add(wait))
}

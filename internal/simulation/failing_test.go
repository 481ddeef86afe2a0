package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// failing is what a sequence does with records that fail, drawn once for all of it.
type failing struct {
	on       bool // handlers mark their errors, and consumers have a policy
	then     kafka.Failure
	attempts int
	classify bool
	dead     bool // dead letters have a topic
	inARow   int
	patience time.Duration // of the producer of dead letters
	timeout  time.Duration // of handlers
	linger   time.Duration
	bytes    int // of a batch
	tiers    []tier
}

// copies reports whether a consumer has a producer.
func (f *failing) copies() bool { return f.dead || len(f.tiers) > 0 }

func drawFailing(t *rapid.T, s *settings) failing {
	f := failing{on: !s.autoCommit && rapid.IntRange(0, 3).Draw(t, "failures") > 0}
	if !f.on {
		return f
	}
	f.dead = rapid.Bool().Draw(t, "dead letters")
	f.then = rapid.SampledFrom([]kafka.Failure{
		kafka.FailureKeep, kafka.FailureSkip, kafka.FailureSkip, kafka.FailureStop,
		kafka.FailureDeadLetter, kafka.FailureDeadLetter, kafka.FailureDeadLetter,
	}).Draw(t, "then")
	if f.then == kafka.FailureDeadLetter {
		f.dead = true
	}
	if f.then != kafka.FailureKeep {
		f.attempts = rapid.IntRange(1, 4).Draw(t, "max attempts")
	}
	f.classify = rapid.IntRange(0, 3).Draw(t, "classify") > 0
	if f.then != kafka.FailureKeep && s.kind != "value" && (rapid.Bool().Draw(t, "retry topics") || rapid.Bool().Draw(t, "retry topics all the same")) {
		f.tiers = drawTiers(t)
	}
	if f.dead {
		f.inARow = rapid.SampledFrom([]int{0, 2, kafka.Unlimited}).Draw(t, "max in a row")
	}
	if f.copies() {
		f.patience = seconds(t, "delivery timeout s", 1, 10, 7200)
	}
	f.timeout = seconds(t, "handler timeout s", 0, 0, 2)
	f.linger = time.Duration(rapid.SampledFrom([]int{0, 0, 20, 500}).Draw(t, "linger ms")) * time.Millisecond
	f.bytes = rapid.SampledFrom([]int{0, 0, 10, 100}).Draw(t, "batch bytes")
	return f
}

// policy is that of the judge.
func (f *failing) policy(kind string) judge.Policy {
	if !f.on {
		return judge.Policy{}
	}
	return judge.Policy{Then: f.then.String(), MaxAttempts: f.attempts, Batches: kind == "batch", DeadLetters: f.copies(), Patience: max(time.Minute, f.timeout)}
}

// configure sets what a consumer does with records that fail.
func (f *failing) configure(cfg *kafka.ConsumerConfig) {
	if !f.on {
		return
	}
	cfg.HandlerTimeout, cfg.BatchLinger, cfg.MaxBatchBytes = f.timeout, f.linger, f.bytes
	cfg.Failure.Then, cfg.Failure.MaxAttempts = f.then, f.attempts
	if f.classify {
		cfg.Failure.Classify = classify
	}
	if f.dead {
		cfg.Failure.DeadLetter = kafka.DeadLetterConfig{Topic: "{topic}.{group}" + deadSuffix, MaxInARow: f.inARow}
	}
	if f.copies() {
		cfg.Failure.DeadLetter.Producer = &kafka.ProducerConfig{ClientID: cfg.ClientID, DeliveryTimeout: f.patience}
	}
	for _, r := range f.tiers {
		cfg.Failure.RetryTopics = append(cfg.Failure.RetryTopics, r.configured())
	}
}

// deadSuffix ends the names of topics for dead letters, and of no others.
const deadSuffix = ".dlq"

// A classified error carries no mark: classify decides.
type classified struct{ do kafka.Failure }

// classes are what classify answers, or panics with.
var classes = []kafka.Failure{
	kafka.FailureDeadLetter, kafka.FailureDeadLetter, kafka.FailureDeadLetter, kafka.FailureDeadLetter, kafka.FailureKeep,
	kafka.FailureSkip, kafka.FailureStop, kafka.FailureHold, classPanics,
}

const classPanics kafka.Failure = 99

func (classified) Error() string        { return "classified" }
func (classified) Is(target error) bool { return target == errHandler }

func classify(err error) kafka.Failure {
	if c, ok := errors.AsType[classified](err); ok {
		if c.do == classPanics {
			panic("classify")
		}
		return c.do
	}
	return kafka.FailureKeep
}

// An asking is an error that a handler returns, and what it asks for.
type asking struct {
	err error
	do  string // as judge.AskedRecord has it
}

// ask returns what an outcome comes to; chance decides what the outcome leaves open.
func (w *world) ask(o outcome, chance *rand.Rand) asking {
	var a asking
	switch o {
	case asksRetry:
		a = asking{kafka.Retry(errHandler, time.Duration(chance.IntN(3_000)-500)*time.Millisecond), "keep"}
	case asksSkip:
		a = asking{kafka.Skip(errHandler), "skip"}
	case asksDeadLetter:
		a = asking{kafka.DeadLetter(errHandler), "dead letter"}
	case asksStop:
		a = asking{kafka.Stop(errHandler), "stop"}
	case asksHold:
		a = asking{kafka.Hold(errHandler, time.Duration(chance.IntN(2)*chance.IntN(20_000))*time.Millisecond), "hold"}
	case asksJoined:
		a = w.join(chance)
	case asksClassified:
		c := classified{classes[chance.IntN(len(classes))]}
		a = asking{c, ""}
		if w.drawn.failing.classify && c.do != kafka.FailureKeep && c.do != classPanics {
			a.do = c.do.String()
		}
	default:
		a = asking{errHandler, ""}
	}
	if chance.IntN(3) == 0 {
		a.err = fmt.Errorf("wrapped: %w", a.err)
	}
	if a.do == "dead letter" && !w.drawn.failing.dead {
		a.do = "keep"
	}
	return a
}

// safety orders what errors ask for: of those that are joined, the last of it counts.
var safety = []string{"skip", "dead letter", "", "keep", "hold", "stop"}

// join returns errors that are joined, the least safe one first, or a mark around one.
func (w *world) join(chance *rand.Rand) asking {
	some := []outcome{asksSkip, asksDeadLetter, fails, asksRetry, asksHold, asksStop}
	var joined asking
	for i := range 2 + chance.IntN(2) {
		o := some[chance.IntN(len(some)-1)]
		if chance.IntN(8) == 0 {
			o = asksStop
		}
		a := w.ask(o, chance)
		do := a.do
		if o == asksDeadLetter {
			do = "dead letter" // even where that counts as keep
		}
		if i == 0 {
			joined = asking{a.err, do}
			continue
		}
		if slices.Index(safety, do) < slices.Index(safety, joined.do) {
			joined.err = errors.Join(a.err, joined.err)
		} else {
			joined = asking{errors.Join(joined.err, a.err), do}
		}
	}
	return joined
}

// A failed call is what a handler with records to fail returns.
type failedCall struct {
	err   error
	asked []judge.AskedRecord
}

// failAll fails each record of a call.
func failAll(e judge.HandleStart, a asking) (f failedCall) {
	f.err = a.err
	for _, r := range e.Records {
		f.asked = append(f.asked, judge.AskedRecord{Offset: r.Offset, Do: a.do})
	}
	return f
}

// failSome fails those records of a batch that are bad, or some, by a BatchError.
func (w *world) failSome(e judge.HandleStart, ms []*kafka.Message, bad map[int64]outcome, o outcome, chance *rand.Rand) (f failedCall) {
	var failed kafka.BatchError
	from, stopped := o == namesFrom, false
	for i, r := range e.Records {
		how, is := bad[r.Offset]
		if bad == nil {
			is = chance.IntN(2) == 0 || i == len(e.Records)-1 && len(f.asked) == 0
			how = []outcome{fails, fails, asksRetry, asksSkip, asksDeadLetter, asksHold, asksJoined}[chance.IntN(7)]
		}
		switch {
		case stopped:
			f.asked = append(f.asked, judge.AskedRecord{Offset: r.Offset, Unhandled: true})
		case is && from:
			a := w.ask(how, chance)
			failed.AddFrom(ms[i], a.err)
			f.asked, stopped = append(f.asked, judge.AskedRecord{Offset: r.Offset, Do: a.do}), true
			w.stats.strike("batch error: AddFrom")
		case is:
			a := w.ask(how, chance)
			failed.Add(ms[i], a.err)
			f.asked = append(f.asked, judge.AskedRecord{Offset: r.Offset, Do: a.do})
			w.stats.strike("batch error: Add")
		}
	}
	f.err = failed.Err()
	if chance.IntN(3) == 0 && f.err != nil {
		f.err = fmt.Errorf("wrapped: %w", f.err)
	}
	return f
}

// poisonous are the outcomes of records that fail each time, until all is healed.
var poisonous = []outcome{fails, fails, fails, panics, asksSkip, asksDeadLetter, asksRetry, asksHold, asksClassified, asksClassified, asksJoined, asksJoined, panicsMarked, asksStop}

// poison appends records that fail whenever they are handled.
func (w *world) poison(t *rapid.T) {
	if !w.drawn.failing.on {
		t.Skip("nothing fails by policy")
	}
	for range rapid.IntRange(1, 4).Draw(t, "records") {
		value := w.value("x")
		o := rapid.SampledFrom(poisonous).Draw(t, "poison")
		w.mu.Lock()
		w.poisons[string(value)] = o
		w.mu.Unlock()
		w.must(t, w.broker.Send(w.topic(t), w.key(value), value, memory.Headers(headers(value)...)))
	}
}

// poisoned returns which records of a call fail each time, and how.
func (w *world) poisoned(e judge.HandleStart) (bad map[int64]outcome, first outcome) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range e.Records {
		if o, is := w.poisons[plain(r.Value)]; is {
			if bad == nil {
				bad, first = make(map[int64]outcome), o
			}
			bad[r.Offset] = o
		}
	}
	return bad, first
}

// createDead creates the topics for dead letters that are missing.
func (w *world) createDead(t *rapid.T) {
	if !w.drawn.failing.dead {
		return
	}
	for _, topic := range w.deadTopics() {
		if w.broker.Partitions(topic) == 0 {
			w.must(t, w.broker.CreateTopic(topic, 2))
		}
	}
}

func (w *world) deadTopics() (names []string) {
	for _, s := range w.sources() {
		names = append(names, s.Topic+"."+s.Group+deadSuffix)
	}
	return names
}

// recreateDead deletes a topic for dead letters, and creates it again.
func (w *world) recreateDead(t *rapid.T) {
	if !w.drawn.failing.dead || w.down {
		t.Skip("no dead letters, or during an outage")
	}
	topic := rapid.SampledFrom(w.deadTopics()).Draw(t, "topic")
	if w.broker.Partitions(topic) == 0 {
		t.Skip("it is missing")
	}
	w.trouble()
	w.recordDead()
	w.must(t, w.broker.DeleteTopic(topic))
	w.stats.count("failure dead-letter topic deleted")
	if missing := seconds(t, "missing for s", 0, 1, 20); missing > 0 {
		time.Sleep(missing)
		w.check(t)
	}
	if w.broker.Partitions(topic) == 0 {
		w.must(t, w.broker.CreateTopic(topic, rapid.IntRange(1, 3).Draw(t, "partitions")))
	}
	w.trouble()
}

// deadDown has sends of dead letters fail, and only these.
func (w *world) deadDown(t *rapid.T) {
	if !w.drawn.failing.copies() {
		t.Skip("no copies")
	}
	w.trouble()
	r := drawFault(t)
	r.op = rapid.SampledFrom([]fault.Op{fault.Produce, fault.Produce, fault.Ack}).Draw(t, "of sending")
	if rapid.IntRange(0, 3).Draw(t, "refused") == 0 {
		r.fault.When, r.fault.Err = fault.BeforeCall, fault.Permanent("TOPIC_AUTHORIZATION_FAILED")
	}
	r.topic, r.left = rapid.SampledFrom([]string{deadSuffix, retrySuffix}).Draw(t, "copies in"), 1<<30
	w.faults.add(r)
	w.timers = append(w.timers, time.AfterFunc(seconds(t, "for s", 1, 20, 90), func() { w.faults.end(r) }))
}

// resolve is an operator's word on a record that fails.
func (w *world) resolve(t *rapid.T) {
	if !w.drawn.failing.on {
		t.Skip("nothing fails by policy")
	}
	var failing []*node
	for _, n := range w.live() {
		if n.failing() {
			failing = append(failing, n)
		}
	}
	if len(failing) == 0 {
		t.Skip("nothing fails")
	}
	n := rapid.SampledFrom(failing).Draw(t, "process")
	ways := []kafka.Failure{kafka.FailureKeep, kafka.FailureSkip, kafka.FailureDeadLetter}
	if w.drawn.failing.dead { // else the last of them is refused
		ways = append(ways, kafka.FailureDeadLetter, kafka.FailureDeadLetter)
	}
	do := rapid.SampledFrom(ways).Draw(t, "do")
	for _, s := range n.manager.Consumers() {
		for _, p := range s.Partitions {
			if p.Errors == 0 {
				continue
			}
			m, at := n.member(s.Group), judge.Partition{Topic: p.Topic, Number: p.Partition}
			w.judge.Tell(judge.Resolving{Member: m, Partition: at, Offset: p.Failing, Do: do.String()})
			patience := seconds(t, "patience s", 1, 60, 600)
			w.background.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				err := n.manager.Resolve(ctx, s.JobName, kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition}, p.Failing, do)
				if err == nil {
					w.stats.strike("resolve: " + do.String())
				}
			})
		}
	}
}

// failing reports whether a record of one of its consumers has failed.
func (n *node) failing() bool {
	return slices.ContainsFunc(n.manager.Consumers(), func(s kafka.ConsumerStatus) bool {
		return slices.ContainsFunc(s.Partitions, func(p kafka.PartitionStatus) bool { return p.Errors > 0 })
	})
}

// endHold is an operator's word on a hold.
func (w *world) endHold(t *rapid.T) {
	var held []*node
	for _, n := range w.live() {
		if slices.ContainsFunc(n.manager.Consumers(), func(s kafka.ConsumerStatus) bool { return s.Held != nil }) {
			held = append(held, n)
		}
	}
	if len(held) == 0 {
		t.Skip("nothing is held")
	}
	n := rapid.SampledFrom(held).Draw(t, "process")
	for _, s := range n.manager.Consumers() {
		if s.Held != nil {
			w.judge.Tell(judge.Releasing{Member: n.member(s.Group)})
			w.must(t, n.manager.EndHold(s.JobName))
			w.stats.strike("hold ended by an operator")
		}
	}
}

// recordDead records with the judge which dead letters the broker has.
func (w *world) recordDead() {
	w.deadMu.Lock()
	defer w.deadMu.Unlock()
	w.readCopies()
}

// readCopies is the same for a caller that holds deadMu.
func (w *world) readCopies() {
	for _, topic := range w.broker.Topics() {
		if !strings.HasSuffix(topic, deadSuffix) && !isRetry(topic) {
			continue
		}
		if id := w.broker.TopicID(topic); w.deadIDs[topic] != id {
			w.deadIDs[topic] = id
			for p := range w.deadRead {
				if p.Topic == topic {
					delete(w.deadRead, p)
				}
			}
		}
		for n := range w.broker.Partitions(topic) {
			p := judge.Partition{Topic: topic, Number: int32(n)}
			if _, end, err := w.broker.Offsets(topic, p.Number); err != nil || end <= w.deadRead[p] {
				continue
			}
			records, err := w.broker.Records(topic, p.Number, driver.ReadUncommitted)
			if err != nil {
				continue
			}
			for _, r := range records {
				if r.Offset < w.deadRead[p] {
					continue
				}
				if w.deadRead[p] = r.Offset + 1; isRetry(topic) {
					w.recordRetry(p, r)
				} else {
					w.judge.Tell(copied(p, r))
					w.stats.count("failure copy in a dead-letter topic")
				}
			}
		}
	}
}

// copied reads a dead letter by its headers.
func copied(at judge.Partition, r driver.Record) judge.Copied {
	c := judge.Copied{Record: judge.Record{Offset: -1}, At: at, AtOffset: r.Offset}
	var own []driver.Header
	for _, h := range r.Headers {
		switch h.Key {
		case "__dlq.errors.topic":
			c.Partition.Topic = string(h.Value)
		case "__dlq.errors.partition":
			n, _ := strconv.Atoi(string(h.Value))
			c.Partition.Number = int32(n)
		case "__dlq.errors.offset":
			c.Record.Offset, _ = strconv.ParseInt(string(h.Value), 10, 64)
		case "__dlq.errors.group":
			c.Group = string(h.Value)
		case "__dlq.errors.delivery.count":
			c.Attempts, _ = strconv.Atoi(string(h.Value))
		}
		if !strings.HasPrefix(h.Key, "__dlq.") {
			own = append(own, h)
		}
	}
	c.Record.Key, c.Record.Value = identity(r.Key, own), valueAt(c.Partition, c.Record.Offset, r.Value)
	return c
}

// stoppedPattern is the text of the reason of a consumer that a record has stopped.
var stoppedPattern = regexp.MustCompile(`^record (\S+)/(\d+) at offset (\d+): `)

// stoppedBy returns which record has disabled a member, if one has.
func stoppedBy(m judge.Member, reason error) (e judge.StoppedBy, ok bool) {
	if reason == nil {
		return e, false
	}
	found := stoppedPattern.FindStringSubmatch(reason.Error())
	if found == nil {
		return e, false
	}
	n, _ := strconv.Atoi(found[2])
	e = judge.StoppedBy{Member: m, Partition: judge.Partition{Topic: found[1], Number: int32(n)}}
	e.Offset, _ = strconv.ParseInt(found[3], 10, 64)
	return e, true
}

// missingDead reports whether a consumer waits for its topic of dead letters.
func missingDead(reason error) bool {
	return reason != nil && strings.Contains(reason.Error(), deadSuffix+`" does not exist`)
}

// claimKey is of the context of a claim, in those that are derived from it.
type claimKey struct{}

// claimOf returns the context of the claim that a call is made under.
func claimOf(ctx context.Context) context.Context {
	if claim, ok := ctx.Value(claimKey{}).(context.Context); ok {
		return claim
	}
	return ctx
}

// failed reports an event of a record that has failed.
func (h hook) failed(e kafka.Event) {
	tell, count := h.n.w.judge.Tell, h.n.w.stats.count
	at := func(p kafka.TopicPartition) judge.Partition {
		return judge.Partition{Topic: p.Topic, Number: p.Partition}
	}
	switch e := e.(type) {
	case kafka.RecordSkipped:
		h.n.w.recordDead()
		if e.Offset%4 == 0 {
			h.n.w.nap(2 * h.n.w.drawn.interval) // a commit in that time must not pass the record
		}
		tell(judge.Skipped{Member: h.n.member(e.JobName), Partition: at(e.TopicPartition), Offset: e.Offset, Attempts: e.Attempts})
		h.n.w.stats.strike("skip")
	case kafka.RecordForwarded:
		h.n.w.recordDead()
		tell(judge.Forwarded{Member: h.n.member(e.JobName), Partition: at(e.TopicPartition), Offset: e.Offset, Attempts: e.Attempts, To: at(e.To), ToOffset: e.ToOffset})
		h.n.w.stats.strike("dead letter: " + e.Reason)
		h.n.w.sending(h.n.member(e.JobName), at(e.TopicPartition), false)
	case kafka.ForwardFailed:
		switch {
		case errors.Is(e.Err, kafka.ErrUnknownOutcome):
			count("failure not forwarded: unknown outcome")
		case errors.Is(e.Err, kafka.ErrPermanent):
			count("failure not forwarded: permanent")
		default:
			count("failure not forwarded: transient")
		}
		h.n.w.sending(h.n.member(e.JobName), at(e.TopicPartition), true)
	case kafka.ConsumerHeld:
		tell(judge.Held{Member: h.n.member(e.JobName), Until: e.Until})
		if e.Until.IsZero() {
			h.n.w.stats.strike("hold is over")
		} else {
			h.n.w.stats.strike("hold")
		}
	default:
		h.retried(e)
	}
}

// A sendingOf is a partition of a member with a dead letter that has not been acknowledged.
type sendingOf struct {
	member    judge.Member
	partition judge.Partition
}

func (w *world) sending(m judge.Member, p judge.Partition, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if is {
		w.unsent[sendingOf{m, p}] = true
	} else {
		delete(w.unsent, sendingOf{m, p})
	}
}

// given counts claims that end in the middle of a forward.
func (w *world) given(m judge.Member, ps []judge.Partition, how string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range ps {
		if w.unsent[sendingOf{m, p}] {
			delete(w.unsent, sendingOf{m, p})
			w.stats.count("failure " + how + " in the middle of a forward")
		}
	}
}

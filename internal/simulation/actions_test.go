package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// actions returns the steps of a sequence: those that it has drawn, each as
// often as it has drawn it to be likely, or more often where that has much to strike.
func (w *world) actions(t *rapid.T) map[string]func(*rapid.T) {
	failing, retrying := 0, 0
	if w.drawn.failing.on {
		failing = 3
	}
	if len(w.drawn.failing.tiers) > 0 {
		retrying = 1
	}
	all := []struct {
		name string
		do   func(*rapid.T)
		more int // likely
	}{
		{"start process", w.startNode, 1},
		{"append", w.appendRecords, 1},
		{"sleep", sleep, 1},
		{"script handlers", w.scriptHandlers, 1},
		{"switch", w.flip, 0},
		{"flap", w.flap, 0},
		{"register", w.register, 0},
		{"start again", w.startAgain, 0},
		{"open producer", w.openProducer, 0},
		{"send", w.send, 0},
		{"shut down", w.shutDown, 0},
		{"kill", w.kill, 0},
		{"cut", w.cut, 0},
		{"expire", w.expire, 0},
		{"fence", w.fence, 0},
		{"rebalance", func(t *rapid.T) { w.broker.Rebalance(group(t)) }, 0},
		{"outage", w.outage, 0},
		{"fault", w.fault, 0},
		{"results down", w.resultsDown, 0},
		{"bad requests", w.badRequests, 0},
		{"add partition", w.addPartition, 0},
		{"hole", w.hole, 0},
		{"transaction", w.transaction, 0},
		{"end transaction", w.endTransaction, 0},
		{"delete records", w.deleteRecords, 0},
		{"truncate", w.truncate, 0},
		{"recreate topic", w.recreate, 0},
		{"damage", w.damage, 0},
		{"repair damage", w.repairDamage, 0},
		{"missing topic appears", w.appear, 0},
		{"late heartbeats", w.late, 0},
		{"poison", w.poison, failing},
		{"bad key", w.badKey, 0},
		{"foreign metadata", w.foreignText, 0},
		{"dead letters down", w.deadDown, 0},
		{"recreate dead-letter topic", w.recreateDead, 0},
		{"resolve", w.resolve, failing},
		{"end hold", w.endHold, failing},
		{"pause", w.pause, 1},
		{"resume", w.resume, 3},
		{"set rate", w.setRate, 1},
		{"stray", w.stray, retrying},
		{"seek", w.seek, 1},
		{"seek off", w.seekOff, 0},
		{"foreign member", w.joinForeign, 0},
		{"foreign members leave", w.leaveForeign, 0},
	}
	chosen := map[string]func(*rapid.T){"": w.check}
	for _, a := range all {
		weight := rapid.IntRange(0, 3).Draw(t, a.name)
		for i := range weight + a.more {
			chosen[fmt.Sprint(a.name, " ", i)] = func(t *rapid.T) {
				a.do(t)
				w.stats.count("action " + a.name)
				w.stats.count("steps")
			}
		}
	}
	return chosen
}

// groups are those that consumers are in.
var groups = []string{"one", "two"}

func group(t *rapid.T) string { return rapid.SampledFrom(groups).Draw(t, "group") }

func seconds(t *rapid.T, name string, choices ...int) time.Duration {
	return time.Duration(rapid.SampledFrom(choices).Draw(t, name)) * time.Second
}

func (w *world) startNode(t *rapid.T) {
	if len(w.live()) == 4 || len(w.nodes) == 12 {
		t.Skip("enough processes")
	}
	n := w.newNode()
	w.must(t, n.launch(group(t)))
}

func (w *world) register(t *rapid.T) {
	n, g := w.one(t), group(t)
	if n.has(g) {
		t.Skip("registered already")
	}
	w.must(t, n.register(g))
	n.switchGroup(g, true)
}

func (w *world) startAgain(t *rapid.T) {
	n := w.one(t)
	w.must(t, n.manager.StartAllConsumers(n.start))
}

func (w *world) flip(t *rapid.T) {
	n := w.one(t)
	g, on := rapid.SampledFrom(n.groups).Draw(t, "consumer"), rapid.Bool().Draw(t, "on")
	n.switchGroup(g, on)
}

func (w *world) flap(t *rapid.T) {
	n := w.one(t)
	g := rapid.SampledFrom(n.groups).Draw(t, "consumer")
	for i := range rapid.IntRange(2, 7).Draw(t, "times") {
		n.switchGroup(g, i%2 == 1)
	}
}

func sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.SampledFrom([]int{1, 20, 300, 1_000, 5_000, 30_000, 150_000}).Draw(t, "ms")) * time.Millisecond)
}

func (w *world) appendRecords(t *rapid.T) {
	for range rapid.IntRange(1, 20).Draw(t, "records") {
		value := w.value("r")
		w.must(t, w.broker.Send(w.topic(t), w.key(value), value))
	}
}

func (w *world) topic(t *rapid.T) string {
	return rapid.SampledFrom([]string{orders, orders, orders, results}).Draw(t, "topic")
}

func (w *world) scriptHandlers(t *rapid.T) {
	if len(w.drawn.outcomes) == 0 {
		t.Skip("none enabled")
	}
	for range rapid.IntRange(1, 5).Draw(t, "outcomes") {
		o := rapid.SampledFrom(w.drawn.outcomes).Draw(t, "outcome")
		times := 1
		if o == failsThrice {
			times = rapid.IntRange(3, 12).Draw(t, "in a row")
		}
		w.plan(o, times)
		w.plan(fine, rapid.IntRange(0, 3).Draw(t, "fine"))
	}
}

func (w *world) openProducer(t *rapid.T) {
	n := w.one(t)
	if n.producer() != nil {
		t.Skip("open already")
	}
	w.openProducerOf(n)
}

func (w *world) openProducerOf(n *node) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := n.open(ctx); err != nil {
		w.stats.count("producer not opened")
	}
}

func (w *world) send(t *rapid.T) {
	n := w.one(t)
	if n.producer() == nil {
		w.openProducerOf(n)
	}
	if n.producer() == nil {
		return // not skipped: that took a second, in which others have sent, and no check follows a skip
	}
	n.send(drawBurst(t))
}

func (w *world) shutDown(t *rapid.T) {
	n := w.one(t)
	switch rapid.IntRange(0, 4).Draw(t, "how") {
	case 0:
		n.stop(w, stop{unlimited: true})
	case 1:
		n.stop(w, stop{byContext: true})
	default:
		n.shutdown(w, seconds(t, "deadline s", 0, 1, 10, 60))
	}
}

// A cut is a member that has been cut off.
type cut struct {
	client string
	heal   func()
	timer  *time.Timer
}

func (w *world) anyMember(t *rapid.T) (memory.Member, judge.Member) {
	ms := w.broker.Members(group(t))
	if len(ms) == 0 {
		t.Skip("no members")
	}
	m := ms[rapid.IntRange(0, len(ms)-1).Draw(t, "member")]
	if !ours(m) {
		t.Skip("not ours")
	}
	return m, memberOf(m)
}

// memberOf returns the judge's name of a member of a group.
func memberOf(m memory.Member) judge.Member {
	process, g, _ := strings.Cut(m.ClientID, ".")
	return judge.Member{Process: process, Group: g, Name: g}
}

// cutOff cuts a member off, and records with the judge until when it may go on.
func (w *world) cutOff(m memory.Member, who judge.Member) {
	m.Cut()
	w.expiring(who.Group, func(n memory.Member) (judge.Member, bool) { return who, n.ID == m.ID })
}

// cut cuts a member off; it may come back as a zombie, or only at the end.
func (w *world) cut(t *rapid.T) {
	m, who := w.anyMember(t)
	w.makeZombie(t, m, who)
}

func (w *world) makeZombie(t *rapid.T, m memory.Member, who judge.Member) {
	for _, c := range w.cuts {
		if c.client == m.ClientID {
			t.Skip("cut already")
		}
	}
	w.trouble()
	w.judge.Tell(judge.Severed{Member: who})
	w.cutOff(m, who)
	heal := func() {
		w.reconnected(who)
		m.Heal()
	}
	w.cuts = append(w.cuts, cut{m.ClientID, heal, time.AfterFunc(seconds(t, "zombie after s", 1, 8, 60, 3600), heal)})
	w.trouble()
}

// kill ends a process without a leave request. Its remains in the simulation are cut off
// until all is healed, and have no time to stop.
func (w *world) kill(t *rapid.T) {
	n := w.one(t)
	w.trouble()
	for _, g := range n.groups {
		for _, m := range w.broker.Members(g) {
			if m.ClientID != n.name+"."+g || slices.ContainsFunc(w.cuts, func(c cut) bool { return c.client == m.ClientID }) {
				continue
			}
			who := n.member(g)
			w.judge.Tell(judge.Severed{Member: who})
			w.cutOff(m, who)
			heal := func() {
				w.reconnected(who)
				m.Heal()
			}
			w.cuts = append(w.cuts, cut{m.ClientID, heal, time.AfterFunc(24*time.Hour, heal)})
		}
	}
	n.shutdown(w, time.Millisecond)
}

// badRequests are refused and change nothing.
func (w *world) badRequests(t *rapid.T) {
	n := w.one(t)
	m := n.manager
	_, unknown := m.Consumer("nobody")
	held := m.SetConsumerSwitch("nobody", true) != nil && !m.GetConsumerSwitch("nobody") && unknown != nil &&
		errors.Is(n.register(n.groups[0]), kafka.ErrDuplicate) && m.RegisterConsumer(context.Background(), nil) != nil &&
		m.RegisterConsumer(context.Background(), kafka.NewConsumer(kafka.ConsumerConfig{JobName: "bad"}, nil)) != nil &&
		withoutContext(m) &&
		n.refusesConsumer(one(t, "flaw of a consumer", consumerFlaws())) &&
		n.refusesProducer(one(t, "flaw of a producer", producerFlaws()))
	if n.producer() != nil {
		nowhere := int32(-1)
		var none context.Context
		held = held && n.producer().Flush(none) != nil && n.producer().SendMessage(none, &kafka.ProducerMessage{Topic: orders}) != nil
		for _, bad := range []*kafka.ProducerMessage{
			nil, {Topic: "no such topic"}, {Topic: orders, ToPartition: &nowhere},
			{Topic: orders, Timestamp: time.Unix(-1, 0)}, {Topic: orders, Value: make([]byte, 2<<20)},
		} {
			err := n.producer().SendMessage(context.Background(), bad)
			held = held && err != nil && !errors.Is(err, kafka.ErrUnknownOutcome)
		}
	}
	if !held {
		t.Fatalf("violated bad-request-accepted")
	}
}

// one draws an element by its number.
func one[E any](t *rapid.T, what string, all []E) E {
	return all[rapid.IntRange(0, len(all)-1).Draw(t, what)]
}

// withoutContext reports whether all that needs a context refuses nil.
func withoutContext(m *kafka.Manager) bool {
	var none context.Context
	_, noProducer := m.RegisterProducer(none, kafka.ProducerConfig{})
	_, badProducer := m.RegisterProducer(context.Background(), kafka.ProducerConfig{})
	return m.Shutdown(none) != nil && m.StartAllConsumers(none) != nil && noProducer != nil && badProducer != nil &&
		m.RegisterConsumer(none, kafka.NewConsumer(kafka.ConsumerConfig{}, nil)) != nil
}

// resultsDown has sends to the output topic fail, and only these.
func (w *world) resultsDown(t *rapid.T) {
	w.trouble()
	r := drawFault(t)
	r.op = rapid.SampledFrom([]fault.Op{fault.Produce, fault.Ack}).Draw(t, "of sending")
	r.topic, r.left = results, 1<<30
	w.faults.add(r)
	w.timers = append(w.timers, time.AfterFunc(seconds(t, "for s", 1, 20, 90), func() { w.faults.end(r) }))
}

func (w *world) expire(t *rapid.T) {
	m, _ := w.anyMember(t)
	w.trouble()
	m.Expire()
}

// fence makes the epoch of a member stale. The member may not learn of it for a while.
func (w *world) fence(t *rapid.T) {
	m, who := w.anyMember(t)
	if w.drawn.protocols[who.Group] == driver.ClassicProtocol {
		t.Skip("a classic group")
	}
	if rapid.Bool().Draw(t, "cut") {
		w.makeZombie(t, m, who)
	}
	w.trouble()
	m.Fence()
}

func (w *world) outage(t *rapid.T) {
	if w.down {
		t.Skip("down already")
	}
	w.trouble()
	w.stopBroker()
	time.Sleep(seconds(t, "down s", 0, 1, 8, 70))
	w.check(t)
	w.startBroker()
	w.trouble()
}

func (w *world) stopBroker() {
	w.mu.Lock()
	w.down = true
	w.mu.Unlock()
	w.broker.Stop()
	for _, group := range groups {
		w.expiring(group, func(m memory.Member) (judge.Member, bool) {
			return memberOf(m), ours(m) && !slices.ContainsFunc(w.cuts, func(c cut) bool { return c.client == m.ClientID })
		})
	}
}

func (w *world) startBroker() {
	w.mu.Lock()
	w.down = false
	back := w.back
	w.back = nil
	w.mu.Unlock()
	for _, who := range back {
		w.judge.Tell(judge.Reconnected{Member: who})
	}
	for _, n := range w.nodes {
		for _, g := range n.groups {
			if !slices.ContainsFunc(w.cuts, func(c cut) bool { return c.client == n.name+"."+g }) {
				w.judge.Tell(judge.Expiring{Member: n.member(g)})
			}
		}
	}
	w.broker.Start()
}

// reconnected records that a member's link is back: if the broker is down, as soon as
// that is back, too.
func (w *world) reconnected(who judge.Member) {
	w.mu.Lock()
	down := w.down
	if down {
		w.back = append(w.back, who)
	}
	w.mu.Unlock()
	if !down {
		w.judge.Tell(judge.Reconnected{Member: who})
	}
}

func (w *world) fault(t *rapid.T) {
	w.trouble()
	w.faults.add(drawFault(t))
}

func (w *world) addPartition(t *rapid.T) {
	n := w.broker.Partitions(orders)
	if n == 8 {
		t.Skip("enough partitions")
	}
	w.must(t, w.broker.AddPartitions(orders, n+1))
}

func (w *world) anyPartition(t *rapid.T) judge.Partition {
	return rapid.SampledFrom(w.partitions()).Draw(t, "partition")
}

// hole leaves an offset that holds no record.
func (w *world) hole(t *rapid.T) {
	p := w.anyPartition(t)
	if len(w.open) > 0 || rapid.Bool().Draw(t, "control") {
		w.must(t, w.broker.AppendControl(p.Topic, p.Number))
		return
	}
	start, end, err := w.broker.Offsets(p.Topic, p.Number)
	w.must(t, err)
	if start == end {
		t.Skip("nothing to compact")
	}
	offset := rapid.Int64Range(start, end-1).Draw(t, "offset")
	w.repairPartition(t, p)
	if w.broker.Compact(p.Topic, p.Number, offset) != nil {
		t.Skip("a control record, or under a transaction")
	}
	w.judge.Tell(judge.Removed{Partition: p, Offset: offset})
}

// transaction writes in one; no consumer may see an aborted or open one.
func (w *world) transaction(t *rapid.T) {
	tx := w.broker.Begin()
	w.open = append(w.open, tx)
	for range rapid.IntRange(1, 5).Draw(t, "records") {
		value := w.value("t")
		w.must(t, tx.Send(orders, w.key(value), value))
	}
}

func (w *world) endTransaction(t *rapid.T) {
	if len(w.open) == 0 {
		t.Skip("none open")
	}
	tx := w.open[0]
	w.open = w.open[1:]
	if rapid.Bool().Draw(t, "commit") {
		w.must(t, tx.Commit())
	} else {
		w.must(t, tx.Abort())
	}
}

func (w *world) deleteRecords(t *rapid.T) {
	if len(w.open) > 0 {
		t.Skip("what lies behind a transaction is not known yet")
	}
	p := w.anyPartition(t)
	start, end, err := w.broker.Offsets(p.Topic, p.Number)
	w.must(t, err)
	before := rapid.Int64Range(start, end).Draw(t, "before")
	w.trouble()
	w.repairPartition(t, p) // or the judge would have to know all damaged records
	w.must(t, w.broker.DeleteRecords(p.Topic, p.Number, before))
	w.judge.Tell(judge.Deleted{Partition: p, Before: before})
	w.trouble()
}

// truncate loses records that were acknowledged, as an unclean election does.
func (w *world) truncate(t *rapid.T) {
	p := w.anyPartition(t)
	if isRetry(p.Topic) {
		t.Skip("records of a retry topic are known by their places")
	}
	start, end, err := w.broker.Offsets(p.Topic, p.Number)
	w.must(t, err)
	if len(w.open) > 0 {
		t.Skip("not under a transaction")
	}
	to := rapid.Int64Range(start, end).Draw(t, "end")
	w.trouble()
	w.must(t, w.broker.Truncate(p.Topic, p.Number, to))
	if first, damaged := w.damaged[p]; damaged && first >= to {
		delete(w.damaged, p)
		w.judge.Tell(judge.Damaged{Partition: p, Offset: -1})
	}
	w.judge.Tell(judge.Truncated{Partition: p, Was: end, End: to})
	w.read[p] = min(w.read[p], to)
	w.trouble()
}

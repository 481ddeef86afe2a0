package simulation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// retrySuffix ends the names of retry topics, and of no others.
const retrySuffix = ".retry"

// A tier is a retry topic of each group and source.
type tier struct {
	delay time.Duration
	drain bool
}

// drawTiers draws from one to three, the last of which is perhaps none that is written.
func drawTiers(t *rapid.T) (tiers []tier) {
	for range rapid.SampledFrom([]int{5, 4, 3, 2}).Draw(t, "tiers") {
		d := time.Duration(rapid.SampledFrom([]int{100, 200, 500, 1_000, 5_000, 60_000}).Draw(t, "delay ms")) * time.Millisecond
		if len(tiers) < 3 && !slices.ContainsFunc(tiers, func(r tier) bool { return r.delay == d }) {
			tiers = append(tiers, tier{d, rarely(t, "drain") && rapid.Bool().Draw(t, "drain indeed")})
		}
	}
	return tiers
}

func (r tier) configured() kafka.RetryTopic {
	return kafka.RetryTopic{Delay: r.delay, Topic: "{topic}.{group}.{delay}" + retrySuffix, Drain: r.drain}
}

func (r tier) topic(source, group string) string {
	name := fmt.Sprint(r.delay)
	if r.delay == time.Minute {
		name = "1m"
	}
	return source + "." + group + "." + name + retrySuffix
}

func isRetry(topic string) bool { return strings.HasSuffix(topic, retrySuffix) }

// sourceOf returns the topic and the group of a retry topic, and its tier.
func (w *world) sourceOf(topic string) (s judge.Subscription, number int) {
	for _, s := range w.sources() {
		for i, r := range w.drawn.failing.tiers {
			if r.topic(s.Topic, s.Group) == topic {
				return s, i
			}
		}
	}
	return judge.Subscription{}, -1
}

// nextTier returns that of a record which lies in a topic, or -1.
func (w *world) nextTier(topic string) int {
	_, at := w.sourceOf(topic)
	for i, r := range w.drawn.failing.tiers {
		if i > at && !r.drain {
			return i
		}
	}
	return -1
}

// retry is that of the judge's rules.
func (w *world) retry(_, topic string) (is, more bool) { return isRetry(topic), w.nextTier(topic) >= 0 }

// readBy returns the topics that a group reads, those in which its records wait included.
func (w *world) readBy(group string) (names []string) {
	for _, s := range w.subscriptions() {
		if s.Group == group {
			names = append(names, s.Topic)
		}
	}
	return names
}

func (w *world) createRetryTopics(t *rapid.T) {
	for _, s := range w.subscriptions() {
		if isRetry(s.Topic) {
			w.must(t, w.broker.CreateTopic(s.Topic, rapid.IntRange(1, 2).Draw(t, "partitions of a retry topic")))
		}
	}
}

// valueAt returns the value by which the judge knows a record: no two have the same.
func valueAt(p judge.Partition, offset int64, value []byte) string {
	if isRetry(p.Topic) {
		return fmt.Sprintf("%s\x00%s/%d/%d", value, p.Topic, p.Number, offset)
	}
	return string(value)
}

// plain returns the value itself.
func plain(value string) string {
	own, _, _ := strings.Cut(value, "\x00")
	return own
}

// withoutMarks returns headers as a handler gets them.
func withoutMarks(p judge.Partition, hs []driver.Header) (own []driver.Header) {
	if !isRetry(p.Topic) {
		return hs
	}
	for _, h := range hs {
		if !strings.HasPrefix(h.Key, "__retry.") {
			own = append(own, h)
		}
	}
	return own
}

// An origin is what the headers of a record in a retry topic say, if they can be read.
type origin struct {
	partition judge.Partition
	offset    int64
	group     string
	attempts  int
	known     bool
}

func readOrigin(hs []driver.Header) (o origin) {
	numbers := map[string]int64{"partition": -1, "offset": -1, "attempts": -1, "timestamp": -2}
	for _, h := range hs {
		switch name := strings.TrimPrefix(h.Key, "__retry."); {
		case name == h.Key:
		case name == "topic":
			o.partition.Topic = string(h.Value)
		case name == "group":
			o.group = string(h.Value)
		default:
			if n, err := strconv.ParseInt(string(h.Value), 10, 64); err == nil {
				numbers[name] = n
			}
		}
	}
	o.partition.Number, o.offset, o.attempts = int32(numbers["partition"]), numbers["offset"], int(numbers["attempts"])
	o.known = o.partition.Topic != "" && o.partition.Number >= 0 && o.offset >= 0 && o.attempts >= 0 && numbers["timestamp"] >= -1
	return o
}

// recordRetry records with the judge what lies in a retry topic. The caller holds deadMu.
func (w *world) recordRetry(p judge.Partition, r driver.Record) {
	s, number := w.sourceOf(p.Topic)
	record := judge.Record{Offset: r.Offset, Key: identity(r.Key, withoutMarks(p, r.Headers)), Value: valueAt(p, r.Offset, r.Value)}
	m := judge.Marked{Partition: p, Record: record, Origin: p, OriginOffset: r.Offset}
	o := readOrigin(r.Headers)
	delay, now := w.drawn.failing.tiers[number].delay, time.Now()
	m.Due, m.Late = r.Timestamp.Add(delay), r.Timestamp.Add(delay)
	if r.Timestamp.After(now) {
		m.Due = now.Add(delay)
	}
	stray := w.strays[place{p, r.Offset}]
	switch {
	case o.group != "" && o.group != s.Group:
		m.Foreign = true
	case o.group != "" && o.known && slices.Contains(w.readBy(s.Group), o.partition.Topic):
		m.Origin, m.OriginOffset, m.Attempts = o.partition, o.offset, o.attempts
	case !stray:
		w.breaks("unidentified-copy")
	}
	w.judge.Tell(m)
	if stray {
		return
	}
	w.judge.Tell(judge.Copied{
		Group: o.group, Partition: o.partition, At: p, AtOffset: r.Offset, Attempts: o.attempts,
		Record: judge.Record{Offset: o.offset, Key: record.Key, Value: valueAt(o.partition, o.offset, r.Value)},
	})
	w.stats.strike(fmt.Sprintf("copy in retry topic %d", number+1))
	if w.drawn.failing.tiers[number].drain {
		w.breaks("drained-topic-written")
	}
}

// A place is that of a record.
type place struct {
	partition judge.Partition
	offset    int64
}

// stray appends to a retry topic what did not come there from the core: records without
// marks, with marks that cannot be read, or of another group; and copies by a sender whose
// clock is ahead or behind.
func (w *world) stray(t *rapid.T) {
	if len(w.drawn.failing.tiers) == 0 {
		t.Skip("no retry topics")
	}
	s := rapid.SampledFrom(w.sources()).Draw(t, "of")
	topic := rapid.SampledFrom(w.drawn.failing.tiers).Draw(t, "tier").topic(s.Topic, s.Group)
	w.recordLog()
	for range rapid.IntRange(1, 4).Draw(t, "records") {
		w.sendStray(t, topic, s)
	}
}

func (w *world) sendStray(t *rapid.T, topic string, s judge.Subscription) {
	value := w.value("y")
	key, hs := w.key(value), headers(value)
	kind := rapid.SampledFrom([]string{"bare", "foreign", "foreign", "malformed", "elsewhere", "copy", "copy"}).Draw(t, "kind")
	switch kind {
	case "foreign":
		hs = append(hs, marks(s.Topic, 0, 3, "others", 2)...)
	case "malformed":
		hs = append(hs, driver.Header{Key: "__retry.topic", Value: []byte(s.Topic)}, driver.Header{Key: "__retry.offset", Value: []byte("x")}, driver.Header{Key: "__retry.group", Value: []byte(s.Group)})
	case "elsewhere":
		hs = append(hs, marks("nowhere", 0, 3, s.Group, 2)...)
	case "copy":
		p, r, ok := w.anyRecord(t, s.Topic)
		if !ok {
			t.Skip("nothing to copy")
		}
		key, value = r.Key, r.Value
		hs = append(slices.Clone(r.Headers), marks(p.Topic, p.Number, r.Offset, s.Group, rapid.IntRange(0, 9).Draw(t, "attempts before"))...)
	}
	at := time.Now().Add(seconds(t, "clock ahead s", 0, 0, 0, -2, -3600, 2, 90))
	w.deadMu.Lock()
	defer w.deadMu.Unlock()
	var number int32
	var offset int64
	w.must(t, w.broker.Send(topic, key, value, memory.Headers(hs...), memory.Timestamp(at), memory.Placed(&number, &offset)))
	w.strays[place{judge.Partition{Topic: topic, Number: number}, offset}] = true
	w.readCopies()
	w.stats.strike("stray " + kind)
}

// anyRecord returns one of a topic, perhaps.
func (w *world) anyRecord(t *rapid.T, topic string) (p judge.Partition, r driver.Record, ok bool) {
	if w.broker.Partitions(topic) == 0 {
		return p, r, false
	}
	p = judge.Partition{Topic: topic, Number: int32(rapid.IntRange(0, w.broker.Partitions(topic)-1).Draw(t, "number"))}
	records, err := w.broker.Records(topic, p.Number, driver.ReadCommitted)
	if err != nil || len(records) == 0 {
		return p, r, false
	}
	return p, records[rapid.IntRange(0, len(records)-1).Draw(t, "record")], true
}

// marks returns the headers that a copy in a retry topic has after its own.
func marks(topic string, partition int32, offset int64, group string, attempts int) (hs []driver.Header) {
	for _, h := range [][2]string{
		{"topic", topic}, {"partition", fmt.Sprint(partition)}, {"offset", fmt.Sprint(offset)}, {"timestamp", "1000"},
		{"group", group}, {"attempts", fmt.Sprint(attempts)},
	} {
		hs = append(hs, driver.Header{Key: "__retry." + h[0], Value: []byte(h[1])})
	}
	return hs
}

// retried reports an event of a record that goes to a retry topic, or is passed over.
func (h hook) retried(e kafka.Event) {
	w := h.n.w
	switch e := e.(type) {
	case kafka.RecordRetried:
		w.recordDead()
		m, p := h.n.member(e.JobName), judgedOne(e.TopicPartition)
		w.judge.Tell(judge.Forwarded{Member: m, Partition: p, Offset: e.Offset, Attempts: e.Attempts, To: judgedOne(e.To), ToOffset: e.ToOffset, Retry: true})
		s, number := w.sourceOf(e.To.Topic)
		if next := w.nextTier(e.Topic); next != number || s.Group != e.Group {
			w.breaks("wrong-retry-topic")
		}
		w.sending(m, p, false)
		w.stats.strike(fmt.Sprintf("retry topic %d", number+1))
	case kafka.RecordPassedOver:
		w.recordDead()
		w.judge.Tell(judge.PassedOver{Member: h.n.member(e.JobName), Partition: judgedOne(e.TopicPartition), Offset: e.Offset})
		w.stats.strike("passed over")
	default:
		h.positionsMoved(e)
	}
}

func judgedOne(p kafka.TopicPartition) judge.Partition {
	return judge.Partition{Topic: p.Topic, Number: p.Partition}
}

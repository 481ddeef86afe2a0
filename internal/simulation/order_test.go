package simulation

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// An ordering is what a consumer keeps of the order of a partition's records.
type ordering struct {
	order       kafka.Order
	parallelism int
	concurrency int
	unnamed     bool // NoCommitMetadata
}

// many reports whether a crew hands out the records of a partition.
func (o ordering) many() bool { return o.order != kafka.OrderByPartition }

// drawOrderings draws what the consumers of a group keep: all the same, or those of every
// other process something else.
func drawOrderings(t *rapid.T, s *settings) (all []ordering) {
	for range rapid.SampledFrom([]int{2, 1}).Draw(t, "orderings") {
		o := ordering{order: rapid.SampledFrom([]kafka.Order{
			kafka.OrderByPartition, kafka.OrderByPartition, kafka.OrderByKey, kafka.OrderByKey, kafka.OrderNone,
		}).Draw(t, "order")}
		if len(s.failing.tiers) > 0 {
			o.order = kafka.OrderNone
		}
		if s.kind == "batch" && o.order == kafka.OrderByKey || s.autoCommit {
			o.order = kafka.OrderByPartition
		}
		o.unnamed = rarely(t, "no commit metadata")
		if o.many() && s.kind != "batch" {
			o.parallelism = min(rapid.SampledFrom([]int{1, 2, 2, 3, 8, 64}).Draw(t, "parallelism"), s.buffered)
			o.concurrency = rapid.SampledFrom([]int{0, 0, 0, 1, 2, 5}).Draw(t, "max concurrency")
		}
		all = append(all, o)
	}
	return all
}

// ordering returns what the consumer of a group in a process keeps.
func (n *node) ordering(group string) ordering {
	all := n.w.drawn.orderings[group]
	return all[n.number%len(all)]
}

func (o ordering) configure(cfg *kafka.ConsumerConfig) {
	cfg.Order, cfg.Parallelism, cfg.MaxConcurrency, cfg.NoCommitMetadata = o.order, o.parallelism, o.concurrency, o.unnamed
}

// judged returns the same as the judge's event. Batches come one after the other in any
// case.
func (o ordering) judged(m judge.Member, kind string) judge.Ordered {
	e := judge.Ordered{Member: m, Order: judge.Order(o.order), Parallelism: o.parallelism, Concurrency: o.concurrency, Unnamed: o.unnamed}
	if kind == "batch" {
		e.Order = judge.ByPartition
	}
	return e
}

// A keying is how the keys of records are chosen.
type keying int

const (
	keysUnique keying = iota
	keysFew
	keysMany
	keysMixed // few, one that is empty, and none
	keyingCount
)

// key returns the key of a value, or nil.
func (w *world) key(value []byte) []byte {
	number := value[bytes.LastIndexByte(value, '-')+1:]
	last := int(number[len(number)-1] - '0')
	switch w.drawn.keying {
	case keysFew:
		return fmt.Appendf(nil, "few %d", last%3)
	case keysMany:
		return number[max(0, len(number)-2):]
	case keysMixed:
		switch {
		case last < 4:
			return nil
		case last < 6:
			return []byte{}
		}
		return fmt.Appendf(nil, "some %d", last%2)
	}
	return value
}

// laneOf returns the part of an identity that is its key, or "" if it has none.
func laneOf(identity string) string {
	key, _, _ := strings.Cut(identity, "\x00")
	if key == withoutKey {
		return ""
	}
	return key
}

const withoutKey = "no key"

// identity is the part of a record that must come through unchanged beside its value,
// as one string: the key and the headers, where nil differs from empty.
func identity(key []byte, headers []driver.Header) string {
	text := withoutKey
	if key != nil {
		text = "key " + string(key)
	}
	if len(headers) == 0 {
		return text
	}
	return fmt.Sprintf("%s\x00%q", text, headers)
}

// ill are the outcomes of keys of which each record has the same, until all is healed.
var ill = []outcome{fails, fails, panics, slow, slow, deaf, blocks}

// badKey makes a key one whose records fail, take long, or hang, and appends some.
func (w *world) badKey(t *rapid.T) {
	values := make([][]byte, rapid.IntRange(1, 6).Draw(t, "records"))
	for i := range values {
		values[i] = w.value("k")
	}
	key, o := w.key(values[0]), rapid.SampledFrom(ill).Draw(t, "illness")
	if key == nil {
		t.Skip("no key")
	}
	w.mu.Lock()
	w.illnesses[laneOf(identity(key, nil))] = o
	w.mu.Unlock()
	topic := w.topic(t)
	for _, value := range values {
		w.must(t, w.broker.Send(topic, key, value))
	}
	w.stats.strike("key " + o.String())
}

// illness returns what the handler does with all records of a call's key.
func (w *world) illness(e judge.HandleStart) (o outcome, is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.illnesses) == 0 {
		return 0, false
	}
	for _, r := range e.Records {
		if o, is := w.illnesses[laneOf(r.Key)]; is {
			return o, true
		}
	}
	return 0, false
}

// offer records with the judge what a consumer could hand out, and holds that it is not
// paused without a cause.
func (w *world) offer(t *rapid.T, n *node, s kafka.ConsumerStatus, p kafka.PartitionStatus) {
	o := n.ordering(s.Group)
	if !o.many() || w.drawn.kind == "batch" || w.napping.Load() > 0 {
		return
	}
	ready := p.Undone - p.Waiting - p.Workers - p.BackingOff
	if ready < 0 || p.Workers > o.parallelism || p.Undone != p.Buffered {
		w.violated(t, "status-consistent", fmt.Sprintf("%+v", p))
	}
	at := judge.Partition{Topic: p.Topic, Number: p.Partition}
	if p.Paused && p.Buffered <= w.drawn.buffered {
		// It was paused above its bounds, and has to go on when half of that is gone or
		// nothing is ready.
		if p.Buffered <= w.drawn.buffered/2 || ready == 0 {
			w.judge.Tell(judge.Offered{Member: n.member(s.Group), Partition: at, Paused: true})
		}
	}
	if ready > 0 {
		w.judge.Tell(judge.Offered{Member: n.member(s.Group), Partition: at, Ready: ready})
	}
	w.countOrder(o, p)
}

// countOrder counts what sequences reach.
func (w *world) countOrder(o ordering, p kafka.PartitionStatus) {
	name := "order " + o.order.String()
	for _, c := range []struct {
		what string
		is   bool
	}{
		{"several handlers at one partition", p.Workers > 1},
		{"records wait behind their key", p.Waiting > 0},
		{"records back off beside handlers", p.BackingOff > 0 && p.Workers > 0},
		{"several records back off", p.BackingOff > 1},
		{"done above the position", p.DoneAbove > 0},
	} {
		if c.is {
			w.stats.strike(name + ": " + c.what)
		}
	}
}

// heeds counts what new owners find beside their positions, and heed.
func (h hook) heeds(e kafka.PartitionsAssigned) {
	o := h.n.ordering(e.JobName)
	for _, p := range e.Partitions {
		if !o.unnamed && strings.HasPrefix(h.n.w.broker.CommittedMetadata(e.JobName, p.Topic, p.Partition), "gk1.") {
			h.n.w.stats.strike("metadata at an assignment: " + o.order.String())
		}
	}
}

// nap is the sleep of a hook. Its lane does not end meanwhile.
func (w *world) nap(d time.Duration) {
	w.napping.Add(1)
	defer w.napping.Add(-1)
	time.Sleep(d)
}

// named returns the offsets that the metadata of a commit names as done. It is written
// from the format alone: "gk1.", and in base64 the lengths of runs and their sum.
func named(c memory.Commit) (done []judge.Span, ok bool) {
	if c.Metadata == "" {
		return nil, true
	}
	text, ours := strings.CutPrefix(c.Metadata, "gk1.")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if !ours || err != nil || len(raw) < 6 || len(c.Metadata) > 2<<10 {
		return nil, false
	}
	raw, sum := raw[:len(raw)-4], binary.BigEndian.Uint32(raw[len(raw)-4:])
	head := append([]byte("gk1."), make([]byte, 16)...)
	head = binary.BigEndian.AppendUint64(head, uint64(len(c.Topic)))
	head = append(head, c.Topic...)
	head = binary.BigEndian.AppendUint32(head, uint32(c.Partition))
	head = binary.BigEndian.AppendUint64(head, uint64(c.Offset))
	if crc32.Checksum(append(head, raw...), crc32.MakeTable(crc32.Castagnoli)) != sum {
		return nil, false
	}
	for at := c.Offset; len(raw) > 0; {
		gap, n := binary.Uvarint(raw)
		if n <= 0 || gap == 0 {
			return nil, false
		}
		length, m := binary.Uvarint(raw[n:])
		if m <= 0 || length == 0 {
			return nil, false
		}
		raw = raw[n+m:]
		s := judge.Span{From: at + int64(gap), To: at + int64(gap+length)}
		done, at = append(done, s), s.To
	}
	return done, true
}

// foreignText puts beside a position what another program may have written there, while
// the group has no members: no metadata of ours, or metadata of another place.
func (w *world) foreignText(t *rapid.T) {
	g, p := group(t), w.anyPartition(t)
	at := w.broker.Committed(g, p.Topic, p.Number)
	if at < 0 {
		t.Skip("nothing is committed")
	}
	text := rapid.SampledFrom([]string{"AQAAAYnJ5Yc", "gk1.", "gk1.AQEAAAAA", "gk1.////", "{\"owner\":\"p1\"}"}).Draw(t, "text")
	if w.broker.SetCommittedMetadata(g, p.Topic, p.Number, at, text) != nil {
		t.Skip("the group has members")
	}
	w.judge.Tell(judge.Positioned{Group: g, Partition: p, Offset: at})
}

package differential

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A join opens a member of the group.
type join struct{ who int }

// A leave closes it.
type leave struct{ who int }

var (
	slot     = rapid.IntRange(0, mostMembers-1)
	joins    = draws(func(t *rapid.T) join { return join{slot.Draw(t, "who")} })
	restarts = draws(func(t *rapid.T) restart { return restart{slot.Draw(t, "who")} })
	usurpers = draws(func(t *rapid.T) usurper { return usurper{slot.Draw(t, "who")} })
	leaves   = draws(func(t *rapid.T) leave { return leave{slot.Draw(t, "who")} })
)

func (j join) String() string  { return fmt.Sprintf("member %d joins", j.who) }
func (o leave) String() string { return fmt.Sprintf("member %d leaves", o.who) }

func (j join) do(l *lane) {
	if l.slots[j.who] != nil || !l.settle() || l.keeps() {
		return
	}
	before := l.joins()
	if l.slots[j.who] = l.start(l.memberConfig(j.who)); l.stuck == "" {
		l.rebalanced(before)
	}
}

func (o leave) do(l *lane) {
	if l.slots[o.who] == nil || !l.settle() || l.keeps() {
		return
	}
	l.mu.Lock()
	m := l.slots[o.who]
	gone := m.ended // and has left the group already
	l.mu.Unlock()
	before := l.joins()
	if delete(before, m); gone {
		clear(before)
	}
	l.note("closed: %s", class(l.end(o.who)))
	l.rebalanced(before)
}

// joins returns how often each member has joined.
func (l *lane) joins() map[*member]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	joins := map[*member]int{}
	for _, m := range l.members() {
		joins[m] = m.assigns
	}
	return joins
}

// joinedSince reports whether all members have joined again, or have ended.
func joinedSince(before map[*member]int) bool {
	for m, n := range before {
		if m.assigns <= n && !m.ended {
			return false
		}
	}
	return true
}

// rebalanced waits until the group has rebalanced and is at rest. Otherwise it would
// look at rest before it has noticed which member came or went.
func (l *lane) rebalanced(before map[*member]int) {
	if !l.await(l.ctx, func() bool { return joinedSince(before) }) {
		l.stuck = "the group does not rebalance: " + l.state()
		return
	}
	if l.settle() {
		l.showGroup()
	}
}

// settle waits until the group is at rest: every partition belongs to one member
// and has been read up, and no member could have less.
func (l *lane) settle() bool {
	ctx, cancel := context.WithTimeout(l.ctx, l.sys.settleTime())
	defer cancel()
	if l.await(ctx, func() bool { return l.atRest() && l.rest() }) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stuck = "the group does not come to rest: " + l.state()
	return false
}

func (l *lane) atRest() bool {
	members := l.members()
	owners := make([]int, l.partitions)
	fewest, most := int(l.partitions), 0
	for _, m := range members {
		live := m.live()
		fewest, most = min(fewest, len(live)), max(most, len(live))
		for _, h := range live {
			owners[h.Partition]++
			if !h.readUp(l.logs[h.Partition]) {
				return false
			}
		}
		if m.assigns == 0 {
			return false
		}
	}
	shared := !slices.ContainsFunc(owners, func(n int) bool { return n != 1 })
	return len(members) == 0 || shared && most-fewest <= 1
}

// rest notes what has been delivered when the group is at rest.
func (l *lane) rest() bool {
	for _, m := range l.members() {
		for _, h := range m.live() {
			h.drained = h.last
		}
	}
	return true
}

// readUp reports whether the whole log has been delivered, and the claim has not lost its
// place. The start of a claim need not be known before the log has a record.
func (h *held) readUp(log extent) bool {
	switch {
	case h.paused:
		return true
	case h.Start >= 0 && (h.next < log.begin || h.Start > log.top):
		return false
	}
	return h.next >= log.end || log.begin >= log.end
}

// state describes the members, for the report of a wait that timed out.
func (l *lane) state() string {
	var b strings.Builder
	for _, m := range l.members() {
		fmt.Fprintf(&b, "[joined %d times:", m.assigns)
		for _, h := range m.live() {
			fmt.Fprintf(&b, " %d at %d of %v", h.Partition, h.next, l.logs[h.Partition])
		}
		b.WriteString("] ")
	}
	return b.String()
}

// showGroup says how the partitions are shared, from where each is read, and which
// errors the members were called with.
//
// The group may leave its rest once more while the positions are read: an error of Sarama
// names no claim, and one of a claim that has ended may end a session.
func (l *lane) showGroup() {
	committed := l.allCommitted(l.topic)
	l.mu.Lock()
	for !l.atRest() {
		l.mu.Unlock()
		if !l.settle() {
			return
		}
		committed = l.allCommitted(l.topic)
		l.mu.Lock()
	}
	loads, moved := l.share()
	reads := l.reads(committed)
	reports := l.reports()
	l.mu.Unlock()
	l.note("members have %v", loads)
	if l.seq.strategy == driver.Sticky || l.seq.strategy == driver.CooperativeSticky {
		l.note("moved %d", moved)
	}
	for _, what := range slices.Concat(reads, reports) {
		l.note("%s", what)
	}
	l.note("committed %v", committed)
}

// share returns how many partitions each member has, and how many have been moved
// from one that is still there.
func (l *lane) share() (loads []int, moved int) {
	owners, members := map[int32]*member{}, l.members()
	for _, m := range members {
		live := m.live()
		loads = append(loads, len(live))
		for _, h := range live {
			owners[h.Partition] = m
			if before := l.owners[h.Partition]; before != m && slices.Contains(members, before) {
				moved++
			}
		}
	}
	l.owners = owners
	slices.Sort(loads)
	return loads, moved
}

// reads says from where each partition is read, and what it has brought. Where it
// is free which claims are kept, it only says which of the new ones do not start
// where they should.
func (l *lane) reads(committed []int64) []string {
	reads := make([]string, l.partitions)
	for _, m := range l.members() {
		for _, h := range m.live() {
			log := l.logs[h.Partition]
			switch {
			case !l.seq.free():
				reads[h.Partition] = h.show(log)
			case !h.shown && h.start(log) != max(committed[h.Partition], log.begin):
				reads[h.Partition] = fmt.Sprintf("%s, but committed is %d", h.show(log), committed[h.Partition])
			}
			h.shown = true
		}
	}
	return slices.DeleteFunc(reads, func(s string) bool { return s == "" })
}

// reports returns the members' errors and ends since the last call.
func (l *lane) reports() (all []string) {
	for _, m := range l.slots {
		if m == nil {
			continue
		}
		for _, what := range m.errs {
			all = append(all, "reported: "+what)
		}
		m.errs = nil
		if m.ended && !m.endShown {
			all, m.endShown = append(all, "a member ends: "+class(m.runErr)), true
		}
	}
	slices.Sort(all)
	return all
}

// start returns where a claim starts. A driver need not know that before the first
// delivery; then start is the beginning of the log at the first call, before any
// deletion.
func (h *held) start(log extent) int64 {
	if h.from == nil {
		h.from = &h.Start
		if h.Start < 0 {
			h.from = &log.begin
		}
	}
	return *h.from
}

// show says where a claim starts, and which offsets it was given.
func (h *held) show(log extent) string {
	if h.paused { // records that were in flight may come
		return fmt.Sprintf("%d is read from %d, and paused", h.Partition, h.start(log))
	}
	var offsets []int64
	for _, r := range h.records {
		offsets = append(offsets, r.Offset)
	}
	return fmt.Sprintf("%d is read from %d: %v", h.Partition, h.start(log), offsets)
}

func (l *lane) showCommitted(group string) { l.note("committed %v", l.allCommitted(group)) }

func (l *lane) allCommitted(group string) []int64 {
	all := make([]int64, l.partitions)
	for p := range all {
		all[p] = l.committed(group, int32(p))
	}
	return all
}

func (l *lane) committed(group string, partition int32) int64 {
	offset, err := l.sys.Committed(l.ctx, group, l.topic, partition)
	l.fails("ask what is committed", err)
	return offset
}

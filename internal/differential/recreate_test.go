package differential

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

// A recreation deletes the topic and creates it again, under another ID.
type recreation struct{}

// A tally counts recreations, by whether the group had members.
type tally struct{ members, empty atomic.Int64 }

func (recreation) String() string { return "recreate the topic" }

// do compares the position that each gap names only where one member is there. Of several,
// the first that learns of the new topic has the group rebalance, so that a partition may
// have another owner before its former one has learned of the new topic, and both report
// the gap. For the same reason it is chance, then, whether a claim is lost or is revoked.
// What a revoked claim commits must not count, so the answer to that commit is left out,
// and the position of the new topic is shown.
func (recreation) do(l *lane) {
	if !l.settle() {
		return
	}
	var old []*held
	positions := l.allCommitted(l.topic)
	l.mu.Lock()
	members := l.members()
	for _, m := range members {
		old = append(old, m.live()...)
	}
	l.mu.Unlock()
	if l.fails("create the topic again", l.sys.RecreateTopic(l.ctx, l.topic, l.partitions)) {
		return
	}
	l.change(func() { clear(l.logs) })
	l.recreated = true
	l.saw = nil
	if len(members) > 1 {
		l.saw = members
	}
	l.owners = nil // a lost partition may come back to another member
	if len(members) == 0 {
		l.recreations.empty.Add(1)
		l.untilForgotten()
		l.showCommitted(l.topic)
		return
	}
	l.recreations.members.Add(1)
	if !l.await(l.ctx, func() bool { return allEnded(old) && l.reported(members) }) {
		l.stuck = "a member does not notice the new topic: " + l.state()
		return
	}
	if !l.settle() {
		return
	}
	l.mu.Lock()
	ends := map[string]int{}
	for _, h := range old {
		ends[h.end]++
	}
	gaps := map[int32]driver.DataLossError{}
	for _, m := range members {
		maps.Copy(gaps, m.recreated)
		clear(m.recreated)
		m.errs = slices.DeleteFunc(m.errs, isDrain)
	}
	l.mu.Unlock()
	for _, p := range slices.Sorted(maps.Keys(gaps)) {
		l.note("%d continues in the new topic at %d", p, gaps[p].To)
		if len(members) == 1 && positions[p] >= 0 {
			l.note("its position in the old topic was %d", gaps[p].From)
		}
	}
	if len(members) == 1 {
		l.note("claims ended: %v", ends)
	}
	l.showGroup()
}

// keeps reports whether the members have to keep their partitions, as one of them, and another,
// were there when the topic was created again. On Kafka such a member starts at the beginning
// of each partition that it is assigned for the first time within half a minute of that, and
// reports the gap once more: a commit names the topic, not its ID, so the member cannot know
// whether the position was earned in the new topic or is one of the old topic that its former
// owner has left. The broker in memory knows, and hands out nothing again. Both deliver at
// least once. An operation that moves partitions does nothing then. It stays so until the end of
// the sequence: no member leaves.
func (l *lane) keeps() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	members := l.members()
	return slices.ContainsFunc(l.saw, func(m *member) bool { return slices.Contains(members, m) })
}

// reported reports whether the gap of each partition has been reported.
func (l *lane) reported(members []*member) bool {
	gaps := map[int32]bool{}
	for _, m := range members {
		for p := range m.recreated {
			gaps[p] = true
		}
	}
	return len(gaps) == int(l.partitions) || len(l.members()) == 0
}

// untilForgotten waits until the group, which has no members, has no position: its
// coordinator drops those of a deleted topic later than other brokers forget the topic.
func (l *lane) untilForgotten() {
	for l.stuck == "" && slices.ContainsFunc(l.allCommitted(l.topic), func(at int64) bool { return at >= 0 }) {
		l.fails("wait until the positions are dropped", l.ctx.Err())
	}
}

package differential

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A refusal is a message that no broker takes.
type refusal struct {
	why   string
	name  bool // it is the topic's name that is illegal
	spoil func(m *driver.Message)
}

var refusals = draws(func(t *rapid.T) refusal { return rapid.SampledFrom(spoiled).Draw(t, "spoiled") })

var spoiled = []refusal{
	{"value too large", false, func(m *driver.Message) { m.Value = make([]byte, 2<<20) }},
	{"key too large", false, func(m *driver.Message) { m.Key = make([]byte, 2<<20) }},
	{"header too large", false, func(m *driver.Message) { m.Headers = []driver.Header{{Key: "h", Value: make([]byte, 2<<20)}} }},
	{"unknown topic", false, func(m *driver.Message) { m.Topic = "differential-unknown" }},
	{"no topic", true, func(m *driver.Message) { m.Topic = "" }},
	{"topic .", true, func(m *driver.Message) { m.Topic = "." }},
	{"topic ..", true, func(m *driver.Message) { m.Topic = ".." }},
	{"topic with a space", true, func(m *driver.Message) { m.Topic = "a b" }},
	{"topic with a letter that is not ASCII", true, func(m *driver.Message) { m.Topic = "ü" }},
	{"topic with 250 letters", true, func(m *driver.Message) { m.Topic = strings.Repeat("a", 250) }},
	{"partition 99", false, func(m *driver.Message) { m.Partition = 99 }},
	{"partition -2", false, func(m *driver.Message) { m.Partition = -2 }},
}

func (r refusal) String() string { return "send: " + r.why }

func (r refusal) do(l *lane) {
	if r.name && l.lenient {
		return // kfake says UNKNOWN_TOPIC_OR_PARTITION of illegal names
	}
	m := &driver.Message{Topic: l.topic, Partition: 0, Value: []byte("spoiled")}
	r.spoil(m)
	err := l.produce(m)
	l.note("%s", class(err))
	if err == nil {
		l.appended(m.Partition, m.Offset)
	}
}

// A wrongCommit is a commit that must be refused, or half of it.
type wrongCommit struct {
	why   string
	marks func(l *lane, m *member) []driver.Mark
}

var wrongCommits = draws(func(t *rapid.T) wrongCommit { return rapid.SampledFrom(wrong).Draw(t, "wrong") })

var wrong = []wrongCommit{
	{"of a claim that has ended", func(_ *lane, m *member) []driver.Mark { return m.endedMarks() }},
	{"of a claim that another member has", func(l *lane, m *member) []driver.Mark {
		for _, other := range l.members() {
			for _, h := range other.live() {
				if other != m {
					return []driver.Mark{{Claim: h.Claim, Offset: h.next + 1}}
				}
			}
		}
		return nil
	}},
	{"of a claim that never was", func(l *lane, _ *member) []driver.Mark {
		return []driver.Mark{{Claim: &driver.Claim{Topic: l.topic}, Offset: 1}}
	}},
	{"of a topic that does not exist", func(*lane, *member) []driver.Mark {
		return []driver.Mark{{Claim: &driver.Claim{Topic: "differential-unknown"}, Offset: 1}}
	}},
	{"of no claim", func(*lane, *member) []driver.Mark { return nil }},
}

// endedMarks asks for the next position of the claim that ended last.
func (m *member) endedMarks() []driver.Mark {
	for i := len(m.claims) - 1; i >= 0; i-- {
		if h := m.claims[i]; h.end != "" {
			return []driver.Mark{{Claim: h.Claim, Offset: max(h.next, 0) + 1}}
		}
	}
	return nil
}

func (c wrongCommit) String() string { return "commit " + c.why }

func (c wrongCommit) do(l *lane) {
	if !l.settle() {
		return
	}
	l.mu.Lock()
	members := l.members()
	var marks []driver.Mark
	if len(members) > 0 {
		marks = c.marks(l, members[0])
	}
	l.mu.Unlock()
	if len(members) == 0 {
		return
	}
	if len(marks) == 0 { // which member has an ended claim is chance, that none commits is not
		marks = []driver.Mark{{Claim: new(driver.Claim), Offset: 1}}
	}
	l.note("%s", class(members[0].commit(l.ctx, marks...)))
	l.showCommitted(l.topic)
}

// A stranger joins the group with a strategy that it does not have.
type stranger struct{}

func (stranger) String() string { return "a stranger joins" }

func (stranger) do(l *lane) {
	if !l.settle() || len(l.joins()) == 0 {
		return
	}
	cfg := l.consumerConfig(l.topic)
	cfg.BalanceStrategies = []driver.BalanceStrategy{(l.seq.strategy + 1) % 4}
	m := l.start(cfg)
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(l.ctx, l.sys.settleTime())
	defer cancel()
	if !l.await(ctx, func() bool { return m.heardCode("INCONSISTENT_GROUP_PROTOCOL") || m.ended }) {
		l.stuck = "the stranger is let in"
		l.shut(m)
		return
	}
	l.mu.Lock()
	l.note("it is kept out: %t", m.heardCode("INCONSISTENT_GROUP_PROTOCOL"))
	l.mu.Unlock()
	l.fails("close of the stranger", l.shut(m))
	if l.settle() {
		l.showGroup()
	}
}

// An expiry has the broker forget all members, as if their sessions had timed out.
type expiry struct{}

func (expiry) String() string { return "all sessions end" }

// do distinguishes a loss from a revocation only where one member is forgotten. Of
// several, the second may hear of the rebalance that the first one's end begins,
// and commit, before it is forgotten itself.
func (expiry) do(l *lane) {
	if !l.settle() || l.keeps() {
		return
	}
	n := len(l.joins())
	if n == 0 || n > 1 && l.seq.drains {
		return
	}
	var claims []*held
	before := l.joins()
	l.mu.Lock()
	for _, m := range l.members() {
		claims = append(claims, m.live()...)
	}
	l.mu.Unlock()
	if l.fails("end sessions", l.sys.EndSessions(l.ctx, l.topic)) {
		return
	}
	if !l.await(l.ctx, func() bool { return allEnded(claims) && joinedSince(before) }) {
		l.stuck = "a member does not notice the end of its session"
		return
	}
	ends := map[string]int{}
	l.mu.Lock()
	for _, h := range claims {
		ends[h.end]++
	}
	l.mu.Unlock()
	if n == 1 {
		l.note("claims ended: %v", ends)
	}
	l.owners = nil // a lost partition may come back to another member
	if l.settle() {
		l.showGroup()
	}
}

func allEnded(claims []*held) bool {
	return !slices.ContainsFunc(claims, func(h *held) bool { return h.end == "" })
}

// A restart closes a static member and starts it again, for which nothing moves.
type restart struct{ who int }

// A usurper starts a static member a second time.
type usurper struct{ who int }

func (r restart) String() string { return fmt.Sprintf("member %d is restarted", r.who) }
func (u usurper) String() string { return fmt.Sprintf("member %d is started a second time", u.who) }

func (r restart) do(l *lane) {
	if l.slots[r.who] == nil || !l.settle() {
		return
	}
	l.note("closed: %s", class(l.end(r.who)))
	if l.slots[r.who] = l.start(l.memberConfig(r.who)); l.stuck == "" && l.settle() {
		l.showGroup()
	}
}

func (u usurper) do(l *lane) {
	old := l.slots[u.who]
	if _, lives := l.joins()[old]; !lives || !l.settle() {
		return
	}
	l.slots[u.who] = l.start(l.memberConfig(u.who))
	if l.stuck != "" {
		return
	}
	select {
	case <-old.ran:
		l.note("the first one ends: %s", class(old.runErr))
	case <-time.After(l.sys.settleTime()):
		l.stuck = "the first one goes on"
	}
	l.note("closed: %s", class(l.shut(old)))
	if l.settle() {
		l.showGroup()
	}
}

// A misreader is a group of its own on a missing topic.
type misreader struct{ topic string }

var misreaders = draws(func(t *rapid.T) misreader {
	return misreader{rapid.SampledFrom([]string{"differential-unknown", "a b", "..", strings.Repeat("a", 250)}).Draw(t, "topic")}
})

func (r misreader) String() string { return fmt.Sprintf("a group on %.10q", r.topic) }

// do notes the first error: drivers may return it from OpenConsumer or Run, or call
// Handler.Error with it.
func (r misreader) do(l *lane) {
	if r.topic != "differential-unknown" && l.lenient {
		return // see refusal
	}
	cfg := l.consumerConfig(fmt.Sprintf("%s-%d", l.topic, len(l.lines)))
	cfg.Topics = []string{r.topic}
	consumer, err := l.sys.Driver().OpenConsumer(l.ctx, cfg)
	if err != nil {
		l.note("%s", class(err))
		return
	}
	m := newMember(l, consumer)
	go m.run()
	defer func() { l.fails("close of the misreader", l.shut(m)) }()
	ctx, cancel := context.WithTimeout(l.ctx, l.sys.settleTime())
	defer cancel()
	if !l.await(ctx, func() bool { return m.heard != nil || m.ended }) {
		l.stuck = "nothing is heard of a topic that does not exist"
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note("%s", class(cmp.Or(m.heard, m.runErr)))
}

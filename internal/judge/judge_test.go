package judge

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

var (
	p0   = Partition{"orders", 0}
	a    = Member{"p1", "g", "c"}
	b    = Member{"p2", "g", "c"}
	both = []Partition{p0}
	p1   = Partition{p0.Topic, 1}
)

// pause is a step of a history in which nothing happens for a while.
type pause time.Duration

func (pause) event() {}

func logged(n int) (es []Event) {
	for i := range n {
		es = append(es, Appended{p0, int64(i), "k", value(int64(i))})
	}
	return es
}

func value(offset int64) string { return "v" + string(rune('0'+offset)) }

func begin(id uint64, m Member, offset int64, attempt int) Event {
	return HandleStart{ID: id, Member: m, Partition: p0, Records: []Record{{offset, "k", value(offset)}}, Attempt: attempt}
}

func handled(m Member, offsets ...int64) (es []Event) {
	for _, o := range offsets {
		id := uint64(100*o) + uint64(len(m.Process)) + uint64(m.Process[1])
		es = append(es, begin(id, m, o, 1), HandleEnd{id, true})
	}
	return es
}

// renewed and rehandled are like logged and handled, for a topic that was created again.
func renewed(n int) (es []Event) {
	for i := range n {
		es = append(es, Appended{p0, int64(i), "k", "new " + value(int64(i))})
	}
	return es
}

func rehandled(m Member, offsets ...int64) (es []Event) {
	for _, o := range offsets {
		id := uint64(1000 + o)
		es = append(es, HandleStart{ID: id, Member: m, Partition: p0, Records: []Record{{o, "k", "new " + value(o)}}, Attempt: 1}, HandleEnd{id, true})
	}
	return es
}

// at is so many seconds after the beginning of a history.
func at(seconds int) time.Time {
	return time.Date(2000, 1, 1, 0, 0, seconds, 0, time.UTC)
}

func committed(offset int64) Event { return CommitApplied{"g", p0, offset, nil} }

func join(parts ...any) (es []Event) {
	for _, p := range parts {
		switch p := p.(type) {
		case Event:
			es = append(es, p)
		case []Event:
			es = append(es, p...)
		}
	}
	return es
}

// Each wrong history violates the invariant that it is named for; the right ones violate
// none.
func TestJudge(t *testing.T) {
	right := join(logged(2), Assigned{a, both}, handled(a, 0, 1), committed(2), Revoked{a, both, nil, false, 0})
	begin2 := join(Assigned{b, both}, begin(2, b, 0, 1))
	on, starting, running := Switched{a, true}, StateChanged{a, "off", "starting"}, StateChanged{a, "starting", "running"}
	stopping := StateChanged{a, "running", "stopping"}
	backing, starting2 := StateChanged{a, "starting", "backing off"}, StateChanged{a, "backing off", "starting"}
	handledNow := join(logged(1), Assigned{a, both}, handled(a, 0), committed(1), Revoked{a, both, nil, false, 0})
	gone := testkit.Ended()
	onItsWay := func(id uint64, offset int64) Event {
		e := begin(id, a, offset, 1).(HandleStart)
		e.Context = Context{gone}
		return e
	}
	sent := func(v string, async bool) Event { return Send{"p1", "s", v, async} }
	beginNew := func(id uint64, attempt int) Event {
		return HandleStart{ID: id, Member: a, Partition: p0, Records: []Record{{0, "k", "new v0"}}, Attempt: attempt}
	}
	failedOnce := join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, HandlerFailed{a, p0, 0, 1})
	for _, test := range []struct {
		want    string
		history []Event
	}{
		{"", right},
		{"", join(right, Assigned{b, both}, Revoked{b, both, nil, false, 0})},
		{"", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, pause(time.Second), begin(2, a, 0, 2), HandleEnd{2, true}, committed(1), Revoked{a, both, nil, false, 0})},
		{"", join(right, sent("v9", true), Answer{"v9", OK, p0, 2}, Appended{p0, 2, "k", "v9"}, Positioned{"g", p0, 3})},
		{"", join(right, Severed{a}, sent("u", false), Answer{Value: "u", Outcome: Unknown})},
		{"", join(right, StopCall{"p1", time.Second, true}, StopReturn{"p1", true})},
		{"", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandlerCancelled{1}, pause(time.Second), HandleEnd{1, true}, committed(1), Revoked{a, both, nil, true, time.Second})},
		{"", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, true}, committed(1), pause(time.Second), Revoked{a, both, nil, true, time.Second})},
		{"", join(failedOnce, Lost{a, both}, Assigned{a, both}, begin(2, a, 0, 1), HandleEnd{2, false}, HandlerFailed{a, p0, 0, 2}, pause(2*time.Second), begin(3, a, 0, 2), HandleEnd{3, true}, committed(1), Revoked{a, both, nil, false, 0})},
		{"", join(failedOnce, Recreated{p0, 0}, Lost{a, both}, Replaced{a, p0, 0}, renewed(1), Assigned{a, both}, beginNew(2, 1), HandleEnd{2, false}, HandlerFailed{a, p0, 0, 1}, pause(1*time.Second), beginNew(3, 2), HandleEnd{3, true}, committed(1), Revoked{a, both, nil, false, 0})},

		{"", join(logged(1), Assigned{a, both}, pause(1), begin(1, a, 0, 1), pause(1), begin2, HandleEnd{1, true}, Revoked{a, both, nil, false, 0}, HandleEnd{2, true}, committed(1), Revoked{b, both, nil, false, 0})},
		{"", join(on, starting, backing, pause(time.Second), starting2, backing, pause(2*time.Second), starting2)},
		{"", join(on, starting, backing, StateChanged{a, "backing off", "disabled"}, Switched{a, true}, StateChanged{a, "disabled", "starting"})},
		{"", join(on, starting, backing, pause(time.Second), starting2, backing, pause(2*time.Second), starting2, Disabled{a, false})},
		{"", join(on, starting, Disabled{a, true})},
		{"", join(on, starting, running, Switched{a, true}, stopping, StateChanged{a, "stopping", "backing off"})},
		{"", join(on, starting, running, StateChanged{a, "running", "starting"}, StateChanged{a, "starting", "running"})},
		{"", join(on, starting, running, handledNow, stopping, StateChanged{a, "stopping", "backing off"}, pause(time.Second), starting2)},

		{"", join(logged(1), Assigned{a, both}, Lost{a, both}, Assigned{a, both}, onItsWay(1, 0), HandleEnd{1, true}, begin(2, a, 0, 1), HandleEnd{2, true}, committed(1), Revoked{a, both, nil, false, 0})},
		{"", join(logged(1), Assigned{a, both}, Switched{a, false}, onItsWay(1, 0), HandleEnd{1, true}, committed(1), Revoked{a, both, nil, false, 0})},

		{"", join(logged(3), Positioned{"g", p0, 2}, Assigned{a, both}, Severed{a}, Truncated{p0, 3, 1}, Positioned{"g", p0, 0}, Assigned{b, both},
			begin(1, a, 2, 1), HandleEnd{1, true}, handled(b, 0), committed(1), Revoked{b, both, nil, false, 0}, Reconnected{a}, Lost{a, both})},

		{"", join(logged(1), Assigned{a, both}, Status{a, []Partition{p0}, []int{0}, 0}, handled(a, 0), committed(1), Revoked{a, both, nil, false, 0}, Status{a, nil, nil, 0})},
		{"", join(on, starting, backing, Status{a, nil, nil, 1}, pause(time.Second), starting2)},

		{"", join(right, Recreated{p0, 0}, renewed(2), Assigned{b, both}, rehandled(b, 0, 1), committed(2), Revoked{b, both, nil, false, 0})},
		{"", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), Recreated{p0, 0}, Lost{a, both}, Assigned{b, both}, HandleEnd{1, true}, renewed(1), rehandled(b, 0), committed(1), Revoked{b, both, nil, false, 0})},
		{"", join(logged(2), Assigned{a, both}, handled(a, 0), Recreated{p0, time.Second}, handled(a, 1), pause(time.Second), Lost{a, both})},
		{"", join(logged(2), Damaged{p0, 1}, Assigned{a, both}, handled(a, 0), committed(1), Revoked{a, both, nil, false, 0})},
		{"", join(logged(1), Assigned{a, both}, Severed{a}, Expiring{a, at(2)}, pause(time.Second), Lost{a, both}, Assigned{b, both}, pause(time.Hour), handled(b, 0), committed(1), Revoked{b, both, nil, false, 0})},
		{"", join(logged(1), Assigned{a, both}, Severed{a}, Expiring{a, at(2)}, pause(time.Second), Reconnected{a}, pause(time.Hour), handled(a, 0), committed(1), Revoked{a, both, nil, false, 0})},

		{"", join(Assigned{a, []Partition{p0, p1}}, pause(time.Second), Recreated{p0, 2 * time.Second}, pause(time.Second), Revoked{a, []Partition{p1}, nil, false, 2 * time.Second}, pause(2*time.Second), Lost{a, []Partition{p0}})},
		{"claim-survived-its-topic", join(Assigned{a, []Partition{p0, p1}}, pause(time.Second), Recreated{p0, 2 * time.Second}, pause(time.Second), Revoked{a, []Partition{p1}, nil, false, 2 * time.Second}, pause(2*time.Second+1))},
		{"claim-survived-its-topic", join(Assigned{a, []Partition{p0, p1}}, Recreated{p0, 2 * time.Second}, pause(2*time.Second), Revoked{a, []Partition{p1}, nil, false, time.Second}, pause(1))},
		{"claim-survived-its-topic", join(Assigned{a, both}, Recreated{p0, 0}, pause(1))},
		{"stuck-without-a-handler", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, pause(2), Revoked{a, both, both, false, 1})},
		{"commit-beyond-done", join(right, Recreated{p0, 0}, renewed(2), committed(2))},
		{"unseen", join(right, Recreated{p0, 0}, renewed(2))},
		{"skipped", join(right, Recreated{p0, 0}, renewed(2), Assigned{b, both}, rehandled(b, 1))},
		{"unseen", join(logged(2), Damaged{p0, 1}, Assigned{a, both}, Revoked{a, both, nil, false, 0})},
		{"unseen", join(logged(2), Damaged{p0, 1}, Assigned{a, both}, handled(a, 0), committed(1), Revoked{a, both, nil, false, 0}, Damaged{p0, -1})},
		{"handled-after-the-session", join(logged(1), Assigned{a, both}, Severed{a}, Expiring{a, at(1)}, pause(time.Second), begin(1, a, 0, 1))},
		{"not-fenced", join(Assigned{a, both}, Severed{a}, Expiring{a, at(1)}, pause(time.Second))},
		{"not-fenced", join(Assigned{a, both}, Severed{a}, Expiring{a, at(1)}, pause(time.Second), Lost{a, both})},
		{"handed-out-after-halt", join(logged(2), Assigned{a, both}, onItsWay(1, 0), HandleEnd{1, true}, onItsWay(2, 1))},
		{"handled-while-off", join(logged(1), Assigned{a, both}, Switched{a, false}, pause(1), onItsWay(1, 0))},
		{"unseen", join(logged(2), Assigned{a, both}, handled(a, 0), committed(1), Revoked{a, both, nil, false, 0})},
		{"uncommitted", join(logged(2), Assigned{a, both}, handled(a, 0, 1), committed(1), Revoked{a, both, nil, false, 0})},
		{"commit-beyond-done", join(logged(2), Assigned{a, both}, handled(a, 0), committed(2))},
		{"commit-beyond-done", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), committed(1), HandleEnd{1, true})},
		{"commit-moved-back", join(right, committed(1))},
		{"skipped", join(logged(2), Assigned{a, both}, handled(a, 1))},
		{"skipped", join(logged(3), Assigned{a, both}, HandleStart{ID: 1, Member: a, Partition: p0, Records: []Record{{0, "k", "v0"}, {2, "k", "v2"}}})},
		{"handled-twice-or-reordered", join(logged(2), Assigned{a, both}, handled(a, 0, 1), begin(9, a, 0, 1))},
		{"failed-record-left-behind", join(logged(2), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, begin(2, a, 1, 1))},
		{"wrong-attempt", join(logged(1), Assigned{a, both}, begin(1, a, 0, 2))},
		{"backoff", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, begin(2, a, 0, 2))},
		{"failures-miscounted", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, HandlerFailed{a, p0, 0, 3})},
		{"failures-miscounted", join(failedOnce, Recreated{p0, 0}, Lost{a, both}, Replaced{a, p0, 0}, renewed(1), Assigned{a, both}, beginNew(2, 1), HandleEnd{2, false}, HandlerFailed{a, p0, 0, 2})},
		{"failures-miscounted", join(failedOnce, pause(time.Second), begin(2, a, 0, 2), HandleEnd{2, true}, Lost{a, both}, Assigned{a, both}, begin(3, a, 0, 1), HandleEnd{3, false}, HandlerFailed{a, p0, 0, 2})},
		{"disabled-without-cause", join(on, starting, running, logged(1), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, HandlerFailed{a, p0, 0, 1}, Disabled{a, false})},
		{"disabled-without-cause", join(on, starting, backing, pause(time.Second), starting2, Disabled{a, false})},
		{"two-owners", join(Assigned{a, both}, Assigned{b, both})},
		{"two-owners", join(Appended{p0, 0, "k", "v0"}, Assigned{a, both}, Severed{a}, Assigned{b, both}, Reconnected{a})},
		{"two-handlers", join(logged(1), Assigned{a, both}, Assigned{b, both}, begin(1, a, 0, 1), begin(2, b, 0, 1))},
		{"two-handlers", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), Lost{a, both}, Assigned{a, both}, begin(2, a, 0, 1))},
		{"handled-without-owning", join(logged(1), handled(a, 0))},
		{"handled-after-revoke-or-loss", join(logged(1), Assigned{a, both}, Revoked{a, both, nil, false, 0}, handled(a, 0))},
		{"handled-after-revoke-or-loss", join(logged(1), Assigned{a, both}, Lost{a, both}, pause(1), handled(a, 0))},
		{"revoked-while-handling", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), Revoked{a, both, nil, false, 0})},
		{"not-committed-at-revoke", join(logged(1), Assigned{a, both}, handled(a, 0), Revoked{a, both, nil, true, 0})},
		{"handler-not-cancelled", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), pause(time.Second), Revoked{a, both, both, true, 0})},
		{"assigned-twice", join(Assigned{a, both}, pause(1), Assigned{a, both})},
		{"ended-without-owning", join(Lost{a, both})},
		{"ended-twice", join(HandleEnd{1, true})},
		{"never-ended", join(Assigned{a, both})},
		{"wrong-status", join(logged(1), Assigned{a, both}, Status{a, nil, nil, 0})},
		{"wrong-status", join(logged(1), Status{a, []Partition{p0}, []int{0}, 0})},
		{"wrong-status", join(logged(1), Assigned{a, both}, handled(a, 0), Status{a, []Partition{p0}, []int{1}, -1})},
		{"wrong-status", join(on, starting, Status{a, nil, nil, 1})},
		{"handler-not-cancelled", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), pause(time.Second), HandlerCancelled{1}, HandleEnd{1, false}, Revoked{a, both, nil, true, time.Second})},
		{"handler-not-cancelled", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), Lost{a, both})},
		{"handler-not-cancelled", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), Switched{a, false})},
		{"handled-while-off", join(logged(1), Assigned{a, both}, Switched{a, false}, begin(1, a, 0, 1))},
		{"aborted-read", join(Assigned{a, both}, begin(1, a, 0, 1))},
		{"inconsistent-offset", join(logged(2), Assigned{a, both}, HandleStart{ID: 1, Member: a, Partition: p0, Records: []Record{{1, "k", "v0"}}})},
		{"changed-record", join(logged(1), Assigned{a, both}, HandleStart{ID: 1, Member: a, Partition: p0, Records: []Record{{0, "x", "v0"}}})},
		{"log-order", join(logged(2), Appended{p0, 0, "k", "other"})},
		{"duplicate", join(logged(1), Appended{p0, 1, "k", "v0"})},
		{"reordered", join(sent("v1", true), sent("v2", true), Appended{p0, 0, "k", "v2"}, Appended{p0, 1, "k", "v1"})},
		{"failed-but-in-log", join(sent("v0", false), Answer{Value: "v0", Outcome: Failed}, logged(1))},
		{"acked-but-not-in-log", join(sent("x", false), Answer{"x", OK, p0, 7})},
		{"acked-elsewhere", join(sent("v0", false), Answer{"v0", OK, p0, 7}, logged(1))},
		{"callback-missing", join(sent("x", true))},
		{"callback-missing", join(sent("x", true), pause(1), StopCall{Process: "p1"}, StopReturn{"p1", true}, Answer{Value: "x", Outcome: Failed})},
		{"callback-twice", join(sent("x", true), Answer{Value: "x", Outcome: Failed}, Answer{Value: "x", Outcome: Failed})},
		{"value-not-unique", join(sent("x", true), sent("x", true))},
		{"illegal-state", join(StateChanged{a, "off", "running"})},
		{"illegal-state", join(StateChanged{a, "starting", "running"})},
		{"backoff", join(StateChanged{a, "off", "starting"}, StateChanged{a, "starting", "backing off"}, StateChanged{a, "backing off", "starting"})},
		{"backoff", join(on, starting, backing, pause(time.Second), starting2, backing, pause(time.Second), starting2)},
		{"backoff", join(on, starting, running, handledNow, stopping, StateChanged{a, "stopping", "backing off"}, pause(2*time.Second), starting2)},
		{"too-many-attempts", join(on, starting, backing, pause(time.Second), starting2, backing, pause(2*time.Second), starting2, backing)},
		{"switch-ignored", join(on, starting, backing, Switched{a, true})},
		{"switch-ignored", join(on, starting, running, Switched{a, false})},
		{"switch-ignored", join(on, starting, running, pause(1), stopping, Switched{a, true}, StateChanged{a, "stopping", "backing off"})},
		{"switch-ignored", join(on, starting, pause(1), Switched{a, true}, backing)},
		{"switch-ignored", join(on, starting, Opening{a}, pause(1), Switched{a, true}, backing)},
		{"", join(on, starting, Opening{a}, pause(1), Switched{a, true}, Opening{a}, backing)},
		{"switch-ignored", join(on, starting, StateChanged{a, "starting", "disabled"}, Switched{a, true})},
		{"started-below-committed", join(right, Assigned{b, both}, begin(9, b, 1, 1))},
		{"handled-twice-or-reordered", join(logged(2), Assigned{a, both}, HandleStart{ID: 1, Member: a, Partition: p0, Records: []Record{{1, "k", "v1"}, {0, "k", "v0"}}})},
		{"slow-stop", join(StopCall{"p1", time.Second, false}, pause(2*time.Second), StopReturn{"p1", false})},
		{"slow-stop", join(StopCall{"p1", time.Minute, true}, pause(1), StopReturn{"p1", true})},
		{"slow-stop", join(StopCall{"p1", time.Minute, true})},
		{"stop-without-call", join(StopReturn{"p1", true})},
		{"alive-after-stop", join(StopCall{Process: "p1"}, StopReturn{"p1", true}, Assigned{a, both})},
		{"alive-after-stop", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), StopCall{Process: "p1"}, StopReturn{"p1", true})},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := New(Rules{MaxErrors: 3, BackoffMin: time.Second, BackoffMax: time.Minute, Multiplier: 2})
			for _, e := range test.history {
				if d, ok := e.(pause); ok {
					time.Sleep(time.Duration(d))
					continue
				}
				j.Tell(e)
			}
			vs := j.Final(Subscription{"g", "orders"})
			if test.want == "" {
				assert.Empty(t, vs, "%v", test.history)
			} else {
				assert.True(t, slices.ContainsFunc(vs, func(v Violation) bool { return v.Invariant == test.want }),
					"%v\ngot %v, want %q", test.history, vs, test.want)
			}
		})
	}
}

// For members at most once, a record counts as done when it was handed out.
func TestJudgeAtMostOnce(t *testing.T) {
	history := join(logged(2), Assigned{a, both}, begin(1, a, 0, 1), committed(1), HandleEnd{1, false}, Lost{a, both},
		Assigned{b, both}, begin(2, b, 1, 1), HandleEnd{2, true}, committed(2), Revoked{b, both, nil, false, 0})
	for _, rules := range []Rules{{AtMostOnce: true}, {}} {
		j := New(rules)
		for _, e := range history {
			j.Tell(e)
		}
		vs := j.Final(Subscription{"g", "orders"})
		assert.Equal(t, rules.AtMostOnce, len(vs) == 0, "%+v: %v", rules, vs)
	}
}

// Every invariant that the judge can name has a wrong history above.
func TestEveryInvariantHasAWrongHistory(t *testing.T) {
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	var code, tests string
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if strings.HasSuffix(f, "_test.go") {
			tests += string(text)
		} else {
			code += string(text)
		}
	}
	names := regexp.MustCompile(`(?:violate\(|invariant: )("[a-z-]+")`).FindAllStringSubmatch(code, -1)
	assert.GreaterOrEqual(t, len(names), 40, "invariants that were found")
	for _, name := range names {
		assert.True(t, strings.Contains(tests, "{"+name[1]+", join("), "no wrong history for %s", name[1])
	}
}

package judge

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Each wrong history of what operators ask for, and of retry topics, violates the invariant
// that it is named for; the right ones violate none.
func TestJudgeOfOperatorsAndRetryTopics(t *testing.T) {
	r0, r1 := Partition{"orders.retry", 0}, Partition{"orders.last.retry", 0}
	retries := []Partition{r0, r1}
	one, two := join(logged(1), Assigned{a, both}), join(logged(2), Assigned{a, both})
	paused := Paused{Member: a}
	resuming := Resuming{Member: a}
	end := func(offset int64) []Event {
		return join(committed(offset), Revoked{a, both, nil, false, 0})
	}
	later := pause(time.Second)
	rated := Rated{a, 1}
	call := func(id uint64, p Partition, value string, attempt int) Event {
		return HandleStart{ID: id, Member: a, Partition: p, Records: []Record{{0, "k", value}}, Attempt: attempt}
	}
	// A record fails, lies in a retry topic from then on, and is due after a second.
	fails := join(one, begin(1, a, 0, 1), HandleEnd{1, false})
	marked := Marked{Partition: r0, Record: Record{0, "k", "v0 r"}, Origin: p0, Attempts: 1, Due: at(1), Late: at(1)}
	copied := Copied{Group: "g", Partition: p0, Record: Record{0, "k", "v0"}, At: r0, Attempts: 1}
	forwarded := Forwarded{Member: a, Partition: p0, Attempts: 1, To: r0, Retry: true}
	waits := join(fails, marked, copied, forwarded, Appended{r0, 0, "k", "v0 r"}, end(1), Assigned{a, retries})
	again := join(waits, later, call(2, r0, "v0 r", 2), HandleEnd{2, false})
	last := Copied{Group: "g", Partition: p0, Record: Record{0, "k", "v0"}, At: r1, Attempts: 2}
	gone := Forwarded{Member: a, Partition: r0, Attempts: 2, To: r1, Retry: true}
	rest := []Event{CommitApplied{"g", r0, 1, nil}, Revoked{a, retries, nil, false, 0}}
	foreign := join(Marked{Partition: r0, Record: Record{0, "k", "w"}, Foreign: true}, Appended{r0, 0, "k", "w"}, Assigned{a, retries})
	own := join(Marked{Partition: r0, Record: Record{0, "k", "w"}}, Appended{r0, 0, "k", "w"}, Assigned{a, retries})
	pass := PassedOver{a, r0, 0}
	// A retry topic has a record that is due at once, one that is due after five seconds, and
	// one that is due at once. The first one has been handled.
	due := func(offset int64, value string, seconds int) []Event {
		return []Event{Marked{Partition: r0, Record: Record{offset, "k", value}, Due: at(0), Late: at(seconds)}, Appended{r0, offset, "k", value}}
	}
	inHand := join(StateChanged{Member: a, From: "off", To: "starting"}, StateChanged{Member: a, From: "starting", To: "running"}, Ordered{Member: a, Order: AnyOrder, Parallelism: 1},
		due(0, "x", 0), due(1, "y", 5), due(2, "z", 0), Assigned{a, retries},
		HandleStart{ID: 1, Member: a, Partition: r0, Records: []Record{{0, "k", "x"}}, Attempt: 1, Context: Context{t.Context()}}, HandleEnd{1, true})
	offered := Offered{a, r0, 1, false}
	done := []Event{
		pause(5 * time.Second), HandleStart{ID: 2, Member: a, Partition: r0, Records: []Record{{2, "k", "z"}}, Attempt: 1}, HandleEnd{2, true},
		CommitApplied{"g", r0, 3, nil}, Revoked{a, retries, nil, false, 0},
	}
	for _, test := range []struct {
		want    string
		history []Event
	}{
		{"", join(inHand, Deleted{r0, 2}, offered, done)},
		{"stalled", join(inHand, Deleted{r0, 2}, pause(5*time.Second), offered)},
		{"stalled", join(inHand, pause(5*time.Second), offered)},
		{"", join(one, paused, begin(1, a, 0, 1), later, resuming, HandleEnd{1, true}, end(1))},
		{"", join(one, Paused{Member: a, Partitions: []Partition{{"orders", 7}}}, later, begin(1, a, 0, 1), HandleEnd{1, true}, end(1))},
		{"", join(one, paused, later, resuming, begin(1, a, 0, 1), HandleEnd{1, true}, end(1))},
		{"", join(one, paused, later, Fetching{a, p0, false}, Fetching{a, p0, true}, resuming, begin(1, a, 0, 1), HandleEnd{1, true}, end(1))},
		{"handed-out-while-paused", join(one, paused, later, begin(1, a, 0, 1))},
		{"handed-out-while-paused", join(one, Paused{Member: a, AtRest: true}, begin(1, a, 0, 1))},
		{"handed-out-while-paused", join(two, paused, begin(1, a, 0, 1), HandleEnd{1, true}, begin(2, a, 1, 1))},
		{"handed-out-while-paused", join(one, paused, Resuming{a, both}, later, begin(1, a, 0, 1))},
		{"handed-out-while-paused", join(one, paused, Lost{a, both}, Assigned{a, both}, later, begin(1, a, 0, 1))},
		{"fetched-while-paused", join(one, paused, Fetching{a, p0, false})},

		{"", join(rated, two, begin(1, a, 0, 1), HandleEnd{1, true}, later, begin(2, a, 1, 1), HandleEnd{2, true}, end(2))},
		{"", join(rated, two, begin(1, a, 0, 1), HandleEnd{1, true}, later, Rated{a, 0}, begin(2, a, 1, 1), HandleEnd{2, true}, end(2))},
		{"rate-exceeded", join(rated, two, later, begin(1, a, 0, 1), HandleEnd{1, true}, pause(time.Second/2), begin(2, a, 1, 1))},
		{"rate-exceeded", join(rated, two, later, begin(1, a, 0, 1), HandleEnd{1, true}, Revoked{a, both, nil, false, 0}, Assigned{a, both}, begin(2, a, 1, 1))},

		{"", join(again, last, gone, rest)},
		{"", join(waits, later, call(2, r0, "v0 r", 2), HandleEnd{2, true}, rest)},
		{"handed-out-before-its-time", join(waits, call(2, r0, "v0 r", 2))},
		{"wrong-attempt", join(waits, later, call(2, r0, "v0 r", 1))},
		{"forwarded-without-copy", join(fails, forwarded)},
		{"forwarded-without-copy", join(again, last, Forwarded{Member: a, Partition: r0, Attempts: 2, To: r0, Retry: true})},
		{"attempts-miscounted", join(fails, marked, copied, Forwarded{Member: a, Partition: p0, Attempts: 2, To: r0, Retry: true})},
		{"commit-beyond-done", join(again, last, rest)},
		{"too-many-calls", join(again, later, call(3, r0, "v0 r", 3))},
		{"given-up-unasked", join(fails, Skipped{a, p0, 0, 1})},
		{"one-copy-for-two", join(again, last, gone, Marked{Partition: r1, Record: Record{0, "k", "v0 s"}, Origin: p0, Attempts: 1}, Appended{r1, 0, "k", "v0 s"},
			call(3, r1, "v0 s", 2), HandleEnd{3, false}, Forwarded{Member: a, Partition: r1, Attempts: 2, To: r1, Retry: true})},
		{"", join(foreign, pass, rest)},
		{"handled-of-another-group", join(foreign, call(1, r0, "w", 1))},
		{"passed-over-of-this-group", join(own, pass)},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := New(Rules{MaxErrors: 3, BackoffMin: time.Second, BackoffMax: time.Minute, Multiplier: 2,
				Policy: Policy{Then: "skip", MaxAttempts: 1, Patience: time.Minute},
				Retry:  func(_, topic string) (is, more bool) { return topic != "orders", topic != "orders.last.retry" }})
			for _, e := range test.history {
				if d, ok := e.(pause); ok {
					time.Sleep(time.Duration(d))
					continue
				}
				j.Tell(e)
			}
			vs := j.Final(Subscription{"g", "orders"}, Subscription{"g", r0.Topic})
			if test.want == "" {
				assert.Empty(t, vs, "%v", test.history)
			} else {
				assert.True(t, slices.ContainsFunc(vs, func(v Violation) bool { return v.Invariant == test.want }),
					"%v\ngot %v, want %q", test.history, vs, test.want)
			}
		})
	}
}

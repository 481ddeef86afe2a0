package judge

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Each wrong history of a member that handles many records of a partition at once
// violates the invariant that it is named for; the right ones violate none.
func TestJudgeOfOrders(t *testing.T) {
	byKey := Ordered{Member: a, Order: ByKey, Parallelism: 2}
	anyOrder := Ordered{Member: a, Order: AnyOrder, Parallelism: 2}
	unnamed := Ordered{Member: b, Order: ByKey, Parallelism: 2, Unnamed: true}
	claim, over := context.WithCancel(t.Context())
	over()
	call := func(id uint64, m Member, offset int64, key string, ctx context.Context) Event {
		return HandleStart{ID: id, Member: m, Partition: p0, Records: []Record{{offset, key, value(offset)}}, Context: Context{ctx}}
	}
	of := func(id uint64, offset int64, key string) Event { return call(id, a, offset, key, nil) }
	done := func(id uint64) Event { return HandleEnd{id, true} }
	fails := func(id uint64) Event { return HandleEnd{id, false} }
	names := func(offset int64, done ...Span) Event { return CommitApplied{"g", p0, offset, done} }
	wait := pause(time.Second)
	keys := join(Appended{p0, 0, "x", "v0"}, Appended{p0, 1, "x", "v1"}, Appended{p0, 2, "y", "v2"}, Appended{p0, 3, "", "v3"}, Appended{p0, 4, "", "v4"})
	start := join(keys, byKey, StateChanged{a, "off", "starting"}, StateChanged{a, "starting", "running"}, Assigned{a, both})
	restOf := func(m Member, offsets ...int64) (es []Event) {
		for _, o := range offsets {
			id := uint64(50 + o)
			es = append(es, call(id, m, o, []string{"x", "x", "y", "", ""}[o], nil), done(id))
		}
		return append(es, names(5), Revoked{m, both, nil, false, 0})
	}
	rest := func(offsets ...int64) []Event { return restOf(a, offsets...) }
	above := join(start, of(1, 2, "y"), done(1), names(0, Span{2, 3}), Lost{a, both})
	failed := join(start, of(1, 0, "x"), fails(1))
	for _, test := range []struct {
		want    string
		history []Event
	}{
		{"", join(start, of(1, 0, "x"), of(2, 2, "y"), done(2), of(3, 3, ""), done(3), done(1), rest(1, 4))},
		{"", join(failed, of(2, 2, "y"), done(2), of(3, 3, ""), wait, of(4, 0, "x"), done(4), done(3), rest(1, 4))},
		{"", join(failed, of(2, 2, "y"), of(3, 3, ""), pause(5*time.Second), done(2), of(4, 0, "x"), done(4), done(3), rest(1, 4))},
		{"", join(above, Assigned{a, both}, rest(0, 1, 3, 4))},
		{"", join(above, unnamed, Assigned{b, both}, restOf(b, 0, 1, 2, 3, 4))},
		{"", join(above, Positioned{"g", p0, 0}, Assigned{a, both}, rest(0, 1, 2, 3, 4))},
		{"", join(above, Assigned{b, both}, HandleStart{ID: 9, Member: b, Partition: p0, Records: []Record{{0, "x", "v0"}, {1, "x", "v1"}, {3, "", "v3"}}},
			done(9), restOf(b, 4))},
		{"", join(start, of(1, 2, "y"), done(1), names(0, Span{2, 3}), Revoked{a, both, nil, true, 0}, Assigned{a, both}, rest(0, 1, 3, 4))},
		{"", join(keys, anyOrder, Assigned{a, both}, of(1, 1, "x"), of(2, 0, "x"), done(1), done(2), rest(2, 3, 4))},
		{"", join(start, call(1, a, 0, "x", t.Context()), Offered{a, p0, 0, false}, of(2, 2, "y"), Offered{a, p0, 3, false}, done(2), done(1), rest(1, 3, 4))},

		{"", join(above, Truncated{p0, 5, 1}, Positioned{"g", p0, 0}, names(0, Span{2, 3}), Ordered{Member: b, Order: AnyOrder, Parallelism: 1}, Assigned{b, both}, call(2, b, 2, "y", nil), done(2), call(3, b, 0, "x", nil), done(3),
			names(1), Revoked{b, both, nil, false, 0})},

		{"", join(start, of(1, 0, "x"), Resolving{a, p0, 0, "keep"}, fails(1), of(2, 0, "x"), done(2), rest(1, 2, 3, 4))},

		{"overtaken", join(start, of(1, 1, "x"))},
		{"overtaken", join(start, of(1, 1, "x"), done(1), rest(0, 2, 3, 4))},
		{"two-handlers", join(start, of(1, 0, "x"), of(2, 1, "x"))},
		{"two-handlers", join(keys, anyOrder, Assigned{a, both}, of(1, 3, ""), of(2, 3, ""))},
		{"two-handlers", join(start, of(1, 0, "x"), Lost{a, both}, Assigned{a, both}, of(2, 2, "y"))},
		{"two-handlers", join(start, of(1, 0, "x"), Assigned{b, both}, call(2, b, 2, "y", nil))},
		{"too-many-handlers", join(start, of(1, 0, "x"), of(2, 2, "y"), of(3, 3, ""))},
		{"too-many-handlers", join(keys, Ordered{Member: a, Order: AnyOrder, Parallelism: 2, Concurrency: 1}, Assigned{a, both}, of(1, 0, "x"), of(2, 2, "y"))},
		{"failed-record-left-behind", join(failed, of(2, 1, "x"))},
		{"handled-twice-or-reordered", join(start, of(1, 3, ""), done(1), of(2, 3, ""))},
		{"handled-twice-or-reordered", join(start, of(1, 1, "x"), fails(1), of(2, 0, "x"))},
		{"backoff", join(failed, of(2, 0, "x"))},
		{"backoff", join(failed, of(2, 2, "y"), pause(5*time.Second), of(4, 0, "x"))},
		{"wrong-attempt", join(failed, wait, begin(2, a, 0, 1))},
		{"failures-miscounted", join(start, of(1, 0, "x"), done(1), HandlerFailed{a, p0, 0, 1})},
		{"named-but-not-done", join(start, of(1, 2, "y"), names(0, Span{2, 3}))},
		{"named-but-not-done", join(start, of(1, 2, "y"), names(0, Span{2, 3}), done(1))},
		{"handled-though-named", join(above, Assigned{a, both}, of(2, 2, "y"))},
		{"handled-though-named", join(above, Assigned{b, both}, call(2, b, 2, "y", nil))},
		{"not-committed-at-revoke", join(start, of(1, 2, "y"), done(1), Revoked{a, both, nil, true, 0})},
		{"started-below-committed", join(start, of(1, 0, "x"), done(1), names(1), Lost{a, both}, Assigned{a, both}, of(2, 3, ""), done(2), of(3, 0, "x"))},
		{"handler-not-cancelled", join(start, of(1, 0, "x"), of(2, 2, "y"), HandlerCancelled{2}, Lost{a, both})},
		{"handed-out-after-halt", join(start, of(1, 0, "x"), HandlerCancelled{1}, wait, call(2, a, 2, "y", claim))},
		{"handed-out-after-halt", join(start, call(1, a, 0, "x", claim), call(2, a, 2, "y", claim), call(3, a, 3, "", claim))},
		{"stalled", join(start, call(1, a, 0, "x", t.Context()), Offered{a, p0, 1, false})},
		{"stalled", join(start, call(1, a, 0, "x", t.Context()), Offered{a, p0, 0, true})},
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

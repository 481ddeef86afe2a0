package judge

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Each wrong history of seeks violates the invariant that it is named for; the right ones
// violate none.
func TestJudgeOfSeeks(t *testing.T) {
	revoked := Revoked{a, both, nil, false, 0}
	asked := func(id uint64, offset int64) Event {
		return Seeking{ID: id, Member: a, Partitions: both, Offset: offset}
	}
	moved := func(offset int64) Event { return Sought{a, p0, offset} }
	said := func(id uint64, offset int64) Event {
		return SeekReturned{ID: id, Done: []Target{{p0, offset}}}
	}
	perhaps := func(id uint64, offset int64) Event {
		return SeekReturned{ID: id, Unknown: []Target{{p0, offset}}}
	}
	again := func(id uint64, offset int64) []Event { return join(begin(id, a, offset, 1), HandleEnd{id, true}) }
	three := join(logged(3), Assigned{a, both}, handled(a, 0, 1, 2), committed(3))
	back := join(three, asked(1, 1), revoked, moved(1), said(1, 1), Assigned{a, both})
	rest := join(again(2, 1), again(3, 2), committed(3), revoked)
	first := join(logged(3), Assigned{a, both}, begin(1, a, 0, 1))
	forward := join(first, HandleEnd{1, true}, committed(1), asked(1, 2), revoked, moved(2), said(1, 2), Assigned{a, both})
	// The window of the drain is over before the handler has returned.
	stuck := join(logged(2), Assigned{a, both}, begin(1, a, 0, 1), asked(1, 0), pause(time.Second),
		Revoked{a, both, both, false, time.Second}, moved(0), said(1, 0), Assigned{a, both})
	failed := join(logged(2), Assigned{a, both}, begin(1, a, 0, 1), HandleEnd{1, false}, HandlerFailed{a, p0, 0, 1}, pause(time.Second/2))
	offMove := Sought{Member{Group: "g"}, p0, 1}
	live := Context{context.Background()}
	in := func(id uint64, offset int64) Event {
		e := begin(id, a, offset, 1).(HandleStart)
		e.Context = live
		return e
	}
	parallel := join(Ordered{Member: a, Order: AnyOrder, Parallelism: 2}, logged(3), Assigned{a, both}, in(1, 0), StateChanged{a, "off", "starting"}, StateChanged{a, "starting", "running"})
	offered := Offered{Member: a, Partition: p0, Ready: 1}
	for _, test := range []struct {
		want    string
		history []Event
	}{
		{"", join(back, rest)},
		{"", join(forward, again(3, 2), committed(3), revoked)},
		{"", join(three, asked(1, 1), revoked, moved(1), perhaps(1, 1), Assigned{a, both}, rest)},
		{"", join(three, asked(1, 1), perhaps(1, 1), revoked)},
		{"", join(three, asked(1, 1), SeekReturned{ID: 1}, revoked)},
		{"", join(three, revoked, asked(1, 1), offMove, said(1, 1), Assigned{a, both}, rest)},
		{"", join(three, asked(1, 1), asked(2, 1), revoked, moved(1), said(2, 1), Assigned{a, both}, revoked, moved(1), said(1, 1), Assigned{a, both}, rest)},
		{"", join(stuck, HandleEnd{1, true}, again(2, 0), again(3, 1), committed(2), revoked)},
		{"", join(failed, asked(1, 0), revoked, moved(0), said(1, 0), Assigned{a, both}, begin(2, a, 0, 1), HandleEnd{2, false}, HandlerFailed{a, p0, 0, 1}, pause(time.Second), begin(3, a, 0, 2), HandleEnd{3, true}, again(4, 1), committed(2), revoked)},
		{"", join(logged(1), Assigned{a, both}, begin(1, a, 0, 1), asked(1, 0), pause(time.Second), HandleEnd{1, true}, committed(1), Revoked{a, both, nil, true, time.Second}, moved(0), said(1, 0), Assigned{a, both}, again(2, 0), committed(1), revoked)},
		{"", join(parallel, asked(1, 0), offered, HandleEnd{1, true}, committed(1), revoked, SeekReturned{ID: 1}, Assigned{a, both}, in(2, 1), HandleEnd{2, true}, in(3, 2), HandleEnd{3, true}, committed(3), revoked)},

		{"unseen", join(back, revoked)},
		{"skipped", join(back, begin(2, a, 2, 1))},
		{"started-below-committed", join(back, begin(2, a, 0, 1))},
		{"commit-beyond-done", join(back, committed(3))},
		{"committed-by-an-old-claim", join(three, asked(1, 1), revoked, moved(1), committed(3))},
		{"commit-moved-back", join(three, asked(1, 3), revoked, moved(3), said(1, 3), Assigned{a, both}, committed(2))},
		{"commit-beyond-done", join(stuck, HandleEnd{1, true}, again(2, 0), committed(2))},
		{"two-handlers", join(stuck, begin(2, a, 0, 1))},
		{"seek-not-durable", join(three, asked(1, 1), revoked, said(1, 1))},
		{"seek-not-durable", join(back, asked(2, 1), said(2, 1))},
		{"moved-unasked", join(three, revoked, moved(1))},
		{"moved-unasked", join(three, asked(1, 1), SeekReturned{ID: 1}, revoked, moved(1))},
		{"moved-unasked", join(three, asked(1, 1), revoked, moved(1), SeekReturned{ID: 1})},
		{"moved-unasked", join(three, asked(1, 1), revoked, moved(2))},
		{"moved-unasked", join(three, Seeking{ID: 1, Member: b, Offset: -1}, revoked, moved(1))},
		{"moved-unasked", join(back, revoked, moved(1))},
		{"moved-elsewhere", join(three, asked(1, 1), revoked, said(1, 2))},
		{"moved-elsewhere", join(three, asked(1, 1), SeekReturned{ID: 1, Unknown: []Target{{p1, 1}}})},
		{"failures-miscounted", join(failed, asked(1, 0), revoked, moved(0), said(1, 0), Assigned{a, both}, begin(2, a, 0, 1), HandleEnd{2, false}, HandlerFailed{a, p0, 0, 2})},
		{"handler-not-cancelled", join(first, Revoked{a, both, both, true, time.Second})},
		{"stalled", join(parallel, asked(1, 0), SeekReturned{ID: 1}, in(2, 1), HandleEnd{2, true}, offered)},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := New(Rules{BackoffMin: time.Second, BackoffMax: time.Minute, Multiplier: 2})
			for _, e := range test.history {
				if d, ok := e.(pause); ok {
					time.Sleep(time.Duration(d))
				} else {
					j.Tell(e)
				}
			}
			vs := j.Final(Subscription{"g", "orders"})
			if test.want == "" {
				assert.Empty(t, vs, "%+v", test.history)
			} else {
				assert.True(t, slices.ContainsFunc(vs, func(v Violation) bool { return v.Invariant == test.want }), "%s: %v of %+v", test.want, vs, test.history)
			}
		})
	}
}

package judge

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Each wrong history of records that fail violates the invariant that it is named for;
// the right ones violate none.
func TestJudgeOfFailures(t *testing.T) {
	asked := func(id uint64, do string) Event { return Asked{id, []AskedRecord{{Offset: 0, Do: do}}} }
	fails := func(id uint64, attempt int, do string) []Event {
		return join(begin(id, a, 0, attempt), asked(id, do), HandleEnd{id, false})
	}
	skipped := func(attempts int) Event { return Skipped{a, p0, 0, attempts} }
	forwarded := Forwarded{Member: a, Partition: p0, Attempts: 1}
	copied := Copied{Group: "g", Partition: p0, Record: Record{0, "k", "v0"}}
	end := join(committed(1), Revoked{a, both, nil, false, 0})
	one := join(logged(1), Assigned{a, both})
	later := pause(time.Second)
	p1 := Partition{"orders", 1}
	batch := HandleStart{ID: 1, Member: a, Partition: p0, Records: []Record{{0, "k", "v0"}, {1, "k", "v1"}, {2, "k", "v2"}}, Attempt: 1}
	rest := HandleStart{ID: 2, Member: a, Partition: p0, Records: []Record{{0, "k", "v0"}, {2, "k", "v2"}}, Attempt: 2}
	named := join(logged(3), Assigned{a, both}, batch, Asked{1, []AskedRecord{{Offset: 0}, {Offset: 2}}}, HandleEnd{1, false}, later)
	held := join(one, Appended{p1, 0, "k", "w0"}, Assigned{a, []Partition{p1}}, fails(1, 1, "hold"), Held{a, at(10)})
	other := HandleStart{ID: 2, Member: a, Partition: p1, Records: []Record{{0, "k", "w0"}}, Attempt: 1}
	for _, test := range []struct {
		want    string
		history []Event
	}{
		{"", join(one, fails(1, 1, "skip"), skipped(1), end)},
		{"", join(StateChanged{a, "off", "starting"}, StateChanged{a, "starting", "backing off"}, later, StateChanged{a, "backing off", "starting"}, StateChanged{a, "starting", "running"},
			one, fails(1, 1, "skip"), Lost{a, both}, Assigned{a, both}, skipped(1), Status{a, both, []int{0}, 1}, begin(2, a, 0, 1), HandleEnd{2, true}, end)},
		{"", join(one, fails(1, 1, ""), later, fails(2, 2, ""), skipped(2), end)},
		{"", join(one, fails(1, 1, "dead letter"), copied, forwarded, end)},
		{"", join(one, fails(1, 1, ""), Resolving{a, p0, 0, "skip"}, skipped(1), end)},
		{"", join(named, rest, HandleEnd{2, true}, committed(3), Revoked{a, both, nil, false, 0})},
		{"", join(held, pause(10*time.Second), begin(3, a, 0, 2), HandleEnd{3, true}, Held{Member: a}, other, HandleEnd{2, true}, committed(1),
			CommitApplied{"g", p1, 1, nil}, Revoked{a, []Partition{p0, p1}, nil, false, 0})},
		{"", join(held, later, Releasing{a}, other, HandleEnd{2, true}, begin(3, a, 0, 2), HandleEnd{3, true}, committed(1),
			CommitApplied{"g", p1, 1, nil}, Revoked{a, []Partition{p0, p1}, nil, false, 0})},
		{"", join(one, fails(1, 1, "stop"), StoppedBy{a, p0, 0}, Lost{a, both}, Assigned{a, both}, begin(2, a, 0, 1), HandleEnd{2, true}, end)},

		// The position passes a record before the skip is reported, before a broker has
		// acknowledged the copy, and without either.
		{"commit-beyond-done", join(one, fails(1, 1, "skip"), committed(1), skipped(1))},
		{"commit-beyond-done", join(one, fails(1, 1, "dead letter"), committed(1), copied, forwarded)},
		{"commit-beyond-done", join(one, fails(1, 1, "dead letter"), committed(1))},
		{"skipped", join(logged(2), Assigned{a, both}, fails(1, 1, "dead letter"), handled(a, 1))},
		{"forwarded-without-copy", join(one, fails(1, 1, "dead letter"), forwarded)},
		{"changed-record", join(one, fails(1, 1, "dead letter"), Copied{Group: "g", Partition: p0, Record: Record{0, "other", "v0"}}, forwarded)},
		{"inconsistent-offset", join(one, fails(1, 1, "dead letter"), Copied{Group: "g", Partition: p0, Record: Record{7, "k", "v0"}}, forwarded)},
		{"unidentified-copy", join(one, fails(1, 1, "dead letter"), Copied{Group: "", Partition: Partition{}, Record: Record{0, "k", "v0"}})},

		{"handled-after-verdict", join(one, fails(1, 1, "dead letter"), later, begin(2, a, 0, 2))},
		{"too-many-calls", join(one, fails(1, 1, ""), later, fails(2, 2, ""), pause(2*time.Second), begin(3, a, 0, 3))},
		{"given-up-unasked", join(one, fails(1, 1, ""), skipped(1))},
		{"given-up-unasked", join(one, fails(1, 1, "stop"), skipped(1))},
		{"given-up-unasked", join(one, fails(1, 1, ""), copied, forwarded)},
		{"attempts-miscounted", join(one, fails(1, 1, "hold"), later, fails(2, 2, "skip"), skipped(2))},
		{"attempts-miscounted", join(one, fails(1, 1, ""), pause(1), Lost{a, both}, Assigned{a, both}, fails(2, 1, "skip"), skipped(1))},
		{"skipped-unhanded", join(one, skipped(1))},
		{"skipped-unhanded", join(one, begin(1, a, 0, 1), HandleEnd{1, true}, skipped(1))},
		{"stopped-by-a-record", join(one, fails(1, 1, ""), StoppedBy{a, p0, 0})},
		{"failed-record-left-behind", join(named, HandleStart{ID: 2, Member: a, Partition: p0, Records: []Record{{0, "k", "v0"}, {1, "k", "v1"}}})},
		{"failed-record-left-behind", join(named, HandleStart{ID: 2, Member: a, Partition: p0, Records: []Record{{2, "k", "v2"}}})},

		{"handed-out-while-held", join(held, later, other)},
		{"handed-out-while-held", join(held, pause(10*time.Second), begin(3, a, 0, 2), pause(1), other)},
		{"unseen", join(held, pause(time.Hour), Revoked{a, []Partition{p0, p1}, nil, false, 0})},
	} {
		synctest.Test(t, func(t *testing.T) {
			j := New(Rules{MaxErrors: 3, BackoffMin: time.Second, BackoffMax: time.Minute, Multiplier: 2,
				Policy: Policy{Then: "skip", MaxAttempts: 2, Patience: time.Minute}})
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

// Waiting for a topic is no failed start.
func TestJudgeOfWaiting(t *testing.T) {
	waits := join(Switched{a, true}, StateChanged{a, "off", "starting"}, Waiting{a}, StateChanged{a, "starting", "backing off"})
	synctest.Test(t, func(t *testing.T) {
		j := New(Rules{MaxErrors: 1, BackoffMin: time.Second, BackoffMax: time.Minute, Multiplier: 2})
		for _, e := range waits {
			j.Tell(e)
		}
		time.Sleep(time.Second)
		j.Tell(StateChanged{a, "backing off", "starting"})
		j.Tell(Status{a, nil, nil, 0})
		assert.Empty(t, j.Check())
	})
}

// A record has failed as often as the policy allows. Its member stops, and its topic is
// recreated meanwhile.
func TestJudgeOfStoppingWhileRecreated(t *testing.T) {
	fails := []Event{begin(1, a, 0, 1), HandleEnd{1, false}, HandlerFailed{a, p0, 0, 1}}
	recreated := []Event{Recreated{p0, 0}, Lost{a, both}, Replaced{a, p0, 0}}
	for _, test := range []struct {
		most int
		want []string
	}{{1, nil}, {2, []string{"stopped-by-a-record"}}} {
		synctest.Test(t, func(t *testing.T) {
			j := New(Rules{Policy: Policy{Then: "stop", MaxAttempts: test.most}})
			for _, e := range join(logged(1), Assigned{a, both}, fails, recreated, StoppedBy{a, p0, 0}) {
				j.Tell(e)
			}
			var got []string
			for _, v := range j.Check() {
				got = append(got, v.Invariant)
			}
			assert.Equal(t, test.want, got)
		})
	}
}

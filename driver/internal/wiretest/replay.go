package wiretest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

const (
	replayMembers    = 3
	replayPartitions = 6
	replayRecords    = 20 // per partition, one per minute
)

// A replay is a topic, and a group of three members that have handled its records.
type replay struct {
	s      Suite
	direct outside.Client
	cfg    driver.ConsumerConfig
	noon   time.Time // of the first record
	places []*handling

	mu   sync.Mutex
	seen map[string]int // how often each record was handled
}

// A handling is a member that commits what it has handled, as the core does.
type handling struct {
	*member
	r  *replay
	mu sync.Mutex
	at map[*driver.Claim]int64
}

// newReplay makes the topic, and lets the members handle its records.
func (s Suite) newReplay(t *testing.T, brokers []string) *replay {
	t.Helper()
	r := &replay{s: s, direct: outside.Of(brokers...), cfg: s.Config(brokers), noon: time.Now().Add(-time.Hour).Truncate(time.Minute), seen: map[string]int{}}
	topic := fmt.Sprintf("replay-%d", time.Now().UnixNano())
	r.cfg.Topics, r.cfg.Group = []string{topic}, topic
	ctx := testkit.Within(t, 2*patience)
	require.NoError(t, r.direct.CreateTopic(ctx, topic, replayPartitions))
	for p := range int32(replayPartitions) {
		var records []driver.Record
		for i := range replayRecords {
			records = append(records, driver.Record{Value: []byte(name(p, i)), Timestamp: r.noon.Add(time.Duration(i) * time.Minute)})
		}
		require.NoError(t, r.direct.Send(ctx, topic, p, records...))
	}
	r.start(t)
	r.wait(t, "the first time", r.all(1))
	return r
}

// name is the value of a record.
func name(p int32, i int) string { return fmt.Sprintf("%d/%d", p, i) }

// all returns that each record was handled so often.
func (r *replay) all(times int) map[string]int {
	want := map[string]int{}
	for p := range int32(replayPartitions) {
		for i := range replayRecords {
			want[name(p, i)] = times
		}
	}
	return want
}

// start starts the members, one after the other, until each has two partitions.
func (r *replay) start(t *testing.T) {
	t.Helper()
	r.places = nil
	for range replayMembers {
		h := &handling{member: r.s.open(t, r.cfg), r: r, at: map[*driver.Claim]int64{}}
		h.run(h)
		r.places = append(r.places, h)
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for _, h := range r.places {
			assert.Len(c, h.claims(), replayPartitions/replayMembers)
		}
	}, 2*patience, 10*time.Millisecond, "the partitions are shared")
}

// stop closes the members.
func (r *replay) stop(t *testing.T) {
	t.Helper()
	for _, h := range r.places {
		require.NoError(t, h.Close(testkit.Within(t, patience)))
	}
}

// wait waits until the records were handled so often, and a last one of each partition, which
// comes after all of them.
func (r *replay) wait(t *testing.T, what string, want map[string]int) {
	t.Helper()
	ctx := testkit.Within(t, 2*patience)
	for p := range int32(replayPartitions) {
		last := fmt.Sprintf("last of %d: %s", p, what)
		require.NoError(t, r.direct.Send(ctx, r.cfg.Topics[0], p, driver.Record{Value: []byte(last)}))
		require.Eventually(t, func() bool {
			r.mu.Lock()
			defer r.mu.Unlock()
			return r.seen[last] > 0
		}, 2*patience, 10*time.Millisecond, last)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	got := map[string]int{}
	for value := range want {
		got[value] = r.seen[value]
	}
	require.Equal(t, want, got, what)
}

// claims returns the live claims, by partition.
func (h *handling) claims() []*driver.Claim {
	h.member.mu.Lock()
	defer h.member.mu.Unlock()
	var all []*driver.Claim
	for c := range h.live {
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b *driver.Claim) int { return int(a.Partition - b.Partition) })
	return all
}

// Deliver implements driver.Handler.
func (h *handling) Deliver(c *driver.Claim, b driver.Batch) {
	h.r.mu.Lock()
	for _, rec := range b.Records {
		h.r.seen[string(rec.Value)]++
	}
	h.r.mu.Unlock()
	if n := len(b.Records); n > 0 {
		h.mu.Lock()
		h.at[c] = b.Records[n-1].Offset + 1
		h.mu.Unlock()
	}
	h.member.Deliver(c, b)
}

// Revoke implements driver.Handler.
func (h *handling) Revoke(ctx context.Context, claims []*driver.Claim) {
	var marks []driver.Mark
	h.mu.Lock()
	for _, c := range claims {
		if at, ok := h.at[c]; ok {
			marks = append(marks, driver.Mark{Claim: c, Offset: at})
		}
	}
	h.mu.Unlock()
	assert.NoError(h.t, h.Commit(ctx, marks))
	h.member.Revoke(ctx, claims)
}

// ReplayOfAGroupThatIsOff: an operator has stopped all members, and replays from a time on.
// Exactly the records from then on come again.
func (s Suite) ReplayOfAGroupThatIsOff(t *testing.T, brokers []string) {
	r := s.newReplay(t, brokers)
	g := s.openGroup(t, r.cfg)
	const from = 12
	find := func() []driver.FoundOffsets {
		found, err := g.(driver.OffsetFinder).FindOffsets(testkit.Within(t, patience), map[string][]int32{r.cfg.Topics[0]: nil}, r.noon.Add((from-1)*time.Minute+time.Second))
		require.NoError(t, err)
		require.Len(t, found, replayPartitions)
		return found
	}
	var marks []driver.GroupMark
	for _, f := range find() {
		require.NoError(t, f.Err)
		require.Equal(t, []int64{0, from, replayRecords + 1}, []int64{f.Begin, f.At, f.End})
		marks = append(marks, driver.GroupMark{Topic: f.Topic, Partition: f.Partition, Offset: f.At})
	}
	assert.ErrorIs(t, g.Commit(testkit.Within(t, patience), marks), driver.ErrGroupHasMembers, "a commit while the members run")
	r.stop(t)
	require.NoError(t, g.Commit(testkit.Within(t, patience), marks))
	r.start(t)
	want := r.all(1)
	for p := range int32(replayPartitions) {
		for i := from; i < replayRecords; i++ {
			want[name(p, i)] = 2
		}
	}
	r.wait(t, "the replay", want)
}

// SeekOnOneMemberOfThree: an operator replays on one of three members. The records of its own
// partitions come once more each, those of the others do not.
func (s Suite) SeekOnOneMemberOfThree(t *testing.T, brokers []string) {
	r := s.newReplay(t, brokers)
	want := r.all(1)
	for i, h := range r.places {
		claims := h.claims()
		require.NoError(t, h.seekTo(testkit.Within(t, patience), 5, claims...))
		for _, c := range claims {
			for i := 5; i < replayRecords; i++ {
				want[name(c.Partition, i)]++
			}
		}
		r.wait(t, fmt.Sprintf("seek on member %d", i), want)
	}
}

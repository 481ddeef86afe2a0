package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// recreated returns the reports of topics that were created again.
func (r *recorder) recreated() (gaps []driver.DataLossError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.errs {
		if gap, ok := errors.AsType[*driver.DataLossError](err); ok && gap.Recreated {
			gaps = append(gaps, *gap)
		}
	}
	return gaps
}

// A group that has committed 2 of 3 sees its topic deleted and created again: at
// once, ten seconds apart, and while it is off.
func TestRecreatedTopic(t *testing.T) {
	ways := map[string]func(b *memory.Broker) error{
		"at once": func(b *memory.Broker) error { return b.RecreateTopic("t", 1) },
		"ten seconds apart": func(b *memory.Broker) error {
			if err := b.DeleteTopic("t"); err != nil {
				return err
			}
			time.Sleep(10 * time.Second)
			synctest.Wait()
			return b.CreateTopic("t", 1)
		},
	}
	for name, recreate := range ways {
		for _, change := range []func(*driver.ConsumerConfig){strategies(driver.RoundRobin), strategies(driver.CooperativeSticky), newest} {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				r := run(t, b, change)
				send(t, b, 0, "a", "b", "c")
				synctest.Wait()
				old, id := r.claim(0), b.TopicID("t")
				require.NoError(t, r.Commit(t.Context(), mark(old, 2)))
				require.NoError(t, recreate(b))
				send(t, b, 0, "d", "e", "f", "g")
				synctest.Wait()

				require.True(t, b.TopicID("t") != id, name+": another ID")
				require.Equal(t, []string{"d", "e", "f", "g"}, r.got(r.claim(0)), name+": values")
				require.Len(t, r.lost, 1, name+": lost")
				require.Equal(t, []driver.DataLossError{
					{Topic: "t", From: 2, To: 0, Recreated: true, Begin: 0, End: r.recreated()[0].End},
				}, r.recreated(), name+": reports")
				assert.ErrorIsf(t, r.Commit(t.Context(), mark(old, 3)), driver.ErrClaimEnded, "%s: commit under the old claim", name)
			})
		}
	}
}

// A commit that is under way as the topic is created again is refused.
func TestCommitForARecreatedTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b)
		send(t, b, 0, "a", "b", "c")
		synctest.Wait()
		require.NoError(t, b.RecreateTopic("t", 1))
		err := r.Commit(t.Context(), mark(r.claim(0), 3)) // usually Run has not been scheduled yet
		var ce *driver.CommitError
		require.ErrorAs(t, err, &ce)
		if !errors.Is(err, driver.ErrClaimEnded) {
			require.Equal(t, "UNKNOWN_TOPIC_ID", testkit.Code(ce.Failed[0].Err))
		}
		// Once Run has been scheduled, the group is at the start of the new topic.
		require.Contains(t, []int64{-1, 0}, b.Committed("g", "t", 0), "committed")
	})
}

// A group that was off meanwhile has no position: it starts as configured, and
// says so if that skips anything.
func TestRecreatedWhileOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, newest)
		send(t, b, 0, "a", "b")
		synctest.Wait()
		require.NoError(t, errors.Join(r.Commit(t.Context(), mark(r.claim(0), 2)), r.Close(t.Context()), b.RecreateTopic("t", 1)))
		send(t, b, 0, "c")
		r = run(t, b, newest)
		require.Equal(t, int64(1), r.claim(0).Start, "start")
		require.Equal(t, driver.NoPositionError{Topic: "t", Start: 1, Begin: 0}, *r.starts[0], "reports")
		oldest := run(t, b, group("h"))
		require.Equal(t, []string{"c"}, oldest.got(oldest.claim(0)), "oldest")
		require.Empty(t, oldest.starts, "nothing is skipped")
	})
}

// A member that has outlived its group knows that the topic is another one.
func TestRecreatedWhileCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, newest)
		m := b.Members("g")[0]
		m.Cut()
		time.Sleep(time.Minute)
		require.NoError(t, b.RecreateTopic("t", 1))
		send(t, b, 0, "a", "b")
		m.Heal()
		synctest.Wait()
		require.Equal(t, []string{"a", "b"}, r.got(r.claim(0)), "values")
		require.Empty(t, r.starts, "starts")
	})
}

func TestExpiredOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, newest)
		require.Equal(t, "NON_EMPTY_GROUP", testkit.Code(b.ExpireOffsets("g")), "with members")
		require.NoError(t, errors.Join(r.Close(t.Context()), b.ExpireOffsets("g")))
		send(t, b, 0, "a", "b", "c")
		r = run(t, b, newest)
		require.Equal(t, driver.NoPositionError{Topic: "t", Start: 3, Begin: 0}, *r.starts[0], "reports")
	})
}

func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, "a", "b", "c", "d")
		require.NoError(t, b.Damage("t", 0, 2))
		require.Equal(t, "OFFSET_OUT_OF_RANGE", testkit.Code(b.Damage("t", 0, 4)), "beyond the log")
		r := run(t, b)
		c := r.claim(0)
		send(t, b, 1, "x")
		synctest.Wait()
		require.Equal(t, []string{"a", "b"}, r.got(c), "head")
		require.Equal(t, []string{"x"}, r.got(r.claim(1)), "neighbour")
		send(t, b, 0, "e")
		synctest.Wait()
		var trouble *driver.PartitionError
		require.Len(t, r.errs, 1)
		require.ErrorAs(t, r.errs[0], &trouble)
		require.Equal(t, driver.PartitionError{Topic: "t", Offset: 2, Err: trouble.Err}, *trouble)
		require.Equal(t, "CORRUPT_MESSAGE", testkit.Code(trouble))
		require.NoError(t, b.Repair("t", 0))
		synctest.Wait()
		require.Equal(t, []string{"a", "b", "c", "d", "e"}, r.got(c), "repaired")

		// Damage that retention has removed is no longer reported.
		require.NoError(t, errors.Join(b.Damage("t", 0, 0), b.DeleteRecords("t", 0, 1)))
		require.Empty(t, run(t, b, group("h")).errs, "behind")
	})
}

func TestForbiddenTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, errors.Join(b.CreateTopic("u", 1), b.Forbid("u", true)))
		r := run(t, b, topics("t", "u"))
		require.Equal(t, []string{"t/0"}, r.held(), "held")
		require.Equal(t, "TOPIC_AUTHORIZATION_FAILED", testkit.Code(r.errs[0]), "error")
		require.NoError(t, b.Forbid("u", false))
		synctest.Wait()
		require.Equal(t, []string{"t/0", "u/0"}, r.held(), "allowed")
	})
}

// The latest heartbeat that was answered counts, from when it was sent.
func TestSessionDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		joined := time.Now()
		r := run(t, b) // a heartbeat each 3 s
		deadline := func() time.Duration { return r.Consumer.(driver.SessionDeadliner).SessionDeadline().Sub(joined) }
		require.Equal(t, 10*time.Second, deadline(), "joined")
		time.Sleep(4 * time.Second)
		require.Equal(t, 13*time.Second, deadline(), "after a heartbeat")
		m := b.Members("g")[0]
		m.SetDelay(2 * time.Second)
		require.Equal(t, 10*time.Second, deadline(), "whose answer is late")
		time.Sleep(500 * time.Millisecond)
		m.Cut()
		require.Equal(t, 14*time.Second, b.Members("g")[0].Expires.Sub(joined), "expiry")
		time.Sleep(10*time.Second - 4500*time.Millisecond - 1)
		require.Equal(t, []string{"t/0"}, r.held(), "held until the deadline")
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Empty(t, r.held(), "held from then on")
		require.Equal(t, time.Time{}, r.Consumer.(driver.SessionDeadliner).SessionDeadline(), "no member")
	})
}

// A foreign member that subscribes to a missing topic and to an illegal name harms no
// other member, also as the leader.
func TestForeignMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		f := b.JoinForeign(consumerConfig(topics("missing", "no such/topic")))
		synctest.Wait()
		r := run(t, b)
		require.Equal(t, []string{"t/0", "t/1"}, r.held(), "held")
		require.Empty(t, r.errs, "errors")
		require.NoError(t, f.Leave(t.Context()), "left")
		synctest.Wait()
		require.Equal(t, []string{"t/0", "t/1"}, r.held(), "held alone")
	})
}

func TestTopicLimits(t *testing.T) {
	b := newBroker(t, 1)
	require.NoError(t, errors.Join(b.SetMaxMessageBytes("t", 10), b.SetMaxTimestampAhead("t", time.Hour)))
	for _, tt := range []struct {
		name  string
		value []byte
		opt   memory.SendOption
		want  string
	}{
		{"good", make([]byte, 10), memory.ToPartition(-1), ""},
		{"too large", make([]byte, 11), memory.ToPartition(-1), "MESSAGE_TOO_LARGE"},
		{"ahead", nil, memory.Timestamp(time.Now().Add(2 * time.Hour)), "INVALID_TIMESTAMP"},
		{"before 1970", nil, memory.Timestamp(time.Unix(-1, 0)), "INVALID_TIMESTAMP"},
		{"an empty key of a header", nil, memory.Headers(driver.Header{}), ""},
	} {
		err := b.Send("t", nil, tt.value, tt.opt)
		assert.Equal(t, tt.want, testkit.Code(err), tt.name)
	}
}

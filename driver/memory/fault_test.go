package memory_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
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
				if err := r.Commit(t.Context(), mark(old, 2)); err != nil {
					t.Fatal(err)
				}
				if err := recreate(b); err != nil {
					t.Fatal(err)
				}
				send(t, b, 0, "d", "e", "f", "g")
				synctest.Wait()

				equal(t, name+": another ID", b.TopicID("t") != id, true)
				equal(t, name+": values", r.got(r.claim(0)), []string{"d", "e", "f", "g"})
				equal(t, name+": lost", len(r.lost), 1)
				equal(t, name+": reports", r.recreated(), []driver.DataLossError{
					{Topic: "t", From: 2, To: 0, Recreated: true, Begin: 0, End: r.recreated()[0].End},
				})
				if err := r.Commit(t.Context(), mark(old, 3)); !errors.Is(err, driver.ErrClaimEnded) {
					t.Errorf("%s: commit under the old claim: %v", name, err)
				}
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
		if err := b.RecreateTopic("t", 1); err != nil {
			t.Fatal(err)
		}
		err := r.Commit(t.Context(), mark(r.claim(0), 3)) // Run has not been scheduled yet
		var ce *driver.CommitError
		if !errors.As(err, &ce) || code(ce.Failed[0].Err) != "UNKNOWN_TOPIC_ID" && !errors.Is(err, driver.ErrClaimEnded) {
			t.Errorf("commit: %v", err)
		}
		equal(t, "committed", b.Committed("g", "t", 0), -1)
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
		if err := errors.Join(r.Commit(t.Context(), mark(r.claim(0), 2)), r.Close(t.Context()), b.RecreateTopic("t", 1)); err != nil {
			t.Fatal(err)
		}
		send(t, b, 0, "c")
		r = run(t, b, newest)
		equal(t, "start", r.claim(0).Start, 1)
		equal(t, "reports", *r.starts[0], driver.NoPositionError{Topic: "t", Start: 1, Begin: 0})
		oldest := run(t, b, group("h"))
		equal(t, "oldest", oldest.got(oldest.claim(0)), []string{"c"})
		equal(t, "nothing is skipped", len(oldest.starts), 0)
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
		if err := b.RecreateTopic("t", 1); err != nil {
			t.Fatal(err)
		}
		send(t, b, 0, "a", "b")
		m.Heal()
		synctest.Wait()
		equal(t, "values", r.got(r.claim(0)), []string{"a", "b"})
		equal(t, "starts", len(r.starts), 0)
	})
}

func TestExpiredOffsets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, newest)
		equal(t, "with members", code(b.ExpireOffsets("g")), "NON_EMPTY_GROUP")
		if err := errors.Join(r.Close(t.Context()), b.ExpireOffsets("g")); err != nil {
			t.Fatal(err)
		}
		send(t, b, 0, "a", "b", "c")
		r = run(t, b, newest)
		equal(t, "reports", *r.starts[0], driver.NoPositionError{Topic: "t", Start: 3, Begin: 0})
	})
}

func TestDamage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, "a", "b", "c", "d")
		if err := b.Damage("t", 0, 2); err != nil {
			t.Fatal(err)
		}
		equal(t, "beyond the log", code(b.Damage("t", 0, 4)), "OFFSET_OUT_OF_RANGE")
		r := run(t, b)
		c := r.claim(0)
		send(t, b, 1, "x")
		synctest.Wait()
		equal(t, "head", r.got(c), []string{"a", "b"})
		equal(t, "neighbour", r.got(r.claim(1)), []string{"x"})
		send(t, b, 0, "e")
		synctest.Wait()
		var trouble *driver.PartitionError
		if len(r.errs) != 1 || !errors.As(r.errs[0], &trouble) {
			t.Fatalf("errors: %v", r.errs)
		}
		equal(t, "place", []any{trouble.Topic, trouble.Partition, trouble.Offset, code(trouble)}, []any{"t", 0, 2, "CORRUPT_MESSAGE"})
		if err := b.Repair("t", 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "repaired", r.got(c), []string{"a", "b", "c", "d", "e"})

		// What retention has removed is no trouble any more.
		if err := errors.Join(b.Damage("t", 0, 0), b.DeleteRecords("t", 0, 1)); err != nil {
			t.Fatal(err)
		}
		equal(t, "behind", run(t, b, group("h")).errs, nil)
	})
}

func TestForbiddenTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		if err := errors.Join(b.CreateTopic("u", 1), b.Forbid("u", true)); err != nil {
			t.Fatal(err)
		}
		r := run(t, b, topics("t", "u"))
		equal(t, "held", r.held(), []string{"t/0"})
		equal(t, "error", code(r.errs[0]), "TOPIC_AUTHORIZATION_FAILED")
		if err := b.Forbid("u", false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "allowed", r.held(), []string{"t/0", "u/0"})
	})
}

// The latest heartbeat that was answered counts, from when it was sent.
func TestSessionDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		joined := time.Now()
		r := run(t, b) // a heartbeat each 3 s
		deadline := func() time.Duration { return r.Consumer.(driver.SessionDeadliner).SessionDeadline().Sub(joined) }
		equal(t, "joined", deadline(), 10*time.Second)
		time.Sleep(4 * time.Second)
		equal(t, "after a heartbeat", deadline(), 13*time.Second)
		m := b.Members("g")[0]
		m.SetDelay(2 * time.Second)
		equal(t, "whose answer is late", deadline(), 10*time.Second)
		time.Sleep(500 * time.Millisecond)
		m.Cut()
		equal(t, "expiry", b.Members("g")[0].Expires.Sub(joined), 14*time.Second)
		time.Sleep(10*time.Second - 4500*time.Millisecond - 1)
		equal(t, "held until the deadline", r.held(), []string{"t/0"})
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		equal(t, "held from then on", r.held(), []string{})
		equal(t, "no member", r.Consumer.(driver.SessionDeadliner).SessionDeadline(), time.Time{})
	})
}

// A foreign member with a topic that is missing, and one that can not be, harms
// nobody, also as the leader.
func TestForeignMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		f := b.JoinForeign(consumerConfig(topics("missing", "no such/topic")))
		synctest.Wait()
		r := run(t, b)
		equal(t, "held", r.held(), []string{"t/0", "t/1"})
		equal(t, "errors", r.errs, nil)
		equal(t, "left", f.Leave(t.Context()), error(nil))
		synctest.Wait()
		equal(t, "held alone", r.held(), []string{"t/0", "t/1"})
	})
}

func TestTopicLimits(t *testing.T) {
	b := newBroker(t, 1)
	if err := errors.Join(b.SetMaxMessageBytes("t", 10), b.SetMaxTimestampAhead("t", time.Hour)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		m    driver.Message
		want string
	}{
		{"good", driver.Message{Value: make([]byte, 10)}, ""},
		{"too large", driver.Message{Value: make([]byte, 11)}, "MESSAGE_TOO_LARGE"},
		{"ahead", driver.Message{Timestamp: time.Now().Add(2 * time.Hour)}, "INVALID_TIMESTAMP"},
		{"before 1970", driver.Message{Timestamp: time.Unix(-1, 0)}, "INVALID_TIMESTAMP"},
		{"an empty key of a header", driver.Message{Headers: []driver.Header{{}}}, ""},
	} {
		tt.m.Topic, tt.m.Partition = "t", -1
		err := b.Send(&tt.m)
		if got := err; (got == nil) != (tt.want == "") || got != nil && code(got) != tt.want {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

package memory_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
)

func newest(cfg *driver.ConsumerConfig) { cfg.InitialOffset = driver.OffsetNewest }

func uncommitted(cfg *driver.ConsumerConfig) { cfg.IsolationLevel = driver.ReadUncommitted }

func group(name string) func(*driver.ConsumerConfig) {
	return func(cfg *driver.ConsumerConfig) { cfg.Group = name }
}

func TestIsolation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		read := run(t, b)
		dirty := run(t, b, group("dirty"), uncommitted)
		step := func(name string, want, wantDirty []string, position int64) {
			t.Helper()
			synctest.Wait()
			equal(t, name+": committed", read.got(read.claim(0)), want)
			equal(t, name+": uncommitted", dirty.got(dirty.claim(0)), wantDirty)
			equal(t, name+": position", read.position(read.claim(0)), position)
		}
		in := func(tx interface{ Send(*driver.Message) error }, v string) {
			t.Helper()
			if err := tx.Send(&driver.Message{Topic: "t", Partition: 0, Value: []byte(v)}); err != nil {
				t.Fatal(err)
			}
		}
		one, two := b.Begin(), b.Begin()
		send(t, b, 0, "a")
		in(one, "b")
		in(two, "c")
		send(t, b, 0, "d")
		step("both open", []string{"a"}, []string{"a", "b", "c", "d"}, 1)
		equal(t, "two commits", two.Commit(), error(nil))
		step("one is open", []string{"a"}, []string{"a", "b", "c", "d"}, 1)
		equal(t, "one aborts", one.Abort(), error(nil))
		step("none is open", []string{"a", "c", "d"}, []string{"a", "b", "c", "d"}, 6)
		equal(t, "after its end", code(one.Send(&driver.Message{Topic: "t"})), "INVALID_TXN_STATE")
		equal(t, "twice", code(two.Abort()), "INVALID_TXN_STATE")

		rs, err := b.Records("t", 0, driver.ReadCommitted)
		equal(t, "Records", []any{len(rs), err}, []any{3, nil})
		rs, err = b.Records("t", 0, driver.ReadUncommitted)
		equal(t, "Records", []any{len(rs), err}, []any{4, nil})
	})
}

func TestNextPassesHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c", "d")
		if err := b.Compact("t", 0, 1, 3); err != nil {
			t.Fatal(err)
		}
		r := run(t, b)
		c := r.claim(0)
		equal(t, "values", r.got(c), []string{"a", "c"})
		equal(t, "position", r.position(c), 4)
		if err := b.AppendControl("t", 0); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		equal(t, "position behind a control record", r.position(c), 5)
		equal(t, "high watermark", r.Consumer.(driver.HighWatermarker).HighWatermark(c), 5)
		equal(t, "commit", r.Commit(t.Context(), mark(c, 5)), error(nil))
		equal(t, "compact what is not there", code(b.Compact("t", 0, 1)), "OFFSET_OUT_OF_RANGE")
	})
}

func TestOutOfRange(t *testing.T) {
	tests := []struct {
		name string
		lose func(*memory.Broker) error
	}{
		{"deleted", func(b *memory.Broker) error { return b.DeleteRecords("t", 0, 3) }},
		{"truncated", func(b *memory.Broker) error { return b.Truncate("t", 0, 1) }},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 2)
			send(t, b, 0, "a", "b")
			r := run(t, b)
			r.Pause(r.claim(0))
			send(t, b, 0, "c", "d")
			synctest.Wait()
			if err := tt.lose(b); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			equal(t, tt.name+": while paused", r.held(), []string{"t/0", "t/1"})
			r.Resume(r.claim(0))
			<-r.done
			equal(t, tt.name+": code", code(r.err), "OFFSET_OUT_OF_RANGE")
			if !errors.Is(r.err, driver.ErrPermanent) {
				t.Errorf("%s: %v is not permanent", tt.name, r.err)
			}
			equal(t, tt.name+": log", r.takeLog(), []string{"assign t/0", "assign t/1", "lost t/0", "revoke t/1"})
			equal(t, tt.name+": members", len(b.Members("g")), 0)
			equal(t, tt.name+": close", r.Close(t.Context()), error(nil))
		})
	}
}

func TestInitialOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, "old")
		old := run(t, b, group("oldest"))
		equal(t, "oldest starts at", old.claim(0).Start, 0)

		r := run(t, b, newest)
		equal(t, "newest starts at", []int64{r.claim(0).Start, r.claim(1).Start}, []int64{1, 0})
		equal(t, "which is durable", []int64{b.Committed("g", "t", 0), b.Committed("g", "t", 1)}, []int64{1, 0})

		// A crash before the first commit loses nothing.
		r.Close(canceled())
		send(t, b, 0, "new")
		time.Sleep(gone)
		r = run(t, b, newest)
		equal(t, "after a crash", r.got(r.claim(0)), []string{"new"})

		if err := b.DeleteRecords("t", 0, 1); err != nil {
			t.Fatal(err)
		}
		late := run(t, b, group("late"))
		equal(t, "oldest of a log that does not begin at 0", late.claim(0).Start, 1)
	})
}

// A partition that comes while a group is away is new to it.
func TestNewestOnPartitionCreatedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		run(t, b, newest).Close(t.Context())
		if err := b.AddPartitions("t", 2); err != nil {
			t.Fatal(err)
		}
		send(t, b, 1, "a")
		r := run(t, b, newest)
		equal(t, "values", r.got(r.claim(1)), []string{"a"})
	})
}

func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		r := run(t, b)
		c0, c1 := r.claim(0), r.claim(1)
		r.Pause(c0)
		r.Pause(c0)
		send(t, b, 0, "a")
		send(t, b, 1, "b")
		synctest.Wait()
		equal(t, "paused", len(r.got(c0)), 0)
		equal(t, "the other", len(r.got(c1)), 1)
		r.Resume(c0)
		synctest.Wait()
		equal(t, "resumed", r.got(c0), []string{"a"})

		// A pause ends with its claim, and an old claim's pause is nobody's.
		r.Pause(c0)
		b.Rebalance("g")
		synctest.Wait()
		r.Pause(c0, c1)
		send(t, b, 0, "c")
		synctest.Wait()
		equal(t, "the next claim", r.got(r.claim(0)), []string{"a", "c"})
	})
}

// One fetch brings MaxMessageBytes of a partition, or a single larger record.
func TestFetchSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "12345", "12345", "12345", "more than ten bytes", "1")
		c, err := b.OpenConsumer(t.Context(), consumerConfig(func(cfg *driver.ConsumerConfig) { cfg.MaxMessageBytes = 10 }))
		if err != nil {
			t.Fatal(err)
		}
		h := &batches{}
		done := make(chan error)
		go func() { done <- c.Run(h) }()
		synctest.Wait()
		equal(t, "Close", c.Close(t.Context()), error(nil))
		equal(t, "Run", <-done, error(nil))
		equal(t, "batches", h.sizes, []int{2, 1, 1, 1})
	})
}

func TestRecordIsAsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		at := time.Date(2024, 2, 29, 1, 2, 3, 4567890, time.UTC)
		key, value, hv := []byte("k"), []byte("v"), []byte("h")
		ms := []*driver.Message{
			{Topic: "t", Partition: -1, Key: key, Value: value, Timestamp: at,
				Headers: []driver.Header{{Key: "b", Value: hv}, {Key: "a"}, {Key: "b", Value: []byte{}}}},
			{Topic: "t", Partition: -1, Value: []byte{}, Key: []byte{}},
			{Topic: "t", Partition: -1},
		}
		for _, m := range ms {
			if err := b.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		key[0], value[0], hv[0] = 'x', 'x', 'x' // the sender's own again
		rs, err := b.Records("t", 0, driver.ReadCommitted)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "offsets", []int64{ms[0].Offset, ms[1].Offset, ms[2].Offset}, []int64{0, 1, 2})
		equal(t, "timestamp", rs[0].Timestamp, at.Truncate(time.Millisecond))
		equal(t, "first", fmt.Sprintf("%s %s %q", rs[0].Key, rs[0].Value, rs[0].Headers), `k v [{"b" "h"} {"a" ""} {"b" ""}]`)
		equal(t, "nil header", []bool{rs[0].Headers[1].Value == nil, rs[0].Headers[2].Value == nil}, []bool{true, false})
		equal(t, "empty", []bool{rs[1].Key == nil, rs[1].Value == nil}, []bool{false, false})
		equal(t, "nil", []bool{rs[2].Key == nil, rs[2].Value == nil, rs[2].Headers == nil}, []bool{true, true, true})
		equal(t, "now", rs[2].Timestamp, time.Now())
	})
}

// Two claims of one member lose their places at once: each goes on.
func TestAllGoOnThatLoseTheirPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		rec := newRecorder(t)
		rec.onRevoke = func(context.Context, []*driver.Claim) { time.Sleep(time.Millisecond) }
		r := runWith(t, b, rec, strategies(driver.CooperativeSticky), func(cfg *driver.ConsumerConfig) {
			cfg.OutOfRange = driver.OutOfRangeOldest
		})
		b.Stop()
		for p := range int32(2) {
			send(t, b, p, "gone", "kept")
			equal(t, "delete", b.DeleteRecords("t", p, 1), error(nil))
		}
		b.Start()
		time.Sleep(time.Second)
		for p := range int32(2) {
			equal(t, "values", r.got(r.claim(p)), []string{"kept"})
		}
	})
}

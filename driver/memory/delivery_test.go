package memory_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
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
			assert.Equal(t, want, read.got(read.claim(0)), name+": committed")
			assert.Equal(t, wantDirty, dirty.got(dirty.claim(0)), name+": uncommitted")
			assert.Equal(t, position, read.position(read.claim(0)), name+": position")
		}
		in := func(tx *memory.Transaction, v string) {
			t.Helper()
			assert.NoError(t, tx.Send("t", nil, []byte(v), memory.ToPartition(0)))
		}
		one, two := b.Begin(), b.Begin()
		send(t, b, 0, "a")
		in(one, "b")
		in(two, "c")
		send(t, b, 0, "d")
		step("both open", []string{"a"}, []string{"a", "b", "c", "d"}, 1)
		require.NoError(t, two.Commit(), "two commits")
		step("one is open", []string{"a"}, []string{"a", "b", "c", "d"}, 1)
		require.NoError(t, one.Abort(), "one aborts")
		step("none is open", []string{"a", "c", "d"}, []string{"a", "b", "c", "d"}, 6)
		require.Equal(t, "INVALID_TXN_STATE", testkit.Code(one.Send("t", nil, nil)), "after its end")
		require.Equal(t, "INVALID_TXN_STATE", testkit.Code(two.Abort()), "twice")

		rs, err := b.Records("t", 0, driver.ReadCommitted)
		require.NoError(t, err)
		require.Len(t, rs, 3)
		rs, err = b.Records("t", 0, driver.ReadUncommitted)
		require.NoError(t, err)
		require.Len(t, rs, 4)
	})
}

func TestNextPassesHoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b", "c", "d")
		require.NoError(t, b.Compact("t", 0, 1, 3))
		r := run(t, b)
		c := r.claim(0)
		require.Equal(t, []string{"a", "c"}, r.got(c), "values")
		require.Equal(t, int64(4), r.position(c), "position")
		require.NoError(t, b.AppendControl("t", 0))
		synctest.Wait()
		require.Equal(t, int64(5), r.position(c), "position behind a control record")
		require.Equal(t, int64(5), r.Consumer.(driver.HighWatermarker).HighWatermark(c), "high watermark")
		require.NoError(t, r.Commit(t.Context(), mark(c, 5)), "commit")
		require.Equal(t, "OFFSET_OUT_OF_RANGE", testkit.Code(b.Compact("t", 0, 1)), "compact what is not there")
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
			require.NoError(t, tt.lose(b))
			synctest.Wait()
			require.Equal(t, []string{"t/0", "t/1"}, r.held(), tt.name+": while paused")
			r.Resume(r.claim(0))
			<-r.done
			require.Equal(t, "OFFSET_OUT_OF_RANGE", testkit.Code(r.err), tt.name+": code")
			assert.ErrorIs(t, r.err, driver.ErrPermanent, tt.name)
			require.Equal(t, []string{"assign t/0", "assign t/1", "lost t/0", "revoke t/1"}, r.takeLog(), tt.name+": log")
			require.Empty(t, b.Members("g"), tt.name+": members")
			require.NoError(t, r.Close(t.Context()), tt.name+": close")
		})
	}
}

func TestInitialOffset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, "old")
		old := run(t, b, group("oldest"))
		require.Zero(t, old.claim(0).Start, "oldest starts at")

		r := run(t, b, newest)
		require.Equal(t, []int64{1, 0}, []int64{r.claim(0).Start, r.claim(1).Start}, "newest starts at")
		require.Equal(t, []int64{1, 0}, []int64{b.Committed("g", "t", 0), b.Committed("g", "t", 1)}, "which is durable")

		// A crash before the first commit loses nothing.
		r.Close(testkit.Ended())
		send(t, b, 0, "new")
		time.Sleep(gone)
		r = run(t, b, newest)
		require.Equal(t, []string{"new"}, r.got(r.claim(0)), "after a crash")

		require.NoError(t, b.DeleteRecords("t", 0, 1))
		late := run(t, b, group("late"))
		require.Equal(t, int64(1), late.claim(0).Start, "oldest of a log that does not begin at 0")
	})
}

// A partition that comes while a group is away is new to it.
func TestNewestOnPartitionCreatedWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		run(t, b, newest).Close(t.Context())
		require.NoError(t, b.AddPartitions("t", 2))
		send(t, b, 1, "a")
		r := run(t, b, newest)
		require.Equal(t, []string{"a"}, r.got(r.claim(1)), "values")
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
		require.Empty(t, r.got(c0), "paused")
		require.Len(t, r.got(c1), 1, "the other")
		r.Resume(c0)
		synctest.Wait()
		require.Equal(t, []string{"a"}, r.got(c0), "resumed")

		// A pause ends with its claim, and a pause of an old claim has no effect.
		r.Pause(c0)
		b.Rebalance("g")
		synctest.Wait()
		r.Pause(c0, c1)
		send(t, b, 0, "c")
		synctest.Wait()
		require.Equal(t, []string{"a", "c"}, r.got(r.claim(0)), "the next claim")
	})
}

// One fetch brings MaxMessageBytes of a partition, or a single larger record.
func TestFetchSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "12345", "12345", "12345", "more than ten bytes", "1")
		c, err := b.OpenConsumer(t.Context(), consumerConfig(func(cfg *driver.ConsumerConfig) { cfg.MaxMessageBytes = 10 }))
		require.NoError(t, err)
		h := &batches{}
		done := make(chan error)
		go func() { done <- c.Run(h) }()
		synctest.Wait()
		require.NoError(t, c.Close(t.Context()), "Close")
		require.NoError(t, <-done, "Run")
		require.Equal(t, []int{2, 1, 1, 1}, h.sizes, "batches")
	})
}

func TestRecordIsAsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		at := time.Date(2024, 2, 29, 1, 2, 3, 4567890, time.UTC)
		key, value, hv := []byte("k"), []byte("v"), []byte("h")
		var offsets []int64
		send := func(key, value []byte, opts ...memory.SendOption) {
			t.Helper()
			partition, offset := int32(-1), int64(-1)
			require.NoError(t, b.Send("t", key, value, append(opts, memory.Placed(&partition, &offset))...))
			require.Equal(t, int32(0), partition)
			offsets = append(offsets, offset)
		}
		send(key, value, memory.Timestamp(at),
			memory.Headers(driver.Header{Key: "b", Value: hv}, driver.Header{Key: "a"}, driver.Header{Key: "b", Value: []byte{}}))
		send([]byte{}, []byte{})
		send(nil, nil)
		key[0], value[0], hv[0] = 'x', 'x', 'x' // the sender's own again
		rs, err := b.Records("t", 0, driver.ReadCommitted)
		require.NoError(t, err)
		require.Equal(t, []int64{0, 1, 2}, offsets, "offsets")
		require.Equal(t, at.Truncate(time.Millisecond), rs[0].Timestamp, "timestamp")
		require.Equal(t, `k v [{"b" "h"} {"a" ""} {"b" ""}]`, fmt.Sprintf("%s %s %q", rs[0].Key, rs[0].Value, rs[0].Headers), "first")
		require.Equal(t, []bool{true, false}, []bool{rs[0].Headers[1].Value == nil, rs[0].Headers[2].Value == nil}, "nil header")
		require.Equal(t, []bool{false, false}, []bool{rs[1].Key == nil, rs[1].Value == nil}, "empty")
		require.Equal(t, []bool{true, true, true}, []bool{rs[2].Key == nil, rs[2].Value == nil, rs[2].Headers == nil}, "nil")
		require.Equal(t, time.Now(), rs[2].Timestamp, "now")
	})
}

// Two claims of one member lose their places at once: both continue.
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
			require.NoError(t, b.DeleteRecords("t", p, 1), "delete")
		}
		b.Start()
		time.Sleep(time.Second)
		for p := range int32(2) {
			require.Equal(t, []string{"kept"}, r.got(r.claim(p)), "values")
		}
	})
}

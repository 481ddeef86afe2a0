package kafka

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/window"
)

// A record is due when its delay has passed since its timestamp, or since it came if that
// is earlier or the only time that is known. When it came is remembered under later claims,
// as long as it is the same record.
func TestWaitOfARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newArrivals()
		w := wait{delay: time.Minute, arrivals: g}
		now := time.Now()
		records := []driver.Record{
			{Offset: 0, Timestamp: now}, {Offset: 1, Timestamp: now.Add(-time.Hour)},
			{Offset: 5, Timestamp: now.Add(time.Second)}, {Offset: 6}, {Offset: 7, Timestamp: now.Add(time.Hour)},
			{Offset: 8, Timestamp: time.UnixMilli(-1)}, {Offset: 9, Timestamp: now.Add(time.Hour)},
			{Offset: 10, Timestamp: time.UnixMilli(1 << 62)}, {Offset: 11, Timestamp: time.UnixMilli(-1 << 62)},
		}
		due := func(w *wait, records []driver.Record) (due []time.Duration) {
			for i := range records {
				due = append(due, w.due(&records[i]).Sub(now))
			}
			return due
		}
		w.note(driver.Batch{Records: records[:2]}, 0)
		assert.Empty(t, g.of, "no record is dated ahead")
		w.note(driver.Batch{Next: 3}, 0)
		time.Sleep(10 * time.Second)
		w.note(driver.Batch{Records: records[2:6]}, 0)
		time.Sleep(10 * time.Second)
		w.note(driver.Batch{Records: records[6:]}, 0)
		const m, s = time.Minute, time.Second
		want := []time.Duration{m, m - time.Hour, m + s, m + 10*s, m + 10*s, m + 10*s, m + 20*s, m + 20*s, m + 20*s}
		assert.Equal(t, want, due(&w, records))

		time.Sleep(5 * time.Second)
		later := wait{delay: time.Minute, arrivals: g}
		later.note(driver.Batch{Records: records}, 6)
		want[2] = m + s // it is not ahead now
		assert.Equal(t, want, due(&later, records), "as under the claim before")
		assert.EqualValues(t, 6, g.of[TopicPartition{}][0].offset, "those before are done")
		other := wait{delay: time.Minute, arrivals: g}
		other.note(driver.Batch{Records: []driver.Record{{Offset: 9, Timestamp: now.Add(2 * time.Hour)}}}, 6)
		assert.Equal(t, m+25*s, other.due(&driver.Record{Offset: 9, Timestamp: now.Add(2 * time.Hour)}).Sub(now), "another record")

		var rang atomic.Int32
		w.ring = func() { rang.Add(1) }
		assert.False(t, w.holdsBack(nil))
		assert.False(t, w.holdsBack(&records[1]))
		assert.True(t, w.holdsBack(&records[6]))
		assert.Len(t, w.ahead, 3)
		assert.True(t, w.holdsBack(&records[6]), "with the same timer")
		time.Sleep(time.Until(w.due(&records[6])) - time.Nanosecond)
		synctest.Wait()
		assert.Zero(t, rang.Load())
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		assert.EqualValues(t, 1, rang.Load())
		w.rang()
		assert.False(t, w.holdsBack(&records[6]))
		assert.True(t, w.isDue(&records[6]))
		w.stopTimer()
		assert.True(t, (&wait{}).isDue(&driver.Record{Timestamp: now.Add(time.Hour)}), "no retry topic")
	})
}

// Of one partition a bounded number of records is remembered, for as long as a record can
// wait, and nothing of a topic that was created again.
func TestArrivalsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, key, other := newArrivals(), TopicPartition{"retry", 0}, TopicPartition{"retry", 1}
		records := make([]driver.Record, 3*mostArrivals)
		for i := range records {
			records[i].Offset = int64(i)
		}
		assert.Len(t, g.note(key, 0, records), len(records))
		assert.Len(t, g.of[key], mostArrivals)
		assert.Zero(t, g.of[key][0].offset, "the first ones")
		g.note(other, 0, records[:1])
		g.forget(other)
		assert.NotContains(t, g.of, other)
		g.note(key, 100, nil)
		assert.Len(t, g.of[key], mostArrivals-100)
		time.Sleep(mostRetryDelay + time.Nanosecond)
		g.note(other, 0, records[:1])
		assert.NotContains(t, g.of, key)
		g.note(other, 1, nil)
		assert.Empty(t, g.of)
	})
}

// To ask whether a record is due costs no allocation.
func TestWaitOfARecordCostsNoAllocation(t *testing.T) {
	in := &intake{wait: wait{delay: time.Minute, arrivals: newArrivals()}, serial: window.New(0)}
	in.wait.ring = in.ring
	b := driver.Batch{Records: []driver.Record{{Timestamp: time.Now().Add(-time.Hour)}}}
	in.wait.note(b, 0)
	in.serial.Push(b)
	due := 0
	assert.Zero(t, testing.AllocsPerRun(100, func() { due += in.dueOf(1) }))
	assert.Equal(t, 101, due)
}

// Position and lag of a partition are known as soon as its first records have come, though
// the driver did not know where the log begins and no record is handed out yet.
func TestLagIsKnownBeforeTheFirstRecordIsDue(t *testing.T) {
	for _, order := range []Order{OrderNone, OrderByPartition} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg, topic := testConfig(), "orders"
				if cfg.Order = order; order == OrderNone {
					cfg.Failure = FailurePolicy{
						Then: FailureSkip, MaxAttempts: 1, RetryTopics: []RetryTopic{{Delay: time.Minute}},
					}
					topic = "orders.group.retry.1m"
				}
				d, got := &grownDriver{}, &seen{}
				m := New(d, quiet())
				t.Cleanup(func() { stop(t, m) })
				require.NoError(t, m.RegisterConsumer(t.Context(), NewConsumer(cfg, func(_ context.Context, m *Message) error {
					got.add(m.Value)
					return nil
				})))
				m.jobs["job"].forwarder = &fakeForwarder{}
				require.NoError(t, m.SetConsumerSwitch("job", true))
				require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
				require.NoError(t, m.Pause("job"))
				synctest.Wait()
				fc := d.consumer(t)
				cl := &driver.Claim{Topic: topic, Start: -1}
				fc.h.Assign([]*driver.Claim{cl})
				require.EqualValues(t, -1, state(t, m).Partitions[0].Lag)
				fc.deliver(cl, 7, 9)
				if order == OrderNone {
					require.NoError(t, m.Resume("job"))
				}
				synctest.Wait()
				ps := state(t, m).Partitions[0]
				assert.EqualValues(t, 7, ps.Position)
				assert.EqualValues(t, 993, ps.Lag)
				assert.EqualValues(t, -1, ps.Committed)
				assert.Empty(t, fc.committed(cl))
				assert.Empty(t, got.all())
				require.NoError(t, m.Resume("job"))
				pass(2 * time.Minute)
				assert.Len(t, got.all(), 3)
				assert.EqualValues(t, 10, state(t, m).Partitions[0].Position)
				fc.deliver(cl, 10, 11)
				synctest.Wait()
				in := cl.Owner.(*partition).intake
				assert.Equal(t, order == OrderNone, in.wait.timer != nil, "a timer waits for record 10")
				fc.h.Revoke(t.Context(), []*driver.Claim{cl})
				synctest.Wait()
				assert.Nil(t, in.wait.timer, "it has ended with the claim")
			})
		})
	}
}

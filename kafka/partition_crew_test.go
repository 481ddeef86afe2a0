package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// A worked is what a handler of many records at once has done, and what it does next.
type worked struct {
	mu     sync.Mutex
	calls  []string       // values, as their calls began
	ends   []string       // and ended with nil
	atKey  map[string]int // calls that run, by key
	at     int            // calls that run
	most   int            // of those at once
	twice  bool           // one key was with two calls
	handle func(ctx context.Context, m *Message) error
}

func (w *worked) call(ctx context.Context, m *Message) error {
	w.mu.Lock()
	if w.atKey == nil {
		w.atKey = make(map[string]int)
	}
	key := "key " + string(m.Key)
	if m.Key == nil {
		key = ""
	}
	w.calls = append(w.calls, string(m.Value))
	w.atKey[key]++
	w.twice = w.twice || key != "" && w.atKey[key] > 1
	w.at++
	w.most = max(w.most, w.at)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.atKey[key]--
		w.at--
	}()
	if w.handle == nil {
		return w.done(m, nil)
	}
	return w.done(m, w.handle(ctx, m))
}

func (w *worked) done(m *Message, err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil {
		w.ends = append(w.ends, string(m.Value))
	}
	return err
}

func (w *worked) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func (w *worked) ended() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.ends)
}

func (w *worked) running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// count returns how many of all are v.
func count(all []string, v string) (n int) {
	for _, a := range all {
		if a == v {
			n++
		}
	}
	return n
}

// keyed makes records from offset on. Each word is a key, and the value is the key and
// the offset; "-" is no key.
func keyed(offset int64, keys ...string) (b driver.Batch) {
	for _, key := range keys {
		r := driver.Record{Offset: offset, Key: []byte(key), Value: fmt.Appendf(nil, "%s%d", key, offset)}
		if key == "-" {
			r.Key = nil
		}
		b.Records = append(b.Records, r)
		offset++
	}
	return b
}

// parallel is a configuration for so many records at once.
func parallel(o Order, n int) ConsumerConfig {
	cfg := testConfig()
	cfg.Order, cfg.Parallelism = o, n
	return cfg
}

// startMany starts a consumer that hands messages to w, and returns its driver's consumer.
func startMany(t *testing.T, cfg ConsumerConfig, w *worked, opts ...Option) (*Manager, *fakeConsumer) {
	t.Helper()
	d := &fakeDriver{}
	m := New(d, append([]Option{quiet()}, opts...)...)
	t.Cleanup(func() { stop(t, m) })
	startOn(t, m, NewConsumer(cfg, w.call))
	return m, d.consumer(t)
}

// latest returns the position that was made durable last, or -1.
func (c *fakeConsumer) latest() int64 { return c.mark().Offset }

func TestRecordsOfDifferentKeysAreHandledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(context.Context, *Message) error { time.Sleep(time.Second); return nil }}
		_, c := startMany(t, parallel(OrderByKey, 4), w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, "a", "b", "a", "c", "-", "-", "b", "a", "", ""))
		pass(20 * time.Second)
		assert.Equal(t, 4, w.most)
		assert.False(t, w.twice, "one key is never with two handlers")
		assert.Len(t, w.ended(), 10)
		assert.Equal(t, []string{"a0", "a2", "a7"}, slices.DeleteFunc(w.called(), func(v string) bool { return v[0] != 'a' }))
		assert.Equal(t, int64(10), c.latest())
	})
}

// A nil key waits for nothing, and an empty key is a key.
func TestNoKeyIsNoLaneAndAnEmptyKeyIsOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(context.Context, *Message) error { time.Sleep(time.Hour); return nil }}
		_, c := startMany(t, parallel(OrderByKey, 10), w)
		c.h.Deliver(c.assign(0, 0), keyed(0, "-", "-", "", ""))
		pass(time.Minute)
		assert.ElementsMatch(t, []string{"-0", "-1", "2"}, w.called())
		pass(3 * time.Hour)
	})
}

// The same key in another topic or partition is another lane.
func TestOneKeyInTwoPartitionsIsTwoLanes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(context.Context, *Message) error { time.Sleep(time.Hour); return nil }}
		_, c := startMany(t, parallel(OrderByKey, 10), w)
		one, two := c.assign(0, 0), c.assign(1, 0)
		c.h.Deliver(one, keyed(0, "a", "a"))
		c.h.Deliver(two, keyed(0, "a", "a"))
		pass(time.Minute)
		assert.Equal(t, 2, w.running())
		pass(3 * time.Hour)
		assert.Len(t, w.ended(), 4)
	})
}

func TestRecordsWithoutOrderAreHandledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(context.Context, *Message) error { time.Sleep(time.Second); return nil }}
		_, c := startMany(t, parallel(OrderNone, 8), w)
		c.h.Deliver(c.assign(0, 0), keyed(0, "a", "a", "a", "a", "a", "a", "a", "a", "a"))
		pass(1500 * time.Millisecond)
		assert.Len(t, w.ended(), 8)
		pass(time.Minute)
		assert.Equal(t, 8, w.most)
		assert.Equal(t, int64(9), c.latest())
	})
}

// Records that fail give their places to others: as many keys as there are places fail
// without end, and all others are handled.
func TestFailingRecordsDoNotUseUpThePlaces(t *testing.T) {
	for _, n := range []int{1, 2} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &worked{handle: func(_ context.Context, m *Message) error {
					if k := string(m.Key); k == "x" || k == "y" {
						return errHandler
					}
					return nil
				}}
				m, c := startMany(t, parallel(OrderByKey, n), w)
				cl := c.assign(0, 0)
				c.h.Deliver(cl, keyed(0, "x", "a", "y", "x", "b", "a"))
				pass(10 * time.Minute)
				assert.ElementsMatch(t, []string{"a1", "b4", "a5"}, w.ended())
				assert.NotContains(t, w.called(), "x3", "it waits for x0")
				assert.Greater(t, count(w.called(), "x0"), 8)
				assert.Greater(t, count(w.called(), "y2"), 8)
				ps := state(t, m).Partitions[0]
				assert.Equal(t, []int{3, 1, 2, 0, 3}, []int{ps.Undone, ps.Waiting, ps.BackingOff, ps.Workers, ps.DoneAbove})
				assert.Equal(t, int64(0), ps.Position)
				assert.Equal(t, 2, ps.InFlight)
				assert.ErrorIs(t, ps.LastError, errHandler)
			})
		})
	}
}

// What an idle partition had is given back: nothing runs for it but its own goroutine.
func TestAnIdleCrewHasNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{}
		m, c := startMany(t, parallel(OrderNone, 64), w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, make([]string, 200)...))
		pass(time.Minute)
		assert.Len(t, w.ended(), 200)
		crew := m.jobs["job"].session.claims.live()[0].crew
		crew.intake.mu.Lock()
		defer crew.intake.mu.Unlock()
		assert.Equal(t, []int{0, 0, 0, 0, 0}, []int{crew.live, crew.taken, crew.coming, crew.failed, crew.gated})
	})
}

// A handler that finishes while the partition is revoked does not take the next record
// of its key, nor any other.
func TestARevocationTakesNoFurtherRecord(t *testing.T) {
	for _, kind := range []string{"value", "message"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDriver{}
				m := New(d, quiet())
				t.Cleanup(func() { stop(t, m) })
				var s seen
				begun := make(chan struct{}, 10)
				startOn(t, m, consumerOfKind(parallel(OrderByKey, 2), kind, func(v []byte) error {
					begun <- struct{}{}
					time.Sleep(time.Second)
					s.add(v)
					return nil
				}))
				c := d.consumer(t)
				cl := c.assign(0, 0)
				c.h.Deliver(cl, keyed(0, "a", "b", "a", "b", "c"))
				<-begun
				<-begun
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				c.take(cl)
				c.h.Revoke(ctx, []*driver.Claim{cl})
				assert.ElementsMatch(t, []string{"a0", "b1"}, s.all())
				assert.Equal(t, int64(2), c.latest())
				pass(time.Minute)
				assert.Len(t, s.all(), 2)
			})
		})
	}
}

// A handler that outlives its claim moves no position, and keeps the next claim's lanes
// from beginning.
func TestACrewOutlivesItsClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(_ context.Context, m *Message) error {
			if string(m.Value) == "a0" {
				time.Sleep(time.Minute)
			}
			return nil
		}}
		_, c := startMany(t, parallel(OrderByKey, 2), w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, "a", "b"))
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		c.take(cl)
		c.h.Revoke(ctx, []*driver.Claim{cl})
		next := c.assign(0, 0)
		c.h.Deliver(next, keyed(0, "a", "b"))
		pass(time.Second)
		assert.Equal(t, 1, w.running(), "the claim before is still at it")
		pass(2 * time.Minute)
		assert.Equal(t, 2, count(w.called(), "a0"))
		assert.Equal(t, int64(2), c.latest())
		assert.Equal(t, []int64{0}, c.committed(cl), "at the revocation, with b beside it")
	})
}

func TestPanicsAndGoexitsInACrew(t *testing.T) {
	for _, tt := range []struct {
		name string
		how  func()
	}{{"panic", func() { panic("oh") }}, {"goexit", runtime.Goexit}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &worked{}
				w.handle = func(_ context.Context, m *Message) error {
					if string(m.Key) == "x" && m.Attempt < 3 {
						tt.how()
					}
					return nil
				}
				rec := &recorder{}
				_, c := startMany(t, parallel(OrderByKey, 2), w, WithHook(rec))
				c.h.Deliver(c.assign(0, 0), keyed(0, "x", "a", "x", "a"))
				pass(time.Minute)
				assert.Equal(t, int64(4), c.latest())
				assert.Len(t, eventsOf[HandlerFailed](rec), 4)
			})
		})
	}
}

// MaxConcurrency bounds the handlers of all partitions, and gives each its turn.
func TestMaxConcurrencyGivesPartitionsTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(context.Context, *Message) error { time.Sleep(time.Second); return nil }}
		cfg := parallel(OrderNone, 64)
		cfg.MaxConcurrency = 4
		_, c := startMany(t, cfg, w)
		many, one := c.assign(0, 0), c.assign(1, 0)
		c.h.Deliver(many, keyed(0, slices.Repeat([]string{"many"}, 100)...))
		c.h.Deliver(one, keyed(0, "one", "one"))
		pass(2500 * time.Millisecond)
		assert.Equal(t, 4, w.most)
		assert.Contains(t, w.called(), "one1")
		pass(time.Minute)
		assert.Len(t, w.ended(), 102)
		assert.Equal(t, 4, w.most)
	})
}

// Records that have failed have no place of the consumer while they wait, and a halted
// partition waits for none.
func TestMaxConcurrencyAndFailingRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(_ context.Context, m *Message) error {
			switch m.Key[0] {
			case 'x':
				return errHandler
			case 'h':
				time.Sleep(time.Hour)
			}
			return nil
		}}
		cfg := parallel(OrderNone, 8)
		cfg.MaxConcurrency = 2
		_, c := startMany(t, cfg, w)
		one, two := c.assign(0, 0), c.assign(1, 0)
		c.h.Deliver(one, keyed(0, "x", "x", "x", "a", "a"))
		pass(30 * time.Second)
		assert.ElementsMatch(t, []string{"a3", "a4"}, w.ended())
		c.h.Deliver(two, keyed(0, "h", "h"))
		pass(5 * time.Minute)
		assert.Equal(t, 2, w.running(), "both places are used up")
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		c.take(one)
		c.h.Revoke(ctx, []*driver.Claim{one})
		assert.Zero(t, time.Since(began), "no lane of it waits for a place")
		pass(2 * time.Hour)
	})
}

// While the consumer is held nothing is handed out but the probe; then all goes on.
func TestAHeldCrewHandsOutTheProbeAlone(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var up atomic.Bool
				w := &worked{}
				w.handle = func(_ context.Context, m *Message) error {
					if !up.Load() {
						return Hold(errHandler, time.Minute)
					}
					return nil
				}
				_, c := startMany(t, parallel(OrderNone, n), w)
				c.h.Deliver(c.assign(0, 0), keyed(0, slices.Repeat([]string{"a"}, 20)...))
				synctest.Wait()
				before := len(w.called())
				assert.LessOrEqual(t, before, n)
				pass(61 * time.Second)
				assert.Len(t, w.called(), before+1, "one probe")
				pass(time.Minute)
				assert.Len(t, w.called(), before+2, "and another one")
				up.Store(true)
				pass(time.Hour)
				assert.Len(t, w.ended(), 20)
				assert.Equal(t, int64(20), c.latest())
			})
		})
	}
}

// A hold of one partition keeps those of others from beginning, and they begin with it.
func TestAHoldOverSeveralCrews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		w := &worked{}
		w.handle = func(_ context.Context, m *Message) error {
			if !up.Load() {
				return Hold(errHandler, time.Minute)
			}
			return nil
		}
		m, c := startMany(t, parallel(OrderByKey, 3), w)
		one, two := c.assign(0, 0), c.assign(1, 0)
		c.h.Deliver(one, keyed(0, "a"))
		synctest.Wait()
		c.h.Deliver(two, keyed(0, "a", "b", "c", "d", "e"))
		synctest.Wait()
		assert.Len(t, w.called(), 1)
		ps := state(t, m).Partitions[1]
		assert.Equal(t, []int{5, 0}, []int{ps.Undone, ps.Workers})
		assert.Contains(t, []int{1, 2, 3}, ps.BackingOff, "lanes at the gate: those that took a record before the first was there")
		up.Store(true)
		pass(5 * time.Minute)
		assert.Len(t, w.ended(), 6)
	})
}

// Each record has its own time: one handler that is stuck is found, while others go on.
func TestAHandlerTimeoutIsOneRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(ctx context.Context, m *Message) error {
			switch m.Key[0] {
			case 's': // stuck
				time.Sleep(time.Hour)
			case 'o': // obeys
				if m.Attempt < 3 {
					<-ctx.Done()
					return context.Cause(ctx)
				}
			}
			return nil
		}}
		cfg := parallel(OrderByKey, 3)
		cfg.HandlerTimeout = 5 * time.Second
		m, c := startMany(t, cfg, w)
		c.h.Deliver(c.assign(0, 0), keyed(0, "s", "o", "a", "a"))
		pass(time.Minute)
		ps := state(t, m).Partitions[0]
		assert.Equal(t, 50*time.Second, time.Since(ps.StuckSince))
		assert.ElementsMatch(t, []string{"o1", "a2", "a3"}, w.ended())
		pass(2 * time.Hour)
		assert.Equal(t, int64(4), c.latest())
	})
}

// Dead letters and skips of one record let the next one of its key go on.
func TestASkippedRecordLetsItsKeyGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(_ context.Context, m *Message) error {
			if string(m.Value) == "x0" {
				return errHandler
			}
			return nil
		}}
		cfg := parallel(OrderByKey, 2)
		cfg.Failure = FailurePolicy{Then: FailureSkip, MaxAttempts: 3}
		rec := &recorder{}
		_, c := startMany(t, cfg, w, WithHook(rec))
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "x", "a"))
		pass(time.Minute)
		assert.Equal(t, 3, count(w.called(), "x0"))
		assert.ElementsMatch(t, []string{"x1", "a2"}, w.ended())
		assert.Equal(t, int64(3), c.latest())
		skipped := eventsOf[RecordSkipped](rec)
		require.Len(t, skipped, 1)
		assert.Equal(t, int64(0), skipped[0].Offset)
	})
}

func TestResolveFindsTheRecordOfACrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(_ context.Context, m *Message) error {
			if m.Key[0] == 'x' {
				return errHandler
			}
			return nil
		}}
		m, c := startMany(t, parallel(OrderByKey, 2), w)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "a", "xx", "x"))
		pass(10 * time.Second)
		p := TopicPartition{Topic: "orders"}
		assert.ErrorIs(t, m.Resolve(t.Context(), "job", p, 1, FailureSkip), ErrNotFailing, "it is done")
		assert.ErrorIs(t, m.Resolve(t.Context(), "job", p, 3, FailureSkip), ErrNotFailing, "it waits")
		assert.NoError(t, m.Resolve(t.Context(), "job", p, 2, FailureSkip))
		synctest.Wait()
		assert.ErrorIs(t, m.Resolve(t.Context(), "job", p, 2, FailureSkip), ErrNotFailing, "it is skipped")
		assert.NoError(t, m.Resolve(t.Context(), "job", p, 0, FailureSkip))
		pass(time.Second)
		assert.Equal(t, int64(3), state(t, m).Partitions[0].Position)
	})
}

// Shutdown inside a handler of a crew would wait for it.
func TestInsideAHandlerOfACrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var err error
		var m *Manager
		var c *fakeConsumer
		m, c = startMany(t, parallel(OrderByKey, 2), &worked{handle: func(ctx context.Context, _ *Message) error {
			err = m.Shutdown(ctx)
			return nil
		}})
		c.h.Deliver(c.assign(0, 0), keyed(0, "a"))
		pass(time.Second)
		assert.ErrorIs(t, err, ErrInside)
	})
}

// A shutdown waits for all handlers, and hands out nothing more.
func TestAShutdownDrainsACrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(ctx context.Context, m *Message) error {
			if m.Key[0] == 'x' {
				return errors.New("fails")
			}
			time.Sleep(5 * time.Second)
			return ctx.Err()
		}}
		d := &fakeDriver{}
		m := New(d, quiet())
		startOn(t, m, NewConsumer(parallel(OrderByKey, 3), w.call))
		c := d.consumer(t)
		c.h.Deliver(c.assign(0, 0), keyed(0, "a", "x", "b", "a", "c", "d"))
		pass(time.Second)
		require.NoError(t, m.Shutdown(t.Context()))
		assert.ElementsMatch(t, []string{"a0", "b2", "c4"}, w.ended())
		assert.Equal(t, int64(1), c.latest())
	})
}

// Workers are handlers that run. A lane that has ended has none, whatever it has left
// undone.
func TestTheStatusOfACrewThatIsDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		w := &worked{handle: func(_ context.Context, m *Message) error {
			if m.Key[0] == 'x' {
				return errHandler
			}
			<-release
			return nil
		}}
		m, c := startMany(t, parallel(OrderByKey, 1), w)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "a", "b"))
		pass(10 * time.Millisecond)
		stopped := make(chan error, 1)
		go func() { stopped <- m.Shutdown(context.Background()) }()
		synctest.Wait()
		ps := state(t, m).Partitions[0]
		assert.Equal(t, [3]int{3, 1, 0}, [3]int{ps.Undone, ps.Workers, ps.BackingOff})
		close(release)
		assert.NoError(t, <-stopped)
	})
}

// A record that was skipped while its consumer was held is done, and waits for nothing.
func TestTheStatusOfASkippedRecordInAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(_ context.Context, m *Message) error {
			if m.Key[0] == 'h' {
				return Hold(errHandler, time.Minute)
			}
			return errHandler
		}}
		m, c := startMany(t, parallel(OrderByKey, 2), w)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "h"))
		synctest.Wait()
		require.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{Topic: "orders"}, 0, FailureSkip))
		synctest.Wait()
		ps := state(t, m).Partitions[0]
		assert.Equal(t, [3]int{1, 0, 1}, [3]int{ps.Undone, ps.Workers, ps.BackingOff})
	})
}

// bad fails the records of keys that begin with x.
func bad(_ context.Context, m *Message) error {
	if len(m.Key) > 0 && m.Key[0] == 'x' {
		return errHandler
	}
	return nil
}

// A copy that takes long holds up its own key, and neither other records nor other
// attempts.
func TestACopyThatTakesLongHoldsUpItsKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fw := &fakeForwarder{answer: func(ctx context.Context, f forwarding) error {
			if f.record.Offset == 0 {
				select {
				case <-time.After(time.Hour):
				case <-ctx.Done():
				}
			}
			return ctx.Err()
		}}
		cfg := parallel(OrderByKey, 1)
		cfg.Failure = deadLetters(3)
		w := &worked{handle: bad}
		d := &fakeDriver{}
		startForwarding(t, d, NewConsumer(cfg, w.call), fw)
		c := d.consumer(t)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "x", "a", "xx", "b"))
		pass(10 * time.Minute)
		assert.ElementsMatch(t, []string{"a2", "b4"}, w.ended())
		assert.Equal(t, 3, count(w.called(), "xx3"))
		assert.NotContains(t, w.called(), "x1")
		assert.ElementsMatch(t, [][]int64{{0}, {3}}, fw.offsets())
		pass(time.Hour)
		assert.ElementsMatch(t, [][]int64{{0}, {3}, {1}}, fw.offsets())
		assert.Equal(t, int64(5), c.latest())
	})
}

// The dead letters of a partition count in one row, whichever lanes make them, and a
// record that is handled ends it, also without a hook.
func TestTheRowOfDeadLetters(t *testing.T) {
	for _, tt := range []struct {
		name  string
		order Order
		n     int
		keys  []string
		held  bool
	}{
		{"one lane, with others between", OrderByPartition, 1, []string{"a", "x", "a", "x", "a", "x", "a", "x"}, false},
		{"one lane", OrderByPartition, 1, []string{"a", "x", "x", "x", "x"}, true},
		{"a crew, with others between", OrderByKey, 1, []string{"a", "x", "b", "x", "c", "x", "d"}, false},
		{"a crew", OrderByKey, 4, []string{"a", "x1", "x2", "x3", "x4"}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := parallel(tt.order, tt.n)
				cfg.Failure = deadLetters(1)
				cfg.Failure.DeadLetter.MaxInARow = 3
				w := &worked{handle: bad}
				d := &fakeDriver{}
				m := startForwarding(t, d, NewConsumer(cfg, w.call), &fakeForwarder{})
				c := d.consumer(t)
				cl := c.assign(0, 0)
				for i, key := range tt.keys { // one after the other
					c.h.Deliver(cl, keyed(int64(i), key))
					synctest.Wait()
				}
				assert.Equal(t, tt.held, state(t, m).Held != nil)
			})
		})
	}
}

// A thousand keys, 64 at once, a handler of 5 ms: at least 60 times as fast as one after
// the other.
func TestAThousandKeysSixtyFourAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const records = 10_000
		w := &worked{handle: func(context.Context, *Message) error { time.Sleep(5 * time.Millisecond); return nil }}
		_, c := startMany(t, parallel(OrderByKey, 64), w)
		cl := c.assign(0, 0)
		random := rand.New(rand.NewPCG(1, 2))
		keys := make([]string, records)
		for i := range keys {
			keys[i] = fmt.Sprint(random.IntN(1000))
		}
		began := time.Now()
		c.h.Deliver(cl, keyed(0, keys...))
		for len(w.ended()) < records {
			pass(5 * time.Millisecond)
		}
		assert.Less(t, time.Since(began), records*5*time.Millisecond/60)
		assert.False(t, w.twice)
	})
}

// One key is stuck, and 999 others keep their rate of 5,000 records per second.
func TestAStuckKeyBesideGoodOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const seconds, rate = 100, 5_000
		var done atomic.Int64
		stuck := make(chan struct{})
		cfg := parallel(OrderByKey, 64)
		d := &fakeDriver{}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, NewConsumer(cfg, func(_ context.Context, m *Message) error {
			if string(m.Key) == "0" {
				<-stuck
			} else {
				time.Sleep(5 * time.Millisecond)
			}
			done.Add(1)
			return nil
		}))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		keys := make([]string, rate)
		for i := range keys {
			keys[i] = fmt.Sprint(i % 1000)
		}
		for s := range seconds {
			c.h.Deliver(cl, keyed(int64(s*rate), keys...))
			pass(time.Second)
			if !assert.Equal(t, int64((s+1)*rate/1000*999), done.Load(), "after %d s", s+1) {
				break
			}
			if !assert.False(t, c.isPaused(cl), "after %d s: %+v", s+1, state(t, m).Partitions[0]) {
				break
			}
		}
		close(stuck)
		pass(time.Minute)
		assert.Equal(t, int64(seconds*rate), c.latest())
	})
}

// An opsHook checks that an operation ends with the records that it began with, and
// counts outcomes.
type opsHook struct {
	NopHook
	mu    sync.Mutex
	open  map[int64]int // deliveries, by offset
	mixed bool
	ends  map[string]int
}

func (h *opsHook) Start(ctx context.Context, op *Op) (context.Context, OpToken) {
	if op.Kind != OpProcess && op.Kind != OpAttempt {
		return ctx, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if op.Kind == OpProcess {
		h.open[op.Records[0].Offset]++
	}
	return ctx, op.Records[0].Offset
}

func (h *opsHook) End(token OpToken, op *Op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mixed = h.mixed || op.Records[0].Offset != token.(int64)
	h.ends[op.Kind.String()+" "+op.Outcome.String()]++
	if op.Kind == OpProcess {
		h.open[token.(int64)]--
	}
}

// Each lane has operations of its own: those of records that are handled at once are not
// mixed up, and each ends once.
func TestOperationsOfRecordsThatAreHandledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(_ context.Context, m *Message) error {
			time.Sleep(time.Duration(1+m.Offset%3) * time.Second)
			if m.Offset%4 == 0 && m.Attempt == 1 {
				return errHandler
			}
			return nil
		}}
		h := &opsHook{open: map[int64]int{}, ends: map[string]int{}}
		_, c := startMany(t, parallel(OrderNone, 5), w, WithHook(h))
		c.h.Deliver(c.assign(0, 0), keyed(0, make([]string, 20)...))
		pass(time.Minute)
		h.mu.Lock()
		defer h.mu.Unlock()
		assert.False(t, h.mixed)
		assert.Equal(t, map[string]int{"process done": 20, "attempt done": 20, "attempt failed": 5}, h.ends)
		assert.Len(t, h.open, 20)
		for offset, n := range h.open {
			assert.Zero(t, n, "%d", offset)
		}
	})
}

// Records that wait behind a failing one pause their partition when they exceed its bound,
// and not when they fill half of it.
func TestRecordsBehindAFailingOneFillTheWholeQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := parallel(OrderByKey, 2)
		cfg.MaxBufferedMessages = 10
		w := &worked{handle: bad}
		_, c := startMany(t, cfg, w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, "x", "x", "x", "x", "x", "x", "x", "a", "b", "c", "d", "e"))
		pass(10 * time.Second)
		assert.Len(t, w.ended(), 5)
		assert.Equal(t, []string{"pause 0", "resume 0"}, c.pauseLog())
		c.h.Deliver(cl, keyed(12, "x", "x", "x", "x", "f"))
		pass(10 * time.Second)
		assert.Len(t, w.ended(), 6)
		assert.True(t, c.isPaused(cl), "eleven wait")
	})
}

// A position that passes a transaction marker is committed, though no record comes.
func TestAPositionThatMovesWithoutARecordIsCommitted(t *testing.T) {
	for _, o := range []Order{OrderByPartition, OrderByKey, OrderNone} {
		t.Run(o.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, c := startMany(t, parallel(o, 1), &worked{})
				cl := c.assign(0, 0)
				c.h.Deliver(cl, keyed(0, "a"))
				pass(5 * time.Second)
				assert.Equal(t, int64(1), c.latest())
				c.h.Deliver(cl, driver.Batch{Next: 2})
				pass(5 * time.Second)
				assert.Equal(t, int64(2), c.latest())
			})
		})
	}
}

// A partition that is revoked is not resumed while its handlers end.
func TestARevokedCrewIsNotResumed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := parallel(OrderNone, 4)
		cfg.MaxBufferedMessages = 4
		w := &worked{handle: func(context.Context, *Message) error { time.Sleep(time.Second); return nil }}
		_, c := startMany(t, cfg, w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, make([]string, 6)...))
		synctest.Wait()
		assert.Equal(t, []string{"pause 0"}, c.pauseLog())
		c.revoke(cl)
		assert.Len(t, w.ended(), 4)
		assert.Equal(t, []string{"pause 0"}, c.pauseLog())
	})
}

// A slowKeeper is a keeper whose reflow waits until it is released.
type slowKeeper struct {
	keeper
	released chan struct{}
}

func (k slowKeeper) reflow() { <-k.released; k.keeper.reflow() }

// A revocation returns when the last lane of a crew has ended, not while it still judges
// the budget.
func TestARevocationWaitsForTheEndOfTheLastLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := parallel(OrderByKey, 2)
		cfg.MaxTotalBufferedBytes = 2000
		w := &worked{handle: func(ctx context.Context, _ *Message) error { <-ctx.Done(); return ctx.Err() }}
		m, c := startMany(t, cfg, w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, "a"))
		synctest.Wait()
		p := m.jobs["job"].session.claims.live()[0]
		released := make(chan struct{})
		p.env.keeper = slowKeeper{p.env.keeper, released}
		p.intake.mu.Lock()
		p.intake.many.Push(driver.Batch{Records: []driver.Record{{Offset: 1, Key: []byte("a"), Value: make([]byte, 3000)}}}) // that is not counted yet
		p.intake.mu.Unlock()
		revoked := make(chan struct{})
		go func() {
			defer close(revoked)
			c.revoke(cl)
		}()
		synctest.Wait()
		assert.False(t, isClosed(revoked))
		close(released)
		synctest.Wait()
		assert.True(t, isClosed(revoked))
	})
}

// hanging fails records of keys that begin with x or, a moment later, y, and hangs for that
// time at those that begin with h.
func hanging(d time.Duration) func(context.Context, *Message) error {
	return func(_ context.Context, m *Message) error {
		switch m.Key[0] {
		case 'x':
			return errHandler
		case 'y':
			time.Sleep(10 * time.Millisecond)
			return errHandler
		case 'h':
			time.Sleep(d)
		}
		return nil
	}
}

// An operator decides on a record that is due while all places are with handlers that
// hang. One that is to be tried now is the next to get a place.
func TestResolveReachesARecordThatWaitsForAPlace(t *testing.T) {
	p := TopicPartition{Topic: "orders"}
	resolve := func(t *testing.T, m *Manager, offset int64, do Failure) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		assert.NoError(t, m.Resolve(ctx, "job", p, offset, do))
	}
	t.Run("skip", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &worked{handle: hanging(time.Hour)}
			m, c := startMany(t, parallel(OrderByKey, 2), w)
			c.h.Deliver(c.assign(0, 0), keyed(0, "x", "h", "hh", "x"))
			pass(10 * time.Second)
			assert.Equal(t, 2, w.running())
			resolve(t, m, 0, FailureSkip)
			pass(time.Second)
			ps := state(t, m).Partitions[0]
			assert.Equal(t, int64(1), ps.Position)
			assert.NotContains(t, w.called(), "x3", "all places are taken")
			pass(2 * time.Hour)
			assert.Contains(t, w.called(), "x3")
		})
	})
	t.Run("keep", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := &worked{handle: hanging(time.Hour)}
			m, c := startMany(t, parallel(OrderByKey, 1), w)
			c.h.Deliver(c.assign(0, 0), keyed(0, "x", "y", "h"))
			pass(10 * time.Second)
			assert.Equal(t, []string{"x0", "y1", "h2"}, w.called())
			resolve(t, m, 1, FailureKeep)
			pass(time.Hour)
			assert.Equal(t, []string{"x0", "y1", "h2", "y1", "x0"}, w.called()[:5])
		})
	})
}

// An order comes together with the place for which its record has waited. When the record
// fails again it does not go before another one that waits.
func TestAnOrderThatComesWithAPlaceCountsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := hanging(time.Hour)
		w := &worked{handle: func(ctx context.Context, m *Message) error {
			if m.Key[0] == 'l' {
				return Retry(errHandler, 5*time.Second)
			}
			return hang(ctx, m)
		}}
		m, c := startMany(t, parallel(OrderByKey, 1), w)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "l", "h", "hh"))
		pass(10 * time.Second)
		assert.Equal(t, []string{"x0", "l1", "h2"}, w.called())
		p := m.jobs["job"].session.claims.live()[0]
		failing := p.failingOf(0)
		p.intake.mu.Lock()
		failing.ask(0, FailureKeep) // its lane wakes up, and waits for the mutex
		var next *seat
		for s := range p.crew.seats {
			if s.offset == 2 {
				next = s.handOver()
			}
		}
		p.intake.mu.Unlock()
		next.resume <- struct{}{}
		pass(2 * time.Hour)
		assert.Equal(t, []string{"x0", "l1", "h2", "x0", "hh3", "l1"}, w.called()[:6])
	})
}

// An order to forward a record comes together with the place for which the record has
// waited. Its copy takes an hour, and another record has the place meanwhile.
func TestAnOrderThatComesWithAPlaceGivesThePlaceBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fw := &fakeForwarder{answer: func(ctx context.Context, _ forwarding) error {
			select {
			case <-time.After(time.Hour):
			case <-ctx.Done():
			}
			return ctx.Err()
		}}
		cfg := parallel(OrderByKey, 1)
		cfg.Failure = deadLetters(100)
		w := &worked{handle: hanging(time.Hour)}
		d := &fakeDriver{}
		m := startForwarding(t, d, NewConsumer(cfg, w.call), fw)
		c := d.consumer(t)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "h", "a"))
		pass(10 * time.Second)
		failing := m.jobs["job"].session.claims.live()[0].failingOf(0)
		failing.enqueue(0, order{FailureDeadLetter, make(chan error, 1)}) // and its kick comes too late
		pass(time.Hour)
		assert.Equal(t, [][]int64{{0}}, fw.offsets())
		assert.Equal(t, []string{"h1", "a2"}, w.ended())
		pass(2 * time.Hour)
		assert.Equal(t, int64(3), c.latest())
	})
}

// A record is the probe of a hold, and waits for a place until that hold is over. The leave
// does not let it through the next hold.
func TestALateLeaveToProbeOpensNoLaterHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var again atomic.Bool
		w := &worked{handle: func(_ context.Context, m *Message) error {
			switch k := m.Key[0]; {
			case k == 'x' && m.Attempt == 1:
				return errHandler
			case k == 'h':
				time.Sleep(10 * time.Minute)
			case k == 'y':
				time.Sleep(500 * time.Millisecond)
				return Hold(errHandler, time.Minute)
			case k == 'v' && !again.Swap(true):
				return Hold(errHandler, time.Hour)
			}
			return nil
		}}
		m, c := startMany(t, parallel(OrderByKey, 1), w)
		one, two, three := c.assign(0, 0), c.assign(1, 0), c.assign(2, 0)
		c.h.Deliver(one, keyed(0, "x", "h"))
		c.h.Deliver(two, keyed(0, "y"))
		pass(2 * time.Second)
		assert.NotNil(t, state(t, m).Held)
		c.lose(two)
		pass(2 * time.Minute) // x is the probe for one minute, and has no place
		c.h.Deliver(three, keyed(0, "z", "v"))
		synctest.Wait()
		assert.Equal(t, []string{"z0"}, w.ended(), "the next probe ends the hold")
		assert.NotNil(t, state(t, m).Held, "and v begins another one")
		pass(10 * time.Minute)
		assert.Equal(t, []string{"z0", "h1"}, w.ended())
		assert.Equal(t, 1, count(w.called(), "x0"), "it waits at the gate")
		pass(3 * time.Hour)
		assert.ElementsMatch(t, []string{"z0", "h1", "v1", "x0"}, w.ended())
	})
}

// Thousands of records that wait for a place leave the queue at a halt, without a copy of
// it for each.
func TestALongQueueForPlacesEndsAtOnce(t *testing.T) {
	const records = 4000
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: hanging(time.Hour)}
		_, c := startMany(t, parallel(OrderNone, 1), w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, append(slices.Repeat([]string{"x"}, records), "h")...))
		pass(10 * time.Minute)
		assert.Equal(t, 1, w.running(), "all others wait for its place")
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c.lose(cl)
		synctest.Wait()
		runtime.ReadMemStats(&after)
		assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(records*records*8/4))
		pass(2 * time.Hour)
	})
}

// While a commit of what is done above a standing position fails, the status says why.
func TestTheErrorOfACommitOfMetadataIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		d := &fakeDriver{commit: func(context.Context, []driver.Mark) error {
			if !up.Load() {
				return errDial
			}
			return nil
		}}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, NewConsumer(parallel(OrderByKey, 2), (&worked{handle: bad}).call))
		c := d.consumer(t)
		c.h.Deliver(c.assign(0, 0), keyed(0, "x", "a"))
		pass(10 * time.Second)
		assert.ErrorIs(t, state(t, m).CommitError, errDial)
		up.Store(true)
		pass(10 * time.Second)
		assert.NoError(t, state(t, m).CommitError)
	})
}

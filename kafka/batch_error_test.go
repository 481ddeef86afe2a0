package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// batches records the offsets and attempts of each call of a batch handler.
type batches struct {
	mu    sync.Mutex
	calls [][]string
}

func (b *batches) add(ms []*Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var call []string
	for _, m := range ms {
		call = append(call, fmt.Sprintf("%d#%d", m.Offset, m.Attempt))
	}
	b.calls = append(b.calls, call)
}

func (b *batches) all() [][]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.calls)
}

// startBatches starts a consumer of batches with a fake forwarder.
func startBatches(t *testing.T, d *fakeDriver, cfg ConsumerConfig, fw forwarder, handle func([]*Message) error, opts ...Option) (*Manager, *batches) {
	b := &batches{}
	c := NewBatchConsumer(cfg, func(_ context.Context, ms []*Message) error {
		b.add(ms)
		return handle(ms)
	})
	return startForwarding(t, d, c, fw, opts...), b
}

// What a BatchError does not name is done; what failed comes again together and without
// the rest, before any later record, each with its own count, mark and verdict.
func TestBatchErrorNamesWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fw := &fakeDriver{}, &recorder{}, &fakeForwarder{}
		cfg := testConfig()
		cfg.MaxBatchSize = 10
		cfg.Failure = deadLetters(3)
		_, got := startBatches(t, d, cfg, fw, func(ms []*Message) error {
			var failed BatchError
			for _, m := range ms {
				switch {
				case m.Offset == 2:
					failed.Add(m, errHandler) // until it is dead
				case m.Offset == 4 && m.Attempt == 1:
					failed.Add(m, errHandler)
				case m.Offset == 5:
					failed.Add(m, Skip(errHandler))
				case m.Offset == 7:
					failed.Add(m, DeadLetter(errHandler))
				default:
					failed.Add(m, nil)
				}
			}
			if err := failed.Err(); err != nil {
				return fmt.Errorf("wrapped: %w", err)
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 11)
		pass(1500 * time.Millisecond)
		assert.Equal(t, []int64{2}, c.committed(cl))
		pass(20 * time.Second)
		assert.Equal(t, [][]string{
			{"0#1", "1#1", "2#1", "3#1", "4#1", "5#1", "6#1", "7#1", "8#1", "9#1"},
			{"2#2", "4#2"},
			{"2#3"},
			{"10#1", "11#1"},
		}, got.all())
		assert.Equal(t, int64(12), c.position(cl))
		assert.Equal(t, [][]int64{{7}, {2}}, fw.offsets())
		assert.Equal(t, "failed keep, failed keep, skipped, forwarded, failed keep, failed dead letter, forwarded", reported(hook))
	})
}

// The records behind one that AddFrom names were not handled: they come again and count
// no attempt.
func TestBatchHandlerThatStopsEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fw := &fakeDriver{}, &recorder{}, &fakeForwarder{}
		cfg := testConfig()
		cfg.Failure = deadLetters(2)
		_, got := startBatches(t, d, cfg, fw, func(ms []*Message) error {
			var failed BatchError
			for _, m := range ms {
				if m.Offset == 1 {
					failed.AddFrom(m, errHandler)
					break
				}
			}
			return failed.Err()
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		pass(10 * time.Second)
		assert.Equal(t, [][]string{{"0#1", "1#1", "2#1", "3#1"}, {"1#2", "2#2", "3#2"}, {"2#3", "3#3"}}, got.all())
		assert.Equal(t, [][]int64{{1}}, fw.offsets())
		assert.Equal(t, int64(4), c.position(cl))
		assert.Equal(t, "failed keep, failed dead letter, forwarded", reported(hook))
	})
}

// AddFrom without an error must not let what is behind the record count as done.
func TestAddFromWithoutAnErrorFails(t *testing.T) {
	var e BatchError
	e.AddFrom(&Message{Offset: 1}, nil)
	require.Error(t, e.Err())
}

// A batch that fails as a whole comes again as a whole until the attempts are used up,
// and then record by record: one bad record does not send the good ones to the dead
// letters.
func TestBatchThatFailsAsAWholeComesOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fw := &fakeDriver{}, &recorder{}, &fakeForwarder{}
		cfg := testConfig()
		cfg.Failure = deadLetters(2)
		_, got := startBatches(t, d, cfg, fw, func(ms []*Message) error {
			if slices.ContainsFunc(ms, func(m *Message) bool { return m.Offset == 1 }) {
				return errHandler
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		pass(10 * time.Second)
		c.deliver(cl, 3, 4)
		pass(time.Second)
		assert.Equal(t, [][]string{
			{"0#1", "1#1", "2#1"}, {"0#2", "1#2", "2#2"}, {"0#3"}, {"1#3"}, {"2#3"}, {"3#1", "4#1"},
		}, got.all())
		assert.Equal(t, [][]int64{{1}}, fw.offsets())
		assert.Equal(t, int64(5), c.position(cl))
		assert.Equal(t, "failed keep, failed keep, failed dead letter, forwarded", reported(hook))
	})
}

// A mark on an error that names no records applies to each record of the batch; around
// one that does, to each record that it names.
func TestMarkOnABatch(t *testing.T) {
	for _, tt := range []struct {
		name   string
		handle func(ms []*Message) error
		want   [][]int64
		calls  int
	}{
		{"all", func([]*Message) error { return DeadLetter(errHandler) }, [][]int64{{0, 1, 2}}, 1},
		{"around a BatchError", func(ms []*Message) error {
			var failed BatchError
			failed.Add(ms[1], errHandler)
			return DeadLetter(failed.Err())
		}, [][]int64{{1}}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, fw := &fakeDriver{}, &fakeForwarder{}
			cfg := testConfig()
			cfg.Failure = deadLetters(5)
			_, got := startBatches(t, d, cfg, fw, tt.handle)
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 2)
			pass(10 * time.Second)
			assert.Equal(t, tt.want, fw.offsets(), tt.name)
			assert.Len(t, got.all(), tt.calls, tt.name)
			assert.Equal(t, int64(3), c.position(cl), tt.name)
		})
	}
}

// A BatchError fails the whole batch if it stands in a join, names a record that was not
// in the call, or names none.
func TestBatchErrorThatFailsTheWholeBatch(t *testing.T) {
	for name, fail := range map[string]func(ms []*Message) error{
		"join": func(ms []*Message) error {
			var e BatchError
			e.Add(ms[0], Skip(errHandler))
			return errors.Join(Skip(errHandler), e.Err())
		},
		"foreign": func(ms []*Message) error {
			var e BatchError
			e.Add(ms[0], Skip(errHandler))
			e.Add(&Message{Topic: "orders", Offset: 99}, Skip(errHandler))
			return e.Err()
		},
		"nil": func(ms []*Message) error {
			var e BatchError
			e.Add(ms[0], Skip(errHandler))
			e.Add(nil, Skip(errHandler))
			return e.Err()
		},
		"empty": func([]*Message) error { return new(BatchError) },
	} {
		synctest.Test(t, func(t *testing.T) {
			d, n := &fakeDriver{}, 0
			_, got := startBatches(t, d, testConfig(), nil, func(ms []*Message) error {
				if n++; n == 1 {
					return fail(ms)
				}
				return nil
			})
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 1)
			synctest.Wait()
			assert.Empty(t, c.committed(cl), name)
			pass(2 * time.Second)
			assert.Equal(t, [][]string{{"0#1", "1#1"}, {"0#2", "1#2"}}, got.all(), name)
		})
	}
}

// A record that was not in this call cannot be named, though it was in the one before.
func TestBatchErrorNamesARecordOfAnEarlierCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var first *Message
		_, got := startBatches(t, d, testConfig(), nil, func(ms []*Message) error {
			var e BatchError
			if first == nil {
				first = ms[0]
				e.Add(ms[1], errHandler)
			} else if ms[0].Attempt == 2 {
				e.Add(first, errHandler)
			}
			return e.Err()
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		pass(10 * time.Second)
		assert.Equal(t, [][]string{{"0#1", "1#1", "2#1"}, {"1#2"}, {"1#3"}}, got.all())
		assert.Equal(t, int64(3), c.position(cl))
	})
}

func TestBatchErrorText(t *testing.T) {
	var e BatchError
	require.NoError(t, e.Err())
	require.EqualError(t, &e, "no record of the batch failed")
	e.Add(&Message{Topic: "orders", Partition: 3, Offset: 42}, errHandler)
	e.Add(&Message{Topic: "orders", Partition: 3, Offset: 43}, errDial)
	require.EqualError(t, e.Err(), "2 records of the batch failed, the first orders/3 at offset 42: handler failed")
	require.ErrorIs(t, e.Err(), errDial)
}

// Batches are bounded in bytes, too; a record that costs more than the bound comes alone.
func TestMaxBatchBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		cfg := testConfig()
		cfg.MaxBatchBytes = 3 * (&driver.Record{Value: []byte("0")}).Size()
		_, got := startBatches(t, d, cfg, nil, func([]*Message) error { return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		c.deliver(cl, 4, 7)
		pass(time.Second)
		var sizes []int
		for _, call := range got.all() {
			sizes = append(sizes, len(call))
		}
		total := 0
		for _, n := range sizes {
			total += n
			assert.LessOrEqual(t, n, 3)
		}
		assert.Equal(t, 8, total)
	})
}

// A batch lingers until it is full, or its time is up.
func TestBatchLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		cfg := testConfig()
		cfg.MaxBatchSize, cfg.BatchLinger = 4, 10*time.Second
		_, got := startBatches(t, d, cfg, nil, func([]*Message) error { return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(9 * time.Second)
		assert.Empty(t, got.all())
		c.deliver(cl, 2, 2)
		pass(2 * time.Second)
		assert.Equal(t, [][]string{{"0#1", "1#1", "2#1"}}, got.all(), "its time began with the first record")
		c.deliver(cl, 3, 5)
		pass(time.Second)
		assert.Len(t, got.all(), 1)
		c.deliver(cl, 6, 7)
		synctest.Wait()
		assert.Equal(t, []string{"3#1", "4#1", "5#1", "6#1"}, got.all()[1], "it is full")
		began := time.Now()
		c.revoke(cl)
		assert.Zero(t, time.Since(began), "a revocation does not wait for it")
		assert.Len(t, got.all(), 2)
	})
}

// A partition whose queue is paused cannot fill its batch: it does not linger.
func TestBatchDoesNotLingerWhilePaused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		cfg := testConfig()
		cfg.MaxBatchSize, cfg.BatchLinger, cfg.MaxBufferedMessages = 100, time.Hour, 5
		_, got := startBatches(t, d, cfg, nil, func([]*Message) error { return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 5)
		synctest.Wait()
		assert.Len(t, got.all(), 1)
		assert.False(t, c.isPaused(cl))
	})
}

// MaxInARow counts the dead letters since a record was handled, whichever of a batch is
// the last: half of these are handled, and nothing is held.
func TestBatchThatIsHalfHandledIsNotInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fw, w, hook := &fakeDriver{}, &fakeForwarder{}, &watcher{t: t}, &recorder{}
		cfg := testConfig()
		cfg.MaxBatchSize = 2
		cfg.Failure = deadLetters(1)
		cfg.Failure.DeadLetter.MaxInARow = 2
		startBatches(t, d, cfg, fw, func(ms []*Message) error {
			if ms[0].Offset%2 == 0 { // bad, then good: the whole batch fails, and comes one by one
				return errHandler
			}
			return nil
		}, WithHook(w, hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		pass(time.Minute)
		assert.Len(t, fw.offsets(), 5)
		assert.Equal(t, int64(10), c.position(cl))
		assert.Empty(t, eventsOf[ConsumerHeld](hook))
		for _, op := range w.of(OpProcessBatch) {
			assert.Equal(t, OutcomeForwarded, op.Outcome, "the operation is of the whole batch")
		}
	})
}

// The records in flight are those that the handler has got and that are not done, also of
// a batch that comes in parts.
func TestInFlightOfABatchInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		cfg := testConfig()
		cfg.MaxBatchSize = 10
		m, got := startBatches(t, d, cfg, nil, func(ms []*Message) error {
			n++
			if n == 1 {
				return Hold(errHandler, 0)
			}
			time.Sleep(10 * time.Second)
			if n == 2 { // the probe
				return nil
			}
			var failed BatchError
			failed.Add(ms[len(ms)-1], errHandler)
			return failed.Err()
		})
		c := d.consumer(t)
		asks, cl := c.assign(1, 0), c.assign(0, 0)
		c.deliver(asks, 0, 0)
		synctest.Wait()
		c.deliver(cl, 0, 9)
		c.revoke(asks)
		inFlight := func() int { return state(t, m).Partitions[0].InFlight }
		pass(2 * time.Second)
		assert.Equal(t, 1, inFlight(), "the probe")
		pass(10 * time.Second)
		assert.Equal(t, 9, inFlight(), "the others")
		pass(10 * time.Second)
		assert.Equal(t, 1, inFlight(), "the last of them has failed")
		assert.Equal(t, [][]string{{"0#1"}, {"0#1"}, {"1#1", "2#1", "3#1", "4#1", "5#1", "6#1", "7#1", "8#1", "9#1"}, {"9#2"}}, got.all())
	})
}

package kafka

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// B01, B28: a failed record is not passed by the next success; it is tried
// again in place after the backoff, before anything that follows it.
func TestB01_FailedRecordIsRetriedInPlaceAndNeverCommittedPast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, fail := &fakeDriver{}, &seen{}, 2
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) == "1" && fail > 0 {
				fail--
				return errHandler
			}
			return nil
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 4)
		pass(2500 * time.Millisecond) // after the second attempt at 1s, before the third at 3s
		require.Equal(t, []int64{1}, c.committed(cl), "record 1 fails")
		pass(time.Second)
		require.Equal(t, []string{"0", "1", "1", "1", "2", "3", "4"}, got.all())
		require.Equal(t, int64(5), c.position(cl))
	})
}

// B02: a panic is a failure with a stack.
func TestB02_PanicIsAFailure(t *testing.T) {
	testFailureKind(t, func() error { panic("boom") }, func(t *testing.T, err error) {
		var pe *PanicError
		require.ErrorAs(t, err, &pe)
		require.Equal(t, "boom", pe.Value)
		require.NotEmpty(t, pe.Stack)
	})
}

func TestGoexitIsAFailure(t *testing.T) {
	testFailureKind(t, func() error { runtime.Goexit(); return nil }, func(t *testing.T, err error) {
		require.ErrorIs(t, err, errGoexit)
	})
}

// It is one, too, when the partition was halted during the call: what was begun of the
// record ends, and the failure is reported.
func TestGoexitOnceThePartitionIsHalted(t *testing.T) {
	for _, kind := range []string{"value", "message", "batch"} {
		for _, test := range []struct {
			name    string
			halt    func(*testing.T, *Manager, *fakeConsumer, *driver.Claim)
			outcome Outcome
			events  string
		}{
			{"shut down", func(t *testing.T, m *Manager, _ *fakeConsumer, _ *driver.Claim) { stop(t, m) }, OutcomeFailed, "failed keep"},
			{"revoked", func(_ *testing.T, _ *Manager, c *fakeConsumer, cl *driver.Claim) { c.revoke(cl) }, OutcomeInterrupted, ""},
		} {
			t.Run(kind+" "+test.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d, w, hook := &fakeDriver{}, &watcher{t: t}, &recorder{}
					m := startKind(t, d, kind, func([]byte) error {
						time.Sleep(time.Second)
						runtime.Goexit()
						return nil
					}, WithHook(w, hook))
					c := d.consumer(t)
					cl := c.assign(0, 0)
					c.deliver(cl, 0, 0)
					synctest.Wait()
					test.halt(t, m, c, cl)
					stop(t, m)
					attempts := w.of(OpAttempt)
					require.Len(t, attempts, 1)
					assert.Equal(t, test.outcome, attempts[0].Outcome)
					assert.Equal(t, test.events, reported(hook))
					assert.Empty(t, c.committed(cl))
					w.allEnded()
				})
			})
		}
	}
}

// Nor does a hold that begins during the call make it wait.
func TestGoexitWhileTheConsumerIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, w, hook := &fakeDriver{}, &watcher{t: t}, &recorder{}
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			if string(v) == "7" {
				return Hold(errHandler, time.Hour)
			}
			time.Sleep(time.Second)
			runtime.Goexit()
			return nil
		}, WithHook(w, hook))
		c := d.consumer(t)
		exiting, holding := c.assign(0, 0), c.assign(1, 0)
		c.deliver(exiting, 0, 0)
		synctest.Wait()
		c.deliver(holding, 7, 7)
		pass(2 * time.Second)
		assert.Equal(t, "failed keep", reported(hook))
		assert.Len(t, w.of(OpAttempt), 2)
	})
}

// testFailureKind runs a handler that ends record 1 once with fail, as each
// kind of consumer.
func testFailureKind(t *testing.T, fail func() error, check func(*testing.T, error)) {
	for _, kind := range []string{"value", "message", "batch"} {
		synctest.Test(t, func(t *testing.T) {
			hook := &recorder{}
			d, got, failed := &fakeDriver{}, &seen{}, false
			one := func(v []byte) error {
				got.add(v)
				if string(v) == "1" && !failed {
					failed = true
					return fail()
				}
				return nil
			}
			startKind(t, d, kind, one, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 2)
			pass(3 * time.Second)
			want := []string{"0", "1", "1", "2"}
			if kind == "batch" {
				want = []string{"0", "1", "0", "1", "2"}
			}
			require.Equal(t, want, got.all(), "%s consumer", kind)
			require.Equal(t, int64(3), c.position(cl), "%s consumer", kind)
			fs := eventsOf[HandlerFailed](hook)
			require.Len(t, fs, 1, "%s consumer", kind)
			check(t, fs[0].Err)
		})
	}
}

// A failing record is tried again in place, forever, at up to Backoff.Max, and
// visibly; it never switches its consumer off, and it is handled as soon as its
// handler can. I11: its neighbours go on meanwhile.
func TestFailingRecordIsTriedAgainForever(t *testing.T) {
	for _, most := range []int{1, 10, Unlimited} {
		synctest.Test(t, func(t *testing.T) {
			d, hook := &fakeDriver{}, &recorder{}
			var mu sync.Mutex // guards attempts and cured
			var attempts []time.Duration
			began, cured := time.Now(), false
			cfg := testConfig()
			cfg.MaxConsecutiveErrors = most
			m := start(t, d, cfg, func(_ context.Context, v []byte) error {
				mu.Lock()
				defer mu.Unlock()
				if string(v) == "3" && !cured {
					attempts = append(attempts, time.Since(began))
					return errHandler
				}
				return nil
			}, WithHook(hook))
			c := d.consumer(t)
			bad, good := c.assign(0, 0), c.assign(1, 0)
			c.deliver(bad, 3, 9)
			pass(200 * time.Second)
			c.deliver(good, 100, 104)
			pass(time.Hour)
			mu.Lock()
			defer mu.Unlock()
			require.Greater(t, len(attempts), 60)
			for i, wait := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60} {
				require.Equal(t, wait*time.Second, attempts[i+1]-attempts[i], "wait %d", i)
			}
			s := state(t, m)
			require.Equal(t, StateRunning, s.State)
			require.True(t, s.Switch)
			require.Equal(t, len(attempts), s.Errors)
			require.Equal(t, began.Add(attempts[len(attempts)-1]+time.Minute), s.NextRetry)
			require.Equal(t, []int64{105}, c.committed(good))
			require.Empty(t, c.committed(bad))
			ps := s.Partitions[0]
			require.Equal(t, len(attempts), ps.Errors)
			require.ErrorIs(t, ps.LastError, errHandler)
			require.Equal(t, failuresOf(3, len(attempts)), untimed(t, eventsOf[HandlerFailed](hook)))
			cured = true
			mu.Unlock()
			pass(2 * time.Minute)
			mu.Lock()
			require.Equal(t, []int64{10}, c.committed(bad))
			require.Zero(t, state(t, m).Errors)
		})
	}
}

// failuresOf returns the events of a record that fails n times in a row.
func failuresOf(offset int64, n int) (failures []HandlerFailed) {
	for i := range n {
		failures = append(failures, HandlerFailed{
			JobName: "job", Group: "group", Topic: "orders", Offset: offset,
			Source: Source{Topic: "orders", Offset: offset}, Failures: i + 1, Backoff: min(time.Second<<min(i, 6), time.Minute), Err: errHandler,
		})
	}
	return failures
}

// untimed returns failures without the times of their records and of their retries, each of which must be
// the wait that the event says.
func untimed(t *testing.T, failures []HandlerFailed) []HandlerFailed {
	t.Helper()
	for i := range failures {
		require.False(t, failures[i].NextRetry.IsZero())
		failures[i].NextRetry, failures[i].Source.Timestamp = time.Time{}, time.Time{}
	}
	return failures
}

// Failures of one record are counted across rebalances, so its backoff goes on
// growing.
func TestRebalancesDoNotForgiveABadRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		start(t, d, testConfig(), func(context.Context, []byte) error { return errHandler }, WithHook(hook))
		c := d.consumer(t)
		for range 20 {
			cl := c.assign(0, 5)
			c.deliver(cl, 5, 5)
			synctest.Wait()
			c.revoke(cl)
		}
		require.Equal(t, failuresOf(5, 20), untimed(t, eventsOf[HandlerFailed](hook)))
	})
}

// A record that failed under one claim and is handled at once under the next is
// forgiven.
func TestHandledRecordIsForgivenAcrossClaims(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fail := &fakeDriver{}, &recorder{}, true
		start(t, d, testConfig(), func(context.Context, []byte) error {
			if fail {
				return errHandler
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		for _, fail = range []bool{true, false, true} {
			cl := c.assign(0, 5)
			c.deliver(cl, 5, 5)
			pass(1500 * time.Millisecond)
			c.revoke(cl)
		}
		var counts []int
		for _, e := range eventsOf[HandlerFailed](hook) {
			counts = append(counts, e.Failures)
		}
		require.Equal(t, []int{1, 2, 1, 2}, counts)
	})
}

// While the handler is at a record again, no attempt at it is due.
func TestNoRetryIsDueWhileAnAttemptIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		m := start(t, d, testConfig(), func(ctx context.Context, v []byte) error {
			if n++; n > 1 {
				time.Sleep(10 * time.Second)
			}
			return errHandler
		})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		s := state(t, m)
		require.Equal(t, time.Now().Add(time.Second), s.NextRetry)
		pass(5 * time.Second)
		s = state(t, m)
		require.Equal(t, 1, s.Errors)
		require.Zero(t, s.NextRetry)
		require.Zero(t, s.Partitions[0].NextRetry)
	})
}

// A record that was handled under a later claim is struck out of the ledger, also if
// another record of the partition had failed as well.
func TestHandledRecordStartsItsCountAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		d.commit = func(context.Context, []driver.Mark) error { return errDial } // so each claim starts at 0
		fails := true
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			if string(v) == "3" && fails {
				return errHandler
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		for _, failing := range []bool{true, false, true} {
			fails = failing
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 3)
			pass(1500 * time.Millisecond)
			c.lose(cl)
			synctest.Wait()
		}
		var failures []int
		for _, e := range eventsOf[HandlerFailed](hook) {
			failures = append(failures, e.Failures)
		}
		require.Equal(t, []int{1, 2, 1, 2}, failures)
	})
}

// A hook that ends the goroutine of a lane, as a failed assertion in a test's hook does,
// is not taken for a handler that did.
func TestGoexitOfAHookIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, hook := &fakeDriver{}, &seen{}, &recorder{}
		start(t, d, testConfig(), func(_ context.Context, v []byte) error { got.add(v); return nil },
			WithHook(hook), WithHook(&exitingHook{}))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		pass(2 * time.Second)
		require.Equal(t, []string{"0", "1", "2"}, got.all())
		require.Empty(t, eventsOf[HandlerFailed](hook))
		require.Equal(t, int64(3), c.position(cl))
	})
}

// An exitingHook ends the first goroutine that has received records.
type exitingHook struct {
	NopHook
	exited bool
}

func (h *exitingHook) Start(ctx context.Context, op *Op) (context.Context, OpToken) {
	return ctx, op
}

func (h *exitingHook) End(_ OpToken, op *Op) {
	if op.Kind == OpReceive && !h.exited {
		h.exited = true
		runtime.Goexit()
	}
}

// Nor does it lose a record: a hook that ends the goroutine when the probe's skip or dead
// letter has ended a hold does so after the record is done, and the next one comes.
func TestGoexitOfAHookAtTheEndOfAHold(t *testing.T) {
	for _, kind := range []string{"value", "message", "batch"} {
		for _, mark := range []func(error) error{Skip, DeadLetter} {
			synctest.Test(t, func(t *testing.T) {
				d, got, n, exited := &fakeDriver{}, &seen{}, 0, false
				hook := &eventFunc{f: func(e Event) {
					if e, ok := e.(ConsumerHeld); ok && e.Until.IsZero() && !exited {
						exited = true
						runtime.Goexit()
					}
				}}
				cfg := testConfig()
				cfg.Failure.DeadLetter.Topic = "dead"
				c := consumerOfKind(cfg, kind, func(v []byte) error {
					got.add(v)
					if string(v) != "0" {
						return nil
					}
					if n++; n == 1 {
						return Hold(errHandler, 0)
					}
					return mark(errHandler)
				})
				fw := &fakeForwarder{}
				startForwarding(t, d, c, fw, WithHook(hook))
				fc := d.consumer(t)
				cl := fc.assign(0, 0)
				fc.deliver(cl, 0, 0)
				fc.deliver(cl, 1, 3)
				pass(10 * time.Second)
				assert.True(t, exited)
				assert.Equal(t, []string{"0", "0", "1", "2", "3"}, got.all(), kind)
				assert.Equal(t, int64(4), fc.position(cl), kind)
				assert.LessOrEqual(t, len(fw.offsets()), 1)
			})
		}
	}
}

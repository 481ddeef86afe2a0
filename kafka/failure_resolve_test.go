package kafka

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Resolve acts at once on a record that waits, and once.
func TestResolve(t *testing.T) {
	orders := TopicPartition{"orders", 0}
	for _, tt := range []struct {
		do       Failure
		calls    int
		position int64
		reported string
		second   error // of another call for the same record
	}{
		{FailureKeep, 2, -1, "failed keep, failed keep", nil},
		{FailureSkip, 1, 1, "failed keep, skipped", ErrNotFailing},
		{FailureDeadLetter, 1, 1, "failed keep, forwarded", ErrNotFailing},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, got, hook, fw := &fakeDriver{}, &seen{}, &recorder{}, &fakeForwarder{}
			cfg := testConfig()
			cfg.Failure.DeadLetter.Topic = "dead"
			cfg.Backoff.Min, cfg.Backoff.Max = time.Hour, time.Hour
			m := startForwarding(t, d, &handlerFunc{cfg, failOffset(got, "0", errHandler)}, fw, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			pass(time.Second)
			assert.ErrorIs(t, m.Resolve(t.Context(), "job", orders, 1, tt.do), ErrNotFailing, "another record")
			assert.ErrorIs(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 1}, 0, tt.do), ErrNotFailing, "another partition")
			assert.NoError(t, m.Resolve(t.Context(), "job", orders, 0, tt.do))
			synctest.Wait()
			assert.Len(t, got.all(), tt.calls, tt.do)
			assert.Equal(t, tt.position, c.position(cl), tt.do)
			assert.Equal(t, tt.reported, reported(hook), tt.do)
			assert.ErrorIs(t, m.Resolve(t.Context(), "job", orders, 0, tt.do), tt.second, tt.do)
			if tt.do == FailureDeadLetter {
				assert.Equal(t, "operator", eventsOf[RecordForwarded](hook)[0].Reason)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing)
		p := TopicPartition{"orders", 0}
		assert.ErrorIs(t, m.Resolve(t.Context(), "none", p, 0, FailureSkip), ErrUnknownConsumer)
		assert.EqualError(t, m.Resolve(t.Context(), "job", p, 7, FailureStop),
			`kafka: resolve record orders/0 at offset 7 of consumer "job": "stop" is none of FailureKeep, FailureDeadLetter, FailureSkip`)
		assert.EqualError(t, m.Resolve(t.Context(), "job", p, 7, FailureDeadLetter),
			`kafka: resolve record orders/0 at offset 7 of consumer "job": no dead-letter topic is configured`)
		assert.ErrorIs(t, m.Resolve(t.Context(), "job", p, 7, FailureSkip), ErrNotFailing)
		assert.EqualError(t, m.Resolve(noContext(), "job", p, 7, FailureSkip),
			`kafka: resolve record orders/0 at offset 7 of consumer "job": ctx is nil`)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		assert.Equal(t, context.Canceled, m.Resolve(ended, "job", p, 7, FailureSkip))
		require.NoError(t, m.SetConsumerSwitch("job", false))
		synctest.Wait()
		assert.ErrorIs(t, m.Resolve(t.Context(), "job", p, 7, FailureSkip), ErrNotFailing)
	})
}

// While the handler is at the record Resolve waits: it acts when that call has failed,
// and comes too late if it succeeds, or if the partition goes. If its context ends before,
// it does nothing.
func TestResolveWhileTheHandlerIsAtIt(t *testing.T) {
	for _, tt := range []struct {
		name   string
		second error
		revoke bool
		within time.Duration
		want   error
		report string
	}{
		{"fails", errHandler, false, time.Minute, nil, "failed keep, failed skip, skipped"},
		{"succeeds", nil, false, time.Minute, ErrNotFailing, "failed keep"},
		{"revoked", errHandler, true, time.Minute, ErrNotFailing, "failed keep"},
		{"fails after the context has ended", errHandler, false, 5 * time.Second, context.DeadlineExceeded, "failed keep, failed keep"},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, hook, n := &fakeDriver{}, &recorder{}, 0
			m := start(t, d, testConfig(), func(ctx context.Context, _ []byte) error {
				if n++; n == 1 {
					return errHandler
				}
				select {
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
				}
				return tt.second
			}, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			pass(2 * time.Second)
			answer := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), tt.within)
				defer cancel()
				answer <- m.Resolve(ctx, "job", TopicPartition{"orders", 0}, 0, FailureSkip)
			}()
			pass(time.Second)
			assert.Empty(t, answer, tt.name)
			if tt.revoke {
				c.revoke(cl)
			}
			pass(9 * time.Second)
			assert.ErrorIs(t, <-answer, tt.want, tt.name)
			assert.Equal(t, tt.report, reported(hook), tt.name)
		})
	}
}

// A record whose copy cannot be sent can be skipped, and its copy be sent now.
func TestResolveOfARecordThatWaitsToBeForwarded(t *testing.T) {
	for _, do := range []Failure{FailureSkip, FailureKeep, FailureDeadLetter} {
		synctest.Test(t, func(t *testing.T) {
			d, got, hook := &fakeDriver{}, &seen{}, &recorder{}
			away := true
			fw := &fakeForwarder{answer: func(context.Context, forwarding) error {
				if away {
					return errors.New("topic is away")
				}
				return nil
			}}
			cfg := testConfig()
			cfg.Failure = deadLetters(1)
			cfg.Backoff.Min, cfg.Backoff.Max = time.Hour, time.Hour
			m := startForwarding(t, d, &handlerFunc{cfg, failOffset(got, "0", errHandler)}, fw, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			pass(time.Second)
			assert.EqualError(t, state(t, m).Partitions[0].ForwardError, "topic is away")
			away = false
			assert.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, do))
			synctest.Wait()
			assert.Equal(t, int64(1), c.position(cl), do)
			assert.Len(t, got.all(), 1, "without another call of the handler")
			want := "failed dead letter, not forwarded, forwarded"
			if do == FailureSkip {
				want = "failed dead letter, not forwarded, skipped"
			}
			assert.Equal(t, want, reported(hook), do)
			assert.Nil(t, state(t, m).Partitions[0].ForwardError)
		})
	}
}

// A copy that is being sent can take hours. Resolve does not wait for it: a skip breaks the
// send off, and the other actions leave it alone.
func TestResolveWhileACopyIsBeingSent(t *testing.T) {
	for _, do := range []Failure{FailureSkip, FailureKeep, FailureDeadLetter} {
		for _, watched := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				d, hook, acked := &fakeDriver{}, &recorder{}, make(chan struct{})
				fw := &fakeForwarder{answer: func(ctx context.Context, _ forwarding) error {
					select {
					case <-acked:
						return nil
					case <-ctx.Done():
						return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
					}
				}}
				cfg := testConfig()
				cfg.Failure = deadLetters(1)
				opts := []Option{WithHook(hook)}
				if watched {
					opts = append(opts, WithHook(&watcher{t: t}))
				}
				m := startForwarding(t, d, &handlerFunc{cfg, failOffset(&seen{}, "0", errHandler)}, fw, opts...)
				c := d.consumer(t)
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 0)
				pass(time.Minute)
				began := time.Now()
				assert.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, do))
				synctest.Wait()
				assert.Equal(t, began, time.Now())
				if do == FailureSkip {
					assert.Equal(t, "failed dead letter, not forwarded, skipped", reported(hook))
					assert.ErrorIs(t, eventsOf[ForwardFailed](hook)[0].Err, errBrokenOff)
					assert.Equal(t, int64(1), c.position(cl))
					return
				}
				assert.Equal(t, int64(-1), c.position(cl), do)
				close(acked)
				synctest.Wait()
				assert.Equal(t, "failed dead letter, forwarded", reported(hook), do)
				assert.Equal(t, int64(1), c.position(cl), do)
				assert.Len(t, fw.offsets(), 1, "the send goes on")
			})
		}
	}
}

// Another record of the batch waits for the lane that sends the copy: the send is broken
// off for it, and repeated.
func TestResolveBesideACopyThatIsBeingSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, n := &fakeDriver{}, &recorder{}, 0
		fw := &fakeForwarder{answer: func(ctx context.Context, _ forwarding) error {
			if n++; n > 1 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}}
		cfg := testConfig()
		cfg.Failure.DeadLetter.Topic = "dead"
		m, got := startBatches(t, d, cfg, fw, func(ms []*Message) error {
			var failed BatchError
			failed.Add(ms[0], DeadLetter(errHandler))
			failed.Add(ms[1], errHandler)
			return failed.Err()
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(time.Minute)
		assert.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 1, FailureSkip))
		synctest.Wait()
		assert.Equal(t, "failed keep, not forwarded, skipped", reported(hook))
		pass(2 * time.Second)
		assert.Equal(t, "failed keep, not forwarded, skipped, forwarded", reported(hook))
		assert.Equal(t, int64(2), c.position(cl))
		assert.Equal(t, [][]string{{"0#1", "1#1"}}, got.all())
	})
}

// A record of a batch has its turn when those before it are done. Resolve waits for that as
// long as its context says, and does nothing afterwards.
func TestResolveOfARecordWhoseTurnHasNotCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		var back atomic.Bool
		fw := &fakeForwarder{answer: func(context.Context, forwarding) error {
			if !back.Load() {
				return errDial
			}
			return nil
		}}
		cfg := testConfig()
		cfg.Failure = deadLetters(1)
		m, got := startBatches(t, d, cfg, fw, func(ms []*Message) error {
			if ms[0].Offset == 0 {
				return errHandler
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(10 * time.Second)
		assert.Equal(t, [][]string{{"0#1", "1#1"}, {"0#2"}}, got.all())
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		assert.ErrorIs(t, m.Resolve(ctx, "job", TopicPartition{"orders", 0}, 1, FailureSkip), context.DeadlineExceeded)
		back.Store(true)
		pass(time.Minute)
		assert.Equal(t, [][]string{{"0#1", "1#1"}, {"0#2"}, {"1#2"}}, got.all())
		assert.Empty(t, eventsOf[RecordSkipped](hook))
		assert.Equal(t, int64(2), c.position(cl))
	})
}

// What is kept of a batch comes again together: now, if an operator wants one of them now.
func TestResolveKeepsABatchTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		m, got := startBatches(t, d, testConfig(), nil, func(ms []*Message) error {
			if n++; n > 1 {
				return nil
			}
			var failed BatchError
			failed.Add(ms[0], errHandler)
			failed.Add(ms[1], Retry(errHandler, time.Hour))
			return failed.Err()
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(10 * time.Second)
		assert.Equal(t, [][]string{{"0#1", "1#1"}}, got.all())
		assert.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, FailureKeep))
		synctest.Wait()
		assert.Equal(t, [][]string{{"0#1", "1#1"}, {"0#2", "1#2"}}, got.all())
		assert.Equal(t, int64(2), c.position(cl))
	})
}

// A record that is held can be resolved, too.
func TestResolveOfAHeldRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, hook := &fakeDriver{}, &seen{}, &recorder{}
		m := start(t, d, testConfig(), failOffset(got, "0", Hold(errHandler, time.Hour)), WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(time.Second)
		assert.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, FailureSkip))
		synctest.Wait()
		assert.Equal(t, "skipped", reported(hook))
		assert.Equal(t, []string{"0"}, got.all(), "the consumer is still held")
		pass(time.Hour)
		assert.Equal(t, []string{"0", "1"}, got.all())
		assert.Equal(t, int64(2), c.position(cl))
	})
}

// Inside a hook Resolve would wait for the goroutine that called the hook.
func TestResolveInsideAHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *Manager
		var inside []error
		hook := &eventFunc{f: func(e Event) {
			if e, ok := e.(HandlerFailed); ok {
				inside = append(inside, m.Resolve(t.Context(), "job", TopicPartition{e.Topic, e.Partition}, e.Offset, FailureSkip))
			}
		}}
		d := &fakeDriver{}
		m = start(t, d, testConfig(), func(context.Context, []byte) error { return errHandler }, WithHook(hook))
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(2 * time.Second)
		require.Greater(t, len(inside), 1)
		for _, err := range inside {
			assert.ErrorIs(t, err, ErrInside)
		}
		assert.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, FailureSkip), "outside")
	})
}

// An operator may act on the report of a failure at once: the record is known by then.
func TestAFailureIsKnownWhenItIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m *Manager
		var known []int64
		hook := &eventFunc{f: func(e Event) {
			if _, ok := e.(HandlerFailed); ok {
				known = append(known, state(t, m).Partitions[0].Failing)
			}
		}}
		d := &fakeDriver{}
		cfg := testConfig()
		cfg.Backoff.Min, cfg.Backoff.Max = time.Hour, time.Hour
		m = start(t, d, cfg, func(context.Context, []byte) error { return errHandler }, WithHook(hook))
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(time.Second)
		assert.Equal(t, []int64{0}, known)
	})
}

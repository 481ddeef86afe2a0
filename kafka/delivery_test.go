package kafka

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

var errHandler = errors.New("handler failed")

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
		if got, want := c.committed(cl), []int64{1}; !slices.Equal(got, want) {
			t.Errorf("committed %v while record 1 fails, want %v", got, want)
		}
		pass(time.Second)
		if got, want := got.all(), []string{"0", "1", "1", "1", "2", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
		if got := c.committed(cl); got[len(got)-1] != 5 {
			t.Errorf("committed %v, want 5 at last", got)
		}
	})
}

// B02: a panic is a failure with a stack.
func TestB02_PanicIsAFailure(t *testing.T) {
	testFailureKind(t, func() error { panic("boom") }, func(t *testing.T, err error) {
		var pe *PanicError
		if !errors.As(err, &pe) || pe.Value != "boom" || len(pe.Stack) == 0 {
			t.Errorf("failure is %#v, want a *PanicError of boom with a stack", err)
		}
	})
}

func TestGoexitIsAFailure(t *testing.T) {
	testFailureKind(t, func() error { runtime.Goexit(); return nil }, func(t *testing.T, err error) {
		if !errors.Is(err, errGoexit) {
			t.Errorf("failure is %v, want %v", err, errGoexit)
		}
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
			if got := got.all(); !slices.Equal(got, want) {
				t.Errorf("%s consumer: handled %v, want %v", kind, got, want)
			}
			if got := c.committed(cl); got[len(got)-1] != 3 {
				t.Errorf("%s consumer: committed %v, want 3 at last", kind, got)
			}
			fs := eventsOf[HandlerFailed](hook)
			if len(fs) != 1 {
				t.Fatalf("%s consumer: %d failures, want 1", kind, len(fs))
			}
			check(t, fs[0].Err)
		})
	}
}

type batchConsumer struct {
	handlerFunc
	batch func(ctx context.Context, ms []*Message) error
}

func (b *batchConsumer) HandleBatch(ctx context.Context, ms []*Message) error {
	return b.batch(ctx, ms)
}

// startKind starts a consumer of a kind that hands each value to one.
func startKind(t *testing.T, d *fakeDriver, kind string, one func([]byte) error, opts ...Option) *Manager {
	var c Consumer
	switch kind {
	case "value":
		return start(t, d, testConfig(), func(_ context.Context, v []byte) error { return one(v) }, opts...)
	case "message":
		c = NewConsumer(testConfig(), func(_ context.Context, m *Message) error { return one(m.Value) })
	case "batch":
		c = &batchConsumer{handlerFunc{cfg: testConfig()}, func(_ context.Context, ms []*Message) error {
			for _, m := range ms {
				if err := one(m.Value); err != nil {
					return err
				}
			}
			return nil
		}}
	}
	m := New(d, append([]Option{quiet()}, opts...)...)
	t.Cleanup(func() { stop(t, m) })
	startOn(t, m, c)
	return m
}

func TestMessageCarriesTheWholeRecordAndItsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var kept []*Message
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, NewConsumer(testConfig(), func(_ context.Context, m *Message) error {
			kept = append(kept, m)
			if m.Attempt < 3 {
				return errHandler
			}
			return nil
		}))
		c := d.consumer(t)
		cl := c.assign(3, 0)
		when := time.UnixMilli(1_700_000_000_000)
		c.h.Deliver(cl, driver.Batch{Records: []driver.Record{{
			Offset: 9, Timestamp: when, Key: []byte("k"), Value: []byte("v"),
			Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}},
		}}})
		pass(10 * time.Second)
		if len(kept) != 3 {
			t.Fatalf("%d attempts, want 3", len(kept))
		}
		for i, m := range kept { // all kept, so none may have been changed since
			if m.Attempt != i+1 || m.Topic != "orders" || m.Partition != 3 || m.Offset != 9 || !m.Timestamp.Equal(when) ||
				string(m.Key) != "k" || string(m.Value) != "v" || len(m.Headers) != 2 || string(m.Headers[1].Value) != "2" {
				t.Errorf("attempt %d got %+v", i+1, *m)
			}
		}
	})
}

// B26, B27: a failed commit keeps its marks; what is handled during a commit is
// not cleared by it. B20: nothing restarts.
func TestB27_FailedCommitKeepsItsMarks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		refuse := 3
		d.commit = func(_ context.Context, marks []driver.Mark) error {
			if refuse == 0 {
				return nil
			}
			refuse--
			return &driver.CommitError{Failed: []driver.MarkError{{Mark: marks[0], Err: errors.New("not now")}}}
		}
		m := start(t, d, testConfig(), func(context.Context, []byte) error { return nil }, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 4)
		pass(500 * time.Millisecond)
		if s := state(t, m); s.CommitError == nil || s.State != StateRunning {
			t.Errorf("after a failed commit: state %v, commit error %v; want running and an error", s.State, s.CommitError)
		}
		pass(5 * time.Second)
		if got, want := c.committed(cl), []int64{5}; !slices.Equal(got, want) {
			t.Errorf("committed %v, want %v", got, want)
		}
		if s := state(t, m); s.CommitError != nil || d.openCount() != 1 {
			t.Errorf("after recovery: commit error %v, %d sessions; want none, 1", s.CommitError, d.openCount())
		}
		if got := len(eventsOf[CommitFailed](hook)); got != 3 {
			t.Errorf("%d CommitFailed events, want 3", got)
		}
	})
}

func TestB26_RecordsHandledDuringACommitAreCommittedToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		slow := make(chan struct{})
		first := true
		d.commit = func(context.Context, []driver.Mark) error {
			if first {
				first = false
				<-slow
			}
			return nil
		}
		start(t, d, testConfig(), func(context.Context, []byte) error { return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(2 * time.Second) // the commit of 2 is under way
		c.deliver(cl, 2, 5)
		pass(time.Second)
		close(slow)
		pass(2 * time.Second)
		if got, want := c.committed(cl), []int64{2, 6}; !slices.Equal(got, want) {
			t.Errorf("committed %v, want %v", got, want)
		}
	})
}

// B04: with AutoCommit what was handed out is committed, handled or not.
func TestB04_AutoCommitCommitsWhatWasHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.AutoCommit = true
		d := &fakeDriver{}
		start(t, d, cfg, func(_ context.Context, v []byte) error {
			if string(v) == "2" {
				return errHandler
			}
			return nil
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		pass(1100 * time.Millisecond)
		if got := c.committed(cl); !slices.Equal(got, []int64{3}) {
			t.Errorf("committed %v while record 2 fails, want [3]: it was handed out, 3 was not", got)
		}
	})
}

// B25: the handler of the last delivered record is still running when the
// partition is revoked; the final commit carries it.
func TestB25_GracefulRevokeCommitsTheRunningRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			time.Sleep(100 * time.Millisecond) // deaf to its context
			return nil
		})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(50 * time.Millisecond)
		c.revoke(cl)
		if got, want := c.committed(cl), []int64{1}; !slices.Equal(got, want) {
			t.Errorf("committed %v when Revoke returned, want %v", got, want)
		}
	})
}

func TestRevokeCancelsTheRunningHandlerAtOnce(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(*fakeConsumer, *driver.Claim)
		want error
	}{
		{"revoked", (*fakeConsumer).revoke, ErrRevoked},
		{"lost", (*fakeConsumer).lose, ErrPartitionLost},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := &fakeDriver{}
			var cause error
			var took time.Duration
			hook := &recorder{}
			start(t, d, testConfig(), func(ctx context.Context, _ []byte) error {
				began := time.Now()
				<-ctx.Done()
				took, cause = time.Since(began), context.Cause(ctx)
				return ctx.Err()
			}, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 3)
			synctest.Wait()
			tt.end(c, cl)
			synctest.Wait()
			if took != 0 || cause != tt.want {
				t.Errorf("%s: cancelled after %v because of %v, want 0s, %v", tt.name, took, cause, tt.want)
			}
			if got := c.committed(cl); len(got) != 0 {
				t.Errorf("%s: committed %v, want nothing", tt.name, got)
			}
			if fs := eventsOf[HandlerFailed](hook); len(fs) != 0 {
				t.Errorf("%s: an interrupted handler counts as failed: %v", tt.name, fs)
			}
		})
	}
}

// I7: after a loss nothing of the claim is committed, also when its handler
// finishes later.
func TestLostPartitionIsNotCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		start(t, d, testConfig(), func(context.Context, []byte) error { time.Sleep(time.Second); return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		pass(1500 * time.Millisecond)
		before := len(c.committed(cl))
		c.lose(cl)
		pass(10 * time.Second)
		if got := c.committed(cl); len(got) != before {
			t.Errorf("committed %v after the loss", got[before:])
		}
	})
}

// A handler that outlives its claim must not meet the next claim of the same
// partition in this process.
func TestReassignedPartitionWaitsForItsStraggler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		release := make(chan struct{})
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) == "0" && len(got.all()) == 1 {
				<-release
			}
			return nil
		})
		c := d.consumer(t)
		old, other := c.assign(0, 0), c.assign(1, 0)
		c.deliver(old, 0, 2)
		synctest.Wait()
		c.lose(old)
		again := c.assign(0, 0)
		c.deliver(again, 0, 1)
		c.deliver(other, 100, 100)
		pass(time.Minute)
		if got, want := got.all(), []string{"0", "100"}; !slices.Equal(got, want) {
			t.Errorf("while the old handler runs: handled %v, want %v", got, want)
		}
		if s := state(t, m); !slices.Equal(s.Stragglers, []string{"orders/0"}) {
			t.Errorf("stragglers %v, want [orders/0]", s.Stragglers)
		}
		close(release)
		synctest.Wait()
		if got, want := got.all(), []string{"0", "100", "0", "1"}; !slices.Equal(got, want) {
			t.Errorf("handled %v, want %v", got, want)
		}
	})
}

// A handler that is stuck does not hold a revocation beyond its window, and
// what was done before it is committed within.
func TestStuckHandlerDoesNotHoldTheRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		release := make(chan struct{})
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			if string(v) == "2" {
				<-release
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 4)
		synctest.Wait()
		began := time.Now()
		c.revoke(cl)
		if took := time.Since(began); took > c.cfg.DrainTimeout {
			t.Errorf("Revoke took %v, want at most %v", took, c.cfg.DrainTimeout)
		}
		if got := c.committed(cl); len(got) == 0 || got[len(got)-1] != 2 {
			t.Errorf("committed %v, want 2 at last", got)
		}
		if rs := eventsOf[PartitionsRevoked](hook); len(rs) != 1 || !slices.Equal(rs[0].Stuck, []string{"orders/0"}) {
			t.Errorf("revocations %+v, want orders/0 stuck", rs)
		}
		close(release)
	})
}

func TestHoleAtTheEndIsPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		start(t, d, testConfig(), func(context.Context, []byte) error { return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(2 * time.Second)
		c.h.Deliver(cl, driver.Batch{Next: 7})
		pass(2 * time.Second)
		if got, want := c.committed(cl), []int64{2, 7}; !slices.Equal(got, want) {
			t.Errorf("committed %v, want %v", got, want)
		}
	})
}

// A full queue pauses its claim, and half of it gone resumes it; other
// partitions go on.
func TestFullQueuePausesItsClaimOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBufferedMessages = 10
		d, got := &fakeDriver{}, &seen{}
		m := start(t, d, cfg, func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) < "5" {
				time.Sleep(time.Second)
			}
			return nil
		})
		c := d.consumer(t)
		slow, fast := c.assign(0, 0), c.assign(1, 0)
		c.deliver(slow, 0, 10)
		c.deliver(fast, 500, 502)
		synctest.Wait()
		if got, want := c.pauseLog(), []string{"pause 0"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if ps := state(t, m).Partitions; !ps[0].Paused || ps[0].Buffered != 11 || ps[1].Paused || ps[1].Position != 503 {
			t.Errorf("partitions %+v, want 0 paused with 11 buffered and 1 at 503", ps)
		}
		pass(20 * time.Second)
		if got, want := c.pauseLog(), []string{"pause 0", "resume 0"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

func TestBytesBoundTheQueueToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBufferedBytes = 1 << 20
		d := &fakeDriver{}
		release := make(chan struct{})
		start(t, d, cfg, func(context.Context, []byte) error { <-release; return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, driver.Batch{Records: []driver.Record{{Offset: 0, Value: make([]byte, 2<<20)}}})
		synctest.Wait()
		if got, want := c.pauseLog(), []string{"pause 0"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		close(release)
	})
}

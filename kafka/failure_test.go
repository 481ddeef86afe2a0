package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A fakeForwarder answers as the test says, and keeps what it was asked.
type fakeForwarder struct {
	mu     sync.Mutex
	asked  [][]forwarding
	answer func(ctx context.Context, f forwarding) error // nil: acknowledged
}

func (f *fakeForwarder) forward(ctx context.Context, fs []forwarding) []forwarded {
	f.mu.Lock()
	f.asked = append(f.asked, fs)
	f.mu.Unlock()
	answers := make([]forwarded, len(fs))
	for i, one := range fs {
		answers[i] = forwarded{to: TopicPartition{"dead", 7}, offset: 100 + one.record.Offset}
		if f.answer != nil {
			answers[i].err = f.answer(ctx, one)
		}
	}
	return answers
}

// refuse answers all of fs with err.
func refuse(fs []forwarding, err error) []forwarded {
	answers := make([]forwarded, len(fs))
	for i := range answers {
		answers[i] = forwarded{to: TopicPartition{Partition: -1}, offset: -1, err: err}
	}
	return answers
}

// offsets returns those of the records of each call.
func (f *fakeForwarder) offsets() (all [][]int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fs := range f.asked {
		var call []int64
		for _, one := range fs {
			call = append(call, one.record.Offset)
		}
		all = append(all, call)
	}
	return all
}

// deadLetters is a policy that sends dead letters after n attempts.
func deadLetters(n int) FailurePolicy {
	return FailurePolicy{Then: FailureDeadLetter, MaxAttempts: n, DeadLetter: DeadLetterConfig{Topic: "dead"}}
}

// startForwarding starts a consumer with fw for its dead letters.
func startForwarding(t *testing.T, d *fakeDriver, c Consumer, fw forwarder, opts ...Option) *Manager {
	t.Helper()
	m := New(d, append([]Option{quiet()}, opts...)...)
	t.Cleanup(func() { stop(t, m) })
	require.NoError(t, m.RegisterConsumer(t.Context(), c))
	m.jobs["job"].forwarder = fw
	require.NoError(t, m.SetConsumerSwitch("job", true))
	require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
	synctest.Wait()
	return m
}

// failOffset is a handler that records what it gets and fails one record with err.
func failOffset(got *seen, bad string, err error) func(context.Context, []byte) error {
	return func(_ context.Context, v []byte) error {
		got.add(v)
		if string(v) == bad {
			return err
		}
		return nil
	}
}

// The table of what becomes of a record that fails always, with attempts left and with
// none left.
func TestWhatBecomesOfAFailingRecord(t *testing.T) {
	boom := errors.New("boom")
	type row struct {
		name     string
		err      error
		then     Failure
		calls    int    // of the handler for the record, within ten minutes
		reported string // the events, in order
		position int64
		state    State
	}
	failedTwice := "failed keep, failed %v, "
	for _, tt := range []row{
		{"unmarked, keep", boom, FailureKeep, 15, "", 1, StateRunning},
		{"unmarked, skip", boom, FailureSkip, 2, failedTwice + "skipped", 3, StateRunning},
		{"unmarked, dead letter", boom, FailureDeadLetter, 2, failedTwice + "forwarded", 3, StateRunning},
		{"unmarked, stop", boom, FailureStop, 2, failedTwice + "disabled", 1, StateDisabled},
		{"Retry, skip", Retry(boom, time.Minute), FailureSkip, 2, failedTwice + "skipped", 3, StateRunning},
		{"Retry, keep", Retry(boom, time.Minute), FailureKeep, 10, "", 1, StateRunning},
		{"Skip", Skip(boom), FailureStop, 1, "skipped", 3, StateRunning},
		{"DeadLetter", DeadLetter(boom), FailureSkip, 1, "forwarded", 3, StateRunning},
		{"Stop", Stop(boom), FailureSkip, 1, "failed stop, disabled", 1, StateDisabled},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, got, hook, fw := &fakeDriver{}, &seen{}, &recorder{}, &fakeForwarder{}
			cfg := testConfig()
			cfg.Failure = deadLetters(2)
			cfg.Failure.Then = tt.then
			if tt.then == FailureKeep {
				cfg.Failure.MaxAttempts = 0
			}
			m := startForwarding(t, d, &handlerFunc{cfg, failOffset(got, "1", tt.err)}, fw, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 2)
			pass(10*time.Minute - time.Second)
			calls := 0
			for _, v := range got.all() {
				if v == "1" {
					calls++
				}
			}
			assert.Equal(t, tt.calls, calls, tt.name)
			assert.Equal(t, tt.position, c.position(cl), tt.name)
			s := state(t, m)
			assert.Equal(t, tt.state, s.State, tt.name)
			if tt.state == StateDisabled {
				assert.ErrorIs(t, s.Reason, boom)
			}
			if tt.reported != "" {
				want := tt.reported
				if tt.calls == 2 {
					want = fmt.Sprintf(want, tt.then)
				}
				assert.Equal(t, want, reported(hook), tt.name)
			}
		})
	}
}

// reported names the events of failures in order.
func reported(r *recorder) (all string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add := func(s string) {
		if all != "" {
			all += ", "
		}
		all += s
	}
	for _, e := range r.events {
		switch e := e.(type) {
		case HandlerFailed:
			add("failed " + e.Next.String())
		case RecordSkipped:
			add("skipped")
		case RecordForwarded:
			add("forwarded")
		case ForwardFailed:
			add("not forwarded")
		case StateChanged:
			if e.To == StateDisabled {
				add("disabled")
			}
		}
	}
	return all
}

// A skip is reported before the position moves, so a hook that hears of it can be sure
// that no commit has passed the record.
func TestSkipIsReportedBeforeThePositionMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var m *Manager
		positions := make(chan int64, 1)
		hook := &eventFunc{f: func(e Event) {
			if _, skipped := e.(RecordSkipped); skipped {
				s, _ := m.Consumer("job")
				positions <- s.Partitions[0].Position
			}
		}}
		m = New(d, quiet(), WithHook(hook))
		defer stop(t, m)
		startOn(t, m, &handlerFunc{testConfig(), func(_ context.Context, v []byte) error { return Skip(errHandler) }})
		c := d.consumer(t)
		cl := c.assign(0, 5)
		c.deliver(cl, 5, 5)
		synctest.Wait()
		assert.Equal(t, int64(5), <-positions)
		assert.Equal(t, int64(6), c.position(cl))
	})
}

type eventFunc struct {
	NopHook
	f func(Event)
}

func (h *eventFunc) Event(e Event) { h.f(e) }

// A copy that is not acknowledged is sent again after the backoff, without another call
// of the handler, however long that lasts; what is behind the record waits.
func TestFailedCopyIsSentAgainWithoutTheHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, hook := &fakeDriver{}, &seen{}, &recorder{}
		began, cured := time.Now(), time.Now().Add(time.Hour)
		fw := &fakeForwarder{answer: func(context.Context, forwarding) error {
			if time.Now().Before(cured) {
				return fmt.Errorf("topic is away: %w", ErrUnknownOutcome)
			}
			return nil
		}}
		cfg := testConfig()
		cfg.Failure = deadLetters(1)
		m := startForwarding(t, d, &handlerFunc{cfg, failOffset(got, "1", errHandler)}, fw, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		pass(30 * time.Minute)
		s := state(t, m)
		assert.Equal(t, StateRunning, s.State)
		assert.Equal(t, int64(1), c.position(cl))
		assert.Equal(t, 1, s.Partitions[0].Errors, "a send is no attempt")
		assert.False(t, s.Partitions[0].NextRetry.IsZero())
		pass(time.Until(cured) + time.Minute)
		assert.Equal(t, []string{"0", "1", "2"}, got.all())
		assert.Equal(t, int64(3), c.position(cl))
		failed := eventsOf[ForwardFailed](hook)
		assert.Greater(t, len(failed), 60)
		assert.Equal(t, ForwardFailed{
			JobName: "job", Group: "group", TopicPartition: TopicPartition{"orders", 0}, Offset: 1,
			ToTopic: "dead", Backoff: time.Second, Err: failed[0].Err,
		}, failed[0])
		forwarded := eventsOf[RecordForwarded](hook)
		require.Len(t, forwarded, 1)
		made := forwarded[0].Source.Timestamp
		assert.Equal(t, []RecordForwarded{{
			JobName: "job", Group: "group", TopicPartition: TopicPartition{"orders", 0}, Offset: 1, Attempts: 1,
			Source: Source{Topic: "orders", Offset: 1, Timestamp: made},
			To:     TopicPartition{"dead", 7}, ToOffset: 101, Reason: "attempts", Err: errHandler,
		}}, forwarded)
		assert.WithinDuration(t, began.Add(time.Hour), time.Now(), 3*time.Minute)
	})
}

// A copy that no repetition can help switches the consumer off, with the reason.
func TestRefusedCopySwitchesTheConsumerOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, hook := &fakeDriver{}, &seen{}, &recorder{}
		denied := fmt.Errorf("not authorised: %w", ErrPermanent)
		fw := &fakeForwarder{answer: func(context.Context, forwarding) error { return denied }}
		cfg := testConfig()
		cfg.Failure = deadLetters(1)
		m := startForwarding(t, d, &handlerFunc{cfg, failOffset(got, "1", errHandler)}, fw, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		pass(time.Minute)
		s := state(t, m)
		assert.Equal(t, StateDisabled, s.State)
		assert.ErrorIs(t, s.Reason, denied)
		assert.Equal(t, int64(1), c.position(cl))
		assert.Equal(t, "failed dead letter, not forwarded, disabled", reported(hook))
		assert.Equal(t, []string{"0", "1"}, got.all())
	})
}

// Hooks hear of a copy that is refused before they hear of what it causes, however long the
// logger takes.
func TestRefusedCopyIsReportedBeforeTheSwitchOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		fw := &fakeForwarder{answer: func(context.Context, forwarding) error { return ErrPermanent }}
		cfg := testConfig()
		cfg.Failure = deadLetters(1)
		slow := slog.New(asking{slog.DiscardHandler, func(slog.Record) { time.Sleep(time.Second) }})
		startForwarding(t, d, &handlerFunc{cfg, failOffset(&seen{}, "0", errHandler)}, fw, WithHook(hook), WithLogger(slow))
		pass(time.Minute)
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(time.Minute)
		var order []string
		for _, e := range eventsOf[Event](hook) {
			switch e := e.(type) {
			case ForwardFailed:
				order = append(order, "not forwarded")
			case StateChanged:
				order = append(order, e.To.String())
			}
		}
		assert.Equal(t, []string{"starting", "running", "not forwarded", "stopping", "disabled"}, order)
	})
}

// A record without a topic to go to is kept: its handler is called again.
func TestRecordWithoutATargetIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		fw := &fakeForwarder{answer: func(context.Context, forwarding) error { return errNoTarget }}
		cfg := testConfig()
		cfg.Failure = deadLetters(1)
		m := startForwarding(t, d, &handlerFunc{cfg, failOffset(got, "0", errHandler)}, fw)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(5 * time.Second)
		assert.Equal(t, StateRunning, state(t, m).State)
		assert.Equal(t, []string{"0", "0", "0"}, got.all())
		assert.Empty(t, c.committed(cl))
	})
}

// A mark or a Classify that asks for dead letters where none are configured keeps the
// record, and is logged once and shown.
func TestDeadLettersThatAreNotConfigured(t *testing.T) {
	for name, policy := range map[string]FailurePolicy{
		"mark":     {},
		"classify": {Classify: func(error) Failure { return FailureDeadLetter }},
		"panic":    {Classify: func(error) Failure { panic("no") }},
		"nonsense": {Classify: func(error) Failure { return 77 }},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, got, log := &fakeDriver{}, &seen{}, &lines{}
			cfg, err := testConfig(), errHandler
			if name == "mark" {
				err = DeadLetter(err)
			}
			cfg.Failure = policy
			m := start(t, d, cfg, failOffset(got, "0", err), logTo(log))
			c := d.consumer(t)
			c.deliver(c.assign(0, 0), 0, 0)
			pass(5 * time.Second)
			s := state(t, m)
			assert.Equal(t, StateRunning, s.State, name)
			assert.Equal(t, []string{"0", "0", "0"}, got.all(), name)
			assert.Error(t, s.PolicyError, name)
			assert.Len(t, log.with("failure policy"), 1, name)
			assert.Empty(t, eventsOf[RecordForwarded](&recorder{}))
		})
	}
}

// Classify is asked about what carries no mark, and about nothing else.
func TestClassify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, hook := &fakeDriver{}, &seen{}, &recorder{}
		skippable := errors.New("skippable")
		var asked []error
		cfg := testConfig()
		cfg.Failure = deadLetters(2)
		cfg.Failure.Classify = func(err error) Failure {
			asked = append(asked, err)
			if errors.Is(err, skippable) {
				return FailureSkip
			}
			return FailureKeep
		}
		errs := map[string][]error{
			"0": {skippable},
			"1": {errHandler, errHandler},
			"2": {Retry(errHandler, 0)},
		}
		fw := &fakeForwarder{}
		startForwarding(t, d, &handlerFunc{cfg, func(_ context.Context, v []byte) error {
			got.add(v)
			left := errs[string(v)]
			if len(left) == 0 {
				return nil
			}
			errs[string(v)] = left[1:]
			return left[0]
		}}, fw, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		pass(time.Minute)
		assert.Equal(t, []string{"0", "1", "1", "2", "2"}, got.all())
		assert.Equal(t, []error{skippable, errHandler, errHandler}, asked)
		assert.Equal(t, "skipped, failed keep, failed dead letter, forwarded, failed keep", reported(hook))
		assert.Equal(t, [][]int64{{1}}, fw.offsets())
	})
}

// A Classify that ends the goroutine has no answer: the record is kept, counted and reported
// like any other, and each attempt waits for its backoff.
func TestGoexitOfClassify(t *testing.T) {
	for _, kind := range []string{"value", "message", "batch"} {
		synctest.Test(t, func(t *testing.T) {
			d, hook, got := &fakeDriver{}, &recorder{}, &seen{}
			cfg := testConfig()
			cfg.Failure = deadLetters(4)
			cfg.Failure.Classify = func(error) Failure { runtime.Goexit(); return FailureSkip }
			fw := &fakeForwarder{}
			m := startForwarding(t, d, consumerOfKind(cfg, kind, func(v []byte) error {
				got.add(v)
				return errHandler
			}), fw, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			pass(500 * time.Millisecond)
			assert.Len(t, got.all(), 1, "the backoff is under way")
			assert.ErrorContains(t, state(t, m).PolicyError, "Classify ended its goroutine")
			pass(time.Minute)
			assert.Len(t, got.all(), 4)
			assert.Equal(t, "failed keep, failed keep, failed keep, failed dead letter, forwarded", reported(hook), kind)
			assert.Equal(t, int64(1), c.position(cl))
		})
	}
}

// A hook that ends the goroutine keeps no failure from being reported: the next goroutine
// goes on behind it.
func TestGoexitOfAHookInAReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		var heard []int64
		hook := &eventFunc{f: func(e Event) {
			if e, ok := e.(HandlerFailed); ok {
				heard = append(heard, e.Offset)
				runtime.Goexit()
			}
		}}
		_, got := startBatches(t, d, testConfig(), nil, func(ms []*Message) error {
			if n++; n > 1 {
				return nil
			}
			var failed BatchError
			for _, m := range ms {
				failed.Add(m, errHandler)
			}
			return failed.Err()
		}, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 2)
		pass(500 * time.Millisecond)
		assert.Equal(t, []int64{0, 1, 2}, heard)
		assert.Len(t, got.all(), 1)
		pass(2 * time.Second)
		assert.Equal(t, [][]string{{"0#1", "1#1", "2#1"}, {"0#2", "1#2", "2#2"}}, got.all())
		assert.Equal(t, int64(3), c.position(cl))
	})
}

// Attempts survive a rebalance that brings the partition back, also if other records of
// it are handled in between, and whatever the errors are.
func TestAttemptsSurviveARebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, hook, fw := &fakeDriver{}, &seen{}, &recorder{}, &fakeForwarder{}
		cfg := testConfig()
		cfg.Failure = deadLetters(3)
		n := 0
		startForwarding(t, d, &handlerFunc{cfg, func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) != "1" {
				return nil
			}
			n++
			return fmt.Errorf("another one each time: %d", n)
		}}, fw, WithHook(hook))
		c := d.consumer(t)
		for range 3 {
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 2)
			synctest.Wait()
			c.lose(cl)
			synctest.Wait()
		}
		assert.Equal(t, []string{"0", "1", "0", "1", "0", "1", "2"}, got.all())
		assert.Equal(t, [][]int64{{1}}, fw.offsets())
		assert.Equal(t, "failed keep, failed keep, failed dead letter, forwarded", reported(hook))
	})
}

// While a shutdown drains, what is decided is still carried out, and what would be
// tried again is left to the next owner.
func TestVerdictsWhileAShutdownDrains(t *testing.T) {
	for _, tt := range []struct {
		err      error
		position int64
	}{
		{Skip(errHandler), 1},
		{DeadLetter(errHandler), 1},
		{errHandler, -1},
		{Retry(errHandler, 0), -1},
		{Stop(errHandler), -1},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, fw := &fakeDriver{}, &fakeForwarder{}
			cfg := testConfig()
			cfg.Failure.DeadLetter.Topic = "dead"
			m := startForwarding(t, d, &handlerFunc{cfg, func(context.Context, []byte) error {
				time.Sleep(2 * time.Second)
				return tt.err
			}}, fw)
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 1)
			pass(time.Second)
			stop(t, m)
			assert.Equal(t, tt.position, c.position(cl), "%v", tt.err)
		})
	}
}

// An interruption is no failure, whatever the mark.
func TestMarkOfAnInterruptedHandlerDecidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fw := &fakeDriver{}, &recorder{}, &fakeForwarder{}
		cfg := testConfig()
		cfg.Failure.DeadLetter.Topic = "dead"
		marks := []func(error) error{Skip, DeadLetter, Stop}
		n := 0
		startForwarding(t, d, &handlerFunc{cfg, func(ctx context.Context, _ []byte) error {
			<-ctx.Done()
			defer func() { n++ }()
			return marks[n](ctx.Err())
		}}, fw, WithHook(hook))
		c := d.consumer(t)
		for range marks {
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			synctest.Wait()
			c.revoke(cl)
			assert.Empty(t, c.committed(cl))
		}
		assert.Empty(t, reported(hook))
		assert.Empty(t, fw.offsets())
	})
}

// A send outlives the handler's context, and its acknowledgement within the drain
// window is committed; after the window it changes nothing.
func TestCopyDuringARevocation(t *testing.T) {
	for _, tt := range []struct {
		name     string
		takes    time.Duration
		position int64
	}{
		{"in time", 3 * time.Second, 1},
		{"too late", time.Hour, -1},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, hook := &fakeDriver{}, &recorder{}
			fw := &fakeForwarder{answer: func(ctx context.Context, _ forwarding) error {
				select {
				case <-time.After(tt.takes):
					return nil
				case <-ctx.Done():
					return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
				}
			}}
			cfg := testConfig()
			cfg.Failure = deadLetters(1)
			startForwarding(t, d, &handlerFunc{cfg, func(context.Context, []byte) error { return errHandler }}, fw, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			c.deliver(cl, 0, 0)
			pass(time.Second)
			began := time.Now()
			c.revoke(cl)
			assert.Equal(t, tt.position, c.position(cl), tt.name)
			assert.LessOrEqual(t, time.Since(began), c.cfg.DrainTimeout, tt.name)
			assert.Empty(t, eventsOf[PartitionsRevoked](hook)[0].Stuck, tt.name)
			assert.Len(t, fw.offsets(), 1, "a failed one is not repeated")
		})
	}
}

// DisabledRetry is for what passes by itself; a record that stopped its consumer needs an
// operator. It comes first when the consumer is switched on again.
func TestStoppedConsumerStaysOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		cfg := testConfig()
		cfg.DisabledRetry = time.Minute
		m := start(t, d, cfg, failOffset(got, "1", Stop(errHandler)))
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 2)
		pass(time.Hour)
		s := state(t, m)
		assert.Equal(t, StateDisabled, s.State)
		assert.True(t, s.NextRetry.IsZero())
		assert.EqualError(t, s.Reason, "record orders/0 at offset 1: handler failed")
		require.NoError(t, m.SetConsumerSwitch("job", true))
		synctest.Wait()
		c = d.consumer(t)
		c.deliver(c.assign(0, 1), 1, 2)
		synctest.Wait()
		assert.Equal(t, []string{"0", "1", "1"}, got.all())
	})
}

// A record asks once to switch its consumer off. If the switch has changed meanwhile, that
// does nothing, and the record is tried again after its backoff.
func TestStopThatComesToNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, n := &fakeDriver{}, &seen{}, 0
		start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			got.add(v)
			if n++; n == 1 {
				return Stop(errHandler)
			}
			return nil
		})
		c := d.consumer(t)
		owned := c.h.(*claims)
		k := &deafKeeper{keeper: owned.env.keeper}
		owned.env.keeper = k
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(500 * time.Millisecond)
		assert.Equal(t, []string{"0"}, got.all())
		pass(5 * time.Second)
		assert.Equal(t, []string{"0", "0", "1"}, got.all())
		assert.Equal(t, 1, k.stops)
		assert.Equal(t, int64(2), c.position(cl))
	})
}

// A deafKeeper switches nothing off.
type deafKeeper struct {
	keeper
	stops int
}

func (k *deafKeeper) stop(error) { k.stops++ }

// Events of a record print all that they say, though they embed a TopicPartition, which
// has a text of its own.
func TestEventsOfARecordPrint(t *testing.T) {
	e := RecordSkipped{JobName: "job", Group: "g", TopicPartition: TopicPartition{"orders", 3}, Offset: 42, Attempts: 2, Err: errHandler}
	const want = `RecordSkipped{"JobName":"job","Group":"g","TopicPartition":"orders/3","Offset":42,"Attempts":2,"Source":{"Topic":"","Partition":0,"Offset":0,"Timestamp":null},"Err":"handler failed"}`
	assert.Equal(t, want, fmt.Sprint(e))
	text, err := e.MarshalText()
	assert.NoError(t, err)
	assert.Equal(t, want, string(text))
	js, err := json.Marshal(e)
	assert.NoError(t, err)
	assert.Equal(t, want[len("RecordSkipped"):], string(js))
}

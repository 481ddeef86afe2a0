package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// An outage is a handler that holds while it lasts. It records when it was called.
type outage struct {
	mu    sync.Mutex
	until time.Time
	begun time.Time
	calls []outageCall
}

type outageCall struct {
	at    time.Duration
	value string
}

func newOutage(d time.Duration) *outage {
	return &outage{begun: time.Now(), until: time.Now().Add(d)}
}

func (o *outage) handle(_ context.Context, v []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls = append(o.calls, outageCall{time.Since(o.begun), string(v)})
	if time.Now().Before(o.until) {
		return Hold(errHandler, 0)
	}
	return nil
}

func (o *outage) all() []outageCall {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.calls)
}

// An hour of outage, held: no dead letter and no attempt, probes as the backoff says,
// and everything is handled when it is over.
func TestAnHourOfOutageHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fw := &fakeDriver{}, &recorder{}, &fakeForwarder{}
		cfg := testConfig()
		cfg.Failure = deadLetters(2)
		o := newOutage(time.Hour)
		m := startForwarding(t, d, &handlerFunc{cfg, o.handle}, fw, WithHook(hook))
		c := d.consumer(t)
		one, two := c.assign(0, 0), c.assign(1, 0)
		c.deliver(one, 0, 9)
		synctest.Wait()
		c.deliver(two, 100, 109)
		pass(30 * time.Minute)
		s := state(t, m)
		assert.Equal(t, StateRunning, s.State)
		require.NotNil(t, s.Held)
		assert.ErrorIs(t, s.Held.Err, errHandler)
		assert.Equal(t, TopicPartition{"orders", 0}, s.Held.Probe)
		assert.Equal(t, o.begun, s.Held.Since)
		assert.True(t, s.Held.Until.After(time.Now()))
		for i, call := range o.all() {
			want := []int{0, 1, 3, 7, 15, 31, 63}
			at := 63 + 60*(i-6)
			if i < len(want) {
				at = want[i]
			}
			assert.Equal(t, outageCall{time.Duration(at) * time.Second, "0"}, call, "probe %d", i)
		}
		pass(31*time.Minute + 2*time.Second)
		assert.Equal(t, int64(10), c.position(one))
		assert.Equal(t, int64(110), c.position(two))
		assert.Empty(t, reported(hook))
		assert.Empty(t, fw.offsets())
		assert.Nil(t, state(t, m).Held)
		held := eventsOf[ConsumerHeld](hook)
		assert.True(t, held[len(held)-1].Until.IsZero())
		for _, e := range held[:len(held)-1] {
			assert.False(t, e.Until.IsZero())
		}
	})
}

// The same hour with a handler that knows no hold, and the default policy: nothing is
// disabled, nothing is lost.
func TestAnHourOfOutageByDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		begun := time.Now()
		m := start(t, d, testConfig(), func(context.Context, []byte) error {
			if time.Since(begun) < time.Hour {
				return errHandler
			}
			return nil
		}, WithHook(hook))
		c := d.consumer(t)
		one, two := c.assign(0, 0), c.assign(1, 0)
		c.deliver(one, 0, 9)
		c.deliver(two, 0, 9)
		for range 59 {
			pass(time.Minute)
			s := state(t, m)
			assert.Equal(t, StateRunning, s.State)
			assert.True(t, s.Switch)
		}
		pass(3 * time.Minute)
		assert.Equal(t, int64(10), c.position(one))
		assert.Equal(t, int64(10), c.position(two))
		assert.NotContains(t, reported(hook), "disabled")
	})
}

// A hold counts no attempt: a record that was held and fails afterwards has failed once.
func TestHoldCountsNoAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, fw, n := &fakeDriver{}, &recorder{}, &fakeForwarder{}, 0
		cfg := testConfig()
		cfg.Failure = deadLetters(2)
		startForwarding(t, d, &handlerFunc{cfg, func(context.Context, []byte) error {
			switch n++; {
			case n <= 3:
				return Hold(errHandler, 0)
			case n == 4:
				return errHandler
			}
			return nil
		}}, fw, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(time.Minute)
		assert.Equal(t, int64(1), c.position(cl))
		assert.Empty(t, fw.offsets())
		failed := eventsOf[HandlerFailed](hook)
		require.Len(t, failed, 1)
		assert.Equal(t, 1, failed[0].Failures)
	})
}

// Hold's own wait is taken first, and doubles while probes are held again.
func TestHoldForAGivenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var at []time.Duration
		begun := time.Now()
		start(t, d, testConfig(), func(context.Context, []byte) error {
			at = append(at, time.Since(begun))
			return Hold(errHandler, 10*time.Second)
		})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(200 * time.Second)
		assert.Equal(t, []time.Duration{0, 10 * time.Second, 30 * time.Second, 70 * time.Second, 130 * time.Second, 190 * time.Second}, at)
	})
}

// A call that began before the hold changes nothing: neither its Hold nor its success.
func TestCallsFromBeforeTheHoldChangeNothing(t *testing.T) {
	for _, late := range []error{nil, Hold(errHandler, time.Hour)} {
		synctest.Test(t, func(t *testing.T) {
			d, got := &fakeDriver{}, &seen{}
			m := start(t, d, testConfig(), func(_ context.Context, v []byte) error {
				got.add(v)
				switch string(v) {
				case "50":
					time.Sleep(5 * time.Second)
					return late
				case "0":
					return Hold(errHandler, 20*time.Second)
				}
				return nil
			})
			c := d.consumer(t)
			slow, asks := c.assign(1, 0), c.assign(0, 0)
			c.deliver(slow, 50, 51)
			synctest.Wait()
			c.deliver(asks, 0, 0)
			pass(10 * time.Second)
			s := state(t, m)
			require.NotNil(t, s.Held)
			assert.Equal(t, 10*time.Second, time.Until(s.Held.Until))
			assert.Equal(t, []string{"50", "0"}, got.all())
		})
	}
}

// What a probe comes to ends the hold unless it holds again, and only success lets the
// next hold begin with the shortest wait.
func TestEndOfAHold(t *testing.T) {
	for _, tt := range []struct {
		probe error
		next  time.Duration // the wait of the next hold
	}{
		{nil, time.Second},
		{errHandler, 4 * time.Second},
		{Skip(errHandler), 4 * time.Second},
		{DeadLetter(errHandler), 4 * time.Second},
		{errGoexit, 4 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, n := &fakeDriver{}, 0
			cfg := testConfig()
			cfg.Failure.DeadLetter.Topic = "dead"
			m := startForwarding(t, d, &handlerFunc{cfg, func(_ context.Context, v []byte) error {
				if string(v) == "0" {
					n++
					if n <= 2 {
						return Hold(errHandler, 0)
					}
					if n == 3 && tt.probe == errGoexit {
						runtime.Goexit()
					}
					if n == 3 {
						return tt.probe
					}
					return nil
				}
				return Hold(errHandler, 0)
			}}, &fakeForwarder{})
			c := d.consumer(t)
			c.deliver(c.assign(0, 0), 0, 0)
			pass(3 * time.Second) // probes after 1s and 3s
			assert.Equal(t, 3, n)
			assert.Nil(t, state(t, m).Held, "%v", tt.probe)
			c.deliver(c.assign(1, 0), 7, 7)
			synctest.Wait()
			require.NotNil(t, state(t, m).Held)
			assert.Equal(t, tt.next, time.Until(state(t, m).Held.Until), "%v", tt.probe)
		})
	}
}

// A failed publish of a dead letter does not end a hold, its acknowledgement does.
func TestFailedPublishDoesNotEndAHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		cured := time.Now().Add(20 * time.Second)
		fw := &fakeForwarder{answer: func(context.Context, forwarding) error {
			if time.Now().Before(cured) {
				return ErrUnknownOutcome
			}
			return nil
		}}
		cfg := testConfig()
		cfg.Failure.DeadLetter.Topic = "dead"
		m := startForwarding(t, d, &handlerFunc{cfg, func(context.Context, []byte) error {
			if n++; n == 1 {
				return Hold(errHandler, 0)
			}
			return DeadLetter(errHandler)
		}}, fw)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(15 * time.Second)
		assert.NotNil(t, state(t, m).Held)
		pass(30 * time.Second)
		assert.Nil(t, state(t, m).Held)
		assert.Equal(t, int64(1), c.position(cl))
		assert.Equal(t, 2, n)
	})
}

// A probe that does not return counts as stuck: a record of another partition is the next
// one, and what the stuck one comes to is ignored.
func TestStuckProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		hang := make(chan struct{})
		n := 0
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) != "0" {
				return nil
			}
			if n++; n == 1 {
				return Hold(errHandler, 0)
			}
			<-hang
			return Hold(errHandler, time.Hour)
		})
		c := d.consumer(t)
		hanging, other := c.assign(0, 0), c.assign(1, 0)
		c.deliver(hanging, 0, 0)
		synctest.Wait()
		c.deliver(other, 70, 72)
		pass(60 * time.Second)
		assert.Equal(t, []string{"0", "0"}, got.all())
		pass(2 * time.Second)
		assert.Equal(t, []string{"0", "0", "70", "71", "72"}, got.all())
		assert.Nil(t, state(t, m).Held)
		close(hang)
		pass(time.Second)
	})
}

// With no record at hand the next that arrives is the probe.
func TestNextRecordIsTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) == "0" {
				return Hold(errHandler, 0)
			}
			return nil
		})
		c := d.consumer(t)
		asks, later := c.assign(0, 0), c.assign(1, 0)
		c.deliver(asks, 0, 0)
		synctest.Wait()
		c.revoke(asks)
		pass(time.Hour)
		assert.NotNil(t, state(t, m).Held)
		c.deliver(later, 50, 51)
		synctest.Wait()
		assert.Equal(t, []string{"0", "50", "51"}, got.all())
		assert.Nil(t, state(t, m).Held)
	})
}

// EndHold, the switch and a shutdown end a hold; a revocation does not wait for one.
func TestWhatEndsAHold(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, m *Manager, c *fakeConsumer){
		"EndHold":  func(t *testing.T, m *Manager, _ *fakeConsumer) { assert.NoError(t, m.EndHold("job")) },
		"switch":   func(t *testing.T, m *Manager, _ *fakeConsumer) { assert.NoError(t, m.SetConsumerSwitch("job", false)) },
		"shutdown": func(t *testing.T, m *Manager, _ *fakeConsumer) { stop(t, m) },
		"revoke":   func(_ *testing.T, _ *Manager, c *fakeConsumer) { c.revoke(c.claims[0]) },
	} {
		synctest.Test(t, func(t *testing.T) {
			d, got := &fakeDriver{}, &seen{}
			m := start(t, d, testConfig(), failOffset(got, "0", Hold(errHandler, time.Hour)))
			c := d.consumer(t)
			c.deliver(c.assign(0, 0), 0, 0)
			pass(time.Second)
			require.NotNil(t, state(t, m).Held)
			began := time.Now()
			end(t, m, c)
			synctest.Wait()
			assert.Zero(t, time.Since(began), name)
			if name == "revoke" {
				assert.NotNil(t, state(t, m).Held, "the consumer is still held")
				return
			}
			if name == "EndHold" {
				assert.Equal(t, []string{"0", "0"}, got.all(), "the record is handed out again at once")
				return
			}
			assert.Nil(t, state(t, m).Held, name)
			assert.Equal(t, []string{"0"}, got.all(), name)
		})
	}
	require.ErrorIs(t, New(&fakeDriver{}, quiet()).EndHold("none"), ErrUnknownConsumer)
}

// What was held or due meanwhile starts in order of its due time, evenly over
// Backoff.Min, when the hold ends.
func TestRetriesAfterAHoldAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var mu sync.Mutex // guards ended and order
		var ended time.Time
		var order []string
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case !ended.IsZero():
				order = append(order, fmt.Sprintf("%s+%v", v, time.Since(ended)))
				return nil
			case string(v) == "9":
				return Hold(errHandler, time.Hour)
			}
			return errHandler
		})
		c := d.consumer(t)
		for p := range int32(3) { // records 1, 2 and 3 fail one after the other
			c.deliver(c.assign(p, 0), int64(p)+1, int64(p)+1)
			pass(100 * time.Millisecond)
		}
		c.deliver(c.assign(9, 0), 9, 9)
		pass(30 * time.Minute)
		mu.Lock()
		ended = time.Now()
		mu.Unlock()
		require.NoError(t, m.EndHold("job"))
		pass(time.Minute)
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, []string{"9+0s", "1+250ms", "2+500ms", "3+750ms"}, order)
	})
}

// The probe of a batch consumer is one record.
func TestProbeOfABatchConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		_, got := startBatches(t, d, testConfig(), nil, func([]*Message) error {
			if n++; n <= 2 {
				return Hold(errHandler, 0)
			}
			return nil
		}, WithHook(&recorder{}))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		pass(10 * time.Second)
		assert.Equal(t, [][]string{{"0#1", "1#1", "2#1", "3#1"}, {"0#2"}, {"0#3"}, {"1#2", "2#2", "3#2"}}, got.all())
		assert.Equal(t, int64(4), c.position(cl))
	})
}

// A batch that was not handed out before the hold is probed by its first record.
func TestProbeOfAFreshBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		_, got := startBatches(t, d, testConfig(), nil, func([]*Message) error {
			if n++; n == 1 {
				return Hold(errHandler, 0)
			}
			return nil
		})
		c := d.consumer(t)
		asks, other := c.assign(0, 0), c.assign(1, 0)
		c.deliver(asks, 0, 0)
		synctest.Wait()
		c.deliver(other, 5, 7)
		c.revoke(asks)
		pass(10 * time.Second)
		assert.Equal(t, [][]string{{"0#1"}, {"5#1"}, {"6#1", "7#1"}}, got.all())
		assert.Equal(t, int64(8), c.position(other))
	})
}

// A consumer that makes nothing but dead letters is held, and probes.
func TestDeadLettersInARowHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, fw, hook := &fakeDriver{}, &fakeForwarder{}, &recorder{}
		cfg := testConfig()
		cfg.Failure = deadLetters(1)
		cfg.Failure.DeadLetter.MaxInARow = 3
		var cured atomic.Bool
		m := startForwarding(t, d, &handlerFunc{cfg, func(context.Context, []byte) error {
			if cured.Load() {
				return nil
			}
			return errHandler
		}}, fw, WithHook(hook))
		over := func() bool {
			return slices.ContainsFunc(eventsOf[ConsumerHeld](hook), func(e ConsumerHeld) bool { return e.Until.IsZero() })
		}
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 99)
		synctest.Wait()
		assert.Len(t, fw.offsets(), 3)
		s := state(t, m)
		require.NotNil(t, s.Held)
		assert.ErrorIs(t, s.Held.Err, errInARow)
		pass(1500 * time.Millisecond)
		assert.Len(t, fw.offsets(), 4, "the probe")
		pass(2 * time.Second)
		assert.Len(t, fw.offsets(), 5, "the next one, after a longer wait")
		assert.Equal(t, s.Held.Since, state(t, m).Held.Since, "one hold")
		assert.False(t, over(), "no probe that becomes a dead letter ends it for a moment")
		cured.Store(true)
		pass(5 * time.Second)
		assert.Equal(t, int64(100), c.position(cl))
		assert.Nil(t, state(t, m).Held)
		assert.Len(t, fw.offsets(), 5)
	})
}

// A probe whose dead letter has no topic to go to is kept: it has failed otherwise, and
// everything goes on.
func TestProbeWithoutADeadLetterTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n := &fakeDriver{}, 0
		fw := &fakeForwarder{answer: func(context.Context, forwarding) error { return errNoTarget }}
		cfg := testConfig()
		cfg.Failure = deadLetters(1)
		m := startForwarding(t, d, &handlerFunc{cfg, func(_ context.Context, v []byte) error {
			if string(v) != "0" {
				return nil
			}
			if n++; n == 1 {
				return Hold(errHandler, 0)
			}
			return errHandler
		}}, fw)
		c := d.consumer(t)
		asks, other := c.assign(0, 0), c.assign(1, 0)
		c.deliver(asks, 0, 0)
		synctest.Wait()
		c.deliver(other, 5, 7)
		pass(1500 * time.Millisecond)
		assert.Nil(t, state(t, m).Held)
		assert.Equal(t, int64(8), c.position(other))
		assert.Equal(t, 2, n)
	})
}

// Hooks hear of holds in their order, though a lane that the end of one lets go begins the
// next while the hooks still hear of the end.
func TestHoldsAreReportedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, slow, n := &fakeDriver{}, make(chan struct{}), 0
		var mu sync.Mutex // guards held
		var held []bool
		first := &eventFunc{f: func(e Event) { // the hook before the one that notes
			if e, ok := e.(ConsumerHeld); ok && e.Until.IsZero() {
				<-slow
			}
		}}
		notes := &eventFunc{f: func(e Event) {
			if e, ok := e.(ConsumerHeld); ok {
				mu.Lock()
				defer mu.Unlock()
				held = append(held, !e.Until.IsZero())
			}
		}}
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			if n++; n == 2 {
				return nil
			}
			return Hold(errHandler, time.Hour)
		}, WithHook(first, notes))
		c := d.consumer(t)
		asks, other := c.assign(0, 0), c.assign(1, 0)
		c.deliver(asks, 0, 0)
		synctest.Wait()
		c.deliver(other, 5, 5)
		pass(time.Hour + time.Second)
		require.NotNil(t, state(t, m).Held, "the other partition holds again")
		close(slow)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		assert.Equal(t, []bool{true, false, true}, held)
	})
}

// A logger is called without a lock: it can ask for the status, and blocks only its caller.
func TestLogOfAStuckProbeHoldsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, n, hang := &fakeDriver{}, 0, make(chan struct{})
		var m *Manager
		var asked atomic.Bool
		log := slog.New(asking{slog.DiscardHandler, func(r slog.Record) {
			if strings.Contains(r.Message, "the probe of a held consumer") {
				m.Consumers()
				asked.Store(true)
			}
		}})
		m = New(d, WithLogger(log))
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &handlerFunc{testConfig(), func(context.Context, []byte) error {
			if n++; n == 1 {
				return Hold(errHandler, 0)
			}
			<-hang
			return nil
		}})
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		pass(2 * time.Minute)
		assert.True(t, asked.Load())
		close(hang)
		pass(time.Second)
	})
}

// An asking handler calls a function for each record.
type asking struct {
	slog.Handler
	f func(slog.Record)
}

func (a asking) Enabled(context.Context, slog.Level) bool { return true }

func (a asking) Handle(_ context.Context, r slog.Record) error {
	a.f(r)
	return nil
}

func (a asking) WithAttrs([]slog.Attr) slog.Handler { return a }

func (a asking) WithGroup(string) slog.Handler { return a }

// A record that has failed is due, and a hold begins before it is handed out. It waits at
// the gate, and counts as a call of the handler only afterwards.
func TestARecordAtTheGateIsNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails, done := true, make(chan struct{})
		m := start(t, &fakeDriver{}, testConfig(), func(context.Context, []byte) error {
			if fails {
				return errHandler
			}
			<-done
			return nil
		})
		env := m.jobs["job"].session.claims.env
		p := newPartition(env, &driver.Claim{Topic: "orders"}) // whose lane the test plays
		defer env.hold.drop(p.brake)
		l := p.lane
		p.deliver(keyed(0, "a"))
		require.True(t, l.next())
		l.fail(l.call())
		require.Equal(t, again, l.decide())
		env.hold.begin(TopicPartition{Topic: "orders", Partition: 1}, time.Hour, errHandler)
		require.NoError(t, l.call())
		fails = false
		go func() {
			assert.Equal(t, again, l.decide())
			assert.NoError(t, l.call())
		}()
		synctest.Wait()
		s, calls := p.stance()
		assert.Equal(t, isFailing, s.what)
		assert.Empty(t, calls)
		env.hold.end()
		pass(time.Minute)
		s, calls = p.stance()
		assert.Equal(t, isCalling, s.what)
		assert.Len(t, calls, 1)
		close(done)
		synctest.Wait()
	})
}

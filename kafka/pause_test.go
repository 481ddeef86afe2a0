package kafka

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// From the moment that Pause returns no record is handed out but the one that is on its
// way, also of those that wait in the partition's queue. What is handled is committed.
func TestPauseStopsBufferedRecords(t *testing.T) {
	for _, kind := range []string{"value", "message"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, got, hook := &fakeDriver{}, &seen{}, &recorder{}
				m := startKind(t, d, kind, func(v []byte) error {
					got.add(v)
					time.Sleep(time.Second)
					return nil
				}, WithHook(hook))
				c := d.consumer(t)
				one, two := c.assign(0, 0), c.assign(1, 100)
				c.deliver(one, 0, 9)
				pass(2500 * time.Millisecond)
				require.NoError(t, m.Pause("JOB"))
				c.deliver(two, 100, 109)
				pass(time.Hour)
				assert.Equal(t, []string{"0", "1", "2"}, got.all())
				assert.Equal(t, int64(3), c.position(one))
				assert.Equal(t, []string{"pause 0", "pause 1"}, slices.Sorted(slices.Values(c.pauseLog())))
				s := state(t, m)
				assert.True(t, s.Paused)
				assert.Empty(t, s.PausedPartitions)
				for _, p := range s.Partitions {
					assert.True(t, p.Paused)
					assert.Equal(t, []PauseReason{PausedByOperator}, p.PausedBy)
					assert.Zero(t, p.InFlight, "a record that waits is not in flight")
				}
				assert.NoError(t, m.Ready())
				assert.NoError(t, m.Healthy())
				require.NoError(t, m.Resume("job"))
				pass(time.Minute)
				assert.Len(t, got.all(), 20)
				assert.Equal(t, int64(10), c.position(one))
				assert.Equal(t, int64(110), c.position(two))
				assert.False(t, c.isPaused(one) || c.isPaused(two))
				assert.Equal(t, []PauseChanged{{JobName: "job", Paused: true}, {JobName: "job"}}, eventsOf[PauseChanged](hook))
			})
		})
	}
}

// A batch that is on its way is handed out as a whole, and nothing after it.
func TestPauseStopsBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBatchSize, cfg.BatchLinger = 4, time.Second
		d, got := &fakeDriver{}, &seen{}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, &batchConsumer{handlerFunc{cfg: cfg}, func(_ context.Context, ms []*Message) error {
			got.add(fmt.Append(nil, len(ms)))
			time.Sleep(time.Second)
			return nil
		}})
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		synctest.Wait()
		require.NoError(t, m.Pause("job"))
		pass(time.Hour)
		assert.Equal(t, []string{"4"}, got.all())
		require.NoError(t, m.Resume("job"))
		pass(time.Minute)
		assert.Equal(t, []string{"4", "4", "2"}, got.all())
		assert.Equal(t, int64(10), c.position(cl))
	})
}

// Under AutoCommit what waits for the end of a pause was not handed out, and is not
// committed.
func TestPauseStopsAutoCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.AutoCommit = true
		d := &fakeDriver{}
		m := start(t, d, cfg, func(context.Context, []byte) error { time.Sleep(time.Second); return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 9)
		pass(1500 * time.Millisecond)
		require.NoError(t, m.Pause("job"))
		pass(time.Hour)
		assert.Equal(t, int64(2), c.position(cl))
		c.revoke(cl)
		assert.Equal(t, int64(2), c.position(cl))
	})
}

// A pause of a partition stands beside one of the consumer, and stops no other partition.
func TestPausesOfPartitionsAndOfTheConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got, hook, log := &fakeDriver{}, &seen{}, &recorder{}, &lines{}
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error { got.add(v); return nil }, WithHook(hook), logTo(log))
		c := d.consumer(t)
		first, unowned := TopicPartition{"orders", 0}, TopicPartition{"orders", 7}
		require.NoError(t, m.Pause("job", unowned, first))
		require.NoError(t, m.Pause("job", first), "it is paused already")
		second := TopicPartition{"orders", 8}
		require.NoError(t, m.Pause("job", first, second, second))
		require.NoError(t, m.Resume("job", second, second, TopicPartition{"orders", 9}))
		one, two := c.assign(0, 0), c.assign(1, 100)
		assert.True(t, c.isPaused(one), "before its first record")
		c.deliver(one, 0, 0)
		c.deliver(two, 100, 100)
		pass(time.Minute)
		assert.Equal(t, []string{"100"}, got.all())
		s := state(t, m)
		assert.False(t, s.Paused)
		assert.Equal(t, []TopicPartition{first, unowned}, s.PausedPartitions)

		require.NoError(t, m.Pause("job"))
		require.NoError(t, m.Resume("job", first))
		c.deliver(two, 101, 101)
		pass(time.Minute)
		assert.Equal(t, []string{"100"}, got.all(), "the consumer is still paused")
		require.NoError(t, m.Pause("job", first))
		require.NoError(t, m.Resume("job"))
		pass(time.Minute)
		assert.ElementsMatch(t, []string{"100", "0", "101"}, got.all())
		assert.Empty(t, state(t, m).PausedPartitions)
		require.NoError(t, m.Resume("job"), "nothing is paused")
		require.NoError(t, m.Resume("job", unowned))

		assert.Equal(t, []PauseChanged{
			{JobName: "job", Paused: true, Partitions: []TopicPartition{unowned, first}},
			{JobName: "job", Paused: true, Partitions: []TopicPartition{second}},
			{JobName: "job", Partitions: []TopicPartition{second}},
			{JobName: "job", Paused: true},
			{JobName: "job", Partitions: []TopicPartition{first}},
			{JobName: "job", Paused: true, Partitions: []TopicPartition{first}},
			{JobName: "job"},
		}, eventsOf[PauseChanged](hook))
		assert.Len(t, log.with("level=INFO", "kafka: partitions paused", `partitions="orders/7 orders/0"`), 1)
		assert.Len(t, log.with("level=INFO", "kafka: partitions resumed", "partitions=orders/8"), 1)
		assert.Len(t, log.with("level=INFO", "kafka: partitions resumed"), 2)
		assert.Len(t, log.with("level=INFO", "kafka: consumer paused"), 1)
		assert.Len(t, log.with("level=INFO", "kafka: consumer resumed"), 1)
	})
}

func TestPauseRefusals(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), nothing}))
	for _, call := range []struct {
		verb string
		call func(string, ...TopicPartition) error
	}{{"pause", m.Pause}, {"resume", m.Resume}} {
		assert.ErrorIs(t, call.call("nobody"), ErrUnknownConsumer)
		assert.EqualError(t, call.call("job", TopicPartition{"orders", 0}, TopicPartition{"payments", 0}),
			`kafka: `+call.verb+` consumer "job": it does not read topic "payments"`)
		assert.EqualError(t, call.call("job", TopicPartition{"orders", -1}),
			`kafka: `+call.verb+` consumer "job": partition -1 of topic "orders" is negative`)
	}
	assert.Empty(t, state(t, m).PausedPartitions, "nothing is paused by a call that is refused")
	assert.Error(t, new(Manager).Pause("job"))
}

// A pause outlives rebalances, a switch off and on, and a failed session, and is in force
// before the first record of a new claim.
func TestPauseOutlivesClaimsAndSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		m := start(t, d, testConfig(), func(_ context.Context, v []byte) error { got.add(v); return nil })
		require.NoError(t, m.Pause("job", TopicPartition{"orders", 0}))
		c := d.consumer(t)
		check := func() {
			t.Helper()
			cl := c.assign(0, 0)
			assert.True(t, c.isPaused(cl))
			c.deliver(cl, 0, 3)
			pass(time.Minute)
			assert.Empty(t, got.all())
		}
		check()
		c.revoke(c.claims[0])
		check()
		c.lose(c.claims[0])
		check()
		require.NoError(t, m.SetConsumerSwitch("job", false))
		pass(time.Minute)
		require.NoError(t, m.SetConsumerSwitch("job", true))
		pass(time.Minute)
		c = d.consumer(t)
		check()
		c.end <- errDial
		pass(time.Minute)
		c = d.consumer(t)
		check()
		require.NoError(t, m.Resume("job", TopicPartition{"orders", 0}))
		pass(time.Minute)
		assert.Len(t, got.all(), 4)
		assert.Equal(t, int64(4), c.position(c.claims[0]))
	})
}

// The driver is called when the set of reasons stops being empty, and when it becomes empty:
// a queue that empties ends no operator's pause, and Resume ends no pause for a full queue.
func TestReasonsForAPauseHaveOneOwnerEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxBufferedMessages = 10
		d := &fakeDriver{}
		m := start(t, d, cfg, func(context.Context, []byte) error { time.Sleep(time.Second); return nil })
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 19)
		synctest.Wait()
		why := func() []PauseReason { return state(t, m).Partitions[0].PausedBy }
		assert.Equal(t, []PauseReason{PausedByQueue}, why())
		require.NoError(t, m.Pause("job"))
		assert.Equal(t, []PauseReason{PausedByOperator, PausedByQueue}, why())
		require.NoError(t, m.Resume("job"))
		assert.Equal(t, []PauseReason{PausedByQueue}, why())
		pass(13 * time.Second)
		assert.Equal(t, []string{"pause 0"}, c.pauseLog())
		require.NoError(t, m.Pause("job"))
		require.NoError(t, m.Resume("job"))
		pass(time.Minute)
		assert.Equal(t, []string{"pause 0", "resume 0"}, c.pauseLog())
		assert.Empty(t, why())

		require.NoError(t, m.Pause("job"))
		c.deliver(cl, 20, 39)
		synctest.Wait()
		assert.Equal(t, []PauseReason{PausedByOperator, PausedByQueue}, why())
		c.revoke(cl)
		assert.Equal(t, []string{"pause 0", "resume 0", "pause 0"}, c.pauseLog())
	})
}

// A record that has failed waits for the end of the pause when it is due; an operator can
// skip it meanwhile.
func TestPauseStopsRetries(t *testing.T) {
	for _, order := range []Order{OrderByPartition, OrderNone} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &worked{handle: func(_ context.Context, m *Message) error {
					if m.Attempt < 3 {
						return errHandler
					}
					return nil
				}}
				m, c := startMany(t, parallel(order, 1), w)
				cl := c.assign(0, 0)
				c.h.Deliver(cl, keyed(0, "a", "b"))
				pass(500 * time.Millisecond)
				require.NoError(t, m.Pause("job"))
				before := len(w.called())
				pass(time.Hour)
				assert.Len(t, w.called(), before)
				assert.NoError(t, m.Healthy())
				require.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, FailureKeep))
				pass(time.Minute)
				assert.Len(t, w.called(), before, "to be tried now it waits for the end of the pause")
				require.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, FailureSkip))
				pass(time.Minute)
				assert.Len(t, w.called(), before)
				assert.Equal(t, int64(1), c.latest())
				require.NoError(t, m.Resume("job"))
				pass(time.Minute)
				assert.Equal(t, []string{"b1"}, w.ended())
				assert.Equal(t, int64(2), c.latest())
			})
		})
	}
}

// A record that an operator skips while its partition is paused leaves nothing behind that
// waits for the end of the pause.
func TestSkipDuringAPauseReleasesTheRecord(t *testing.T) {
	for _, kind := range []string{"value", "message", "batch"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &fakeDriver{}
				m := startKind(t, d, kind, func([]byte) error { return errHandler })
				c := d.consumer(t)
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 0)
				pass(500 * time.Millisecond)
				require.NoError(t, m.Pause("job"))
				pass(time.Minute)
				assert.Equal(t, 1, state(t, m).Partitions[0].Buffered)
				require.NoError(t, m.Resolve(t.Context(), "job", TopicPartition{"orders", 0}, 0, FailureSkip))
				synctest.Wait()
				p := state(t, m).Partitions[0]
				assert.Zero(t, p.Buffered+p.BufferedBytes+p.InFlight)
				assert.Equal(t, int64(1), c.position(cl), "it is committed at once")
				c.deliver(cl, 1, 1)
				pass(time.Minute)
				p = state(t, m).Partitions[0]
				assert.Equal(t, 1, p.Buffered)
				assert.Zero(t, p.Errors, "the next record waits")
			})
		})
	}
}

// With Parallelism each call that has begun goes on, and no other begins.
func TestPauseStopsACrew(t *testing.T) {
	for _, most := range []int{0, 2} {
		synctest.Test(t, func(t *testing.T) {
			cfg := parallel(OrderNone, 3)
			cfg.MaxConcurrency = most
			w := &worked{handle: func(context.Context, *Message) error { time.Sleep(time.Second); return nil }}
			m, c := startMany(t, cfg, w)
			cl := c.assign(0, 0)
			c.h.Deliver(cl, keyed(0, "a", "b", "c", "d", "e", "f", "g", "h"))
			pass(500 * time.Millisecond)
			begun := len(w.called())
			assert.Equal(t, []int{3, 0, 2}[most], begun)
			require.NoError(t, m.Pause("job"))
			pass(time.Hour)
			assert.Len(t, w.called(), begun)
			assert.Len(t, w.ended(), begun)
			s := state(t, m).Partitions[0]
			assert.Zero(t, s.InFlight)
			assert.Equal(t, 8-begun, s.Undone)
			assert.NoError(t, m.Healthy())
			require.NoError(t, m.Resume("job"))
			pass(time.Minute)
			assert.Len(t, w.ended(), 8)
			assert.Equal(t, int64(8), c.position(cl))
		})
	}
}

// The probe of a hold is a record of a partition that is not paused. One that has waited for
// its turn leaves the gate when it is paused.
func TestPausedPartitionProbesNothing(t *testing.T) {
	for _, order := range []Order{OrderByPartition, OrderNone} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &worked{handle: func(_ context.Context, m *Message) error {
					if m.Attempt < 2 && m.Partition == 0 {
						return Hold(errHandler, time.Minute)
					}
					return nil
				}}
				m, c := startMany(t, parallel(order, 1), w)
				one, two := c.assign(0, 0), c.assign(1, 100)
				c.h.Deliver(one, keyed(0, "a"))
				synctest.Wait()
				c.h.Deliver(two, keyed(100, "b"))
				synctest.Wait()
				assert.Equal(t, []string{"a0"}, w.called())
				require.NoError(t, m.Pause("job", TopicPartition{"orders", 0}))
				pass(2 * time.Minute)
				assert.Equal(t, []string{"a0", "b100"}, w.called())
				assert.Nil(t, state(t, m).Held, "the probe has ended the hold")
				require.NoError(t, m.Resume("job"))
				pass(time.Minute)
				assert.Equal(t, []string{"a0", "b100", "a0"}, w.called())
			})
		})
	}
}

// A pause that begins after the gate has let the probe through bars it all the same. The
// end of the pause lets it pass, and a halt does not.
func TestAPauseBehindTheGateBarsTheProbe(t *testing.T) {
	b := newBrake(t.Context())
	l := &lane{env: new(env), brake: b, ticket: new(gateTicket)}
	b.setHeld(true)
	require.True(t, l.mayBegin(1), "the probe of a hold")
	b.setPaused(true)
	require.False(t, l.mayBegin(1), "the partition is paused")
	b.setPaused(false)
	require.True(t, l.mayBegin(1), "the pause has ended")
	b.halt(nil)
	require.False(t, l.mayBegin(1), "the partition is halted")
}

// A hold that begins and ends while the consumer is paused leaves it paused.
func TestEndOfAHoldEndsNoPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worked{handle: func(_ context.Context, m *Message) error {
			if m.Attempt < 2 {
				return Hold(errHandler, time.Minute)
			}
			return nil
		}}
		m, c := startMany(t, testConfig(), w)
		cl := c.assign(0, 0)
		c.h.Deliver(cl, keyed(0, "a", "b"))
		synctest.Wait()
		require.NoError(t, m.Pause("job"))
		pass(time.Hour)
		require.NoError(t, m.EndHold("job"))
		pass(time.Hour)
		assert.Equal(t, []string{"a0"}, w.called())
		require.NoError(t, m.Resume("job"))
		pass(time.Hour)
		assert.Equal(t, int64(2), c.position(cl))
	})
}

// A shutdown and a revocation do not wait for the end of a pause.
func TestPausedConsumerEndsAtOnce(t *testing.T) {
	for _, order := range []Order{OrderByPartition, OrderByKey} {
		synctest.Test(t, func(t *testing.T) {
			d, w := &fakeDriver{}, &worked{handle: func(context.Context, *Message) error { return errHandler }}
			m := New(d, quiet())
			startOn(t, m, NewConsumer(parallel(order, 1), w.call))
			c := d.consumer(t)
			one, two := c.assign(0, 0), c.assign(1, 0)
			c.h.Deliver(one, keyed(0, "a", "b"))
			c.h.Deliver(two, keyed(0, "a", "b"))
			synctest.Wait()
			require.NoError(t, m.Pause("job"))
			pass(time.Minute)
			began := time.Now()
			c.revoke(one)
			stop(t, m)
			assert.Zero(t, time.Since(began))
			require.NoError(t, m.Resume("job"), "a consumer that has stopped")
		})
	}
}

// A hook of a pause can resume, and a handler can pause its own consumer.
func TestPauseInsideHandlersAndHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, got := &fakeDriver{}, &seen{}
		var m *Manager
		m = start(t, d, testConfig(), func(_ context.Context, v []byte) error {
			got.add(v)
			if string(v) == "1" {
				return m.Pause("job")
			}
			return nil
		})
		stopHook := m.Subscribe(func(e Event) {
			if p, ok := e.(PauseChanged); ok && p.Paused && len(p.Partitions) > 0 {
				assert.NoError(t, m.Resume("job", p.Partitions...))
			}
		})
		defer stopHook()
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 3)
		pass(time.Minute)
		assert.Equal(t, []string{"0", "1"}, got.all())
		require.NoError(t, m.Resume("job"))
		require.NoError(t, m.Pause("job", TopicPartition{"orders", 0}))
		pass(time.Minute)
		assert.Equal(t, []string{"0", "1", "2", "3"}, got.all())
	})
}

func TestPauseReasonsAreTextInJSON(t *testing.T) {
	b, err := json.Marshal(PartitionStatus{Topic: "orders", PausedBy: []PauseReason{PausedByOperator, PausedByQueue, PausedByTotal, PausedByDone}})
	require.NoError(t, err)
	assert.Contains(t, string(b), `"PausedBy":["operator","queue","total","done"]`)
	b, err = json.Marshal(PauseChanged{JobName: "job", Paused: true, Partitions: []TopicPartition{{"orders", 1}}})
	require.NoError(t, err)
	assert.JSONEq(t, `{"JobName":"job","Paused":true,"Partitions":["orders/1"]}`, string(b))
	var r PauseReason
	require.NoError(t, r.UnmarshalText([]byte("total")))
	assert.Equal(t, PausedByTotal, r)
	assert.Error(t, r.UnmarshalText([]byte("none")))
	for _, none := range []PauseReason{0, pauseReasonCount} {
		_, err = none.MarshalText()
		assert.Error(t, err)
		assert.Empty(t, none.String())
	}
}

// Whatever an operator, the group and the handlers do: nothing is handed out while it is
// paused, and when all is resumed every record is handled.
func TestNothingIsHandedOutWhilePaused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) { newPausing(t).run(t) })
	})
}

// A pausing is a consumer of three partitions, and what a model says of its pauses.
type pausing struct {
	t      *rapid.T
	d      *fakeDriver
	m      *Manager
	claims map[int32]*driver.Claim
	next   map[int32]int64 // the end of each log

	mu      sync.Mutex
	all     bool
	some    map[int32]bool
	handled map[string]bool
	plan    []string
	broken  []string

	batches bool
	rate    float64 // 0 is none
	pace    *paced
}

const pausingPartitions = 3

func newPausing(t *rapid.T) *pausing {
	p := &pausing{
		t: t, d: &fakeDriver{}, claims: map[int32]*driver.Claim{}, next: map[int32]int64{},
		some: map[int32]bool{}, handled: map[string]bool{},
		plan: rapid.SliceOfN(rapid.SampledFrom([]string{"ok", "ok", "slow", "fail", "hold"}), 1, 5).Draw(t, "plan"),
	}
	cfg := testConfig()
	cfg.MaxBufferedMessages = 8
	cfg.Order = rapid.SampledFrom([]Order{OrderByPartition, OrderByKey, OrderNone}).Draw(t, "order")
	var consumer Consumer
	switch {
	case cfg.Order == OrderByPartition && rapid.Bool().Draw(t, "batch"):
		cfg.MaxBatchSize, cfg.BatchLinger = 4, time.Second
		p.batches = true
		consumer = NewBatchConsumer(cfg, func(_ context.Context, ms []*Message) error {
			p.begin(ms)
			for _, m := range ms {
				if err := p.handle(m); err != nil {
					return err
				}
			}
			return nil
		})
	default:
		if cfg.Order != OrderByPartition {
			cfg.Parallelism = rapid.IntRange(1, 4).Draw(t, "parallelism")
			cfg.MaxConcurrency = rapid.IntRange(0, 3).Draw(t, "concurrency")
		}
		consumer = NewConsumer(cfg, func(_ context.Context, m *Message) error {
			p.begin([]*Message{m})
			return p.handle(m)
		})
	}
	p.m = New(p.d, quiet())
	require.NoError(t, p.m.RegisterConsumer(context.Background(), consumer))
	require.NoError(t, p.m.SetConsumerSwitch("job", true))
	require.NoError(t, p.m.StartAllConsumers(context.Background()))
	synctest.Wait()
	return p
}

// begin is called when records are handed out. The test lets everything come to rest before
// each step, so that none are on their way when a pause begins.
func (p *pausing) begin(ms []*Message) {
	probe := false
	if p.pace != nil {
		s, err := p.m.Consumer("job")
		assert.NoError(p.t, err)
		probe = s.Held != nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pace != nil && !probe { // a probe waits for no turn
		p.pace.note(ms[0].Partition, len(ms))
	}
	if p.all || p.some[ms[0].Partition] {
		p.broken = append(p.broken, fmt.Sprintf("partition %d was handed out offset %d while paused", ms[0].Partition, ms[0].Offset))
	}
}

func (p *pausing) handle(m *Message) error {
	p.mu.Lock()
	do := choose(p.plan, recordKey{TopicPartition{m.Topic, m.Partition}, m.Offset}, m.Attempt)
	if m.Attempt > 3 {
		do = "ok"
	}
	p.mu.Unlock()
	switch do {
	case "slow":
		time.Sleep(700 * time.Millisecond)
	case "fail":
		return errHandler
	case "hold":
		return Hold(errHandler, 0)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.handled[TopicPartition{m.Topic, m.Partition}.String()+fmt.Sprint(m.Offset)] = true
	return nil
}

func (p *pausing) run(t *rapid.T) {
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, p.m.Shutdown(ctx))
	}()
	steps := rapid.SliceOfN(rapid.IntRange(0, 99), 1, 40).Draw(t, "steps")
	for i, step := range steps {
		n := rapid.Int32Range(0, pausingPartitions-1).Draw(t, fmt.Sprint("partition ", i))
		p.step(t, step, n)
		synctest.Wait()
		p.check(t)
	}
	p.pause(t, false)
	for n := range int32(pausingPartitions) {
		p.own(n)
	}
	for range 100 {
		pass(time.Minute)
	}
	p.check(t)
	for n, end := range p.next {
		for o := range end {
			assert.True(t, p.handled[TopicPartition{"orders", n}.String()+fmt.Sprint(o)], "offset %d of partition %d", o, n)
		}
		assert.False(t, p.consumer().isPaused(p.claims[n]))
	}
}

func (p *pausing) step(t *rapid.T, step int, n int32) {
	switch {
	case step < 15:
		p.pause(t, true, n)
	case step < 30:
		p.pause(t, false, n)
	case step < 37:
		p.pause(t, true)
	case step < 45:
		p.pause(t, false)
	case step < 55:
		p.own(n)
	case step < 60:
		p.disown(n)
	case step < 80:
		p.send(n, 1+int64(step%7))
	case step < 83:
		require.NoError(t, p.m.EndHold("job"))
	default:
		pass(time.Duration(step-83) * 333 * time.Millisecond)
	}
}

func (p *pausing) pause(t *rapid.T, paused bool, ns ...int32) {
	var ps []TopicPartition
	for _, n := range ns {
		ps = append(ps, TopicPartition{"orders", n})
	}
	if !paused {
		p.note(paused, ns) // first: a record may be handed out before Resume has returned
		require.NoError(t, p.m.Resume("job", ps...))
		return
	}
	require.NoError(t, p.m.Pause("job", ps...))
	p.note(paused, ns)
}

func (p *pausing) note(paused bool, ns []int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range ns {
		p.some[n] = paused
	}
	if len(ns) == 0 {
		if p.all = paused; !paused {
			clear(p.some)
		}
	}
}

// own assigns a partition that is not owned, from its committed position on.
func (p *pausing) own(n int32) {
	if p.claims[n] != nil {
		return
	}
	c := p.consumer()
	start := int64(0)
	c.mu.Lock()
	for _, m := range c.durable {
		if m.Claim.Partition == n {
			start = max(start, m.Offset)
		}
	}
	c.mu.Unlock()
	p.claims[n] = c.assign(n, start)
	if start < p.next[n] {
		c.deliver(p.claims[n], start, p.next[n]-1)
	}
}

func (p *pausing) disown(n int32) {
	if cl := p.claims[n]; cl != nil {
		p.consumer().revoke(cl)
		p.claims[n] = nil
	}
}

func (p *pausing) send(n int32, records int64) {
	from := p.next[n]
	p.next[n] += records
	if cl := p.claims[n]; cl != nil {
		p.consumer().deliver(cl, from, p.next[n]-1)
	}
}

// check asks what must hold whenever everything is at rest.
func (p *pausing) check(t *rapid.T) {
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.broken)
	c := p.consumer()
	for n, cl := range p.claims {
		if cl != nil && (p.all || p.some[n]) {
			require.True(t, c.isPaused(cl), "partition %d is fetched", n)
		}
	}
}

// consumer returns the only one of the driver.
func (p *pausing) consumer() *fakeConsumer {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	return p.d.consumers[0]
}

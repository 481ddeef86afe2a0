package kafka

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"pgregory.net/rapid"
)

// A paced records when records are handed out, and of which partition.
type paced struct {
	mu    sync.Mutex
	begun time.Time
	at    []time.Duration
	from  []int32
	units []int // records of each call
}

func newPaced() *paced { return &paced{begun: time.Now()} }

func (p *paced) note(partition int32, records int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at, p.from, p.units = append(p.at, time.Since(p.begun)), append(p.from, partition), append(p.units, records)
}

func (p *paced) handle(_ context.Context, m *Message) error {
	p.note(m.Partition, 1)
	return nil
}

func (p *paced) batch(_ context.Context, ms []*Message) error {
	p.note(ms[0].Partition, len(ms))
	return nil
}

func (p *paced) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.units {
		n += u
	}
	return n
}

// calls returns how many records each call had.
func (p *paced) calls() []int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.units)
}

// excess returns by how many records the busiest span is above what the rate allows in it,
// without a burst. A call is one unit of its records.
func (p *paced) excess(perSecond float64) (most float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.at {
		n := 0
		for j := i; j < len(p.at); j++ {
			n += p.units[j]
			most = max(most, float64(n)-perSecond*(p.at[j]-p.at[i]).Seconds())
		}
	}
	return most
}

// rated is a configuration with a rate.
func rated(order Order, parallelism int, perSecond float64) ConsumerConfig {
	cfg := parallel(order, parallelism)
	cfg.MaxRate = perSecond
	return cfg
}

// startRated starts a consumer. The driver is its own, and has opened what is returned for it.
func startRated(t *testing.T, consumer Consumer, opts ...Option) (*Manager, *fakeConsumer) {
	t.Helper()
	d := &fakeDriver{}
	m := New(d, append([]Option{quiet()}, opts...)...)
	t.Cleanup(func() { stop(t, m) })
	startOn(t, m, consumer)
	return m, d.consumer(t)
}

var ratedKinds = []struct {
	order       Order
	parallelism int
}{{OrderByPartition, 1}, {OrderByKey, 4}, {OrderNone, 4}}

// Records come as the rate says, of all partitions in turn, after a burst of 100 ms.
func TestRate(t *testing.T) {
	for _, kind := range ratedKinds {
		t.Run(kind.order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPaced()
				m, c := startRated(t, NewConsumer(rated(kind.order, kind.parallelism, 20), p.handle))
				one, two := c.assign(0, 0), c.assign(1, 0)
				c.deliver(one, 0, 99)
				c.deliver(two, 0, 99)
				pass(2*time.Second + time.Millisecond)
				assert.Equal(t, 2+40, p.count(), "a burst of 2, and 20 a second")
				assert.LessOrEqual(t, p.excess(20), 2.001)
				assert.InDelta(t, 21, p.of(0), 2, "the partitions take turns")
				for _, s := range state(t, m).Partitions {
					assert.Zero(t, s.InFlight)
					assert.True(t, s.RateLimited)
				}
				assert.Equal(t, 20.0, state(t, m).MaxRate)
				pass(time.Minute)
				assert.Equal(t, 200, p.count())
				assert.Equal(t, int64(100), c.position(one))
				assert.Equal(t, int64(100), c.position(two))
				assert.False(t, state(t, m).Partitions[0].RateLimited)
			})
		})
	}
}

// of returns how many calls were about a partition.
func (p *paced) of(partition int32) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, from := range p.from {
		if from == partition {
			n++
		}
	}
	return n
}

// A partition with few records is not behind the many of another one, whatever lanes that
// one has.
func TestRateIsFairAmongPartitions(t *testing.T) {
	for _, kind := range ratedKinds {
		synctest.Test(t, func(t *testing.T) {
			p := newPaced()
			_, c := startRated(t, NewConsumer(rated(kind.order, 100*(kind.parallelism/4)+1, 10), p.handle))
			many, few := c.assign(0, 0), c.assign(1, 0)
			c.deliver(many, 0, 999)
			pass(time.Second)
			c.deliver(few, 0, 4)
			pass(time.Second)
			assert.GreaterOrEqual(t, p.of(1), 4, "%v", kind)
		})
	}
}

// A rebalance, a lost claim, a switch off and on, and a session that fails bring no second
// burst.
func TestRateOutlivesClaimsAndSessions(t *testing.T) {
	for _, kind := range ratedKinds {
		t.Run(kind.order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPaced()
				m, c := startRated(t, NewConsumer(rated(kind.order, kind.parallelism, 20), p.handle))
				for i := range 40 {
					cl := c.assign(int32(i%3), 0)
					c.deliver(cl, 0, 99)
					pass(70 * time.Millisecond)
					switch i % 4 {
					case 0:
						c.lose(cl)
					case 3:
						c.end <- errDial
						pass(2 * time.Second)
						c = c.d.consumer(t)
					default:
						c.revoke(cl)
					}
				}
				require.NoError(t, m.SetConsumerSwitch("job", false))
				pass(time.Second)
				require.NoError(t, m.SetConsumerSwitch("job", true))
				pass(time.Second)
				c = c.d.consumer(t)
				c.deliver(c.assign(0, 0), 0, 99)
				pass(time.Second)
				assert.LessOrEqual(t, p.excess(20), 2.001)
				assert.Greater(t, p.count(), 80)
				assert.Equal(t, 20.0, state(t, m).MaxRate)
			})
		})
	}
}

// SetRate acts at once, also on records that wait.
func TestSetRate(t *testing.T) {
	for _, kind := range ratedKinds {
		t.Run(kind.order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p, hook, log := newPaced(), &recorder{}, &lines{}
				m, c := startRated(t, NewConsumer(rated(kind.order, kind.parallelism, 0.001), p.handle), WithHook(hook), logTo(log))
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 199)
				pass(time.Minute)
				assert.Equal(t, 1, p.count())
				assert.NoError(t, m.Healthy())
				require.NoError(t, m.SetRate("job", 10))
				pass(time.Second)
				assert.Equal(t, 11, p.count(), "what was waited for counts")
				require.NoError(t, m.SetRate("job", 10))
				require.NoError(t, m.SetRate("JOB", 0))
				synctest.Wait()
				assert.Equal(t, 200, p.count())
				require.NoError(t, m.SetRate("job", 5))
				c.deliver(cl, 200, 299)
				pass(time.Second)
				assert.Equal(t, 206, p.count())
				require.NoError(t, m.SetRate("job", 1e-300))
				pass(24 * time.Hour)
				assert.Equal(t, 206, p.count())
				require.NoError(t, m.SetRate("job", 1e300))
				pass(time.Millisecond)
				assert.Equal(t, 300, p.count())
				assert.Equal(t, []RateChanged{
					{"job", 0.001, 10}, {"job", 10, 0}, {"job", 0, 5}, {"job", 5, 1e-300}, {"job", 1e-300, 1e300},
				}, eventsOf[RateChanged](hook))
				assert.Len(t, log.with("level=INFO", "kafka: rate changed", "from=10", "to=0"), 1)
			})
		})
	}
}

func TestRateRefusals(t *testing.T) {
	m := New(&fakeDriver{}, quiet())
	cfg := testConfig()
	cfg.MaxRate = 3
	require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}))
	for _, bad := range []float64{-1, math.Inf(-1), math.Inf(1), math.NaN()} {
		assert.EqualError(t, m.SetRate("job", bad), fmt.Sprintf(`kafka: set the rate of consumer "job": %v is negative, infinite or not a number`, bad))
		cfg := testConfig()
		cfg.JobName, cfg.MaxRate = "other", bad
		assert.ErrorContains(t, m.RegisterConsumer(t.Context(), &handlerFunc{cfg, nothing}), fmt.Sprintf("MaxRate: %v is negative, infinite or not a number", bad))
	}
	assert.ErrorIs(t, m.SetRate("none", 1), ErrUnknownConsumer)
	assert.Error(t, new(Manager).SetRate("job", 1))
	assert.Equal(t, 3.0, state(t, m).MaxRate)
}

// A batch is handed out when its first record is due, and the next waits for all of them.
func TestRateOfBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		cfg := rated(OrderByPartition, 1, 10)
		cfg.MaxBatchSize = 20
		_, c := startRated(t, NewBatchConsumer(cfg, p.batch))
		c.deliver(c.assign(0, 0), 0, 99)
		pass(time.Hour)
		assert.Equal(t, []int{20, 20, 20, 20, 20}, p.units)
		for i, at := range p.at {
			assert.InDelta(t, 2*float64(i), at.Seconds(), 0.001)
		}
	})
}

// What is owed for a batch is owed for the same time when the rate is changed.
func TestRateOfWhatIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		cfg := rated(OrderByPartition, 1, 100)
		cfg.MaxBatchSize = 200
		m, c := startRated(t, NewBatchConsumer(cfg, p.batch))
		c.deliver(c.assign(0, 0), 0, 399)
		synctest.Wait()
		require.NoError(t, m.SetRate("job", 1))
		pass(2500 * time.Millisecond)
		assert.Equal(t, 200, p.count())
		pass(time.Second)
		assert.Equal(t, 400, p.count(), "190 records at 100 a second are 1.9 s, and the next record takes one")
	})
}

// What is owed for a batch is owed for the same number of records when the rate rises.
func TestRaisedRateOfWhatIsOwed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		cfg := rated(OrderByPartition, 1, 0.001)
		cfg.MaxBatchSize = 20
		m, c := startRated(t, NewBatchConsumer(cfg, p.batch))
		c.deliver(c.assign(0, 0), 0, 39)
		synctest.Wait()
		assert.Equal(t, []int{20}, p.calls(), "they owe 19 records")
		require.NoError(t, m.SetRate("job", 1000))
		pass(19 * time.Millisecond)
		assert.Equal(t, []int{20}, p.calls())
		pass(2 * time.Millisecond)
		assert.Equal(t, []int{20, 20}, p.calls())
	})
}

// Two records that have failed are due, and one that is fresh is ready, while the rate allows
// none: the place goes to the second of those that have failed, and no lane begins after
// another without a record. Time would not pass in this test if they did.
func TestRateOfFailedAndFreshRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		cfg := rated(OrderNone, 1, 0.1)
		cfg.Backoff = Backoff{Min: time.Millisecond, Max: time.Millisecond, Jitter: NoJitter}
		got := &seen{}
		_, c := startRated(t, NewConsumer(cfg, func(_ context.Context, m *Message) error {
			p.note(m.Partition, 1)
			got.add(m.Value)
			if m.Attempt < 3-int(m.Offset) {
				return errHandler
			}
			return nil
		}))
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 1)
		pass(25 * time.Second)
		require.Equal(t, []string{"0", "0", "1"}, got.all(), "each of them has failed and comes again")
		c.deliver(cl, 2, 2)
		pass(30 * time.Second)
		all := got.all()
		require.Len(t, all, 6)
		assert.ElementsMatch(t, []string{"0", "1"}, all[3:5], "they are due at the same time")
		assert.Equal(t, "2", all[5])
		assert.Equal(t, int64(3), c.position(cl))
	})
}

// Records that are tried again count, and wait for their turn as others do.
func TestRateOfRetries(t *testing.T) {
	for _, kind := range ratedKinds {
		t.Run(kind.order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPaced()
				cfg := rated(kind.order, kind.parallelism, 4)
				cfg.Backoff = Backoff{Min: time.Millisecond, Max: time.Millisecond, Jitter: NoJitter}
				var failed sync.Map
				_, c := startRated(t, NewConsumer(cfg, func(_ context.Context, m *Message) error {
					p.note(m.Partition, 1)
					if _, again := failed.LoadOrStore(m.Offset, true); !again {
						return errHandler
					}
					return nil
				}))
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 19)
				pass(time.Minute)
				assert.Equal(t, 40, p.count())
				assert.LessOrEqual(t, p.excess(4), 1.001)
				assert.Equal(t, int64(20), c.position(cl))
			})
		})
	}
}

// Records that have failed and fresh ones share a place: none of them waits for the other
// forever, and none is handed out before its turn because it has waited for the place.
func TestRateOfRetriesForOnePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		cfg := rated(OrderNone, 1, 4)
		cfg.Backoff = Backoff{Min: time.Millisecond, Max: time.Millisecond, Jitter: NoJitter}
		_, c := startRated(t, NewConsumer(cfg, func(_ context.Context, m *Message) error {
			p.note(m.Partition, 1)
			if m.Offset == 10 && m.Attempt == 1 {
				time.Sleep(20 * time.Second)
			}
			if m.Attempt < 4 {
				return errHandler
			}
			return nil
		}))
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 29)
		pass(2 * time.Minute)
		assert.Equal(t, 120, p.count())
		assert.LessOrEqual(t, p.excess(4), 2.001, "one turn may wait for the place")
		assert.Equal(t, int64(30), c.position(cl))
	})
}

// A pause keeps nothing of the rate: records that wait for their turn give it up, and after
// the pause there is one burst and no more.
func TestRateAndPause(t *testing.T) {
	for _, kind := range ratedKinds {
		t.Run(kind.order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPaced()
				m, c := startRated(t, NewConsumer(rated(kind.order, kind.parallelism, 20), p.handle))
				one, two := c.assign(0, 0), c.assign(1, 0)
				c.deliver(one, 0, 99)
				c.deliver(two, 0, 99)
				pass(time.Second)
				require.NoError(t, m.Pause("job", TopicPartition{"orders", 0}))
				before, first := p.count(), p.of(0)
				pass(time.Second)
				assert.Equal(t, before+20, p.count(), "the other partition has the whole rate")
				assert.Equal(t, first, p.of(0))
				require.NoError(t, m.Pause("job"))
				pass(time.Hour)
				assert.False(t, state(t, m).Partitions[0].RateLimited)
				require.NoError(t, m.Resume("job"))
				pass(time.Minute)
				assert.Equal(t, 200, p.count())
				assert.LessOrEqual(t, p.excess(20), 2.001)
			})
		})
	}
}

// The probe of a hold does not wait for its turn.
func TestRateAndHold(t *testing.T) {
	for _, kind := range ratedKinds {
		t.Run(kind.order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := newOutage(10 * time.Second)
				m, c := startRated(t, NewConsumer(rated(kind.order, kind.parallelism, 0.1), func(ctx context.Context, m *Message) error { return o.handle(ctx, m.Value) }))
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 1)
				pass(time.Minute)
				assert.Nil(t, state(t, m).Held)
				require.GreaterOrEqual(t, len(o.all()), 4)
				assert.Equal(t, []outageCall{{0, "0"}, {time.Second, "0"}, {3 * time.Second, "0"}, {7 * time.Second, "0"}}, o.all()[:4])
				pass(time.Hour)
				assert.Equal(t, int64(2), c.position(cl))
			})
		})
	}
}

// Under AutoCommit a record that waits for its turn was not handed out.
func TestRateAndAutoCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPaced()
		cfg := rated(OrderByPartition, 1, 1)
		cfg.AutoCommit = true
		_, c := startRated(t, NewConsumer(cfg, p.handle))
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 99)
		pass(3500 * time.Millisecond)
		c.revoke(cl)
		assert.Equal(t, 4, p.count())
		assert.Equal(t, int64(4), c.position(cl))
	})
}

// A revocation and a shutdown do not wait for turns, and leave no timer behind.
func TestRatedConsumerEndsAtOnce(t *testing.T) {
	for _, kind := range ratedKinds {
		synctest.Test(t, func(t *testing.T) {
			p := newPaced()
			m, c := startRated(t, NewConsumer(rated(kind.order, kind.parallelism, 0.01), p.handle))
			one, two := c.assign(0, 0), c.assign(1, 0)
			c.deliver(one, 0, 9)
			c.deliver(two, 0, 9)
			pass(time.Second)
			began := time.Now()
			c.revoke(one)
			stop(t, m)
			assert.Zero(t, time.Since(began))
			require.NoError(t, m.SetRate("job", 5), "of a consumer that has stopped")
			r := m.allJobs()[0].rate
			assert.Empty(t, r.queue)
			assert.Empty(t, r.brakes)
			assert.False(t, r.timer != nil && r.timer.Stop())
		})
	}
}

// A crew's turn comes, and an operator pauses and resumes the consumer before the crew learns
// of it: the crew asks again, and that turn is not its. So no ticket is left behind, for which
// a shutdown would wait.
func TestRatesTurnThatAPauseOvertakes(t *testing.T) {
	for _, kind := range ratedKinds[1:] {
		synctest.Test(t, func(t *testing.T) {
			p := newPaced()
			m, c := startRated(t, NewConsumer(rated(kind.order, kind.parallelism, 0.001), p.handle))
			c.deliver(c.assign(0, 0), 0, 9)
			pass(time.Second)
			assert.Equal(t, 1, p.count())
			r := m.allJobs()[0].rate
			r.mu.Lock()
			r.tokens = 1
			turns := r.serve()
			r.mu.Unlock()
			require.Len(t, turns, 1)
			require.NoError(t, m.Pause("job"))
			require.NoError(t, m.Resume("job"))
			grant(turns)
			pass(time.Second)
			assert.Equal(t, 2, p.count())
			r.mu.Lock()
			assert.Len(t, r.queue, 1)
			assert.Len(t, r.queue[0].asking, 1)
			r.mu.Unlock()
			began := time.Now()
			stop(t, m)
			assert.Zero(t, time.Since(began))
			assert.Empty(t, r.queue)
		})
	}
}

// An unboundHook ends the rate when a lane has received its first record.
type unboundHook struct {
	NopHook
	t    *testing.T
	m    *Manager
	once sync.Once
}

func (h *unboundHook) Start(ctx context.Context, op *Op) (context.Context, OpToken) { return ctx, op }

func (h *unboundHook) End(_ OpToken, op *Op) {
	if op.Kind == OpReceive {
		h.once.Do(func() { assert.NoError(h.t, h.m.SetRate("job", 0)) })
	}
}

// A turn that a lane has not used when the rate ends counts no longer when the next begins.
func TestRatesTurnEndsWithTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, hook := newPaced(), &unboundHook{t: t}
		cfg := rated(OrderNone, 1, 0.001)
		cfg.Backoff = Backoff{Min: time.Second, Max: time.Second, Jitter: NoJitter}
		d := &fakeDriver{}
		m := New(d, quiet(), WithHook(hook))
		hook.m = m
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, NewConsumer(cfg, func(_ context.Context, m *Message) error {
			p.note(m.Partition, 1)
			if m.Offset == 0 && m.Attempt == 1 {
				return errHandler
			}
			return nil
		}))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		synctest.Wait()
		require.Equal(t, 1, p.count())
		assert.Zero(t, state(t, m).MaxRate)
		require.NoError(t, m.SetRate("job", 0.001))
		c.deliver(cl, 1, 1)
		pass(time.Minute)
		assert.Equal(t, 2, p.count(), "one burst")
		pass(time.Hour)
		assert.Equal(t, int64(2), c.position(cl))
	})
}

// A lane that waits is woken when the rate is lifted. If there is a rate again before it goes
// on, nothing was taken for its record, and it has to ask once more.
func TestTurnOfALiftedRateAllowsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxRate = 0.001
		r := newRate(&cfg, slog.New(slog.DiscardHandler), func(Event) {})
		b := newBrake(context.Background())
		r.enlist(b)
		l := &lane{env: &env{rate: r}, brake: b, failing: newFailing()}
		l.run.Records = make([]driver.Record, 1)
		require.True(t, l.allowed(), "the burst")
		l.paid = false // the record is handed out
		for _, lifted := range []bool{true, false} {
			done := make(chan bool)
			go func() { done <- l.allowed() }()
			synctest.Wait()
			if lifted {
				r.set(0)
				r.set(0.001)
				require.True(t, r.try(1), "the burst of the new rate")
			} else {
				pass(time.Hour)
			}
			assert.False(t, <-done, "everything has to be looked at again")
			assert.Equal(t, !lifted, l.paid)
		}
		r.close()
	})
}

// The end of a job does not wait for the turn of a ticket that was left behind.
func TestClosedRateHasNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.MaxRate = 0.001
		r := newRate(&cfg, slog.New(slog.DiscardHandler), func(Event) {})
		b := newBrake(context.Background())
		defer b.endSends()
		defer b.cancel(nil)
		require.True(t, r.try(1))
		require.False(t, r.ask(&rateTicket{brake: b, admit: make(chan struct{}, 1)}))
		began := time.Now()
		r.close()
		assert.Zero(t, time.Since(began))
		assert.False(t, r.asked(b))
	})
}

// The only handler of a consumer is busy for ten seconds, and records of four partitions
// wait for it. When it is free again they come as the rate says: no partition has kept what
// the rate allowed it in these ten seconds.
func TestRateWhileAllPlacesAreTaken(t *testing.T) {
	for _, order := range []Order{OrderByKey, OrderNone} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPaced()
				cfg := rated(order, 2, 1)
				cfg.MaxConcurrency = 1
				_, c := startRated(t, NewConsumer(cfg, func(_ context.Context, m *Message) error {
					p.note(m.Partition, 1)
					if m.Partition == 0 && m.Offset == 0 {
						time.Sleep(10 * time.Second)
					}
					return nil
				}))
				for n := range int32(4) {
					c.deliver(c.assign(n, 0), 0, 9)
				}
				pass(time.Minute)
				assert.LessOrEqual(t, p.excess(1), 1.0001)
				assert.Equal(t, 40, p.count(), "none waits for longer than the rate asks")
			})
		})
	}
}

// MaxConcurrency and the rate hold together.
func TestRateAndPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := rated(OrderNone, 4, 10)
		cfg.MaxConcurrency = 2
		p := newPaced()
		_, c := startRated(t, NewConsumer(cfg, func(ctx context.Context, m *Message) error {
			defer time.Sleep(300 * time.Millisecond)
			return p.handle(ctx, m)
		}))
		for n := range int32(3) {
			c.deliver(c.assign(n, 0), 0, 19)
		}
		pass(time.Hour)
		assert.Equal(t, 60, p.count())
		assert.LessOrEqual(t, p.excess(10), 1.001)
	})
}

// Whatever happens: the rate is kept but for one burst, and no record is forgotten.
func TestRateIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			p := newPausing(t)
			p.rate = rapid.SampledFrom([]float64{0.5, 3, 20, 1000}).Draw(t, "rate")
			p.pace = newPaced()
			require.NoError(t, p.m.SetRate("job", p.rate))
			p.run(t)
			most := max(1, p.rate/10) + 1e-3
			turns := float64(pausingPartitions) // of crews whose places are taken by lanes that try records again
			if p.batches {
				turns = 3 // a batch of four is handed out when its first record is due
			}
			require.LessOrEqual(t, p.pace.excess(p.rate), most+turns)
		})
	})
}

// The queue of a rate is fair and forgets nobody, whatever comes and goes.
func TestRateServesEachTicketOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			cfg := testConfig()
			cfg.MaxRate = rapid.SampledFrom([]float64{0.1, 7, 1e6}).Draw(t, "rate")
			r := newRate(&cfg, slog.New(slog.DiscardHandler), func(Event) {})
			brakes := []*brake{newBrake(context.Background()), newBrake(context.Background())}
			for _, b := range brakes {
				defer b.endSends()
				defer b.cancel(nil)
				r.enlist(b)
			}
			var waiting []*rateTicket
			for range rapid.IntRange(1, 30).Draw(t, "steps") {
				switch rapid.IntRange(0, 5).Draw(t, "step") {
				case 0, 1:
					one := &rateTicket{brake: rapid.SampledFrom(brakes).Draw(t, "brake"), admit: make(chan struct{}, 1)}
					if !r.ask(one) {
						waiting = append(waiting, one)
					}
				case 2:
					if len(waiting) > 0 {
						i := rapid.IntRange(0, len(waiting)-1).Draw(t, "ticket")
						served := len(waiting[i].admit) == 1
						require.Equal(t, !served, r.withdraw(waiting[i]))
						waiting = slices.Delete(waiting, i, i+1)
					}
				case 3:
					r.set(rapid.SampledFrom([]float64{0, 0.1, 7, 1e6}).Draw(t, "new rate"))
				case 4:
					r.charge(1)
				default:
					pass(time.Second)
				}
				synctest.Wait()
			}
			pass(time.Hour)
			for _, one := range waiting {
				require.Len(t, one.admit, 1)
			}
			r.close()
		})
	})
}

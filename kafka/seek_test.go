package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// offsets keeps which records of each partition were handled, in order.
type offsets struct {
	mu   sync.Mutex
	seen map[int32][]int64
}

func (o *offsets) add(m *kafka.Message) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.seen == nil {
		o.seen = map[int32][]int64{}
	}
	o.seen[m.Partition] = append(o.seen[m.Partition], m.Offset)
}

func (o *offsets) count(partition int32) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.seen[partition])
}

// take returns what was handled since the last take.
func (o *offsets) take(partition int32) []int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	seen := o.seen[partition]
	delete(o.seen, partition)
	return seen
}

func (o *offsets) handle(_ context.Context, m *kafka.Message) error {
	o.add(m)
	return nil
}

// span returns from, from+1, … to-1.
func span(from, to int64) (all []int64) {
	for o := from; o < to; o++ {
		all = append(all, o)
	}
	return all
}

func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var first = kafka.TopicPartition{Topic: "orders", Partition: 0}

// TestSeek moves running consumers of each kind to each position.
func TestSeek(t *testing.T) {
	for name, change := range map[string]func(*kafka.ConsumerConfig){
		"one by one":  func(*kafka.ConsumerConfig) {},
		"parallel":    func(cfg *kafka.ConsumerConfig) { cfg.Order, cfg.Parallelism = kafka.OrderNone, 4 },
		"auto commit": func(cfg *kafka.ConsumerConfig) { cfg.AutoCommit = true },
		"batches":     func(cfg *kafka.ConsumerConfig) { cfg.MaxBatchSize = 3 },
		"cooperative": func(cfg *kafka.ConsumerConfig) {
			cfg.BalanceStrategies = []kafka.BalanceStrategy{kafka.CooperativeSticky}
		},
		"consumer protocol": func(cfg *kafka.ConsumerConfig) {
			cfg.GroupProtocol = kafka.ConsumerProtocol
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 2)
				var got offsets
				cfg, rec, log := orders(), &kafka.Recorder{}, &kafka.Lines{}
				change(&cfg)
				m := newManager(t, b, kafka.WithHook(rec), kafka.LogTo(log))
				var c kafka.Consumer = kafka.NewConsumer(cfg, got.handle)
				if name == "batches" {
					c = kafka.NewBatchConsumer(cfg, func(_ context.Context, ms []*kafka.Message) error {
						for _, m := range ms {
							got.add(m)
						}
						return nil
					})
				}
				require.NoError(t, m.RegisterConsumer(t.Context(), c))
				require.NoError(t, m.SetConsumerSwitch("orders", true))
				require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
				send(t, b, 0, 0, 5)
				rest(time.Hour)
				noon := time.Now()
				send(t, b, 0, 5, 10)
				send(t, b, 1, 0, 4)
				rest(time.Minute)
				require.ElementsMatch(t, span(0, 10), got.take(0))
				require.ElementsMatch(t, span(0, 4), got.take(1))

				seek := func(to kafka.Position, want0, want1 []int64, ps ...kafka.TopicPartition) {
					t.Helper()
					require.NoError(t, m.Seek(t.Context(), "orders", to, ps...))
					rest(time.Minute)
					assert.ElementsMatch(t, want0, got.take(0), "%v: orders/0", to)
					assert.ElementsMatch(t, want1, got.take(1), "%v: orders/1", to)
					assert.Equal(t, []int64{10, 4}, []int64{b.Committed("orders", "orders", 0), b.Committed("orders", "orders", 1)})
				}
				seek(kafka.AtOffset(7), span(7, 10), nil, first)
				require.Equal(t, []kafka.PositionsMoved{{JobName: "orders", Group: "orders", To: kafka.AtOffset(7), Partitions: []kafka.MovedPartition{{TopicPartition: first, Offset: 7}}}}, kafka.EventsOf[kafka.PositionsMoved](rec))
				require.Len(t, log.With("positions moved by an operator", "offset 7", "orders/0:7"), 1)
				seek(kafka.AtTime(noon), span(5, 10), span(0, 4))
				seek(kafka.AtTime(noon.Add(time.Hour)), nil, nil)
				seek(kafka.AtTime(time.Time{}), span(0, 10), nil, first, first)
				seek(kafka.AtBeginning(), span(0, 10), span(0, 4))
				seek(kafka.AtEnd(), nil, nil)
				require.NoError(t, b.DeleteRecords("orders", 0, 2))
				seek(kafka.AtBeginning(), span(2, 10), nil, first)

				// What waits is skipped by a seek forwards.
				require.NoError(t, m.Pause("orders"))
				send(t, b, 0, 10, 20)
				rest(time.Minute)
				require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(18), first))
				rest(time.Minute)
				require.Empty(t, got.take(0), "the pause stays")
				require.NoError(t, m.Resume("orders"))
				rest(time.Minute)
				require.ElementsMatch(t, span(18, 20), got.take(0))
			})
		})
	}
}

// TestSeekWhileOff moves the group of a consumer that is off, not started or disabled.
func TestSeekWhileOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		var got offsets
		send(t, b, 0, 0, 5)
		rest(time.Hour)
		noon := time.Now()
		send(t, b, 0, 5, 10)
		send(t, b, 1, 0, 4)
		rec := &kafka.Recorder{}
		m := newManager(t, b, kafka.WithHook(rec))
		cfg := orders()
		cfg.Order = kafka.OrderNone
		cfg.Failure = kafka.FailurePolicy{Then: kafka.FailureSkip, MaxAttempts: 3, RetryTopics: []kafka.RetryTopic{{Topic: "retry.{group}", Delay: time.Second}}}
		require.NoError(t, b.CreateTopic("retry.orders", 1))
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, got.handle)))
		committed := func() []int64 {
			return []int64{b.Committed("orders", "orders", 0), b.Committed("orders", "orders", 1), b.Committed("orders", "retry.orders", 0)}
		}

		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtTime(noon)))
		require.Equal(t, []int64{5, 0, -1}, committed(), "before the start, without the retry topic")
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
		rest(time.Minute)
		require.Equal(t, span(5, 10), got.take(0))
		require.NoError(t, m.SetConsumerSwitch("orders", false))
		rest(time.Minute)

		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(3), first))
		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtEnd(), kafka.TopicPartition{Topic: "retry.orders"}))
		require.Equal(t, []int64{3, 4, 0}, committed())
		require.Len(t, kafka.EventsOf[kafka.PositionsMoved](rec), 3)
		got.take(1)
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		rest(time.Minute)
		require.Equal(t, span(3, 10), got.take(0))
		require.Empty(t, got.take(1))

		// Neither running nor off, and running again.
		b.Stop()
		rest(10 * time.Second)
		err := m.Seek(t.Context(), "orders", kafka.AtBeginning())
		assert.ErrorIs(t, err, kafka.ErrNotRunning, "its session has timed out")
		b.Start()
		rest(time.Minute)
		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtBeginning(), first))
	})
}

// TestSeekWhileDisabled passes the record that has stopped the consumer.
func TestSeekWhileDisabled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 10)
		var got offsets
		m := launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error {
			if m.Offset == 5 {
				return kafka.Stop(errors.New("poison"))
			}
			got.add(m)
			return nil
		})
		rest(time.Minute)
		require.Equal(t, kafka.StateDisabled, m.Consumers()[0].State)
		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(6), first))
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		rest(time.Minute)
		require.Equal(t, []int64{0, 1, 2, 3, 4, 6, 7, 8, 9}, got.take(0))
	})
}

// TestSeekOfAGroupWithMembers is refused: another process is a member.
func TestSeekOfAGroupWithMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 5)
		launch(t, b, orders(), handleNothing)
		m := newManager(t, b)
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(orders(), handleNothing)))
		rest(time.Minute)
		err := m.Seek(t.Context(), "orders", kafka.AtBeginning())
		assert.ErrorIs(t, err, kafka.ErrGroupHasMembers)
		require.Equal(t, int64(5), b.Committed("orders", "orders", 0))
	})
}

// bare hides what a driver can do beyond the contract.
type bare struct {
	driver.Driver
	groups   bool
	consumer bool
}

func (d bare) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	g, err := d.Driver.(driver.GroupReader).OpenGroup(ctx, cfg)
	if d.groups {
		return g, err
	}
	return struct{ driver.Group }{g}, err
}

func (d bare) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.Driver.OpenConsumer(ctx, cfg)
	if d.consumer {
		return c, err
	}
	return struct{ driver.Consumer }{c}, err
}

func TestSeekRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, 0, 10)
		require.NoError(t, b.DeleteRecords("orders", 0, 3))
		other := launch(t, b, orders(), handleNothing)
		m := launch(t, b, orders(), handleNothing)
		rest(time.Minute)
		mine := m.Consumers()[0].Partitions[0]
		own := kafka.TopicPartition{Topic: "orders", Partition: mine.Partition}
		foreign := kafka.TopicPartition{Topic: "orders", Partition: 1 - own.Partition}
		before := b.Committed("orders", "orders", 0)

		for _, c := range []struct {
			to   kafka.Position
			ps   []kafka.TopicPartition
			is   error
			text string
		}{
			{kafka.AtEnd(), []kafka.TopicPartition{own, foreign}, kafka.ErrNotOwned, fmt.Sprintf(`kafka: seek of consumer "orders" to end: %v: this process does not own it`, foreign)},
			{kafka.AtEnd(), []kafka.TopicPartition{{Topic: "payments"}}, nil, `kafka: seek of consumer "orders" to end: it does not read topic "payments"`},
			{kafka.AtEnd(), []kafka.TopicPartition{{Topic: "orders", Partition: -1}}, nil, `kafka: seek of consumer "orders" to end: partition -1 of topic "orders" is negative`},
			{kafka.AtOffset(4), nil, nil, `kafka: seek of consumer "orders" to offset 4: an offset is one of one partition, and 0 are named`},
			{kafka.AtOffset(4), []kafka.TopicPartition{own, foreign}, nil, `kafka: seek of consumer "orders" to offset 4: an offset is one of one partition, and 2 are named`},
			{kafka.AtOffset(-1), []kafka.TopicPartition{own}, nil, `kafka: seek of consumer "orders" to offset -1: offset -1 is negative`},
			{kafka.Position{}, nil, nil, `kafka: seek of consumer "orders" to nowhere: the position is none of AtOffset, AtTime, AtBeginning, AtEnd`},
		} {
			err := m.Seek(t.Context(), "orders", c.to, c.ps...)
			assert.EqualError(t, err, c.text)
			if c.is != nil {
				assert.ErrorIs(t, err, c.is)
			}
		}
		owner := map[bool]*kafka.Manager{true: m, false: other}[own == first]
		for _, offset := range []int64{2, 11} {
			err := owner.Seek(t.Context(), "orders", kafka.AtOffset(offset), first)
			wantCode(t, err, "OFFSET_OUT_OF_RANGE")
			assert.ErrorContains(t, err, "the log of orders/0 begins at 3 and ends at 10")
		}
		assert.ErrorIs(t, m.Seek(t.Context(), "nothing", kafka.AtEnd()), kafka.ErrUnknownConsumer)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		assert.ErrorIs(t, m.Seek(ended, "orders", kafka.AtEnd()), context.Canceled)
		var none context.Context
		assert.ErrorContains(t, m.Seek(none, "orders", kafka.AtEnd()), "ctx is nil")
		assert.Error(t, new(kafka.Manager).Seek(t.Context(), "orders", kafka.AtEnd()))
		assert.Equal(t, before, b.Committed("orders", "orders", 0))

		// A partition that cannot be looked up refuses all.
		require.NoError(t, other.Shutdown(t.Context()))
		require.NoError(t, m.SetConsumerSwitch("orders", false))
		rest(time.Minute)
		err := m.Seek(t.Context(), "orders", kafka.AtEnd(), first, kafka.TopicPartition{Topic: "orders", Partition: 9})
		wantCode(t, err, "UNKNOWN_TOPIC_OR_PARTITION")
		assert.Equal(t, before, b.Committed("orders", "orders", 0))
		require.NoError(t, m.Shutdown(t.Context()))
		assert.ErrorIs(t, m.Seek(t.Context(), "orders", kafka.AtEnd()), kafka.ErrClosed)

		assert.ErrorIs(t, launch(t, bare{b, true, false}, orders(), handleNothing).Seek(t.Context(), "orders", kafka.AtEnd()), kafka.ErrUnsupported)
		no := newManager(t, bare{b, false, true})
		cfg := orders()
		cfg.ConsumerGroup = "others"
		require.NoError(t, no.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
		assert.ErrorIs(t, no.Seek(t.Context(), "orders", kafka.AtEnd()), kafka.ErrUnsupported)
	})
}

func TestSeekInsideAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		var m *kafka.Manager
		errs := make(chan error, 1)
		m = launch(t, b, orders(), func(ctx context.Context, _ *kafka.Message) error {
			errs <- m.Seek(ctx, "orders", kafka.AtEnd())
			return nil
		})
		send(t, b, 0, 0, 1)
		assert.ErrorIs(t, <-errs, kafka.ErrInside)
	})
}

// TestSeekForgetsFailures: a record that waits for its backoff is passed by, and starts
// from its first attempt when the consumer comes back to it. A hold does not keep Seek.
func TestSeekForgetsFailures(t *testing.T) {
	for _, held := range []bool{false, true} {
		for _, order := range []kafka.Order{kafka.OrderByPartition, kafka.OrderNone} {
			t.Run(fmt.Sprintf("held %v, %v", held, order), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := newBroker(t, 1)
					var got offsets
					rec := &kafka.Recorder{}
					cfg := orders()
					cfg.Order = order
					cfg.Backoff = kafka.Backoff{Min: time.Minute, Max: time.Hour}
					m := launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error {
						if m.Offset == 5 {
							if held {
								return kafka.Hold(errors.New("the database is away"), time.Minute)
							}
							return errors.New("poison")
						}
						got.add(m)
						return nil
					}, kafka.WithHook(rec))
					send(t, b, 0, 0, 10)
					rest(10 * time.Minute)
					got.take(0)
					require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(6), first))
					require.NoError(t, m.EndHold("orders"))
					rest(time.Hour)
					if order == kafka.OrderByPartition {
						require.Equal(t, span(6, 10), got.take(0))
					}
					require.Equal(t, int64(10), b.Committed("orders", "orders", 0))
					if held {
						return
					}
					before := kafka.EventsOf[kafka.HandlerFailed](rec)
					require.Greater(t, before[len(before)-1].Failures, 2)
					rec.Forget()
					require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(5), first))
					rest(time.Second)
					require.Equal(t, 1, kafka.EventsOf[kafka.HandlerFailed](rec)[0].Failures)
				})
			})
		}
	}
}

// TestSeekDrainsWhatRuns leaves a handler that runs in peace, and commits what it has done.
func TestSeekDrainsWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var commits []memory.Commit
		b := memory.NewBroker(memory.WithCommitObserver(func(c memory.Commit) {
			mu.Lock()
			defer mu.Unlock()
			commits = append(commits, c)
		}))
		require.NoError(t, b.CreateTopic("orders", 1))
		var got offsets
		cfg := orders()
		cfg.DrainTimeout = 20 * time.Second
		m := launch(t, b, cfg, func(ctx context.Context, m *kafka.Message) error {
			time.Sleep(10 * time.Second)
			assert.NoError(t, ctx.Err(), "offset %d", m.Offset)
			got.add(m)
			return nil
		})
		send(t, b, 0, 0, 10)
		rest(35 * time.Second)
		began := time.Now()
		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(1), first))
		require.Equal(t, 5*time.Second, time.Since(began))
		synctest.Wait()
		require.Equal(t, span(0, 4), got.take(0))
		mu.Lock()
		last := commits[len(commits)-2:]
		mu.Unlock()
		require.Equal(t, []any{int64(4), false, int64(1), true}, []any{last[0].Offset, last[0].Seek, last[1].Offset, last[1].Seek})
		rest(time.Hour)
		require.Equal(t, span(1, 10), got.take(0))
	})
}

// TestSeekBesideAStuckHandler goes on when the drain window is over, and cancels the
// handler's context before that. What the old claim comes to is not committed.
func TestSeekBesideAStuckHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		var got offsets
		var cause error
		var calls int
		cfg := orders()
		cfg.DrainTimeout = 10 * time.Second
		m := launch(t, b, cfg, func(ctx context.Context, m *kafka.Message) error {
			if m.Offset == 3 {
				if calls++; calls == 1 {
					<-ctx.Done()
					cause = context.Cause(ctx)
					time.Sleep(time.Minute)
					return nil
				}
			}
			got.add(m)
			return nil
		})
		send(t, b, 0, 0, 10)
		rest(time.Minute)
		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(1), first))
		synctest.Wait()
		assert.ErrorIs(t, cause, kafka.ErrRevoked)
		require.Equal(t, int64(1), b.Committed("orders", "orders", 0))
		got.take(0)
		rest(10 * time.Minute)
		require.Equal(t, span(1, 10), got.take(0))
		require.Equal(t, int64(10), b.Committed("orders", "orders", 0))
	})
}

// TestSeekWithoutAnAnswer says where the group is.
func TestSeekWithoutAnAnswer(t *testing.T) {
	for _, c := range []struct {
		name     string
		op       fault.Op
		fault    fault.Injector
		off      bool
		is       error
		position int64
	}{
		{"not sent", fault.Seek, fault.Never(), false, context.DeadlineExceeded, 10},
		{"refused", fault.Seek, fault.Before(fault.Error("COORDINATOR_LOAD_IN_PROGRESS")), false, fault.ErrInjected, 10},
		{"not answered", fault.Seek, fault.After(fault.Error("REQUEST_TIMED_OUT")), false, kafka.ErrUnknownOutcome, 2},
		{"off, not answered", fault.CommitGroup, fault.Never(), true, kafka.ErrUnknownOutcome, 10},
		{"off, refused", fault.CommitGroup, fault.After(fault.Error("REQUEST_TIMED_OUT")), true, fault.ErrInjected, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 1)
				send(t, b, 0, 0, 10)
				m := launch(t, fault.Wrap(b, fault.On(c.op, fault.First(1, c.fault))), orders(), handleNothing)
				rest(time.Minute)
				if c.off {
					require.NoError(t, m.SetConsumerSwitch("orders", false))
					rest(time.Minute)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
				defer cancel()
				err := m.Seek(ctx, "orders", kafka.AtOffset(2), first)
				assert.ErrorIs(t, err, c.is)
				var failed *kafka.SeekError
				require.ErrorAs(t, err, &failed)
				require.Len(t, failed.Failed, 1)
				f := failed.Failed[0]
				require.Equal(t, []any{first, int64(2), c.position}, []any{f.Partition, f.To, f.Position})
				assert.ErrorContains(t, err, fmt.Sprintf("the position is %d now", c.position))
				rest(time.Minute)
				require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(4), first))
			})
		})
	}
}

// TestSeekEndsWithTheConsumer: a switch and a shutdown end a seek that waits.
func TestSeekEndsWithTheConsumer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 10)
		d := fault.Wrap(b, fault.On(fault.Seek, fault.Never()))
		m := launch(t, d, orders(), handleNothing)
		rest(time.Minute)
		seek := func() <-chan error {
			answer := make(chan error, 1)
			go func() { answer <- m.Seek(t.Context(), "orders", kafka.AtOffset(2), first) }()
			synctest.Wait()
			return answer
		}
		answer := seek()
		second := seek() // waits for the first
		require.NoError(t, m.SetConsumerSwitch("orders", false))
		began := time.Now()
		assert.ErrorIs(t, <-answer, kafka.ErrClaimEnded)
		require.Less(t, time.Since(began), time.Second)
		if err := <-second; err != nil { // off by then, or stopping still
			assert.ErrorIs(t, err, kafka.ErrNotRunning)
		}
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		rest(time.Minute)
		answer = seek()
		began = time.Now()
		require.NoError(t, m.Shutdown(t.Context()))
		require.Less(t, time.Since(began), time.Second)
		assert.ErrorIs(t, <-answer, kafka.ErrClosed)
	})
}

// TestSeekDropsTheMetadata: what was done above the position comes again.
func TestSeekDropsTheMetadata(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		var got offsets
		cfg := orders()
		cfg.Order, cfg.Parallelism = kafka.OrderNone, 4
		fails := true
		m := launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error {
			if m.Offset == 3 && fails {
				return errors.New("poison")
			}
			got.add(m)
			return nil
		})
		send(t, b, 0, 0, 10)
		rest(10 * time.Second)
		require.NotEmpty(t, b.CommittedMetadata("orders", "orders", 0))
		got.take(0)
		require.NoError(t, m.Pause("orders"))
		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(3), first))
		require.Empty(t, b.CommittedMetadata("orders", "orders", 0))
		fails = false
		require.NoError(t, m.Resume("orders"))
		rest(time.Minute)
		require.ElementsMatch(t, span(3, 10), got.take(0))
	})
}

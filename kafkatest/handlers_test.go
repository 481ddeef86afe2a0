package kafkatest_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// A batchConsumer hands whole batches to handle.
type batchConsumer struct {
	cfg    kafka.ConsumerConfig
	handle func(ms []*kafka.Message) error
}

func (c *batchConsumer) GetConfig() *kafka.ConsumerConfig     { return &c.cfg }
func (c *batchConsumer) Handle(context.Context, []byte) error { return errors.New("not a batch") }
func (c *batchConsumer) HandleBatch(_ context.Context, ms []*kafka.Message) error {
	return c.handle(ms)
}

// A valueConsumer sees values only, and counts how often it is asked for its
// configuration.
type valueConsumer struct {
	cfg    kafka.ConsumerConfig
	asked  int
	handle func(value string) error
}

func (c *valueConsumer) GetConfig() *kafka.ConsumerConfig { c.asked++; return &c.cfg }

func (c *valueConsumer) Handle(_ context.Context, value []byte) error {
	return c.handle(string(value))
}

// Each kind of consumer that fails, by error or panic, is followed record by
// record.
func TestEveryKindOfConsumer(t *testing.T) {
	var panicked *kafka.PanicError
	for _, ending := range []struct {
		name  string
		fail  func() error
		check func(t *testing.T, err error)
	}{
		{"error", func() error { return errBoom }, func(t *testing.T, err error) { require.ErrorIs(t, err, errBoom) }},
		{"panic", func() error { panic("boom") }, func(t *testing.T, err error) { require.ErrorAs(t, err, &panicked) }},
		{"goexit", func() error { runtime.Goexit(); return nil }, func(t *testing.T, err error) { require.ErrorContains(t, err, "Goexit") }},
	} {
		kinds := map[string]func(one func(string) error) kafka.Consumer{
			"value": func(one func(string) error) kafka.Consumer {
				return &valueConsumer{cfg: fast("orders"), handle: one}
			},
			"message": func(one func(string) error) kafka.Consumer {
				return kafka.NewConsumer(fast("orders"), func(_ context.Context, m *kafka.Message) error { return one(string(m.Value)) })
			},
			"batch": func(one func(string) error) kafka.Consumer {
				return &batchConsumer{fast("orders"), func(ms []*kafka.Message) error {
					for _, m := range ms {
						if err := one(string(m.Value)); err != nil {
							return err
						}
					}
					return nil
				}}
			},
		}
		for kind, of := range kinds {
			t.Run(ending.name+"/"+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					k := kafkatest.New(t)
					left := 2
					k.Start(of(func(value string) error {
						if value == "bad" && left > 0 {
							left--
							return ending.fail()
						}
						return nil
					}))
					good, bad := k.Send("orders", "", "good"), k.Send("orders", "", "bad")
					ending.check(t, k.WaitFailed(bad, 2))
					k.WaitHandled(good, bad)
					require.Equal(t, 3, k.Attempts(bad), "attempts at bad")
				})
			})
		}
	}
}

// All records of a failing batch have failed, and are attempted again.
func TestABatchFailsAsAWhole(t *testing.T) {
	both(t, func(t *testing.T) {
		cfg := fast("orders")
		cfg.InitialOffset = kafka.OffsetOldest
		k := kafkatest.New(t)
		a, b := k.Send("orders", "", "a"), k.Send("orders", "", "b")
		sizes, failed := make(chan int, 2), false
		k.Start(&batchConsumer{cfg, func(ms []*kafka.Message) error {
			sizes <- len(ms)
			if !failed {
				failed = true
				return errBoom
			}
			return nil
		}})
		k.WaitHandled(a, b)
		require.Equal(t, 2, <-sizes, "size of the first batch")
		require.Equal(t, 2, <-sizes, "size of the second batch")
		for _, r := range []*kafka.Message{a, b} {
			require.Equal(t, 2, k.Attempts(r), "attempts")
			require.ErrorIs(t, k.WaitFailed(r, 1), errBoom, "offset %d", r.Offset)
		}
	})
}

func TestGetConfigIsCalledOnce(t *testing.T) {
	k := kafkatest.New(t)
	c := &valueConsumer{cfg: config("orders")}
	k.Start(c)
	require.Equal(t, 1, c.asked, "calls of GetConfig")
}

// In a bubble the backoffs of production take no time, nor does an hour of them: no part
// looks from moment to moment whether they are over.
func TestBackoffsPassInABubble(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.Start(consumer("orders", func(context.Context, *kafka.Message) error { return errBoom }))
		r := k.Send("orders", "", "")
		k.Timeout = time.Hour
		require.ErrorIs(t, k.WaitFailed(r, 10), errBoom)
		virtual := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
		require.GreaterOrEqual(t, virtual, 3*time.Minute, "the backoffs of nine attempts")
		time.Sleep(time.Hour)
		require.NoError(t, k.WaitState("orders", kafka.StateRunning).Reason)
		require.GreaterOrEqual(t, k.Attempts(r), 60, "one attempt each minute")
		require.LessOrEqual(t, k.Attempts(r), 80, "one attempt each minute")
	})
	runtime.ReadMemStats(&after)
	require.Less(t, after.Mallocs-before.Mallocs, uint64(50_000), "allocations: some thousands; a look per millisecond makes millions")
}

// Every consumer of a topic has to handle a record, but for those that are off.
func TestWaitHandledWaitsForEveryGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		slow := config("slow")
		slow.Topic = "orders"
		done := false
		off := config("off")
		off.Topic = "orders"
		require.NoError(t, k.RegisterConsumer(t.Context(), kafka.NewConsumer(off, nothing)))
		k.Start(consumer("orders", nothing), kafka.NewConsumer(slow, func(context.Context, *kafka.Message) error {
			time.Sleep(time.Minute)
			done = true
			return nil
		}))
		r := k.Send("orders", "", "")
		k.WaitHandled(r)
		require.True(t, done, "handled by the slow one")
		require.Equal(t, 2, k.Attempts(r), "attempts")
	})
}

package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// B24, B14: several goroutines call at once everything that allows it,
// while members restart and the manager shuts down. Run with -race.
func TestB24_EverythingAtOnce(t *testing.T) {
	b := memory.NewBroker(memory.WithAutoCreate(4))
	m := newManager(t, b)
	p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true)})
	require.NoError(t, err)
	for i := range 4 {
		cfg := orders()
		cfg.JobName = fmt.Sprint("job-", i)
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(ctx context.Context, r *kafka.Message) error {
			if r.Offset%17 == 3 && r.Attempt == 1 {
				return errors.New("once")
			}
			return p.Send(ctx, "results", r.Key, r.Value)
		})))
	}
	var answered atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	again := func(f func(i int)) {
		busy.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				f(i)
			}
		})
	}
	sent := 0
	again(func(i int) {
		p.SendAsync(context.Background(), "orders", nil, []byte("v"), func(*kafka.ProducerMessage, error) { answered.Add(1) })
		sent++
		time.Sleep(50 * time.Microsecond)
	})
	for j := range 4 {
		again(func(i int) {
			assert.NoError(t, m.SetConsumerSwitch(fmt.Sprint("job-", j), i%3 != 0))
			time.Sleep(time.Millisecond)
		})
	}
	again(func(int) { m.Consumers(); b.Rebalance("orders"); time.Sleep(5 * time.Millisecond) })
	again(func(int) { assert.NoError(t, m.StartAllConsumers(context.Background())); time.Sleep(time.Millisecond) })
	time.Sleep(300 * time.Millisecond)
	cancel()
	busy.Wait()
	var stops sync.WaitGroup
	for range 3 {
		stops.Go(func() { assert.NoError(t, m.Shutdown(context.Background())) })
		stops.Go(m.WaitStop)
	}
	stops.Wait()
	require.Equal(t, int64(sent), answered.Load(), "callbacks that were called")
}

// B18, B23: when WaitStop has returned no record is handled, and no
// goroutine is left: the bubble would not end.
func TestB18_NothingIsHandledAfterWaitStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 3)
		for p := range int32(3) {
			send(t, b, p, 0, 1000)
		}
		var handled atomic.Int64
		m := kafka.New(b, kafka.WithLogger(slog.New(slog.DiscardHandler)))
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(orders(), func(context.Context, *kafka.Message) error {
			time.Sleep(70 * time.Millisecond)
			handled.Add(1)
			return nil
		})))
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, m.StartAllConsumers(ctx))
		m.WaitStop()
		before := handled.Load()
		time.Sleep(time.Hour)
		require.Positive(t, before)
		require.Equal(t, before, handled.Load(), "records that were handled an hour after WaitStop had returned")
		var committed int64
		for p := range int32(3) {
			committed += b.Committed("orders", "orders", p)
		}
		require.Equal(t, before, committed, "committed, of those that were handled")
	})
}

// B23: no goroutine outlives its consumer: after a hundred restarts there are
// as many as after one. The bubble's end checks the rest.
func TestB23_RestartsLeaveNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 3)
		m := launch(t, b, orders(), func(context.Context, *kafka.Message) error { return nil })
		for range 100 {
			send(t, b, 0, 0, 1)
			require.NoError(t, m.SetConsumerSwitch("orders", false))
			require.NoError(t, m.SetConsumerSwitch("orders", true))
			synctest.Wait()
		}
		require.Len(t, b.Members("orders"), 1)
		require.NoError(t, m.SetConsumerSwitch("orders", false))
		synctest.Wait()
		require.Empty(t, b.Members("orders"), "after switching off")
	})
}

// A mistake of another library: one record that cannot be decoded blocks its partition
// and makes the member join again and again. Here the group is left alone.
func TestBadRecordDoesNotRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, 0, 1)
		send(t, b, 1, 0, 100)
		var good atomic.Int64
		launch(t, b, orders(), func(_ context.Context, r *kafka.Message) error {
			if r.Partition == 0 {
				return errors.New("cannot be decoded")
			}
			good.Add(1)
			return nil
		})
		before := b.Members("orders")[0]
		time.Sleep(3 * time.Minute)
		after := b.Members("orders")
		require.Len(t, after, 1)
		require.Equal(t, before.ID, after[0].ID)
		require.Equal(t, int64(100), good.Load())
		require.LessOrEqual(t, b.Committed("orders", "orders", 0), int64(0), "committed past the bad record")
	})
}

// Operators pause and resume consumers, and partitions of them, while lanes are at work and
// partitions move. After Pause has returned only those calls begin that were on their way:
// one per partition, or as many as Parallelism says. Run with -race.
func TestPauseWhileLanesAreAtWork(t *testing.T) {
	const partitions, backlog = 3, 3000
	b := newBroker(t, partitions)
	for p := range int32(partitions) {
		send(t, b, p, 0, backlog)
	}
	m := newManager(t, b)
	jobs := []*pausedJob{{most: 1}, {most: 1}, {most: 4}}
	for i, j := range jobs {
		j.cfg, j.begun = orders(), make(map[pausedCalls]int)
		j.cfg.JobName = fmt.Sprint("job-", i)
		j.cfg.ConsumerGroup = j.cfg.JobName
		j.cfg.Backoff = kafka.Backoff{Min: time.Millisecond, Max: time.Millisecond}
	}
	jobs[1].cfg.MaxBatchSize = 5
	jobs[2].cfg.Order, jobs[2].cfg.Parallelism = kafka.OrderNone, jobs[2].most
	for i, j := range jobs {
		c := kafka.NewConsumer(j.cfg, func(_ context.Context, r *kafka.Message) error { return j.handle(r) })
		if i == 1 {
			c = kafka.NewBatchConsumer(j.cfg, func(_ context.Context, rs []*kafka.Message) error {
				var failed kafka.BatchError
				if err := j.handle(rs[0]); err != nil {
					failed.AddFrom(rs[0], err)
				}
				return failed.Err()
			})
		}
		require.NoError(t, m.RegisterConsumer(t.Context(), c))
		require.NoError(t, m.SetConsumerSwitch(j.cfg.JobName, true))
	}
	require.NoError(t, m.StartAllConsumers(context.Background()))

	ctx, cancel := context.WithCancel(context.Background())
	var busy sync.WaitGroup
	again := func(f func(i int)) {
		busy.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				f(i)
			}
		})
	}
	sent := partitions * backlog
	again(func(i int) {
		assert.NoError(t, b.Send("orders", nil, []byte("v"), memory.ToPartition(int32(i%partitions))))
		sent++
		time.Sleep(50 * time.Microsecond)
	})
	for _, j := range jobs {
		again(func(n int) {
			assert.NoError(t, m.Pause(j.cfg.JobName))
			j.pause.Store(int64(n) + 1)
			time.Sleep(time.Duration(n%5) * 200 * time.Microsecond)
			j.pause.Store(0)
			assert.NoError(t, m.Resume(j.cfg.JobName))
			time.Sleep(time.Duration(n%3) * 200 * time.Microsecond)
		})
		again(func(n int) {
			p := kafka.TopicPartition{Topic: "orders", Partition: int32(n % partitions)}
			assert.NoError(t, m.Pause(j.cfg.JobName, p))
			time.Sleep(100 * time.Microsecond)
			assert.NoError(t, m.Resume(j.cfg.JobName, p))
			m.Consumers()
		})
		again(func(int) { b.Rebalance(j.cfg.ConsumerGroup); time.Sleep(5 * time.Millisecond) })
	}
	time.Sleep(300 * time.Millisecond)
	cancel()
	busy.Wait()
	for _, j := range jobs {
		require.NoError(t, m.Resume(j.cfg.JobName))
		assert.Eventually(t, func() bool {
			var done int64
			for p := range int32(partitions) {
				done += max(0, b.Committed(j.cfg.ConsumerGroup, "orders", p))
			}
			return done == int64(sent)
		}, 30*time.Second, 10*time.Millisecond, "%s: all records are handled after the last Resume", j.cfg.JobName)
		assert.Positive(t, j.calls.Load(), j.cfg.JobName)
		assert.LessOrEqual(t, j.worst(), j.most, "%s: calls for one partition that began after one Pause had returned", j.cfg.JobName)
	}
}

// A pausedJob counts the calls of its handler that begin while it is paused.
type pausedJob struct {
	cfg   kafka.ConsumerConfig
	most  int          // calls per partition that can be on their way
	pause atomic.Int64 // the number of the pause, from when it is certain until it ends, or 0
	calls atomic.Int64

	mu    sync.Mutex
	begun map[pausedCalls]int
}

// pausedCalls are the calls for one partition during one pause. A call can be late with its
// note: then it counts for the pause that it has seen.
type pausedCalls struct {
	pause     int64
	partition int32
}

func (j *pausedJob) handle(r *kafka.Message) error {
	j.calls.Add(1)
	if n := j.pause.Load(); n > 0 {
		j.mu.Lock()
		j.begun[pausedCalls{n, r.Partition}]++
		j.mu.Unlock()
	}
	if r.Offset%16 == 0 {
		time.Sleep(50 * time.Microsecond)
	}
	if r.Offset%17 == 3 && r.Attempt == 1 {
		return errors.New("once")
	}
	return nil
}

// worst returns how many calls for one partition began during one pause at most.
func (j *pausedJob) worst() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, calls := range j.begun {
		n = max(n, calls)
	}
	return n
}

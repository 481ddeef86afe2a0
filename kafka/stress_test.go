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

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// B24, B14: everything that may be called by several goroutines at once is,
// while members restart and the manager shuts down. Run with -race.
func TestB24_EverythingAtOnce(t *testing.T) {
	b := memory.NewBroker(memory.WithAutoCreate(4))
	m := newManager(t, b)
	p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true)})
	check(t, err)
	for i := range 4 {
		cfg := orders()
		cfg.JobName = fmt.Sprint("job-", i)
		check(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(ctx context.Context, r *kafka.Message) error {
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
			check(t, m.SetConsumerSwitch(fmt.Sprint("job-", j), i%3 != 0))
			time.Sleep(time.Millisecond)
		})
	}
	again(func(int) { m.Consumers(); b.Rebalance("orders"); time.Sleep(5 * time.Millisecond) })
	again(func(int) { check(t, m.StartAllConsumers(context.Background())); time.Sleep(time.Millisecond) })
	time.Sleep(300 * time.Millisecond)
	cancel()
	busy.Wait()
	var stops sync.WaitGroup
	for range 3 {
		stops.Go(func() { check(t, m.Shutdown(context.Background())) })
		stops.Go(m.WaitStop)
	}
	stops.Wait()
	if got := answered.Load(); got != int64(sent) {
		t.Errorf("%d of %d callbacks were called", got, sent)
	}
}

// B18, B23: when WaitStop has returned nothing is handled any more, and no
// goroutine is left: the bubble would not end.
func TestB18_NothingIsHandledAfterWaitStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 3)
		for p := range int32(3) {
			send(t, b, p, 0, 1000)
		}
		var handled atomic.Int64
		m := kafka.New(b, kafka.WithLogger(slog.New(slog.DiscardHandler)))
		check(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(orders(), func(context.Context, *kafka.Message) error {
			time.Sleep(70 * time.Millisecond)
			handled.Add(1)
			return nil
		})))
		check(t, m.SetConsumerSwitch("orders", true))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		check(t, m.StartAllConsumers(ctx))
		m.WaitStop()
		before := handled.Load()
		time.Sleep(time.Hour)
		if after := handled.Load(); before == 0 || after != before {
			t.Errorf("handled %d when WaitStop returned, %d an hour later", before, after)
		}
		var committed int64
		for p := range int32(3) {
			committed += b.Committed("orders", "orders", p)
		}
		if committed != before {
			t.Errorf("committed %d, want the %d that were handled", committed, before)
		}
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
			check(t, m.SetConsumerSwitch("orders", false))
			check(t, m.SetConsumerSwitch("orders", true))
			synctest.Wait()
		}
		if n := len(b.Members("orders")); n != 1 {
			t.Errorf("%d members, want 1", n)
		}
		check(t, m.SetConsumerSwitch("orders", false))
		synctest.Wait()
		if n := len(b.Members("orders")); n != 0 {
			t.Errorf("%d members after switching off, want none", n)
		}
	})
}

// A peer's mistake: one record that can not be decoded blocks its partition and
// makes the member join anew again and again. Here the group is left alone.
func TestBadRecordDoesNotRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, 0, 1)
		send(t, b, 1, 0, 100)
		var good atomic.Int64
		launch(t, b, orders(), func(_ context.Context, r *kafka.Message) error {
			if r.Partition == 0 {
				return errors.New("can not be decoded")
			}
			good.Add(1)
			return nil
		})
		before := b.Members("orders")[0]
		time.Sleep(3 * time.Minute)
		after := b.Members("orders")
		if len(after) != 1 || after[0].ID != before.ID || good.Load() != 100 {
			t.Errorf("members %v, was %v; %d good records; want the same member and 100", after, before, good.Load())
		}
		if got := b.Committed("orders", "orders", 0); got > 0 {
			t.Errorf("committed %d past the bad record", got)
		}
	})
}

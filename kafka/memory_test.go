package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// These tests run the core on the broker in memory, in virtual time: what takes
// more than one member, or a broker that remembers.

func newBroker(t *testing.T, partitions int) *memory.Broker {
	t.Helper()
	b := memory.NewBroker()
	check(t, b.CreateTopic("orders", partitions))
	check(t, b.CreateTopic("results", 1))
	return b
}

func orders() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName:          "orders",
		Topic:            "orders",
		BootstrapServers: "localhost:9092",
		ConsumerGroup:    "orders",
		InitialOffset:    kafka.OffsetOldest,
	}
}

func send(t testing.TB, b *memory.Broker, partition int32, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		check(t, b.Send(&driver.Message{Topic: "orders", Partition: partition, Value: fmt.Appendf(nil, "%d/%d", partition, i)}))
	}
}

// launch starts a manager with one consumer on b.
func launch(t *testing.T, b driver.Driver, cfg kafka.ConsumerConfig, handle func(context.Context, *kafka.Message) error, opts ...kafka.Option) *kafka.Manager {
	t.Helper()
	m := newManager(t, b, opts...)
	check(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handle)))
	check(t, m.SetConsumerSwitch(cfg.JobName, true))
	check(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
	synctest.Wait()
	return m
}

// A ledger notes who handles what, and fails when two do so at once.
type ledger struct {
	t  *testing.T
	mu sync.Mutex
	// by topic/partition/offset, and by partition
	times map[string]int
	busy  map[int32]string
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, times: map[string]int{}, busy: map[int32]string{}}
}

func (l *ledger) handler(member string, work time.Duration) func(context.Context, *kafka.Message) error {
	return func(ctx context.Context, m *kafka.Message) error {
		l.mu.Lock()
		if other := l.busy[m.Partition]; other != "" {
			l.t.Errorf("%s and %s handle partition %d at once", other, member, m.Partition)
		}
		l.busy[m.Partition] = member
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.busy[m.Partition] = ""
		}()
		select {
		case <-time.After(work):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.times[string(m.Value)]++
		return nil
	}
}

func (l *ledger) counts() (records, handlings int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.times {
		handlings += n
	}
	return len(l.times), handlings
}

// Members come and go under every strategy: each record is handled exactly
// once, since every change is graceful, and no partition by two at once.
func TestMembersComeAndGo(t *testing.T) {
	for _, strategy := range []kafka.BalanceStrategy{kafka.RoundRobin, kafka.Range, kafka.Sticky, kafka.CooperativeSticky} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 6)
			for p := range int32(6) {
				send(t, b, p, 0, 50)
			}
			l := newLedger(t)
			cfg := orders()
			cfg.BalanceStrategies = []kafka.BalanceStrategy{strategy}
			var members []*kafka.Manager
			for i := range 3 {
				members = append(members, launch(t, b, cfg, l.handler(fmt.Sprint("member ", i), 100*time.Millisecond)))
				time.Sleep(730 * time.Millisecond)
			}
			check(t, members[1].SetConsumerSwitch("orders", false))
			time.Sleep(410 * time.Millisecond)
			check(t, members[0].Shutdown(t.Context()))
			time.Sleep(time.Minute)
			synctest.Wait()
			if records, handlings := l.counts(); records != 300 || handlings < 300 {
				t.Errorf("%v: %d records handled, %d handlings; want all 300", strategy, records, handlings)
			}
			for p := range int32(6) {
				if got := b.Committed("orders", "orders", p); got != 50 {
					t.Errorf("%v: partition %d is committed at %d, want 50", strategy, p, got)
				}
			}
		})
	}
}

// A member is cut off in the middle of its work: another one takes over after
// the session timeout, and what the first one finishes late is not committed.
func TestZombieCommitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 10)
		var slow []int64
		zombie := launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error {
			time.Sleep(time.Second) // deaf
			slow = append(slow, m.Offset)
			return nil
		})
		time.Sleep(2500 * time.Millisecond)
		link := b.Members("orders")[0]
		link.Cut()
		time.Sleep(time.Minute)
		synctest.Wait()
		committed := b.Committed("orders", "orders", 0)
		if committed > 3 {
			t.Fatalf("committed %d though cut off after 2 records", committed)
		}
		var fresh []int64
		launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error {
			fresh = append(fresh, m.Offset)
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(fresh) == 0 || fresh[0] != committed || fresh[len(fresh)-1] != 9 {
			t.Errorf("the next member handled %v, want %d to 9", fresh, committed)
		}
		if got := b.Committed("orders", "orders", 0); got != 10 {
			t.Errorf("committed %d, want 10", got)
		}
		link.Heal()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.Committed("orders", "orders", 0); got != 10 {
			t.Errorf("the zombie committed %d, want 10 as before", got)
		}
		if s, _ := zombie.Consumer("orders"); s.State != kafka.StateRunning {
			t.Errorf("the zombie is %v, want running again", s.State)
		}
	})
}

// The broker goes away and comes back: the state says so, producers and
// consumers go on, and nothing is lost.
func TestOutageHealsWithoutLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, 0, 20)
		l := newLedger(t)
		m := launch(t, b, orders(), l.handler("member", 200*time.Millisecond))
		time.Sleep(time.Second)
		b.Stop()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		s, err := m.Consumer("orders")
		check(t, err)
		if s.DriverError == nil && s.Reason == nil {
			t.Errorf("during the outage the status says nothing: %+v", s)
		}
		b.Start()
		send(t, b, 1, 0, 20)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if records, _ := l.counts(); records != 40 {
			t.Errorf("%d records handled, want 40", records)
		}
		if a, b := b.Committed("orders", "orders", 0), b.Committed("orders", "orders", 1); a != 20 || b != 20 {
			t.Errorf("committed %d and %d, want 20 each", a, b)
		}
	})
}

// An unknown topic is visible, and consumed once it exists.
func TestUnknownTopicIsToldAndHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBroker()
		l := newLedger(t)
		m := launch(t, b, orders(), l.handler("member", 0))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		s, err := m.Consumer("orders")
		check(t, err)
		if reason := errors.Join(s.Reason, s.DriverError); reason == nil || !isCode(reason, "UNKNOWN_TOPIC_OR_PARTITION") {
			t.Errorf("%v, %v: want a reason UNKNOWN_TOPIC_OR_PARTITION", s.State, reason)
		}
		check(t, b.CreateTopic("orders", 1))
		send(t, b, 0, 0, 3)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if records, _ := l.counts(); records != 3 {
			t.Errorf("%d records handled, want 3", records)
		}
	})
}

func isCode(err error, code string) bool {
	var typed interface{ ErrorType() string }
	return errors.As(err, &typed) && typed.ErrorType() == code
}

// A position that is no longer in the log is never moved silently.
func TestOutOfRangeDisables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 20)
		check(t, b.SetCommitted("orders", "orders", 0, 5))
		check(t, b.DeleteRecords("orders", 0, 10))
		handled := 0
		m := launch(t, b, orders(), func(context.Context, *kafka.Message) error { handled++; return nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		s, err := m.Consumer("orders")
		check(t, err)
		if s.State != kafka.StateDisabled || !isCode(s.Reason, "OFFSET_OUT_OF_RANGE") || handled != 0 {
			t.Errorf("%v because of %v, %d handled; want disabled, OFFSET_OUT_OF_RANGE, none", s.State, s.Reason, handled)
		}
		if got := b.Committed("orders", "orders", 0); got != 5 {
			t.Errorf("committed %d, want 5 as before", got)
		}
	})
}

// With OffsetNewest, what arrives after the first assignment is handled even if
// the member dies before it has committed anything.
func TestNewestIsPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 5)
		cfg := orders()
		cfg.InitialOffset = kafka.OffsetNewest
		first := launch(t, b, cfg, func(ctx context.Context, _ *kafka.Message) error {
			<-ctx.Done()
			return ctx.Err()
		})
		send(t, b, 0, 5, 15)
		synctest.Wait()
		b.Members("orders")[0].Cut()
		time.Sleep(time.Minute)
		check(t, first.SetConsumerSwitch("orders", false))
		var offsets []int64
		launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error {
			offsets = append(offsets, m.Offset)
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		if want := []int64{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}; !slices.Equal(offsets, want) {
			t.Errorf("the next member handled %v, want %v", offsets, want)
		}
	})
}

// B38: the whole record, both ways.
func TestB38_TheWholeRecordBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 3)
		var got *kafka.Message
		m := launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error { got = m; return nil })
		p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092"})
		check(t, err)
		sent := &kafka.ProducerMessage{
			Topic: "orders", Key: []byte{}, Value: nil, ToPartition: new(int32(2)), Timestamp: time.UnixMilli(1_600_000_000_123),
			Headers: []kafka.Header{{Key: "b", Value: []byte("1")}, {Key: "a"}, {Key: "b", Value: []byte("2")}},
		}
		check(t, p.SendMessage(t.Context(), sent))
		synctest.Wait()
		if got == nil || got.Partition != 2 || got.Offset != sent.Offset || got.Key == nil || got.Value != nil || !got.Timestamp.Equal(sent.Timestamp) {
			t.Fatalf("got %+v of %+v", got, sent)
		}
		if h := got.Headers; len(h) != 3 || h[0].Key != "b" || h[1].Key != "a" || h[1].Value != nil || string(h[2].Value) != "2" {
			t.Errorf("headers %v, want b, a, b in that order", h)
		}
	})
}

// B42: a record larger than MaxMessageBytes is delivered, not skipped.
func TestB42_LargerRecordIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		check(t, b.Send(&driver.Message{Topic: "orders", Partition: 0, Value: make([]byte, 10_000)}))
		send(t, b, 0, 1, 2)
		cfg := orders()
		cfg.MaxMessageBytes, cfg.MaxBufferedBytes = 1000, 1000
		var sizes []int
		launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error { sizes = append(sizes, len(m.Value)); return nil })
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []int{10_000, 3}; !slices.Equal(sizes, want) {
			t.Errorf("handled values of %v bytes, want %v", sizes, want)
		}
	})
}

// B43: sync and async sends of one goroutine keep their order.
func TestB43_SyncAndAsyncSendsKeepOneOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		m := newManager(t, b)
		p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true)})
		check(t, err)
		for i := range 100 {
			if value := fmt.Append(nil, i); i%3 == 0 {
				check(t, p.Send(t.Context(), "orders", nil, value))
			} else {
				p.SendAsync(t.Context(), "orders", nil, value, nil)
			}
		}
		check(t, p.Close())
		records, err := b.Records("orders", 0, driver.ReadCommitted)
		check(t, err)
		for i, r := range records {
			if string(r.Value) != fmt.Sprint(i) {
				t.Fatalf("record %d is %s", i, r.Value)
			}
		}
		if len(records) != 100 {
			t.Errorf("%d records, want 100", len(records))
		}
	})
}

// With a policy the consumer goes on, and the gap is told. What was handled
// before it is not part of the gap.
func TestOutOfRangeGoesOnAndTellsTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 20)
		check(t, b.SetCommitted("orders", "orders", 0, 5))
		check(t, b.DeleteRecords("orders", 0, 10))
		var gaps gapHook
		var handled []int64
		cfg := orders()
		cfg.OutOfRange = kafka.OutOfRangeOldest
		launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error {
			handled = append(handled, m.Offset)
			return nil
		}, kafka.WithHook(&gaps))
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []kafka.DataLoss{{JobName: "orders", Topic: "orders", From: 5, To: 10}}
		if got := gaps.all(); !slices.Equal(got, want) {
			t.Errorf("told %+v, want %+v", got, want)
		}
		if len(handled) != 10 || handled[0] != 10 {
			t.Errorf("handled %v, want 10 to 19", handled)
		}
		if got := b.Committed("orders", "orders", 0); got != 20 {
			t.Errorf("committed %d, want 20", got)
		}
	})
}

type gapHook struct {
	kafka.NopHook
	mu   sync.Mutex
	gaps []kafka.DataLoss
}

func (h *gapHook) Event(e kafka.Event) {
	if gap, ok := e.(kafka.DataLoss); ok {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.gaps = append(h.gaps, gap)
	}
}

func (h *gapHook) all() []kafka.DataLoss {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.gaps)
}

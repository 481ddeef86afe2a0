package kafkatest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

var errBoom = errors.New("boom")

// both runs a test in a synctest bubble, and outside beside others.
func both(t *testing.T, f func(t *testing.T)) {
	t.Run("bubble", func(t *testing.T) { synctest.Test(t, f) })
	t.Run("real", func(t *testing.T) {
		t.Parallel()
		f(t)
	})
}

// fast is a configuration whose waits are short in real time.
func fast(job string) kafka.ConsumerConfig {
	cfg := config(job)
	cfg.Backoff.Min = time.Millisecond
	cfg.CommitInterval = time.Millisecond
	return cfg
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func values(ms []*kafka.Message) (vs []string) {
	for _, m := range ms {
		vs = append(vs, string(m.Value))
	}
	return vs
}

func TestAHandlerThatSends(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		p := k.Producer()
		k.Start(
			consumer("orders", func(ctx context.Context, m *kafka.Message) error {
				return p.Send(ctx, "invoices", m.Key, append([]byte("for "), m.Value...))
			}),
			consumer("invoices", nothing),
		)
		a, b := k.Send("orders", "key", "a"), k.Send("orders", "key", "b")
		k.WaitHandled(a, b)
		invoices := k.Produced("invoices")
		if got, want := values(invoices), []string{"for a", "for b"}; !slices.Equal(got, want) {
			t.Errorf("invoices %q, want %q", got, want)
		}
		k.WaitHandled(invoices...) // what one consumer has sent, another one handles
		k.WaitCommitted("orders")
		equal(t, "committed", k.Committed("orders", "orders", 0), 2)
		equal(t, "committed of no such partition", k.Committed("orders", "orders", 1), -1)
		equal(t, "attempts", k.Attempts(a), 1)
		equal(t, "records of no such topic", len(k.Produced("void")), 0)
	})
}

func TestSendMessageKeepsAll(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders", 3)
		got := make(chan *kafka.Message, 2)
		k.Start(consumer("orders", func(_ context.Context, m *kafka.Message) error {
			got <- m
			return nil
		}))
		partition := int32(2)
		m := &kafka.ProducerMessage{
			Topic: "orders", ToPartition: &partition, Key: []byte{},
			Headers:   []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "a"}},
			Timestamp: time.UnixMicro(1_700_000_000_123_456),
		}
		k.SendMessage(m)
		r := k.SendMessage(m)
		k.WaitHandled(r)
		first, second := <-got, <-got
		for what, s := range map[string]*kafka.Message{"sent": r, "handled": second, "produced": k.Produced("orders")[1]} {
			if s.Partition != 2 || s.Offset != 1 || s.Key == nil || s.Value != nil || len(s.Headers) != 2 ||
				!s.Timestamp.Equal(time.UnixMilli(1_700_000_000_123)) {
				t.Errorf("%s: %+v", what, *s)
			}
		}
		equal(t, "offset of the first", first.Offset, 0)
		equal(t, "m.Partition", m.Partition, 2)
		equal(t, "m.Offset", m.Offset, 1)
	})
}

func TestProducedIsInOrderOfPartitionAndOffset(t *testing.T) {
	k := kafkatest.New(t)
	k.CreateTopic("orders", 3)
	for i := range 7 {
		p := int32((5 * i) % 3)
		k.SendMessage(&kafka.ProducerMessage{Topic: "orders", ToPartition: &p, Value: fmt.Append(nil, p, "/", i)})
	}
	want := []string{"0/0", "0/3", "0/6", "1/2", "1/5", "2/1", "2/4"}
	if got := values(k.Produced("orders")); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestKeyDecidesThePartition(t *testing.T) {
	k := kafkatest.New(t)
	k.CreateTopic("orders", 8)
	used := make(map[int32]bool)
	for range 8 {
		equal(t, "partition of one key", k.Send("orders", "key", "").Partition, k.Send("orders", "key", "").Partition)
		used[k.Send("orders", "", "").Partition] = true
	}
	equal(t, "partitions used without a key", len(used), 8)
}

func TestAProducerSendsBothWays(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		p := k.Producer()
		if err := p.Send(t.Context(), "orders", nil, []byte("sync")); err != nil {
			t.Error(err)
		}
		p.SendAsync(t.Context(), "orders", nil, []byte("async"), nil)
		if err := p.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got := values(k.Produced("orders")); !slices.Equal(got, []string{"sync", "async"}) {
			t.Errorf("got %q", got)
		}
	})
}

// A state that a consumer only goes through is not missed, however late the
// test's goroutine is.
func TestWaitStateSeesPassingStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t, quiet)
		k.Start(consumer("orders", nothing))
		for range 300 {
			time.AfterFunc(time.Second, func() {
				k.SetConsumerSwitch("orders", false)
				k.SetConsumerSwitch("orders", true)
			})
			k.WaitState("orders", kafka.StateStarting)
			k.WaitState("ORDERS", kafka.StateRunning) // names ignore case
		}
	})
}

// Nothing has to be committed of a partition where nothing was sent.
func TestWaitCommittedOfAnEmptyPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kafkatest.New(t)
		k.CreateTopic("orders", 2)
		cfg := config("orders")
		cfg.InitialOffset = kafka.OffsetOldest
		k.Start(kafka.NewConsumer(cfg, nothing))
		k.Send("orders", "", "")
		k.WaitCommitted("orders")
		equal(t, "committed", k.Committed("orders", "orders", 0), 1)
		equal(t, "committed of the empty one", k.Committed("orders", "orders", 1), -1)
	})
}

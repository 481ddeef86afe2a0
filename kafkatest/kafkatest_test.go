package kafkatest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

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
		require.Equal(t, []string{"for a", "for b"}, values(invoices))
		k.WaitHandled(invoices...) // what one consumer has sent, another one handles
		k.WaitCommitted("orders")
		require.Equal(t, int64(2), k.Committed("orders", "orders", 0), "committed")
		require.Equal(t, int64(-1), k.Committed("orders", "orders", 1), "committed of no such partition")
		require.Equal(t, 1, k.Attempts(a), "attempts")
		require.Empty(t, k.Produced("void"), "records of no such topic")
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
			require.Equal(t, int32(2), s.Partition, what)
			require.Equal(t, int64(1), s.Offset, what)
			require.NotNil(t, s.Key, what)
			require.Nil(t, s.Value, what)
			require.Equal(t, m.Headers, s.Headers, what)
			require.WithinDuration(t, time.UnixMilli(1_700_000_000_123), s.Timestamp, 0, what)
		}
		require.Equal(t, int64(0), first.Offset, "offset of the first")
		require.Equal(t, int32(2), m.Partition, "m.Partition")
		require.Equal(t, int64(1), m.Offset, "m.Offset")
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
	require.Equal(t, want, values(k.Produced("orders")))
}

func TestKeyDecidesThePartition(t *testing.T) {
	k := kafkatest.New(t)
	k.CreateTopic("orders", 8)
	used := make(map[int32]bool)
	for range 8 {
		require.Equal(t, k.Send("orders", "key", "").Partition, k.Send("orders", "key", "").Partition, "partition of one key")
		used[k.Send("orders", "", "").Partition] = true
	}
	require.Len(t, used, 8, "partitions used without a key")
}

func TestAProducerSendsBothWays(t *testing.T) {
	both(t, func(t *testing.T) {
		k := kafkatest.New(t)
		p := k.Producer()
		require.NoError(t, p.Send(t.Context(), "orders", nil, []byte("sync")))
		p.SendAsync(t.Context(), "orders", nil, []byte("async"), nil)
		require.NoError(t, p.Flush(t.Context()))
		require.Equal(t, []string{"sync", "async"}, values(k.Produced("orders")))
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
		require.Equal(t, int64(1), k.Committed("orders", "orders", 0), "committed")
		require.Equal(t, int64(-1), k.Committed("orders", "orders", 1), "committed of the empty one")
	})
}

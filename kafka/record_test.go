package kafka_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// B38: the whole record, both ways.
func TestB38_TheWholeRecordBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 3)
		var got *kafka.Message
		m := launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error { got = m; return nil })
		p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092"})
		require.NoError(t, err)
		sent := &kafka.ProducerMessage{
			Topic: "orders", Key: []byte{}, Value: nil, ToPartition: new(int32(2)), Timestamp: time.UnixMilli(1_600_000_000_123),
			Headers: []kafka.Header{{Key: "b", Value: []byte("1")}, {Key: "a"}, {Key: "b", Value: []byte("2")}},
		}
		require.NoError(t, p.SendMessage(t.Context(), sent))
		synctest.Wait()
		require.NotNil(t, got)
		require.Equal(t, kafka.Message{
			Topic: "orders", Partition: 2, Offset: sent.Offset, Timestamp: sent.Timestamp, Key: []byte{},
			Headers: []kafka.Header{{Key: "b", Value: []byte("1")}, {Key: "a"}, {Key: "b", Value: []byte("2")}},
			Attempt: 1,
		}, *got)
	})
}

// B42: a record larger than MaxMessageBytes is delivered, not skipped.
func TestB42_LargerRecordIsDelivered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.Send("orders", nil, make([]byte, 10_000)))
		send(t, b, 0, 1, 2)
		cfg := orders()
		cfg.MaxMessageBytes, cfg.MaxBufferedBytes = 1000, 1000
		var sizes []int
		launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error { sizes = append(sizes, len(m.Value)); return nil })
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, []int{10_000, 3}, sizes, "bytes of the values that were handled")
	})
}

// B43: sync and async sends of one goroutine keep their order.
func TestB43_SyncAndAsyncSendsKeepOneOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		m := newManager(t, b)
		p, err := m.RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true)})
		require.NoError(t, err)
		for i := range 100 {
			if value := fmt.Append(nil, i); i%3 == 0 {
				require.NoError(t, p.Send(t.Context(), "orders", nil, value))
			} else {
				p.SendAsync(t.Context(), "orders", nil, value, nil)
			}
		}
		require.NoError(t, p.Close())
		records, err := b.Records("orders", 0, driver.ReadCommitted)
		require.NoError(t, err)
		require.Len(t, records, 100)
		for i, r := range records {
			require.Equal(t, fmt.Sprint(i), string(r.Value), "record %d", i)
		}
	})
}

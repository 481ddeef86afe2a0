package kafka_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A process handles 200 records of 20 keys, 8 at once, and one record that its handler
// fails. Its successor handles again what is not done, and nothing else. Between the two,
// the broker's group has the position of the failing record.
func TestASuccessorHandlesWhatIsNotDone(t *testing.T) {
	for _, order := range []kafka.Order{kafka.OrderByKey, kafka.OrderNone, kafka.OrderByPartition} {
		t.Run(order.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := memory.NewBroker()
				require.NoError(t, b.CreateTopic("orders", 1))
				for i := range 200 {
					key := []byte(fmt.Sprint("customer-", i%20))
					require.NoError(t, b.Send("orders", key, []byte(value(i))))
				}
				run := func(order kafka.Order, n int, fails bool) *failingHandler {
					h := &failingHandler{}
					cfg := kafka.ConsumerConfig{
						JobName: "orders", Topic: "orders", BootstrapServers: "memory:9092", ConsumerGroup: "orders",
						InitialOffset: kafka.OffsetOldest, Order: order, Parallelism: n,
					}
					m := kafka.New(b, kafka.WithLogger(slog.New(slog.DiscardHandler)))
					require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, func(ctx context.Context, msg *kafka.Message) error {
						time.Sleep(5 * time.Millisecond)
						if err := h.handle(ctx, msg); fails {
							return err
						}
						return nil
					})))
					require.NoError(t, m.SetConsumerSwitch("orders", true))
					require.NoError(t, m.StartAllConsumers(context.Background()))
					pass(30 * time.Second)
					require.NoError(t, m.Shutdown(context.Background()))
					return h
				}
				run(kafka.OrderByKey, 8, true)
				assert.Equal(t, int64(50), b.Committed("orders", "orders", 0))
				assert.NotEmpty(t, b.CommittedMetadata("orders", "orders", 0))

				h := run(order, 1, false)
				var want []string
				for i := 50; i < 200; i += 20 {
					want = append(want, value(i))
				}
				assert.Equal(t, want, h.order)
				assert.Equal(t, int64(200), b.Committed("orders", "orders", 0))
				assert.Empty(t, b.CommittedMetadata("orders", "orders", 0))
			})
		})
	}
}

// value is the value of a record. The handler fails that of the 50th.
func value(i int) string {
	if i == 50 {
		return "bad"
	}
	return fmt.Sprint(i)
}

package kafkatest_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// Several records of a partition are with handlers at once. Each has its own attempts and
// failures, also if the handler of another one began or ended meanwhile.
func TestRecordsOfOnePartitionAtOnce(t *testing.T) {
	for _, order := range []kafka.Order{kafka.OrderByKey, kafka.OrderNone} {
		t.Run(order.String(), func(t *testing.T) {
			both(t, func(t *testing.T) {
				begun, mayFail, mayEnd := make(chan string, 10), make(chan struct{}), make(chan struct{})
				tries := 0
				cfg := fast("orders")
				cfg.Order, cfg.Parallelism = order, 2
				k := kafkatest.New(t)
				k.Start(kafka.NewConsumer(cfg, func(_ context.Context, m *kafka.Message) error {
					begun <- string(m.Value)
					switch string(m.Value) {
					case "bad":
						<-mayFail
						if tries++; tries < 3 {
							return errBoom
						}
					case "slow":
						<-mayEnd
					}
					return nil
				}))
				bad := k.Send("orders", "a", "bad")
				require.Equal(t, "bad", <-begun)
				slow, behind := k.Send("orders", "b", "slow"), k.Send("orders", "b", "behind")
				require.Equal(t, "slow", <-begun, "the latest call")
				close(mayFail)
				require.ErrorIs(t, k.WaitFailed(bad, 2), errBoom)
				require.Equal(t, 1, k.Attempts(slow))
				k.WaitHandled(bad)
				close(mayEnd)
				k.WaitHandled(slow, behind)
				k.WaitCommitted("orders")
				require.Equal(t, [3]int{3, 1, 1}, [3]int{k.Attempts(bad), k.Attempts(slow), k.Attempts(behind)})
			})
		})
	}
}

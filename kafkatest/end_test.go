package kafkatest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

// A handler that ignores its context fails the test, which names it, and what
// the manager logs afterwards goes nowhere.
func TestAHandlerThatOutlivesItsTest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		got := failure(t, func(t testing.TB) {
			k := kafkatest.New(t)
			k.Timeout = time.Second
			k.Start(consumer("orders", func(context.Context, *kafka.Message) error {
				<-release
				return errBoom
			}))
			k.WaitAttempts(k.Send("orders", "", ""), 1)
		})
		want := `kafkatest: kafka: shutdown: context deadline exceeded; still running: [consumer "orders": handler of orders/0 at offset 0]`
		assert.Equal(t, want, got)
		close(release)
	})
}

// A handler that waits for its context neither fails the test that ends before
// it nor holds it up.
func TestAHandlerThatIsCancelledAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		var ending time.Time
		got := failure(t, func(t testing.TB) {
			k := kafkatest.New(t)
			k.Timeout = 5 * time.Second
			k.Start(consumer("orders", func(ctx context.Context, _ *kafka.Message) error {
				<-ctx.Done()
				cause = context.Cause(ctx)
				return ctx.Err()
			}))
			k.WaitAttempts(k.Send("orders", "", ""), 1)
			ending = time.Now()
		})
		require.Empty(t, got, "failures")
		require.Same(t, kafka.ErrSwitchedOff, cause, "cause")
		require.Equal(t, 100*time.Millisecond, time.Since(ending), "time until the end")
	})
}

// A handler that runs when its test ends, and does not take long, can still
// send, and what it has handled is committed. The next record is not handed out.
func TestAHandlerThatIsQuickAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k *kafkatest.Kafka
		var ending time.Time
		got := failure(t, func(t testing.TB) {
			k = kafkatest.New(t)
			k.Timeout = 5 * time.Second
			p := k.Producer()
			k.Start(consumer("orders", func(ctx context.Context, m *kafka.Message) error {
				time.Sleep(50 * time.Millisecond)
				return p.Send(ctx, "invoices", nil, m.Value)
			}))
			r := k.Send("orders", "", "")
			k.Send("orders", "", "")
			k.WaitAttempts(r, 1)
			ending = time.Now()
		})
		require.Empty(t, got, "failures")
		require.Equal(t, 50*time.Millisecond, time.Since(ending), "time until the end")
		require.Equal(t, int64(1), k.Broker.Committed("orders-group", "orders", 0), "committed")
		sent, err := k.Broker.Records("invoices", 0, driver.ReadCommitted)
		require.NoError(t, err)
		require.Len(t, sent, 1, "invoices")
	})
}

package kafka_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// A position that is no longer in the log is never moved silently.
func TestOutOfRangeDisables(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 20)
		require.NoError(t, b.SetCommitted("orders", "orders", 0, 5))
		require.NoError(t, b.DeleteRecords("orders", 0, 10))
		handled := 0
		m := launch(t, b, orders(), func(context.Context, *kafka.Message) error { handled++; return nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		s, err := m.Consumer("orders")
		require.NoError(t, err)
		require.Equal(t, kafka.StateDisabled, s.State)
		wantCode(t, s.Reason, "OFFSET_OUT_OF_RANGE")
		require.Zero(t, handled)
		require.Equal(t, int64(5), b.Committed("orders", "orders", 0), "as before")
	})
}

// With a policy the consumer goes on, and reports the gap. Records that were handled
// before the gap are not part of it.
func TestOutOfRangeGoesOnAndReportsTheGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 20)
		require.NoError(t, b.SetCommitted("orders", "orders", 0, 5))
		require.NoError(t, b.DeleteRecords("orders", 0, 10))
		var events kafka.Recorder
		var handled []int64
		cfg := orders()
		cfg.OutOfRange = kafka.OutOfRangeOldest
		launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error {
			handled = append(handled, m.Offset)
			return nil
		}, kafka.WithHook(&events))
		time.Sleep(time.Minute)
		synctest.Wait()
		want := []kafka.DataLoss{{JobName: "orders", Topic: "orders", From: 5, To: 10}}
		require.Equal(t, want, kafka.EventsOf[kafka.DataLoss](&events))
		require.Len(t, handled, 10)
		require.Equal(t, int64(10), handled[0])
		require.Equal(t, int64(20), b.Committed("orders", "orders", 0))
	})
}

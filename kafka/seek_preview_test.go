package kafka_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// TestPreviewSeek: what a preview says is what Seek does, and a preview moves nothing.
func TestPreviewSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		var got offsets
		m := launch(t, b, orders(), got.handle)
		second := kafka.TopicPartition{Topic: "orders", Partition: 1}
		send(t, b, 0, 0, 5)
		rest(time.Hour)
		noon := time.Now()
		send(t, b, 0, 5, 10)
		send(t, b, 1, 0, 4)
		rest(time.Minute)
		got.take(0)
		got.take(1)
		preview := func(to kafka.Position, want ...kafka.SeekPreview) {
			t.Helper()
			var ps []kafka.TopicPartition
			if len(want) == 1 {
				ps = append(ps, want[0].TopicPartition)
			}
			before := []int64{b.Committed("orders", "orders", 0), b.Committed("orders", "orders", 1)}
			all, err := m.PreviewSeek(t.Context(), "orders", to, ps...)
			require.NoError(t, err)
			assert.Equal(t, want, all, "%v", to)
			rest(time.Minute)
			assert.Empty(t, got.take(0))
			assert.Equal(t, before, []int64{b.Committed("orders", "orders", 0), b.Committed("orders", "orders", 1)})
		}
		running := func() {
			t.Helper()
			preview(kafka.AtBeginning(), kafka.SeekPreview{TopicPartition: first, From: 10, To: 0}, kafka.SeekPreview{TopicPartition: second, From: 4, To: 0})
			preview(kafka.AtTime(noon), kafka.SeekPreview{TopicPartition: first, From: 10, To: 5}, kafka.SeekPreview{TopicPartition: second, From: 4, To: 0})
			preview(kafka.AtOffset(7), kafka.SeekPreview{TopicPartition: first, From: 10, To: 7})
			preview(kafka.AtEnd(), kafka.SeekPreview{TopicPartition: second, From: 4, To: 4})
		}
		running()
		require.NoError(t, m.SetConsumerSwitch("orders", false))
		rest(time.Minute)
		running()
		send(t, b, 0, 10, 15)
		preview(kafka.AtEnd(), kafka.SeekPreview{TopicPartition: first, From: 10, To: 15}, kafka.SeekPreview{TopicPartition: second, From: 4, To: 4})

		require.NoError(t, m.Seek(t.Context(), "orders", kafka.AtOffset(7), first))
		assert.Equal(t, int64(7), b.Committed("orders", "orders", 0))
		preview(kafka.AtEnd(), kafka.SeekPreview{TopicPartition: first, From: 7, To: 15}, kafka.SeekPreview{TopicPartition: second, From: 4, To: 4})
	})
}

// The records that do not wait for one that is at work are still above the position.
func TestPreviewSeekWhileAHandlerRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		cfg := orders()
		cfg.Order, cfg.Parallelism = kafka.OrderNone, 4
		finish := make(chan struct{})
		m := launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error {
			if m.Offset == 2 {
				<-finish
			}
			return nil
		})
		send(t, b, 0, 0, 10)
		rest(time.Minute)
		all, err := m.PreviewSeek(t.Context(), "orders", kafka.AtEnd())
		require.NoError(t, err)
		assert.Equal(t, []kafka.SeekPreview{{TopicPartition: first, From: 2, To: 10}}, all)
		close(finish)
	})
}

// The numbers of a preview.
func TestSeekPreviewNumbers(t *testing.T) {
	for _, c := range []struct{ from, to, again, skipped int64 }{
		{10, 4, 6, 0}, {4, 10, 0, 6}, {4, 4, 0, 0}, {-1, 4, -1, -1},
	} {
		p := kafka.SeekPreview{From: c.from, To: c.to}
		assert.Equal(t, []int64{c.again, c.skipped}, []int64{p.Again(), p.Skipped()}, "%+v", p)
	}
}

// A preview of a consumer that is off begins where its group would, also without a position,
// and leaves retry topics out unless they are named.
func TestPreviewSeekWithoutAPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		require.NoError(t, b.CreateTopic("retry.orders", 1))
		send(t, b, 0, 0, 10)
		m := newManager(t, b)
		cfg := orders()
		cfg.Order = kafka.OrderNone
		cfg.InitialOffset = kafka.OffsetNewest
		cfg.Failure = kafka.FailurePolicy{Then: kafka.FailureSkip, MaxAttempts: 3, RetryTopics: []kafka.RetryTopic{{Topic: "retry.{group}", Delay: time.Second}}}
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
		all, err := m.PreviewSeek(t.Context(), "orders", kafka.AtBeginning())
		require.NoError(t, err)
		assert.Equal(t, []kafka.SeekPreview{{TopicPartition: first, From: 10, To: 0}}, all)
		retry := kafka.TopicPartition{Topic: "retry.orders"}
		all, err = m.PreviewSeek(t.Context(), "orders", kafka.AtEnd(), retry)
		require.NoError(t, err)
		assert.Equal(t, []kafka.SeekPreview{{TopicPartition: retry}}, all)
	})
}

func TestPreviewSeekRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 10)
		m := launch(t, b, orders(), handleNothing)
		rest(time.Minute)
		ctx := t.Context()
		refused := func(m *kafka.Manager, to kafka.Position, ps ...kafka.TopicPartition) error {
			t.Helper()
			all, err := m.PreviewSeek(ctx, "orders", to, ps...)
			assert.Nil(t, all)
			assert.Error(t, err)
			return err
		}
		assert.EqualError(t, refused(m, kafka.AtOffset(4)), `kafka: preview of a seek of consumer "orders" to offset 4: an offset is one of one partition, and 0 are named`)
		assert.ErrorIs(t, refused(m, kafka.AtEnd(), kafka.TopicPartition{Topic: "orders", Partition: 9}), kafka.ErrNotOwned)
		wantCode(t, refused(m, kafka.AtOffset(11), first), "OFFSET_OUT_OF_RANGE")
		_, err := m.PreviewSeek(ctx, "nothing", kafka.AtEnd())
		assert.ErrorIs(t, err, kafka.ErrUnknownConsumer)
		assert.ErrorIs(t, refused(launch(t, bare{b, true, false}, orders(), handleNothing), kafka.AtEnd()), kafka.ErrUnsupported)
		b.Stop()
		rest(10 * time.Second)
		assert.ErrorIs(t, refused(m, kafka.AtEnd()), kafka.ErrNotRunning)
		b.Start()
		rest(time.Minute)
		require.NoError(t, m.Shutdown(ctx))
		assert.ErrorIs(t, refused(m, kafka.AtEnd()), kafka.ErrClosed)
		assert.Error(t, refused(new(kafka.Manager), kafka.AtEnd()))
	})
}

// A preview inside a handler answers, and ends with its context.
func TestPreviewSeekInsideAHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		type answer struct {
			all []kafka.SeekPreview
			err error
		}
		answers := make(chan answer, 2)
		var m *kafka.Manager
		m = launch(t, b, orders(), func(ctx context.Context, _ *kafka.Message) error {
			all, err := m.PreviewSeek(ctx, "orders", kafka.AtEnd())
			answers <- answer{all, err}
			ended, cancel := context.WithCancel(ctx)
			cancel()
			all, err = m.PreviewSeek(ended, "orders", kafka.AtEnd())
			answers <- answer{all, err}
			return nil
		})
		send(t, b, 0, 0, 1)
		assert.Equal(t, answer{all: []kafka.SeekPreview{{TopicPartition: first, To: 1}}}, <-answers)
		assert.ErrorIs(t, (<-answers).err, context.Canceled)
	})
}

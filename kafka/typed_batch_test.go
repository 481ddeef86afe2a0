package kafka

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// In a batch of four numbers the second is none. What the handler comes to decides about
// the others alone, and what cannot be decoded goes its own way at once.
func TestHandleBatches(t *testing.T) {
	number := func(_ context.Context, m *Message) (int, error) {
		if string(m.Value) == "1" {
			return 0, errors.New("not a number")
		}
		return int(m.Value[0] - '0'), nil
	}
	type call []int
	cases := []struct {
		name    string
		answer  func(n int, vs []Decoded[int]) error // to the n-th call
		calls   []call
		dead    []int64
		skipped []int64
		failed  int // events of failed handlers
	}{
		{name: "all are handled", answer: func(int, []Decoded[int]) error { return nil },
			calls: []call{{0, 2, 3}}, dead: []int64{1}},
		{name: "one is named", answer: func(n int, vs []Decoded[int]) error {
			var failed BatchError
			if n < 3 {
				failed.Add(vs[len(vs)-1].Message, errHandler)
			}
			return failed.Err()
		}, calls: []call{{0, 2, 3}, {3}, {3}}, dead: []int64{1}, failed: 2},
		{name: "the others were not handled", answer: func(n int, vs []Decoded[int]) error {
			var failed BatchError
			if n == 1 {
				failed.AddFrom(vs[1].Message, errHandler)
			}
			return failed.Err()
		}, calls: []call{{0, 2, 3}, {2, 3}}, dead: []int64{1}, failed: 1},
		{name: "all fail together, once", answer: func(n int, vs []Decoded[int]) error {
			if n == 1 {
				return errHandler
			}
			return nil
		}, calls: []call{{0, 2, 3}, {0, 2, 3}}, dead: []int64{1}, failed: 1},
		{name: "an error that names none is one like any other", answer: func(n int, vs []Decoded[int]) error {
			if n == 1 {
				return &BatchError{}
			}
			return nil
		}, calls: []call{{0, 2, 3}, {0, 2, 3}}, dead: []int64{1}, failed: 1},
		{name: "all fail together, and one alone too", answer: func(n int, vs []Decoded[int]) error {
			if len(vs) > 1 || vs[0].Value == 2 {
				return errHandler
			}
			return nil
		}, calls: []call{{0, 2, 3}, {0, 2, 3}, {0, 2, 3}, {0}, {2}, {3}}, dead: []int64{1, 2}, failed: 4},
		{name: "a mark is for those that the handler got", answer: func(int, []Decoded[int]) error { return Skip(errHandler) },
			calls: []call{{0, 2, 3}}, dead: []int64{1}, skipped: []int64{0, 2, 3}},
	}
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, rec := &fakeDriver{}, &recorder{}
				cfg := testConfig()
				cfg.Failure = FailurePolicy{Then: FailureDeadLetter, MaxAttempts: 3, DeadLetter: DeadLetterConfig{Topic: "dlq"}}
				var calls []call
				m := New(d, quiet(), WithHook(rec))
				t.Cleanup(func() { stop(t, m) })
				startOn(t, m, HandleBatches(cfg, number, func(_ context.Context, vs []Decoded[int]) error {
					var c call
					for _, v := range vs {
						assert.Equal(t, int64(v.Value), v.Message.Offset)
						c = append(c, v.Value)
					}
					calls = append(calls, c)
					return tt.answer(len(calls), vs)
				}))
				c := d.consumer(t)
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 3)
				pass(time.Minute)
				assert.Equal(t, tt.calls, calls)
				var dead, skipped []int64
				for _, e := range eventsOf[RecordForwarded](rec) {
					dead = append(dead, e.Offset)
				}
				for _, e := range eventsOf[RecordSkipped](rec) {
					skipped = append(skipped, e.Offset)
				}
				assert.Equal(t, tt.dead, dead)
				assert.Equal(t, tt.skipped, skipped)
				assert.Len(t, eventsOf[HandlerFailed](rec), tt.failed)
				assert.Equal(t, DeadLetterReasonDecode, eventsOf[RecordForwarded](rec)[0].Reason)
				assert.Equal(t, int64(4), c.position(cl))
			})
		})
	}
}

// A batch of which nothing can be decoded does not reach the handler.
func TestHandleBatchesWithoutValues(t *testing.T) {
	bad := func(context.Context, *Message) (int, error) { return 0, errHandler }
	c := HandleBatches(testConfig(), bad, func(context.Context, []Decoded[int]) error {
		assert.Fail(t, "the handler was called")
		return nil
	}).(BatchConsumer)
	err := c.HandleBatch(t.Context(), []*Message{{Topic: "orders", Offset: 1}, {Topic: "orders", Offset: 2}})
	require.Error(t, err)
	assert.True(t, errors.Is(err, errHandler))
	m := New(&fakeDriver{}, quiet())
	for _, c := range []Consumer{HandleBatches(testConfig(), nil, func(context.Context, []Decoded[int]) error { return nil }), HandleBatches[int](testConfig(), bad, nil)} {
		assert.ErrorContains(t, m.RegisterConsumer(t.Context(), c), "handler is nil")
	}
}

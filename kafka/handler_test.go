package kafka

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

func TestHandlersGetTheValuesOfTheStartContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		d := &fakeDriver{}
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		var got any
		var job string
		require.NoError(t, m.RegisterConsumer(t.Context(), &handlerFunc{testConfig(), func(ctx context.Context, _ []byte) error {
			got, job = ctx.Value(key{}), JobName(ctx)
			return nil
		}}))
		require.NoError(t, m.SetConsumerSwitch("job", true))
		require.NoError(t, m.StartAllConsumers(context.WithValue(context.Background(), key{}, "value")))
		synctest.Wait()
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		synctest.Wait()
		require.Equal(t, "value", got)
		require.Equal(t, "job", job)
		require.Empty(t, JobName(t.Context()), "a context that is no handler's")
	})
}

func TestMiddlewareWrapsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var calls []string
		mw := func(name string) Middleware {
			return func(next HandlerFunc) HandlerFunc {
				return func(ctx context.Context, ms []*Message) error {
					calls = append(calls, fmt.Sprintf("%s %d", name, ms[0].Offset))
					return next(ctx, ms)
				}
			}
		}
		start(t, d, testConfig(), func(context.Context, []byte) error {
			calls = append(calls, "handler")
			return nil
		}, WithMiddleware(mw("outer"), mw("inner")))
		c := d.consumer(t)
		c.deliver(c.assign(0, 0), 5, 5)
		synctest.Wait()
		require.Equal(t, []string{"outer 5", "inner 5", "handler"}, calls)
	})
}

func TestMessageCarriesTheWholeRecordAndItsAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		var kept []*Message
		m := New(d, quiet())
		t.Cleanup(func() { stop(t, m) })
		startOn(t, m, NewConsumer(testConfig(), func(_ context.Context, m *Message) error {
			kept = append(kept, m)
			if m.Attempt < 3 {
				return errHandler
			}
			return nil
		}))
		c := d.consumer(t)
		cl := c.assign(3, 0)
		when := time.UnixMilli(1_700_000_000_000)
		c.h.Deliver(cl, driver.Batch{Records: []driver.Record{{
			Offset: 9, Timestamp: when, Key: []byte("k"), Value: []byte("v"),
			Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}},
		}}})
		pass(10 * time.Second)
		require.Len(t, kept, 3)
		for i, m := range kept { // all kept, so none may have been changed since
			assert.Equal(t, Message{
				Topic: "orders", Partition: 3, Offset: 9, Timestamp: when,
				Key: []byte("k"), Value: []byte("v"), Attempt: i + 1,
				Headers: []Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("2")}},
			}, *m)
		}
	})
}

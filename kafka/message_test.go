package kafka

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// B6: a date that a record cannot hold is refused before the driver sees the
// message, each time, however it is sent; its neighbours are sent.
func TestFault_B6_DateBefore1970IsRefusedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		refused := func(err error, at time.Time) {
			t.Helper()
			var named *driver.Error
			require.ErrorAs(t, err, &named, "%v", at)
			assert.Equal(t, "INVALID_TIMESTAMP", named.Code)
			assert.ErrorIs(t, err, ErrPermanent)
			assert.ErrorContains(t, err, "message.Timestamp: ")
		}
		bad := []time.Time{
			time.UnixMilli(-1), time.Unix(0, -1), time.Unix(-1, 0), time.Date(1969, 7, 20, 20, 17, 0, 0, time.UTC),
			time.Time{}.Add(time.Nanosecond), time.Unix(math.MaxInt64/1000, 0), time.Unix(math.MinInt64, 0),
		}
		for _, at := range bad {
			refused(p.SendMessage(t.Context(), &ProducerMessage{Topic: "orders", Timestamp: at}), at)
			var async error
			p.SendMessageAsync(t.Context(), &ProducerMessage{Topic: "orders", Timestamp: at}, func(_ *ProducerMessage, err error) { async = err })
			synctest.Wait()
			refused(async, at)
			require.NoError(t, p.Send(t.Context(), "orders", nil, nil))
		}
		good := []time.Time{{}, time.Unix(0, 0), time.UnixMilli(1), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), time.Unix(math.MaxInt64/1000-1, 0)}
		for _, at := range good {
			assert.NoError(t, p.SendMessage(t.Context(), &ProducerMessage{Topic: "orders", Timestamp: at}), "%v", at)
		}
		assert.Len(t, f.sent, len(bad)+len(good))
	})
}

// B7: Kafka allows a header without a name, so a record that has one can be
// handed on as it is.
func TestFault_B7_HeaderWithoutAKeyIsHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := New(d, quiet())
		defer stop(t, m)
		cfg := both()
		cfg.BootstrapServers = "localhost:9092"
		p, err := m.RegisterProducer(t.Context(), cfg)
		require.NoError(t, err)
		startOn(t, m, NewConsumer(testConfig(), func(ctx context.Context, r *Message) error {
			err := p.SendMessage(ctx, &ProducerMessage{Topic: "results", Headers: r.Headers})
			p.SendMessageAsync(ctx, &ProducerMessage{Topic: "results", Headers: r.Headers}, nil)
			return errors.Join(err, p.Flush(ctx))
		}))
		c := d.consumer(t)
		claim := c.assign(0, 0)
		headers := []Header{{}, {Key: "a", Value: []byte("1")}, {Key: "", Value: []byte("2")}, {Key: "", Value: []byte{}}}
		c.h.Deliver(claim, driver.Batch{Records: []driver.Record{{Headers: headers}}})
		synctest.Wait()
		sent := d.producers[0].sent
		require.Len(t, sent, 2)
		assert.Equal(t, headers, sent[0].Headers)
		assert.Equal(t, headers, sent[1].Headers)
		assert.Equal(t, []int64{1}, c.committed(claim))
	})
}

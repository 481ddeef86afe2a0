package kafka

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// The status of a producer counts its sends until they have their outcome, also
// without a hook: sync and async ones, those that are refused, and those that fail.
func TestUnacknowledgedWithoutHooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		pending := func(messages, bytes int64) {
			t.Helper()
			synctest.Wait()
			want := ProducerStatus{ID: p.ID(), ClientID: f.cfg.ClientID, Unacknowledged: messages, UnacknowledgedBytes: bytes}
			assert.Equal(t, []ProducerStatus{want}, p.m.Producers())
		}
		failure := errors.New("no")
		for _, err := range []error{nil, failure} {
			f.hold = true
			ended := make(chan error, 1)
			go func() { ended <- p.Send(t.Context(), "orders", []byte("key"), []byte("value")) }()
			p.SendAsync(t.Context(), "orders", nil, []byte("four"), nil)
			p.SendMessageAsync(t.Context(), &ProducerMessage{Topic: "orders"}, func(*ProducerMessage, error) {})
			pending(3, 12)
			p.SendAsync(t.Context(), "no topic", nil, []byte("refused"), func(*ProducerMessage, error) {})
			p.SendMessageAsync(t.Context(), nil, func(*ProducerMessage, error) {})
			require.Error(t, p.Send(t.Context(), "no topic", nil, []byte("refused")))
			pending(3, 12)
			f.release(err)
			require.ErrorIs(t, <-ended, err)
			pending(0, 0)
			if err != nil {
				require.ErrorIs(t, p.Flush(t.Context()), err, "the message without a callback")
			}
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		f.hold = true
		require.ErrorIs(t, p.Send(ctx, "orders", nil, []byte("abandoned")), ErrUnknownOutcome)
		pending(0, 0)
	})
}

// The two sums of pending may wrap around.
func TestPendingWrapsAround(t *testing.T) {
	var p pending
	p.begun.Store(^uint64(0) - 2)
	p.ended.Store(^uint64(0) - 2)
	m := &driver.Message{Key: []byte("key"), Value: []byte("value")}
	n := p.begin(m)
	p.begin(&driver.Message{})
	messages, bytes := p.load()
	assert.Equal(t, [2]int64{2, 8}, [2]int64{messages, bytes})
	p.end(n)
	messages, bytes = p.load()
	assert.Equal(t, [2]int64{1, 0}, [2]int64{messages, bytes})
}

package kafka

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func newProducer(t *testing.T, cfg ProducerConfig) (*Producer, *fakeProducer) {
	t.Helper()
	d := &fakeDriver{}
	m := New(d, quiet())
	t.Cleanup(func() { stop(t, m) })
	cfg.BootstrapServers = "localhost:9092"
	p, err := m.RegisterProducer(t.Context(), cfg)
	require.NoError(t, err)
	return p, d.producers[0]
}

func both() ProducerConfig {
	return ProducerConfig{EnableSyncProducer: BoolPtr(true), EnableAsyncProducer: BoolPtr(true)}
}

func TestSendMessageFillsWhereTheRecordLies(t *testing.T) {
	p, f := newProducer(t, both())
	for want := range int64(3) {
		m := &ProducerMessage{Topic: "orders", Key: []byte("k"), Headers: []Header{{Key: "a"}, {Key: "a"}}, Offset: -7}
		require.NoError(t, p.SendMessage(t.Context(), m))
		require.Equal(t, int32(0), m.Partition)
		require.Equal(t, want, m.Offset)
	}
	require.Equal(t, []Header{{Key: "a"}, {Key: "a"}}, f.sent[0].Headers)
	require.Equal(t, []byte("k"), f.sent[0].Key)
	require.Equal(t, "producer-1", p.ID())
	require.Equal(t, defaultClientID(programPath(), "producer-1"), f.cfg.ClientID)
}

// B05, B10: every callback is called once, also for messages that are sent during
// and after Close.
func TestB05_EveryCallbackIsCalledOnceAcrossClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		var mu sync.Mutex
		calls, failed := map[int]int{}, 0
		send := func(i int) {
			p.SendAsync(context.Background(), "orders", nil, []byte("v"), func(_ *ProducerMessage, err error) {
				mu.Lock()
				defer mu.Unlock()
				calls[i]++
				if err != nil {
					failed++
					assert.ErrorIs(t, err, ErrClosed, "send %d", i)
				}
			})
		}
		var senders sync.WaitGroup
		for g := range 4 {
			senders.Go(func() {
				for i := range 500 {
					send(g*500 + i)
					if i == 250 && g == 0 {
						go p.Close()
					}
				}
			})
		}
		senders.Wait()
		require.NoError(t, p.Close())
		synctest.Wait()
		require.Len(t, calls, 2000, "callbacks that were called")
		require.Less(t, failed, 2000)
		for i, n := range calls {
			assert.Equal(t, 1, n, "calls of callback %d", i)
		}
		require.ErrorIs(t, p.Send(t.Context(), "orders", nil, nil), ErrClosed)
	})
}

// B11: a callback that panics, or ends its goroutine, stops no other.
func TestB11_BadCallbacksHarmNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		var called []int
		for i := range 5 {
			p.SendAsync(t.Context(), "orders", nil, nil, func(*ProducerMessage, error) {
				called = append(called, i)
				switch i {
				case 1:
					panic("boom")
				case 3:
					runtime.Goexit()
				}
			})
		}
		f.release(nil)
		require.NoError(t, p.Close())
		require.Equal(t, []int{0, 1, 2, 3, 4}, called)
	})
}

// B12, P7: a callback may send, with and without waiting, and close its producer.
func TestB12_CallbackMaySendAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		var sendErr, closeErr error
		done := make(chan struct{})
		p.SendAsync(t.Context(), "orders", nil, nil, func(*ProducerMessage, error) {
			sendErr = p.Send(context.Background(), "orders", nil, nil)
			p.SendAsync(context.Background(), "orders", nil, nil, func(*ProducerMessage, error) {
				closeErr = p.Close()
				close(done)
			})
		})
		<-done
		synctest.Wait()
		require.NoError(t, sendErr)
		require.NoError(t, closeErr)
		require.Len(t, f.sent, 3)
		require.NoError(t, p.Close())
	})
}

// B39: callbacks never run on the caller's goroutine: a caller that holds a
// lock which its callback takes does not wait for itself.
func TestB39_CallbackNeverRunsOnTheCallersGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newProducer(t, both())
		var mu sync.Mutex
		var errs []error
		callback := func(_ *ProducerMessage, err error) {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
		mu.Lock()
		p.SendAsync(testkit.Ended(), "orders", nil, nil, callback)
		p.SendAsync(t.Context(), "not a topic", nil, nil, callback)
		p.SendAsync(t.Context(), "orders", nil, nil, callback) // the fake acknowledges inside Produce
		mu.Unlock()
		synctest.Wait()
		require.Len(t, errs, 3)
		require.Same(t, context.Canceled, errs[0])
		require.Error(t, errs[1])
		require.NoError(t, errs[2])
	})
}

// B37: Send ends with its context, and distinguishes a message that was not sent
// from one that may have been.
func TestB37_SendEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := p.Send(ctx, "orders", nil, nil)
		require.Equal(t, time.Second, time.Since(began))
		require.ErrorIs(t, err, ErrUnknownOutcome)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		f.release(nil) // the late answer must not reach the next Send
		f.mu.Lock()
		f.hold, f.block = false, true
		f.mu.Unlock()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Equal(t, context.DeadlineExceeded, p.Send(ctx, "orders", nil, nil), "there is no buffer space: the context's error comes untouched")
	})
}

func TestSendReturnsTheBrokersError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		refused := &driver.Error{Code: "NOT_ENOUGH_REPLICAS", Err: errors.New("refused")}
		got := make(chan error, 1)
		go func() { got <- p.Send(t.Context(), "orders", nil, nil) }()
		synctest.Wait()
		f.release(refused)
		err := <-got
		require.ErrorIs(t, err, refused)
		require.NotErrorIs(t, err, ErrUnknownOutcome)
		require.EqualError(t, err, `kafka: send to "orders": NOT_ENOUGH_REPLICAS: refused`)
		var typed interface {
			error
			ErrorType() string
		}
		require.ErrorAs(t, err, &typed)
		require.Equal(t, "NOT_ENOUGH_REPLICAS", typed.ErrorType())
	})
}

func TestSendOfADisabledKindIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		async, _ := newProducer(t, ProducerConfig{EnableSyncProducer: BoolPtr(false), EnableAsyncProducer: BoolPtr(true)})
		require.ErrorIs(t, async.Send(t.Context(), "orders", nil, nil), ErrNotEnabled)
		onlySync, _ := newProducer(t, ProducerConfig{})
		var got error
		onlySync.SendAsync(t.Context(), "orders", nil, nil, func(_ *ProducerMessage, err error) { got = err })
		synctest.Wait()
		require.ErrorIs(t, got, ErrNotEnabled)
	})
}

func TestMessagesThatCannotBeSent(t *testing.T) {
	p, f := newProducer(t, ProducerConfig{MaxMessageBytes: 100})
	for _, tt := range []struct {
		m    *ProducerMessage
		code string // Kafka's name, as a broker would have said
		want string
	}{
		{nil, "", "message is nil"},
		{&ProducerMessage{}, "INVALID_TOPIC_EXCEPTION", "Topic"},
		{&ProducerMessage{Topic: "a b"}, "INVALID_TOPIC_EXCEPTION", "Topic"},
		{&ProducerMessage{Topic: "orders", ToPartition: new(int32(-5))}, "UNKNOWN_TOPIC_OR_PARTITION", "ToPartition: -5 is negative"},
		{&ProducerMessage{Topic: "orders", Timestamp: time.UnixMilli(-1)}, "INVALID_TIMESTAMP", "message.Timestamp: 1969-12-31"},
		{&ProducerMessage{Topic: "orders", Value: make([]byte, 101)}, "MESSAGE_TOO_LARGE", "101 bytes is larger than MaxMessageBytes (100)"},
	} {
		err := p.SendMessage(t.Context(), tt.m)
		assert.ErrorContains(t, err, tt.want, "send %+v", tt.m)
		named, _ := errors.AsType[*driver.Error](err)
		if tt.code == "" {
			assert.Nil(t, named, "send %+v", tt.m)
		} else if assert.NotNil(t, named, "send %+v", tt.m) {
			assert.Equal(t, tt.code, named.ErrorType())
			assert.ErrorIs(t, err, ErrPermanent)
		}
	}
	require.ErrorContains(t, p.Send(noContext(), "orders", nil, nil), "ctx is nil")
	require.Empty(t, f.sent, "messages that reached the driver")
}

// B19: registering beside a shutdown gives an error or a producer that is closed
// in order.
func TestB19_RegisteringBesideShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 50 {
			d := &fakeDriver{}
			m := New(d, quiet())
			var opened atomic.Int32
			var registering sync.WaitGroup
			for range 4 {
				registering.Go(func() {
					p, err := m.RegisterProducer(t.Context(), ProducerConfig{BootstrapServers: "localhost:9092"})
					if err == nil {
						opened.Add(1)
						assert.NotNil(t, p)
					} else {
						assert.ErrorIs(t, err, ErrClosed)
					}
				})
			}
			m.WaitStop()
			registering.Wait()
			m.WaitStop()
			closed := 0
			for _, p := range d.producers {
				if p.closed {
					closed++
				}
			}
			require.Equal(t, len(d.producers), closed, "producers that are closed of those that were opened")
			require.Equal(t, int(opened.Load()), closed, "producers that are closed of those that were registered")
		}
	})
}

func TestRegisterProducerWithoutDriver(t *testing.T) {
	_, err := New(nil).RegisterProducer(t.Context(), ProducerConfig{BootstrapServers: "localhost:9092"})
	require.ErrorIs(t, err, ErrNoDriver)
	require.ErrorContains(t, err, "SetDefault")
}

func TestFlushWaitsForAcceptedMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		called := 0
		for range 3 {
			p.SendAsync(t.Context(), "orders", nil, nil, func(*ProducerMessage, error) { called++ })
		}
		require.NoError(t, p.Flush(t.Context()))
		synctest.Wait()
		require.Equal(t, 3, called, "callbacks after Flush")
		require.NoError(t, p.Close())
		require.ErrorIs(t, p.Flush(t.Context()), ErrClosed)
	})
}

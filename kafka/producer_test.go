package kafka

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func newProducer(t *testing.T, cfg ProducerConfig) (*Producer, *fakeProducer) {
	t.Helper()
	d := &fakeDriver{}
	m := New(d, quiet())
	t.Cleanup(func() { stop(t, m) })
	cfg.BootstrapServers = "localhost:9092"
	p, err := m.RegisterProducer(t.Context(), cfg)
	must(t, err)
	return p, d.producers[0]
}

func both() ProducerConfig {
	return ProducerConfig{EnableSyncProducer: BoolPtr(true), EnableAsyncProducer: BoolPtr(true)}
}

func TestSendMessageFillsWhereTheRecordLies(t *testing.T) {
	p, f := newProducer(t, both())
	for want := range int64(3) {
		m := &ProducerMessage{Topic: "orders", Key: []byte("k"), Headers: []Header{{Key: "a"}, {Key: "a"}}, Offset: -7}
		must(t, p.SendMessage(t.Context(), m))
		if m.Partition != 0 || m.Offset != want {
			t.Errorf("sent to %d/%d, want 0/%d", m.Partition, m.Offset, want)
		}
	}
	if got := f.sent[0]; len(got.Headers) != 2 || string(got.Key) != "k" {
		t.Errorf("the driver got %+v", got)
	}
	if f.cfg.ClientID != p.ID() || p.ID() == "" {
		t.Errorf("ID %q, client ID %q", p.ID(), f.cfg.ClientID)
	}
}

// B05, B10: every callback is called once, also for what is sent during and
// after Close.
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
					if !errors.Is(err, ErrClosed) {
						t.Errorf("send %d: %v", i, err)
					}
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
		must(t, p.Close())
		synctest.Wait()
		if len(calls) != 2000 || failed == 2000 {
			t.Errorf("%d of 2000 callbacks called, %d failed", len(calls), failed)
		}
		for i, n := range calls {
			if n != 1 {
				t.Errorf("callback %d called %d times", i, n)
			}
		}
		if err := p.Send(t.Context(), "orders", nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("Send after Close: %v, want ErrClosed", err)
		}
	})
}

// B11: a callback that panics, or ends its goroutine, harms no other.
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
		must(t, p.Close())
		if want := []int{0, 1, 2, 3, 4}; !slices.Equal(called, want) {
			t.Errorf("called %v, want %v", called, want)
		}
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
		if sendErr != nil || closeErr != nil || len(f.sent) != 3 {
			t.Errorf("send: %v, close: %v, %d sent; want nil, nil, 3", sendErr, closeErr, len(f.sent))
		}
		must(t, p.Close())
	})
}

// B39: callbacks never run on the caller's goroutine: a caller that holds a
// lock which its callback takes does not wait for itself.
func TestB39_CallbackNeverRunsOnTheCallersGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := newProducer(t, both())
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		var mu sync.Mutex
		var errs []error
		callback := func(_ *ProducerMessage, err error) {
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		}
		mu.Lock()
		p.SendAsync(ended, "orders", nil, nil, callback)
		p.SendAsync(t.Context(), "not a topic", nil, nil, callback)
		p.SendAsync(t.Context(), "orders", nil, nil, callback) // the fake acknowledges inside Produce
		mu.Unlock()
		synctest.Wait()
		if len(errs) != 3 || errs[0] != context.Canceled || errs[1] == nil || errs[2] != nil {
			t.Errorf("callbacks got %v, want context canceled, an error, nil", errs)
		}
	})
}

// B37: Send ends with its context, and tells what was not sent from what may
// have been.
func TestB37_SendEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := p.Send(ctx, "orders", nil, nil)
		if took := time.Since(began); took != time.Second || !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no answer: %v after %v, want an unknown outcome after 1s", err, took)
		}
		f.release(nil) // the late answer must find nobody, not the next Send
		f.mu.Lock()
		f.hold, f.block = false, true
		f.mu.Unlock()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Send(ctx, "orders", nil, nil); err != context.DeadlineExceeded {
			t.Errorf("no buffer space: %v, want the context's error untouched", err)
		}
	})
}

func TestSendErrorsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		refused := &driver.Error{Code: "NOT_ENOUGH_REPLICAS", Err: errors.New("refused")}
		got := make(chan error, 1)
		go func() { got <- p.Send(t.Context(), "orders", nil, nil) }()
		synctest.Wait()
		f.release(refused)
		err := <-got
		var typed interface{ ErrorType() string }
		if !errors.As(err, &typed) || typed.ErrorType() != "NOT_ENOUGH_REPLICAS" || errors.Is(err, ErrUnknownOutcome) ||
			!strings.HasPrefix(err.Error(), `kafka: send to "orders": NOT_ENOUGH_REPLICAS`) {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatIsNotEnabledIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		async, _ := newProducer(t, ProducerConfig{EnableSyncProducer: BoolPtr(false), EnableAsyncProducer: BoolPtr(true)})
		if err := async.Send(t.Context(), "orders", nil, nil); !errors.Is(err, ErrNotEnabled) {
			t.Errorf("Send: %v, want ErrNotEnabled", err)
		}
		onlySync, _ := newProducer(t, ProducerConfig{})
		var got error
		onlySync.SendAsync(t.Context(), "orders", nil, nil, func(_ *ProducerMessage, err error) { got = err })
		synctest.Wait()
		if !errors.Is(got, ErrNotEnabled) {
			t.Errorf("SendAsync: %v, want ErrNotEnabled", got)
		}
	})
}

func TestWhatCannotBeSent(t *testing.T) {
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
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("send %+v: %v, want an error with %q", tt.m, err, tt.want)
		}
		if named, ok := errors.AsType[*driver.Error](err); ok != (tt.code != "") || ok && (named.ErrorType() != tt.code || !errors.Is(err, ErrPermanent)) {
			t.Errorf("send %+v: %v, want code %q and ErrPermanent", tt.m, err, tt.code)
		}
	}
	if err := p.Send(noContext(), "orders", nil, nil); err == nil || !strings.Contains(err.Error(), "ctx is nil") {
		t.Errorf("nil ctx: %v", err)
	}
	if len(f.sent) != 0 {
		t.Errorf("%d messages reached the driver", len(f.sent))
	}
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
					switch {
					case err == nil:
						opened.Add(1)
						if p == nil {
							t.Error("no producer and no error")
						}
					case !errors.Is(err, ErrClosed):
						t.Error(err)
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
			if closed != len(d.producers) || closed != int(opened.Load()) {
				t.Fatalf("%d opened, %d registered, %d closed", len(d.producers), opened.Load(), closed)
			}
		}
	})
}

func TestRegisterProducerWithoutDriver(t *testing.T) {
	_, err := New(nil).RegisterProducer(t.Context(), ProducerConfig{BootstrapServers: "localhost:9092"})
	if !errors.Is(err, ErrNoDriver) || !strings.Contains(err.Error(), "SetDefault") {
		t.Errorf("%v, want ErrNoDriver, which says what to call", err)
	}
}

func TestFlushWaitsForWhatWasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, f := newProducer(t, both())
		f.hold = true
		called := 0
		for range 3 {
			p.SendAsync(t.Context(), "orders", nil, nil, func(*ProducerMessage, error) { called++ })
		}
		must(t, p.Flush(t.Context()))
		synctest.Wait()
		if called != 3 {
			t.Errorf("%d callbacks after Flush, want 3", called)
		}
		must(t, p.Close())
		if err := p.Flush(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Flush after Close: %v, want ErrClosed", err)
		}
	})
}

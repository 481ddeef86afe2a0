package kafka

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// An insider is a hook that makes a call where the test wants it, once.
type insider struct {
	NopHook

	mu   sync.Mutex
	at   func(what any) bool // an Event, an OpKind at its start, or endOf one
	call func()
}

type endOf OpKind

func (h *insider) try(what any) {
	h.mu.Lock()
	call := h.call
	if h.at != nil && h.at(what) {
		h.at = nil
	} else {
		call = nil
	}
	h.mu.Unlock()
	if call != nil {
		call()
	}
}

func (h *insider) set(at func(any) bool, call func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at, h.call = at, call
}

func (h *insider) Event(e Event) { h.try(e) }

func (h *insider) Start(ctx context.Context, op *Op) (context.Context, OpToken) {
	h.try(op.Kind)
	return ctx, op.Kind
}

func (h *insider) End(_ OpToken, op *Op) { h.try(endOf(op.Kind)) }

func (h *insider) Attach(View) func() { return func() { h.try("detach") } }

// is returns a place that is equal to want.
func is(want any) func(any) bool { return func(what any) bool { return what == want } }

// isA returns a place that is an event of a type.
func isA[E Event]() func(any) bool {
	return func(what any) bool { _, ok := what.(E); return ok }
}

// An inside is one place from which a call would wait for itself.
type inside struct {
	name string
	hook func(any) bool                         // the place, if it is a hook
	run  func(t *testing.T, w *house, f func()) // else: calls f there
}

// A house is a manager with a consumer and a producer, for calls from inside.
type house struct {
	d      *fakeDriver
	m      *Manager
	p      *Producer
	hook   *insider
	lines  *logLines
	handle func()
}

func newHouse(t *testing.T) *house {
	w := &house{d: &fakeDriver{}, hook: &insider{}, lines: &logLines{}, handle: func() {}}
	w.m = New(w.d, WithLogger(slog.New(w.lines)), WithHook(w.hook))
	cfg := both()
	cfg.BootstrapServers = "localhost:9092"
	var err error
	w.p, err = w.m.RegisterProducer(t.Context(), cfg)
	require.NoError(t, err)
	startOn(t, w.m, &handlerFunc{testConfig(), func(context.Context, []byte) error { w.handle(); return nil }})
	return w
}

// live makes everything happen that hooks are called for: records, commits and
// sends.
func (w *house) live(t *testing.T) {
	c := w.d.consumer(t)
	cl := c.assign(0, 0)
	c.deliver(cl, 0, 0)
	w.p.SendAsync(t.Context(), "orders", nil, nil, func(*ProducerMessage, error) { panic("for an event") })
	w.p.SendAsync(t.Context(), "", nil, nil, nil)
	pass(time.Minute)
}

func insides() []inside {
	inHandler := func(t *testing.T, w *house, f func()) {
		w.handle = f
		w.live(t)
	}
	return []inside{
		{name: "handler", run: inHandler},
		{name: "handler that panics afterwards", run: func(t *testing.T, w *house, f func()) {
			inHandler(t, w, func() { w.handle = func() {}; defer panic("later"); f() })
		}},
		{name: "handler that exits afterwards", run: func(t *testing.T, w *house, f func()) {
			inHandler(t, w, func() { w.handle = func() {}; defer f(); runtime.Goexit() })
		}},
		{name: "handler after one that exited", run: func(t *testing.T, w *house, f func()) {
			inHandler(t, w, func() { w.handle = f; runtime.Goexit() })
		}},
		{name: "deep in a handler", run: func(t *testing.T, w *house, f func()) { inHandler(t, w, func() { deep(300, f) }) }},
		{name: "callback", run: func(t *testing.T, w *house, f func()) {
			w.p.SendAsync(t.Context(), "orders", nil, nil, func(*ProducerMessage, error) { f() })
			synctest.Wait()
		}},
		{name: "hook: StateChanged", hook: isA[StateChanged]()},
		{name: "hook: PartitionsAssigned", hook: isA[PartitionsAssigned]()},
		{name: "hook: CallbackPanicked", hook: isA[CallbackPanicked]()},
		{name: "hook: SendFailed", hook: isA[SendFailed]()},
		{name: "hook: start of receive", hook: is(OpReceive)},
		{name: "hook: start of process", hook: is(OpProcess)},
		{name: "hook: end of process", hook: is(endOf(OpProcess))},
		{name: "hook: end of commit", hook: is(endOf(OpCommit))},
		{name: "hook: start of send", hook: is(OpSend)},
		{name: "hook: end of send", hook: is(endOf(OpSend))},
	}
}

func deep(n int, f func()) {
	if n > 0 {
		deep(n-1, f)
		return
	}
	f()
}

// from makes call from there, on a manager that lives.
func (i inside) from(t *testing.T, w *house, call func()) {
	if i.run != nil {
		i.run(t, w, call)
		return
	}
	w.hook.set(i.hook, call)
	w.live(t)
	if i.name == "hook: StateChanged" {
		require.NoError(t, w.m.SetConsumerSwitch("job", false))
		synctest.Wait()
	}
}

// E6: a shutdown without a deadline that its own handler, callback or hook begins
// would wait for itself. It begins, is answered at once, and ends by itself.
func TestFault_E6_ShutdownFromInside(t *testing.T) {
	for _, place := range insides() {
		t.Run(place.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHouse(t)
				var answers []error
				place.from(t, w, func() {
					began := time.Now()
					answers = append(answers, w.m.Shutdown(context.Background()))
					assert.Zero(t, time.Since(began))
				})
				synctest.Wait()
				require.Len(t, answers, 1)
				require.ErrorIs(t, answers[0], ErrInside)
				assert.ErrorContains(t, answers[0], "it has begun")
				assert.True(t, isClosed(w.m.stopped), "the shutdown has not ended: %v", w.m.running())
			})
		})
	}
}

// E6: WaitStop from inside does not wait for the signal either, and logs that.
func TestFault_E6_WaitStopFromInside(t *testing.T) {
	for _, place := range insides() {
		t.Run(place.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHouse(t)
				calls := 0
				place.from(t, w, func() { w.m.WaitStop(); calls++ })
				synctest.Wait()
				require.Equal(t, 1, calls)
				assert.Equal(t, 1, w.lines.count("WaitStop inside a"))
				assert.False(t, isClosed(w.m.stopping))
				end(w.m)
			})
		})
	}
}

// end shuts down a manager whose producer has lost a message on purpose.
func end(m *Manager) { _ = m.Shutdown(context.Background()) }

// Like E6: calls that need not wait end and do their work, from every place.
func TestFault_E6_OtherCallsFromInside(t *testing.T) {
	calls := []struct {
		name string
		call func(w *house) error
		hook error // the answer inside a hook
	}{
		{"SetConsumerSwitch", func(w *house) error { return w.m.SetConsumerSwitch("job", false) }, nil},
		{"Consumers", func(w *house) error { w.m.Consumers(); return nil }, nil},
		{"Flush", func(w *house) error { return ignoreLoss(w.p.Flush(context.Background())) }, ErrInside},
		{"Close", func(w *house) error { return ignoreLoss(w.p.Close()) }, ErrInside},
	}
	for _, tt := range calls {
		for _, place := range insides() {
			t.Run(tt.name+" in "+place.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w := newHouse(t)
					var answers []error
					began := time.Now()
					place.from(t, w, func() {
						answers = append(answers, tt.call(w))
						assert.Less(t, time.Since(began), 2*time.Minute)
					})
					synctest.Wait()
					require.NotEmpty(t, answers)
					want := tt.hook
					if place.hook == nil || tt.name == "Close" && place.name == "hook: CallbackPanicked" {
						want = nil // a callback that closes its producer is answered with nil
					}
					assert.Equal(t, want != nil, answers[0] != nil, "%v", answers[0])
					assert.ErrorIs(t, answers[0], want)
					end(w.m)
				})
			})
		}
	}
}

// ignoreLoss leaves out the message that live sends without a topic.
func ignoreLoss(err error) error {
	if _, lost := errors.AsType[*LostError](err); lost {
		return nil
	}
	return err
}

// E6: the shutdown that a handler has begun is bounded: by its context's deadline
// or by the shutdown timeout. ShutdownEnded has what was given up.
func TestFault_E6_ShutdownFromInsideIsBounded(t *testing.T) {
	for _, limit := range []time.Duration{0, 3 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			w := newHouse(t)
			var ended error
			w.hook.set(func(what any) bool {
				e, ok := what.(ShutdownEnded)
				if ok {
					ended = e.Err
				}
				return false
			}, nil)
			release := make(chan struct{})
			c := w.d.consumer(t)
			w.handle = func() {
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				if limit > 0 {
					ctx, cancel = context.WithTimeout(ctx, limit)
				}
				defer cancel()
				assert.ErrorIs(t, w.m.Shutdown(ctx), ErrInside)
				<-release
			}
			c.deliver(c.assign(0, 0), 0, 0)
			want := limit
			if want == 0 {
				want = 25 * time.Second
			}
			pass(want - time.Millisecond)
			w.m.mu.Lock()
			gaveUp := w.m.gaveUp
			w.m.mu.Unlock()
			assert.Nil(t, gaveUp)
			pass(time.Millisecond)
			close(release)
			synctest.Wait()
			require.True(t, isClosed(w.m.stopped))
			var stopped *StopError
			require.ErrorAs(t, ended, &stopped)
			assert.Equal(t, []string{`consumer "job": handler of orders/0 at offset 0`}, stopped.Running)
		})
	}
}

// E6: the last hooks of a shutdown are called on its own goroutine.
func TestFault_E6_ShutdownInItsOwnLastHooks(t *testing.T) {
	for name, at := range map[string]func(any) bool{"ShutdownEnded": isA[ShutdownEnded](), "detach": is("detach")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newHouse(t)
				var answer error
				w.hook.set(at, func() { answer = w.m.Shutdown(context.Background()) })
				require.NoError(t, w.m.Shutdown(context.Background()))
				assert.ErrorIs(t, answer, ErrInside)
			})
		})
	}
}

// A handler may shut down another manager and wait for it, and a goroutine that
// it starts may shut down its own.
func TestFault_E6_OnlyWhatWouldWaitForItselfIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := newHouse(t), newHouse(t)
		var otherAnswer, ownAnswer error
		done := make(chan struct{})
		w.handle = func() {
			otherAnswer = other.m.Shutdown(context.Background())
			go func() {
				defer close(done)
				ownAnswer = w.m.Shutdown(context.Background())
			}()
		}
		c := w.d.consumer(t)
		c.deliver(c.assign(0, 0), 0, 0)
		<-done
		assert.NoError(t, otherAnswer)
		assert.NoError(t, ownAnswer)
	})
}

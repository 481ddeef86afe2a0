package kafka

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A watcher is a hook that keeps each operation as it was at its end, and fails
// the test when one ends twice.
type watcher struct {
	NopHook
	t      testing.TB
	header string // to be set on what is sent
	panics bool

	mu       sync.Mutex
	started  map[OpKind]int
	ended    []Op
	log      *[]string // shared by the hooks of a manager
	name     string
	attached []View
	detached int
}

type watchToken struct{ ended bool }

type watchKey struct{ w *watcher }

func (w *watcher) Start(ctx context.Context, op *Op) (context.Context, OpToken) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.panics {
		panic("hook")
	}
	if w.started == nil {
		w.started = map[OpKind]int{}
	}
	w.started[op.Kind]++
	if w.log != nil {
		*w.log = append(*w.log, "start "+w.name)
	}
	if op.Kind == OpSend && w.header != "" {
		op.SetHeader("trace", w.header)
	}
	return context.WithValue(ctx, watchKey{w}, op.Kind), &watchToken{}
}

func (w *watcher) End(t OpToken, op *Op) {
	w.mu.Lock()
	defer w.mu.Unlock()
	token := t.(*watchToken)
	assert.False(w.t, token.ended, "%v ended twice", op.Kind)
	token.ended = true
	if w.log != nil {
		*w.log = append(*w.log, "end "+w.name)
	}
	kept := *op
	kept.Records = slices.Clone(op.Records)
	kept.Marks = slices.Clone(op.Marks)
	kept.headers = slices.Clone(op.Headers())
	w.ended = append(w.ended, kept)
}

func (w *watcher) Attach(v View) func() {
	w.attached = append(w.attached, v)
	return func() { w.detached++ }
}

// of returns the operations of a kind that have ended.
func (w *watcher) of(kind OpKind) []Op {
	w.mu.Lock()
	defer w.mu.Unlock()
	var ops []Op
	for _, o := range w.ended {
		if o.Kind == kind {
			ops = append(ops, o)
		}
	}
	return ops
}

// allEnded fails the test if an operation is still open.
func (w *watcher) allEnded() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := map[OpKind]int{}
	for _, o := range w.ended {
		ended[o.Kind]++
	}
	assert.Equal(w.t, w.started, ended, "operations started and ended")
}

func watchedProducer(t *testing.T, hooks ...Hook) (*Producer, *fakeProducer, *Manager) {
	d := &fakeDriver{}
	m := New(d, quiet(), WithHook(hooks...))
	t.Cleanup(func() { stop(t, m) })
	cfg := both()
	cfg.BootstrapServers = "localhost:9092"
	p, err := m.RegisterProducer(t.Context(), cfg)
	require.NoError(t, err)
	return p, d.producers[0], m
}

// A send is one operation, whether it succeeds or fails, and an async one ends with
// its acknowledgement.
func TestEverySendIsOneOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{t: t}
		p, f, _ := watchedProducer(t, w)
		refused := &driver.Error{Code: "NOT_ENOUGH_REPLICAS"}
		brief := func() context.Context { return testkit.Within(t, time.Second) }
		type outcome struct {
			sent      bool
			partition int32
			offset    int64
			errorType string
		}
		both := func(what string, ctx func() context.Context, prepare, finish func(), want outcome) {
			for _, async := range []bool{false, true} {
				before := len(w.of(OpSend))
				prepare()
				called := false
				sent := make(chan struct{})
				go func() {
					defer close(sent)
					if !async {
						p.Send(ctx(), "orders", []byte("k"), []byte("v"))
						return
					}
					p.SendAsync(ctx(), "orders", []byte("k"), []byte("v"), func(*ProducerMessage, error) {
						called = len(w.of(OpSend)) == before+1
					})
				}()
				synctest.Wait()
				finish()
				<-sent
				synctest.Wait()
				ops := w.of(OpSend)[before:]
				require.Len(t, ops, 1, "%s, async %v", what, async)
				if async {
					require.True(t, called, "%s: the callback ran before the operation had ended", what)
				}
				o := ops[0]
				got := outcome{o.Sent, o.Partition, o.Offset, ""}
				if typed, ok := errors.AsType[interface {
					error
					ErrorType() string
				}](o.Err); ok {
					got.errorType = typed.ErrorType()
				} else if o.Err != nil {
					got.errorType = "some"
				}
				require.Equal(t, want, got, "%s, async %v", what, async)
			}
		}
		nothing := func() {}
		both("success", t.Context, func() { f.sent = nil }, nothing, outcome{true, 0, 0, ""})
		both("refusal", t.Context, func() { f.hold = true }, func() { f.release(refused) }, outcome{true, -1, -1, "NOT_ENOUGH_REPLICAS"})
		both("cancelled before", testkit.Ended, nothing, nothing, outcome{false, -1, -1, "some"})
		both("no buffer space", brief, func() { f.block = true }, func() { time.Sleep(2 * time.Second) }, outcome{false, -1, -1, "buffer_full"})
		f.block, f.hold = false, false
		require.NoError(t, p.Close())
		both("closed", t.Context, nothing, nothing, outcome{false, -1, -1, "some"})
		w.allEnded()
	})
}

// A sync send whose context ends is over for its hooks, and a late answer changes
// nothing. Operations that are pending at Close end with it.
func TestAbandonedAndPendingSendsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{t: t, header: "x"}
		p, f, m := watchedProducer(t, w)
		f.hold = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, p.Send(ctx, "orders", nil, []byte("four")), ErrUnknownOutcome)
		o := w.of(OpSend)[0]
		require.ErrorIs(t, o.Err, ErrUnknownOutcome)
		require.True(t, o.Sent)
		require.Equal(t, int64(-1), o.Offset)
		abandoned := f.pending[0]
		for range 10 {
			p.SendAsync(t.Context(), "orders", nil, []byte("four"), nil)
		}
		require.Equal(t, []ProducerStatus{{ID: p.ID(), ClientID: f.cfg.ClientID, Unacknowledged: 10, UnacknowledgedBytes: 40}}, View{m}.Producers())
		require.Equal(t, []Header{{Key: "trace", Value: []byte("x")}}, abandoned.Headers, "those of an abandoned message do not change")
		require.NoError(t, p.Close())
		require.Len(t, w.of(OpSend), 11)
		w.allEnded()
		require.Equal(t, ProducerStatus{ID: p.ID(), ClientID: f.cfg.ClientID}, p.snapshot())
	})
}

// Hooks nest, their headers reach the driver, and the user's slice of headers
// is never written, though it has room.
func TestHooksNestAndHeadersAreTheOperations(t *testing.T) {
	var log []string
	outer, inner := &watcher{t: t, log: &log, name: "outer", header: "o"}, &watcher{t: t, log: &log, name: "inner"}
	p, f, _ := watchedProducer(t, outer, inner)
	shared := make([]Header, 1, 8)
	shared[0] = Header{Key: "app", Value: []byte("1")}
	for i := range 3 {
		outer.header = fmt.Sprint("value ", i)
		require.NoError(t, p.SendMessage(t.Context(), &ProducerMessage{Topic: "orders", Headers: shared}))
		got := outer.of(OpSend)[i].headers
		require.Equal(t, []Header{{Key: "app", Value: []byte("1")}, {Key: "trace", Value: []byte(outer.header)}}, got, "message %d", i)
	}
	require.Zero(t, shared[:2][1], "the room in the user's slice was written")
	require.Len(t, f.sent[0].Headers, 2)
	require.Equal(t, []string{"start outer", "start inner", "end inner", "end outer"}, log[:4])
}

func TestSetAndDeleteHeaders(t *testing.T) {
	user := []Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("2")}}
	o := &Op{Kind: OpSend, Records: []Record{{Headers: user}}}
	o.SetHeader("a", "3")
	long := strings.Repeat("x", 1000)
	o.SetHeader("c", long)
	copy(o.SetHeaderSize("d", 1), "4")
	require.Equal(t, []Header{{Key: "b"}, {Key: "a", Value: []byte("3")}, {Key: "c", Value: []byte(long)}, {Key: "d", Value: []byte("4")}}, o.Headers())
	for _, key := range []string{"a", "b", "c", "d"} {
		o.DeleteHeader(key)
	}
	require.Empty(t, o.Headers())
	require.Equal(t, []Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("2")}}, user, "the user's headers do not change")
}

func TestOriginReachesTheHook(t *testing.T) {
	w := &watcher{t: t}
	p, _, _ := watchedProducer(t, w)
	m := &Message{Topic: "orders", Offset: 7}
	require.NoError(t, p.Send(WithOrigin(t.Context(), m), "orders.dlq", nil, nil))
	require.NoError(t, p.Send(t.Context(), "orders", nil, nil))
	ops := w.of(OpSend)
	require.Len(t, ops, 2)
	require.Same(t, m, ops[0].Origin)
	require.Nil(t, ops[1].Origin)
}

// A hook that panics changes nothing for the operation and for other hooks.
func TestPanickingHookLosesNothing(t *testing.T) {
	bad, good := &watcher{t: t, panics: true}, &watcher{t: t, header: "x"}
	p, f, _ := watchedProducer(t, bad, good)
	require.NoError(t, p.Send(t.Context(), "orders", nil, nil))
	require.Len(t, good.of(OpSend), 1)
	require.Len(t, f.sent[0].Headers, 1)
}

func TestHooksAreAttachedAndDetached(t *testing.T) {
	w := &watcher{t: t}
	m := New(&fakeDriver{}, quiet(), WithHook(nil, w))
	require.Len(t, w.attached, 1)
	require.Zero(t, w.detached)
	stop(t, m)
	require.Equal(t, 1, w.detached)
}

// A hook that panics as it comes or goes keeps no manager from starting or ending.
type rudeHook struct {
	NopHook
	onAttach bool
}

func (h rudeHook) Attach(View) func() {
	if h.onAttach {
		panic("attach")
	}
	return func() { panic("detach") }
}

func TestHookThatPanicsAsItComesOrGoes(t *testing.T) {
	for _, onAttach := range []bool{true, false} {
		w := &watcher{t: t}
		m := New(&fakeDriver{}, quiet(), WithHook(rudeHook{onAttach: onAttach}, w))
		stop(t, m)
		require.Len(t, w.attached, 1, "the other hook")
		require.Equal(t, 1, w.detached, "the other hook")
	}
}

// A delivery is one operation with an attempt for each call of the handler,
// for every kind of consumer and of failure.
func TestADeliveryIsOneOperation(t *testing.T) {
	for _, kind := range []string{"value", "message", "batch"} {
		for what, fail := range map[string]func() error{
			"error":  func() error { return errors.New("no") },
			"panic":  func() error { panic("no") },
			"goexit": func() error { runtime.Goexit(); return nil },
		} {
			synctest.Test(t, func(t *testing.T) {
				w := &watcher{t: t}
				d, left := &fakeDriver{}, 2
				m := startKind(t, d, kind, func(v []byte) error {
					if string(v) == "1" && left > 0 {
						left--
						return fail()
					}
					return nil
				}, WithHook(w))
				c := d.consumer(t)
				c.deliver(c.assign(0, 0), 0, 2)
				pass(10 * time.Second)
				stop(t, m)

				process, attempts := w.of(OpProcess), w.of(OpAttempt)
				wantAttempts := []int{1, 1, 2, 3, 1}
				if kind == "batch" {
					process = w.of(OpProcessBatch)
					wantAttempts = []int{1, 2, 3}
				}
				var got []int
				failed := 0
				for _, a := range attempts {
					got = append(got, a.Attempt)
					if a.Err != nil {
						failed++
						assert.Equal(t, OutcomeFailed, a.Outcome)
					}
				}
				assert.Equal(t, wantAttempts, got, "%s, %s", kind, what)
				assert.Equal(t, 2, failed, "%s, %s", kind, what)
				records, most := 0, 0
				for _, o := range process {
					assert.NoError(t, o.Err, "%s, %s", kind, what)
					assert.Equal(t, OutcomeDone, o.Outcome, "%s, %s", kind, what)
					records += len(o.Records)
					most = max(most, o.Attempt)
				}
				assert.Equal(t, 3, records, "%s, %s", kind, what)
				assert.Equal(t, 3, most, "%s, %s: attempts at one record", kind, what)
				w.allEnded()
			})
		}
	}
}

// A delivery that is left: revoked, lost, switched off, shut down, disabled.
func TestADeliveryThatIsLeft(t *testing.T) {
	obey := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fails := func(context.Context) error { return errors.New("no") }
	for _, test := range []struct {
		name    string
		handle  func(context.Context) error
		act     func(*testing.T, *Manager, *fakeConsumer, *driver.Claim)
		outcome Outcome
	}{
		{"revoked while handling", obey, func(_ *testing.T, _ *Manager, c *fakeConsumer, cl *driver.Claim) { c.revoke(cl) }, OutcomeInterrupted},
		{"lost while handling", obey, func(_ *testing.T, _ *Manager, c *fakeConsumer, cl *driver.Claim) { c.lose(cl) }, OutcomeInterrupted},
		{"switched off while handling", obey, func(t *testing.T, m *Manager, _ *fakeConsumer, _ *driver.Claim) {
			require.NoError(t, m.SetConsumerSwitch(testConfig().JobName, false))
		}, OutcomeInterrupted},
		{"shut down while handling", obey, func(t *testing.T, m *Manager, _ *fakeConsumer, _ *driver.Claim) { stop(t, m) }, OutcomeInterrupted},
		{"revoked while backing off", fails, func(_ *testing.T, _ *Manager, c *fakeConsumer, cl *driver.Claim) { c.revoke(cl) }, OutcomeFailed},
		{"disabled", fails, func(*testing.T, *Manager, *fakeConsumer, *driver.Claim) { pass(20 * time.Minute) }, OutcomeFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &watcher{t: t}
				d := &fakeDriver{}
				m := start(t, d, testConfig(), func(ctx context.Context, _ []byte) error { return test.handle(ctx) }, WithHook(w))
				c := d.consumer(t)
				cl := c.assign(0, 0)
				c.deliver(cl, 0, 9) // nine of which are never handed out
				pass(time.Millisecond)
				test.act(t, m, c, cl)
				synctest.Wait()
				stop(t, m)
				ops := w.of(OpProcess)
				require.Len(t, ops, 1)
				require.Equal(t, test.outcome, ops[0].Outcome)
				require.Equal(t, test.outcome == OutcomeFailed, ops[0].Err != nil, "error %v", ops[0].Err)
				w.allEnded()
			})
		})
	}
}

// The handler's context is the one that the hooks have returned, and still ends with
// the partition.
func TestHandlersGetTheHooksContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{t: t}
		d := &fakeDriver{}
		var got any
		var cause error
		start(t, d, testConfig(), func(ctx context.Context, _ []byte) error {
			got = ctx.Value(watchKey{w})
			<-ctx.Done()
			cause = context.Cause(ctx)
			return cause
		}, WithHook(w))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.deliver(cl, 0, 0)
		pass(time.Millisecond)
		c.revoke(cl)
		require.Equal(t, OpAttempt, got)
		require.Same(t, ErrRevoked, cause)
	})
}

// An OpCommit carries its marks and says whether a caller waits for it; an OpReceive
// carries the records that came.
func TestCommitsAndReceivesAreOperations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{t: t}
		d := &fakeDriver{}
		m := start(t, d, testConfig(), func(context.Context, []byte) error { return nil }, WithHook(w))
		c := d.consumer(t)
		a, b := c.assign(0, 0), c.assign(1, 0)
		c.deliver(a, 0, 2)
		pass(5 * time.Second)
		c.deliver(a, 3, 3)
		c.deliver(b, 0, 0)
		synctest.Wait()
		c.revoke(a)
		stop(t, m)
		w.allEnded()
		commits := w.of(OpCommit)
		require.GreaterOrEqual(t, len(commits), 2)
		require.False(t, commits[0].Awaited)
		require.Equal(t, []OpMark{{Topic: "orders", Offset: 3}}, commits[0].Marks)
		require.Equal(t, int32(0), commits[0].Partition)
		received := 0
		for _, o := range w.of(OpReceive) {
			received += len(o.Records)
		}
		require.Equal(t, 5, received)
	})
}

// The status holds what is in flight, and since when the oldest record waits.
func TestStatusOfUnfinishedRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		let := make(chan struct{})
		m := start(t, d, testConfig(), func(ctx context.Context, _ []byte) error { <-let; return nil })
		c := d.consumer(t)
		var b driver.Batch
		for i := range 3 {
			b.Records = append(b.Records, driver.Record{Offset: int64(2 * i), Timestamp: time.Unix(int64(i), 0)})
		}
		c.h.Deliver(c.assign(0, 0), b)
		synctest.Wait()
		for i := range 3 {
			p := state(t, m).Partitions[0]
			assert.Equal(t, 1, p.InFlight, "record %d", i)
			assert.WithinDuration(t, time.Unix(int64(i), 0), p.Oldest, 0, "record %d", i)
			let <- struct{}{}
			synctest.Wait()
		}
		p := state(t, m).Partitions[0]
		require.Zero(t, p.InFlight)
		require.Zero(t, p.Oldest)
	})
}

// A hook that panics stops nothing.
func TestPanickingHookStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{}
		m := start(t, d, testConfig(), nothing, WithHook(panickingHook{}))
		require.Equal(t, StateRunning, state(t, m).State)
	})
}

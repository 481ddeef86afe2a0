package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
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
	if token.ended {
		w.t.Errorf("%v ended twice", op.Kind)
	}
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
	if !maps.Equal(w.started, ended) {
		w.t.Errorf("started %v, ended %v", w.started, ended)
	}
}

func watchedProducer(t *testing.T, hooks ...Hook) (*Producer, *fakeProducer, *Manager) {
	d := &fakeDriver{}
	m := New(d, quiet(), WithHook(hooks...))
	t.Cleanup(func() { stop(t, m) })
	cfg := both()
	cfg.BootstrapServers = "localhost:9092"
	p, err := m.RegisterProducer(t.Context(), cfg)
	must(t, err)
	return p, d.producers[0], m
}

// A send is one operation, whatever becomes of it, and an async one ends with
// its acknowledgement.
func TestEverySendIsOneOperation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{t: t}
		p, f, _ := watchedProducer(t, w)
		refused := &driver.Error{Code: "NOT_ENOUGH_REPLICAS"}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		brief := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
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
				if len(ops) != 1 {
					t.Fatalf("%s, async %v: %d operations", what, async, len(ops))
				}
				if async && !called {
					t.Errorf("%s: the callback ran before the operation had ended", what)
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
				if got != want {
					t.Errorf("%s, async %v: %+v, want %+v", what, async, got, want)
				}
			}
		}
		nothing := func() {}
		both("success", t.Context, func() { f.sent = nil }, nothing, outcome{true, 0, 0, ""})
		both("refusal", t.Context, func() { f.hold = true }, func() { f.release(refused) }, outcome{true, -1, -1, "NOT_ENOUGH_REPLICAS"})
		both("cancelled before", func() context.Context { return gone }, nothing, nothing, outcome{false, -1, -1, "some"})
		both("no buffer space", brief, func() { f.block = true }, func() { time.Sleep(2 * time.Second) }, outcome{false, -1, -1, "buffer_full"})
		f.block, f.hold = false, false
		must(t, p.Close())
		both("closed", t.Context, nothing, nothing, outcome{false, -1, -1, "some"})
		w.allEnded()
	})
}

// A sync send whose context ends is over for its hooks, and a late answer
// changes nothing. What was pending at Close ends with it.
func TestAbandonedAndPendingSendsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watcher{t: t, header: "x"}
		p, f, m := watchedProducer(t, w)
		f.hold = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := p.Send(ctx, "orders", nil, []byte("four")); !errors.Is(err, ErrUnknownOutcome) {
			t.Error(err)
		}
		if o := w.of(OpSend)[0]; !errors.Is(o.Err, ErrUnknownOutcome) || !o.Sent || o.Offset != -1 {
			t.Errorf("%+v", o)
		}
		abandoned := f.pending[0]
		for range 10 {
			p.SendAsync(t.Context(), "orders", nil, []byte("four"), nil)
		}
		if got := (View{m}).Producers(); len(got) != 1 || got[0].Unacknowledged != 10 || got[0].UnacknowledgedBytes != 40 {
			t.Errorf("view: %+v", got)
		}
		if h := abandoned.Headers; len(h) != 1 || string(h[0].Value) != "x" {
			t.Errorf("the headers of an abandoned message were changed: %v", h)
		}
		must(t, p.Close())
		if n := len(w.of(OpSend)); n != 11 {
			t.Errorf("%d operations have ended, want 11", n)
		}
		w.allEnded()
		if got := p.snapshot(); got.Unacknowledged != 0 || got.UnacknowledgedBytes != 0 {
			t.Errorf("after Close: %+v", got)
		}
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
		must(t, p.SendMessage(t.Context(), &ProducerMessage{Topic: "orders", Headers: shared}))
		got := outer.of(OpSend)[i].headers
		if len(got) != 2 || string(got[0].Value) != "1" || string(got[1].Value) != outer.header {
			t.Errorf("message %d has %v", i, got)
		}
	}
	if room := shared[:2]; room[1].Key != "" {
		t.Errorf("the user's slice got %v", room[1])
	}
	if len(f.sent[0].Headers) != 2 {
		t.Errorf("the driver got %v", f.sent[0].Headers)
	}
	if got := strings.Join(log[:4], ", "); got != "start outer, start inner, end inner, end outer" {
		t.Error(got)
	}
}

func TestSetAndDeleteHeaders(t *testing.T) {
	user := []Header{{Key: "a", Value: []byte("1")}, {Key: "b"}, {Key: "a", Value: []byte("2")}}
	o := &Op{Kind: OpSend, Records: []Record{{Headers: user}}}
	o.SetHeader("a", "3")
	long := strings.Repeat("x", 1000)
	o.SetHeader("c", long)
	copy(o.SetHeaderSize("d", 1), "4")
	if got := fmt.Sprintf("%s", o.Headers()); got != fmt.Sprintf("[{b } {a 3} {c %s} {d 4}]", long) {
		t.Error(got)
	}
	for _, key := range []string{"a", "b", "c", "d"} {
		o.DeleteHeader(key)
	}
	if got := o.Headers(); len(got) != 0 {
		t.Errorf("after deleting all: %v", got)
	}
	if len(user) != 3 || string(user[0].Value) != "1" {
		t.Errorf("the user's: %v", user)
	}
}

func TestOriginReachesTheHook(t *testing.T) {
	w := &watcher{t: t}
	p, _, _ := watchedProducer(t, w)
	m := &Message{Topic: "orders", Offset: 7}
	must(t, p.Send(WithOrigin(t.Context(), m), "orders.dlq", nil, nil))
	must(t, p.Send(t.Context(), "orders", nil, nil))
	if ops := w.of(OpSend); ops[0].Origin != m || ops[1].Origin != nil {
		t.Errorf("origins %v, %v", ops[0].Origin, ops[1].Origin)
	}
}

// A hook that panics changes nothing for the operation and for other hooks.
func TestPanickingHookLosesNothing(t *testing.T) {
	bad, good := &watcher{t: t, panics: true}, &watcher{t: t, header: "x"}
	p, f, _ := watchedProducer(t, bad, good)
	must(t, p.Send(t.Context(), "orders", nil, nil))
	if len(good.of(OpSend)) != 1 || len(f.sent[0].Headers) != 1 {
		t.Error("the other hook was not told")
	}
}

func TestHooksAreAttachedAndDetached(t *testing.T) {
	w := &watcher{t: t}
	m := New(&fakeDriver{}, quiet(), WithHook(nil, w))
	if len(w.attached) != 1 || w.detached != 0 {
		t.Fatalf("attached %d, detached %d", len(w.attached), w.detached)
	}
	stop(t, m)
	if w.detached != 1 {
		t.Errorf("detached %d times", w.detached)
	}
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
		if len(w.attached) != 1 || w.detached != 1 {
			t.Errorf("the other hook was attached %d times and detached %d", len(w.attached), w.detached)
		}
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
						if a.Outcome != OutcomeFailed {
							t.Errorf("an attempt with an error has outcome %d", a.Outcome)
						}
					}
				}
				if !slices.Equal(got, wantAttempts) || failed != 2 {
					t.Errorf("%s, %s: attempts %v, %d failed; want %v, 2", kind, what, got, failed, wantAttempts)
				}
				records, most := 0, 0
				for _, o := range process {
					if o.Err != nil || o.Outcome != OutcomeDone {
						t.Errorf("%s, %s: %v, outcome %d", kind, what, o.Err, o.Outcome)
					}
					records += len(o.Records)
					most = max(most, o.Attempt)
				}
				if records != 3 || most != 3 {
					t.Errorf("%s, %s: %d records, %d attempts at one; want 3 and 3", kind, what, records, most)
				}
				w.allEnded()
			})
		}
	}
}

// How a delivery ends that does not come to a good end.
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
			must(t, m.SetConsumerSwitch(testConfig().JobName, false))
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
				if len(ops) != 1 {
					t.Fatalf("%d deliveries, want 1", len(ops))
				}
				if ops[0].Outcome != test.outcome || (ops[0].Err != nil) != (test.outcome == OutcomeFailed) {
					t.Errorf("outcome %d, error %v; want outcome %d", ops[0].Outcome, ops[0].Err, test.outcome)
				}
				w.allEnded()
			})
		})
	}
}

// The handler's context is what the hooks have made of it, and still ends with
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
		if got != OpAttempt || cause != ErrRevoked {
			t.Errorf("value %v, cause %v", got, cause)
		}
	})
}

// Commits say what they carry and who waits, and waits for records what came.
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
		if len(commits) < 2 || commits[0].Awaited || len(commits[0].Marks) != 1 ||
			commits[0].Marks[0] != (OpMark{Topic: "orders", Offset: 3}) || commits[0].Partition != 0 {
			t.Errorf("commits: %+v", commits)
		}
		received := 0
		for _, o := range w.of(OpReceive) {
			received += len(o.Records)
		}
		if received != 5 {
			t.Errorf("%d records received, want 5", received)
		}
	})
}

// The status tells what is in flight, and since when the oldest record waits.
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
			if p.InFlight != 1 || !p.Oldest.Equal(time.Unix(int64(i), 0)) {
				t.Errorf("record %d: in flight %d, oldest %v", i, p.InFlight, p.Oldest)
			}
			let <- struct{}{}
			synctest.Wait()
		}
		if p := state(t, m).Partitions[0]; p.InFlight != 0 || !p.Oldest.IsZero() {
			t.Errorf("in flight %d, oldest %v", p.InFlight, p.Oldest)
		}
	})
}

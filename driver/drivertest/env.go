package drivertest

import (
	"context"
	"crypto/rand"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// An env is the state of a running case.
type env struct {
	t    T
	h    Harness
	name string
	Settings

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything below changes
	members []*member
	zombies bool // a member may still hold a partition of another member
	undo    []func()

	reports sync.Mutex
	over    bool // the case has returned: later reports are dropped
}

func newEnv(t T, h Harness, name string) *env {
	e := &env{t: t, h: h, name: name, changed: make(chan struct{})}
	if tuner, ok := h.(Tuner); ok {
		e.Settings = tuner.Settings()
	}
	e.Settings = e.withDefaults()
	t.Cleanup(func() {
		e.reports.Lock()
		defer e.reports.Unlock()
		e.over = true
	})
	t.Cleanup(e.restore)
	return e
}

// ability returns the harness as an A, or skips the case.
func ability[A any](e *env) A {
	e.t.Helper()
	a, ok := e.h.(A)
	if !ok {
		e.t.Skipf("the harness does not implement drivertest.%s", reflect.TypeFor[A]().Name())
	}
	return a
}

// breach reports a violation of rule, which is the name of a case. Any goroutine may
// call it at any time.
func (e *env) breach(rule, format string, args ...any) {
	e.t.Helper()
	e.reports.Lock()
	defer e.reports.Unlock()
	if !e.over {
		e.t.Errorf("%s: %s", rule, fmt.Sprintf(format, args...))
	}
}

// errorf reports a violation of the case's own rule.
func (e *env) errorf(format string, args ...any) {
	e.t.Helper()
	e.breach(e.name, format, args...)
}

// fatalf is errorf and ends the case.
func (e *env) fatalf(format string, args ...any) {
	e.t.Helper()
	e.t.Fatalf("%s: %s", e.name, fmt.Sprintf(format, args...))
}

// must ends the case if the harness has failed.
func (e *env) must(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatalf("harness: %v", err)
	}
}

// context returns a context that ends after Patience.
func (e *env) context() context.Context { return e.within(e.Patience) }

func (e *env) within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	e.t.Cleanup(cancel)
	return ctx
}

// quiet waits for the time in which nothing may happen.
func (e *env) quiet() { time.Sleep(e.Quiet) }

// atEnd returns f so that it runs at most once, and runs it before the case closes
// anything, unless it has run before.
func (e *env) atEnd(f func()) func() {
	f = sync.OnceFunc(f)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.undo = append(e.undo, f)
	return f
}

// restore runs all functions of atEnd.
func (e *env) restore() {
	e.mu.Lock()
	undo := e.undo
	e.mu.Unlock()
	for _, f := range undo {
		f()
	}
}

// change runs f with the mutex held and wakes all waiters of await.
func (e *env) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
	close(e.changed)
	e.changed = make(chan struct{})
}

// await waits until cond is true. It calls cond with the mutex held.
func (e *env) await(what string, cond func() bool) {
	e.t.Helper()
	e.awaitWithin(e.Patience, what, cond)
}

// awaitWithin is await with another patience.
func (e *env) awaitWithin(patience time.Duration, what string, cond func() bool) {
	e.t.Helper()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		e.mu.Lock()
		ok, changed := cond(), e.changed
		e.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			e.fatalf("waited %v without success for: %s", patience, what)
		}
	}
}

// eventually waits until cond is true. It polls, because the cluster notifies no
// waiter of a change.
func (e *env) eventually(what string, cond func() bool) {
	e.t.Helper()
	if !e.settles(cond) {
		e.fatalf("waited %v without success for: %s", e.Patience, what)
	}
}

func (e *env) settles(cond func() bool) bool {
	for start := time.Now(); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > e.Patience {
			return false
		}
	}
	return true
}

// returnsBy runs f and reports whether it returned within d and Grace. If it did not,
// rule is violated and f keeps running.
func (e *env) returnsBy(rule string, d time.Duration, what string, f func()) bool {
	e.t.Helper()
	_, returned := answerBy(e, rule, d, what, func() struct{} { f(); return struct{}{} })
	return returned
}

// answerBy is returnsBy for a function with a result.
func answerBy[V any](e *env, rule string, d time.Duration, what string, f func() V) (answer V, returned bool) {
	e.t.Helper()
	answers := make(chan V, 1)
	go func() { answers <- f() }()
	timer := time.NewTimer(d + e.Grace)
	defer timer.Stop()
	select {
	case answer = <-answers:
		return answer, true
	case <-timer.C:
		e.breach(rule, "%s has not returned after %v", what, d+e.Grace)
		return answer, false
	}
}

// ends reports whether done is closed within d and Grace. If it is not, rule is
// violated.
func (e *env) ends(rule string, d time.Duration, what string, done <-chan struct{}) bool {
	e.t.Helper()
	timer := time.NewTimer(d + e.Grace)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		e.breach(rule, "%s has not ended after %v", what, d+e.Grace)
		return false
	}
}

// receive waits for a value of a channel.
func receive[V any](e *env, what string, ch <-chan V) V {
	e.t.Helper()
	timer := time.NewTimer(e.Patience + e.Grace)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		e.fatalf("waited %v without success for: %s", e.Patience+e.Grace, what)
		panic("unreachable")
	}
}

// unique returns a name that no other case and no other run uses.
func (e *env) unique(kind string) string {
	return fmt.Sprintf("drivertest-%s-%s-%s", kind, e.name, strings.ToLower(rand.Text()[:8]))
}

// topic creates a topic.
func (e *env) topic(partitions int32) string {
	e.t.Helper()
	topic := e.unique("topic")
	e.must(e.h.CreateTopic(e.context(), topic, partitions))
	return topic
}

// limitedTopic creates a topic with the limits of a TopicLimiter.
func (e *env) limitedTopic(partitions int32, maxBytes int, ahead time.Duration) string {
	e.t.Helper()
	topic := e.unique("topic")
	e.must(ability[TopicLimiter](e).CreateLimitedTopic(e.context(), topic, partitions, maxBytes, ahead))
	return topic
}

// send appends records with these values through the harness.
func (e *env) send(topic string, partition int32, values ...string) {
	e.t.Helper()
	records := make([]driver.Record, len(values))
	for i, v := range values {
		records[i].Value = []byte(v)
	}
	e.sendRecords(topic, partition, records...)
}

func (e *env) sendRecords(topic string, partition int32, records ...driver.Record) {
	e.t.Helper()
	e.must(e.h.Send(e.context(), topic, partition, records...))
}

func (e *env) read(topic string, partition int32) []driver.Record {
	e.t.Helper()
	records, err := e.h.Read(e.context(), topic, partition)
	e.must(err)
	return records
}

func (e *env) committed(group, topic string, partition int32) int64 {
	e.t.Helper()
	offset, err := e.h.Committed(e.context(), group, topic, partition)
	e.must(err)
	return offset
}

// wantCommitted reports a committed offset that differs from want.
func (e *env) wantCommitted(group, topic string, partition int32, want int64) {
	e.t.Helper()
	if got := e.committed(group, topic, partition); got != want {
		e.errorf("the committed offset of partition %d is %d, want %d", partition, got, want)
	}
}

// numbered returns n values, prefix-0 to prefix-(n-1).
func numbered(prefix string, n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return values
}

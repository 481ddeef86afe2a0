package drivertest

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func closeChecks() []check {
	return []check{
		{"CloseBeforeRun", "The core closes every consumer, also when Run was never called.", closeBeforeRun},
		{ruleCloseAnswer, "Close ends Run. It must drain live claims by Handler.Revoke.", closeDrains},
		{"CloseLeavesTheGroup", "Close must leave the group, so that other members take over at once.", closeLeavesTheGroup},
		{"CloseKeepsAStaticMember", "A static member must stay in the group until its session times out.", closeKeepsAStaticMember},
		{ruleCloseInTime, "When ctx ends, Close must sever the connections and return ctx's error, also while a Revoke is stuck.", closeReturnsInTime},
		{"CloseBoundsRevoke", "The window of every Revoke, running or still to come, must end by the end of Close's ctx.", closeBoundsRevoke},
		{"CloseWithoutBrokers", "Close must return by the end of its ctx when the brokers are unreachable.", closeWithoutBrokers},
		{"CloseWhileJoinIsPending", "Close must return by the end of its ctx while a join is pending, and Run must then return as well.", closeWhileJoinIsPending},
		{"CloseWithEndedContext", "Claims that were not given to Revoke by the end of Close's ctx must be Lost.", closeWithEndedContext},
		{"CloseTwice", "A second Close must wait for the first, or for its own ctx, and return the same answer.", closeTwice},
		{"CloseConcurrently", "A Consumer must be safe for concurrent use by several goroutines.", closeConcurrently},
		{"CloseLeavesNothingBehind", "When Close returns nil, no goroutine or connection of the consumer remains.", closeLeavesNothingBehind},
	}
}

func closeBeforeRun(e *env) {
	m := e.open(e.consumerConfig(e.unique("group"), e.topic(1)))
	err, returned := m.closeWithin(e.name, e.Patience)
	if !returned {
		return
	}
	if err != nil {
		e.errorf("Close before Run returned %v, want nil", err)
	}
	if err := m.tryCommit(e.context()); err != nil && !errors.Is(err, driver.ErrClosed) {
		e.errorf("Commit of nothing after Close returned %v, want nil or ErrClosed", err)
	}
}

func closeDrains(e *env) {
	topic := e.topic(3)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	claims := m.waitClaims(3)
	m.stop()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range claims {
		if o := m.ownership(c); !o.revoked {
			e.errorf("Close ended the claim of partition %d without Revoke (lost: %v)", c.Partition, o.lost)
		}
	}
}

func closeLeavesTheGroup(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	cfg.SessionTimeout = 2 * e.Patience
	cfg.RebalanceTimeout = cfg.SessionTimeout
	a := e.join(cfg)
	a.waitClaims(2)
	b := e.join(cfg)
	b.waitClaims(1)
	a.waitClaims(1)
	a.stop()
	b.waitClaims(2)
}

func closeKeepsAStaticMember(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	a := e.joinStatic(cfg)
	a.waitClaims(2)
	b := e.join(cfg)
	b.waitClaims(1)
	a.waitClaims(1)
	a.stop()
	e.quiet()
	e.mu.Lock()
	n := len(b.live())
	e.mu.Unlock()
	if n != 1 {
		e.errorf("after the Close of a static member the other member holds %d partitions, want 1", n)
	}
	again := e.join(a.cfg)
	again.waitClaims(1)
}

// stuck returns a member whose Revoke does not return before release is called.
func stuck(e *env, partitions int32) (m *member, draining <-chan *member, release func()) {
	e.t.Helper()
	m = e.join(e.consumerConfig(e.unique("group"), e.topic(partitions)))
	m.waitClaims(int(partitions))
	draining, release = e.holdRevokes(m)
	return m, draining, release
}

func closeReturnsInTime(e *env) {
	m, _, release := stuck(e, 2)
	err, returned := m.closeWithin(e.name, e.Quiet)
	if !returned {
		return
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		e.errorf("Close returned %v, want its context's error", err)
	}
	release()
	e.ends(e.name, e.Grace, "Run after the stuck Revoke", m.ran)
}

func closeBoundsRevoke(e *env) {
	topic := e.topic(2)
	cfg := e.consumerConfig(e.unique("group"), topic)
	cfg.DrainTimeout, cfg.RebalanceTimeout = 2*e.Patience, 4*e.Patience
	m := e.open(cfg)
	ends := make(chan time.Time, 4)
	m.onRevoke = func(ctx context.Context, _ []*driver.Claim) {
		<-ctx.Done()
		ends <- time.Now()
	}
	m.start()
	m.waitClaims(2)
	deadline := time.Now().Add(e.Quiet)
	if _, returned := m.closeWithin(e.name, e.Quiet); !returned {
		return
	}
	if end := receive(e, "the end of Revoke's window", ends); end.After(deadline.Add(e.Grace)) {
		e.errorf("the window of Revoke ended %v after the context of Close", end.Sub(deadline))
	}
	e.ends(e.name, e.Grace, "Run", m.ran)
}

func closeWithoutBrokers(e *env) {
	topic := e.topic(1)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	m.waitClaims(1)
	idle := e.open(e.consumerConfig(e.unique("group"), topic))
	e.silence()
	if _, returned := m.closeWithin(e.name, e.Quiet); returned {
		e.ends(e.name, e.Grace, "Run", m.ran)
	}
	idle.closeWithin(e.name, e.Quiet)
}

func closeWhileJoinIsPending(e *env) {
	n := e.moving()
	topic := e.topic(int32(n))
	cfg := e.consumerConfig(e.unique("group"), topic)
	cfg.DrainTimeout, cfg.RebalanceTimeout = e.Patience, 2*e.Patience
	a := e.join(cfg)
	a.waitClaims(n)
	draining, release := e.holdRevokes(a)
	b := e.join(cfg)
	receive(e, "a member in Revoke", draining)
	if _, returned := b.closeWithin(e.name, e.Quiet); returned {
		e.ends(e.name, e.Grace, "Run", b.ran)
	}
	release()
	a.waitClaims(n)
}

func closeWithEndedContext(e *env) {
	topic := e.topic(2)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	m.waitClaims(2)
	err, returned := m.closeWithin(e.name, 0)
	if !returned {
		return
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		e.errorf("Close with an ended context returned %v, want its context's error", err)
	}
	e.ends(e.name, 0, "Run", m.ran)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, o := range m.owned {
		if !o.lost && !o.revoked {
			e.errorf("the claim of partition %d was not ended", o.claim.Partition)
		}
	}
}

func closeTwice(e *env) {
	m, draining, release := stuck(e, 1)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- m.callClose(e.within(e.Patience)) }()
	receive(e, "a member in Revoke", draining)

	err, returned := m.closeWithin(e.name, e.Quiet)
	if returned && !errors.Is(err, context.DeadlineExceeded) {
		e.errorf("a second Close returned %v before the first, want its own context's error", err)
	}
	go func() { second <- m.callClose(e.context()) }()
	release()
	for _, answer := range []chan error{first, second} {
		if err := receive(e, "the answer of Close", answer); err != nil {
			e.errorf("Close returned %v, want nil", err)
		}
	}
	e.ends(e.name, 0, "Run", m.ran)
	if err, _ := m.closeWithin(e.name, e.Patience); err != nil {
		e.errorf("Close after Close returned %v, want the same answer, nil", err)
	}
}

func closeConcurrently(e *env) {
	topic := e.topic(4)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	claims := m.waitClaims(4)
	for p := range int32(4) {
		e.send(topic, p, numbered("v", 50)...)
	}
	m.closed = true
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := m.callClose(e.context()); err != nil {
				e.errorf("Close returned %v, want nil", err)
			}
		})
		wg.Go(func() {
			m.callPause(claims...)
			m.callResume(claims...)
		})
	}
	wg.Go(func() { _ = m.tryCommit(e.context(), driver.Mark{Claim: claims[0], Offset: 1}) })
	wg.Wait()
	e.ends(e.name, 0, "Run", m.ran)
}

func closeLeavesNothingBehind(e *env) {
	topic, group := e.topic(2), e.unique("group")
	connections, goroutines := e.connections(), goroutines()
	m := e.join(e.consumerConfig(group, topic))
	claims := m.waitClaims(2)
	e.send(topic, 0, numbered("v", 10)...)
	m.waitRecords(claims[0], 10)
	m.commit(claims[0], 10)
	m.stop()
	if !e.settles(func() bool { return e.connections() <= connections }) {
		e.errorf("%d connections before the consumer was opened, but %d after Close", connections, e.connections())
	}
	if !e.settles(func() bool { return len(newGoroutines(goroutines)) == 0 }) {
		e.errorf("goroutines that remain after Close:\n%s", strings.Join(newGoroutines(goroutines), "\n\n"))
	}
}

// connections returns the number of connections, or 0 if the harness cannot count
// them.
func (e *env) connections() int {
	e.t.Helper()
	counter, ok := e.h.(ConnectionCounter)
	if !ok {
		return 0
	}
	n, err := counter.Connections(e.context())
	e.must(err)
	return n
}

// goroutines returns the stacks of all goroutines by name, such as "goroutine 7". It
// leaves out those of the runtime.
func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	all := make(map[string]string)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		name, _, _ := strings.Cut(stack, " [")
		if !strings.Contains(stack, "created by runtime.") {
			all[name] = stack
		}
	}
	return all
}

// newGoroutines returns the stacks of the goroutines that are not in before.
func newGoroutines(before map[string]string) []string {
	var stacks []string
	for name, stack := range goroutines() {
		if _, ok := before[name]; !ok {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

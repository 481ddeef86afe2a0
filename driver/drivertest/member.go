package drivertest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A member is one consumer of a case with its Handler.
type member struct {
	*recorder
	consumer driver.Consumer

	ran    chan struct{} // closed when Run has returned; nil before start
	runErr error         // set before that
	closed bool          // the case has closed it and has checked the result
}

// consumerConfig returns the default configuration of a case. It reads from the oldest
// record.
func (e *env) consumerConfig(group string, topics ...string) driver.ConsumerConfig {
	return e.consumerConfigOf(e.protocol(), group, topics...)
}

func (e *env) consumerConfigOf(p driver.GroupProtocol, group string, topics ...string) driver.ConsumerConfig {
	cfg := driver.ConsumerConfig{
		Brokers:           e.h.Brokers(),
		ClientID:          "drivertest",
		Group:             group,
		Topics:            topics,
		InitialOffset:     driver.OffsetOldest,
		BalanceStrategies: []driver.BalanceStrategy{driver.RoundRobin},
		SessionTimeout:    e.SessionTimeout,
		HeartbeatInterval: e.HeartbeatInterval,
		RebalanceTimeout:  e.RebalanceTimeout,
		DrainTimeout:      e.DrainTimeout,
		MaxProcessingTime: maxProcessingTime,
		MaxMessageBytes:   1 << 20,

		MaxDecompressedBytes: 64 << 20,
	}
	if cfg.GroupProtocol = p; p == driver.ConsumerProtocol {
		cfg.BalanceStrategies, cfg.HeartbeatInterval = nil, 0
	}
	return cfg
}

// open opens a consumer and closes it at the end of the case.
func (e *env) open(cfg driver.ConsumerConfig) *member {
	e.t.Helper()
	consumer, err := e.h.Driver().OpenConsumer(e.context(), cfg)
	if err != nil {
		e.fatalf("OpenConsumer: %v", err)
	}
	return e.adopt(consumer, cfg)
}

// adopt makes an open consumer a member of the case.
func (e *env) adopt(consumer driver.Consumer, cfg driver.ConsumerConfig) *member {
	m := &member{recorder: &recorder{e: e, cfg: cfg}, consumer: consumer}
	e.change(func() {
		m.name = fmt.Sprintf("member %c", 'A'+len(e.members))
		e.members = append(e.members, m)
	})
	e.t.Cleanup(m.tidy)
	return m
}

// join opens a consumer and runs it.
func (e *env) join(cfg driver.ConsumerConfig) *member {
	e.t.Helper()
	m := e.open(cfg)
	m.start()
	return m
}

// joinStatic is join with an InstanceID. It skips the case if the driver rejects that.
func (e *env) joinStatic(cfg driver.ConsumerConfig) *member {
	e.t.Helper()
	cfg.InstanceID = "static"
	consumer, err := e.h.Driver().OpenConsumer(e.context(), cfg)
	if errors.Is(err, driver.ErrPermanent) {
		e.t.Skipf("the driver rejects an InstanceID: %v", err)
	} else if err != nil {
		e.fatalf("OpenConsumer with an InstanceID: %v", err)
	}
	m := e.adopt(consumer, cfg)
	m.start()
	return m
}

// start calls Run on its own goroutine.
func (m *member) start() {
	m.ran = make(chan struct{})
	go func() {
		defer close(m.ran)
		m.runErr = m.consumer.Run(m.recorder)
		m.e.change(m.judgeReturn)
	}()
}

func (m *member) judgeReturn() {
	m.returned = true
	for _, o := range m.owned {
		if !o.revoked && !o.lost {
			m.e.breach(ruleRunEndsClaims, "%s: Run has returned, the claim of partition %d has not ended", m.name, o.claim.Partition)
		}
	}
}

// tidy closes the member, unless the case has closed it, and checks the rules for the
// end of a case.
func (m *member) tidy() {
	m.e.restore()
	if !m.closed {
		m.stop()
	}
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	for _, o := range m.owned {
		if now, then, found := o.rewritten(); found {
			m.e.breach(ruleBytes, "%s: offset %d was %s and is %s", m.name, then.Offset, show(then), show(now))
		}
	}
	if m.e.t.Failed() {
		m.e.t.Logf("the calls of %s: %s", m.name, strings.Join(m.history, "; "))
	}
}

// stop closes the member, which must succeed and end Run with nil.
func (m *member) stop() {
	m.e.t.Helper()
	err, returned := m.closeWithin(ruleCloseInTime, m.e.Patience)
	if !returned {
		return
	}
	if err != nil {
		m.e.breach(ruleCloseAnswer, "Close of %s returned %v, want nil", m.name, err)
	}
	if err := m.waitRun(ruleRunNil); err != nil {
		m.e.breach(ruleRunNil, "Run of %s returned %v after Close, want nil", m.name, err)
	}
}

// closeAfterFailure closes a member whose Run has failed.
func (m *member) closeAfterFailure() {
	m.e.t.Helper()
	m.closeWithin(ruleCloseInTime, m.e.Patience)
}

// waitRun waits for Run and returns its result.
func (m *member) waitRun(rule string) error {
	m.e.t.Helper()
	if m.ran == nil || !m.e.ends(rule, m.e.Patience, "Run of "+m.name, m.ran) {
		return nil
	}
	return m.runErr
}

// die ends the member without a drain, so that nothing is committed. It may remain in
// the group until its session times out.
func (m *member) die() {
	m.closeWithin(ruleCloseInTime, 0)
	_ = m.waitRun(ruleCloseInTime)
}

// tryCommit calls Commit, which must return by the end of ctx, and returns its result.
func (m *member) tryCommit(ctx context.Context, marks ...driver.Mark) error {
	m.e.t.Helper()
	deadline, _ := ctx.Deadline()
	err, returned := answerBy(m.e, ruleCommitInTime, time.Until(deadline), "Commit of "+m.name, func() error { return m.callCommit(ctx, marks...) })
	if !returned {
		return errNoAnswer
	}
	return err
}

// closeWithin calls Close with a context that ends after d, and returns its result. If
// Close does not return in time, rule is violated.
func (m *member) closeWithin(rule string, d time.Duration) (err error, returned bool) {
	m.e.t.Helper()
	m.closed = true
	ctx := m.e.within(d)
	return answerBy(m.e, rule, d, "Close of "+m.name, func() error { return m.callClose(ctx) })
}

// errNoAnswer stands for the result of a call that does not return.
var errNoAnswer = errors.New("no answer")

// The calls of the core. callOfTheCore finds them by their names on the stack.

func (m *member) callCommit(ctx context.Context, marks ...driver.Mark) error {
	err := m.consumer.Commit(ctx, marks)
	m.judgeCommit(err)
	return err
}

func (m *member) callPause(claims ...*driver.Claim)  { m.consumer.Pause(claims...) }
func (m *member) callResume(claims ...*driver.Claim) { m.consumer.Resume(claims...) }

func (m *member) callClose(ctx context.Context) error {
	m.e.change(func() { m.closing = true })
	return m.consumer.Close(ctx)
}

func (m *member) judgeCommit(err error) {
	if err == nil {
		return
	}
	var ce *driver.CommitError
	if !errors.As(err, &ce) || len(ce.Failed) == 0 {
		m.e.breach(rulePerMark, "%s: Commit returned %q (%T), want a *driver.CommitError that names marks", m.name, err, err)
		return
	}
	for _, f := range ce.Failed {
		m.e.judgeError("the error of a mark", f.Err)
	}
}

// commit commits one mark, which must succeed.
func (m *member) commit(c *driver.Claim, offset int64) {
	m.e.t.Helper()
	if err := m.tryCommit(m.e.context(), driver.Mark{Claim: c, Offset: offset}); err != nil {
		m.e.errorf("%s: Commit of partition %d at %d: %v", m.name, c.Partition, offset, err)
	}
}

// await waits until cond is true. It calls cond with the mutex held.
func (m *member) await(what string, cond func() bool) {
	m.e.t.Helper()
	m.e.await(m.name+": "+what, cond)
}

// waitClaims waits until the member holds n claims that are not being revoked, and
// returns them by partition.
func (m *member) waitClaims(n int) []*driver.Claim {
	m.e.t.Helper()
	var claims []*driver.Claim
	m.await(fmt.Sprintf("%d live claims", n), func() bool {
		claims = m.live()
		return len(claims) == n
	})
	return claims
}

// live returns the claims that are not being revoked, by partition.
func (m *member) live() []*driver.Claim {
	var claims []*driver.Claim
	for _, o := range m.owned {
		if o.idle() {
			claims = append(claims, o.claim)
		}
	}
	slices.SortFunc(claims, func(a, b *driver.Claim) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return claims
}

// calledAssign reports whether the member has joined.
func (m *member) calledAssign() bool {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	return m.assigns > 0
}

// waitRecords waits until n records of a claim have been delivered, and returns all
// delivered records.
func (m *member) waitRecords(c *driver.Claim, n int) []driver.Record {
	m.e.t.Helper()
	m.await(fmt.Sprintf("%d records of partition %d", n, c.Partition), func() bool { return m.count(c) >= n })
	return m.records(c)
}

// count returns the number of delivered records of a claim.
func (m *member) count(c *driver.Claim) int {
	if o := m.ownership(c); o != nil {
		return len(o.delivered)
	}
	return 0
}

// total returns the number of delivered records.
func (m *member) total() int {
	n := 0
	for _, o := range m.owned {
		n += len(o.delivered)
	}
	return n
}

func (m *member) records(c *driver.Claim) []driver.Record {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	if o := m.ownership(c); o != nil {
		return slices.Clone(o.delivered)
	}
	return nil
}

// wantValues reports a violation of rule if a claim's records have other values.
func (m *member) wantValues(rule string, c *driver.Claim, want []string) {
	m.e.t.Helper()
	if got := values(m.records(c)); !slices.Equal(got, want) {
		m.e.breach(rule, "%s: partition %d delivered %s, want %s", m.name, c.Partition, brief(got), brief(want))
	}
}

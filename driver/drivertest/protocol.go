package drivertest

import (
	"errors"

	"github.com/aarontianqx/gopkg/driver"
)

// A GroupProtocoler is a Harness whose consumers use another group protocol than
// ClassicProtocol, which is the default. The driver must support it.
type GroupProtocoler interface {
	GroupProtocol() driver.GroupProtocol
}

// onlyClassic lists the cases that do not apply to the ConsumerProtocol, and why.
var onlyClassic = map[string]string{
	ruleOneOwnerCooperative: "the ConsumerProtocol has no balance strategies, so this is the case " + ruleOneOwner,
	"NoCommonStrategyWaits": "the brokers assign the partitions: members have no balance strategies that could differ",
}

// protocol returns the protocol of the case's consumers.
func (e *env) protocol() driver.GroupProtocol {
	if p, ok := e.h.(GroupProtocoler); ok {
		return p.GroupProtocol()
	}
	return driver.ClassicProtocol
}

func (e *env) classic() bool { return e.protocol() == driver.ClassicProtocol }

// skipUnlessApplies skips a case that assumes the other protocol.
func (e *env) skipUnlessApplies() {
	e.t.Helper()
	if reason := onlyClassic[e.name]; reason != "" && !e.classic() {
		e.t.Skipf("does not apply to the ConsumerProtocol: %s", reason)
	}
}

// strategy makes a consumer offer one balance strategy, if its protocol has any.
func (e *env) strategy(cfg *driver.ConsumerConfig, s driver.BalanceStrategy) {
	if e.classic() {
		cfg.BalanceStrategies = []driver.BalanceStrategy{s}
	}
}

// moving returns how many partitions one member must have so that another member gets
// one of them when it joins. With the ConsumerProtocol a member keeps its only one.
func (e *env) moving() int {
	if e.classic() {
		return 1
	}
	return 2
}

func unsupportedProtocolIsRejected(e *env) {
	topic := e.topic(1)
	for _, p := range []driver.GroupProtocol{driver.ClassicProtocol, driver.ConsumerProtocol} {
		supported := p == driver.ClassicProtocol
		if s, ok := e.h.Driver().(driver.GroupProtocolSupporter); ok {
			supported = s.SupportsGroupProtocol(p)
		}
		if supported {
			continue
		}
		cfg := e.consumerConfigOf(p, e.unique("group"), topic)
		if c, err := e.h.Driver().OpenConsumer(e.context(), cfg); err == nil {
			e.adopt(c, cfg)
			e.errorf("OpenConsumer accepted the protocol %v, which the driver does not support", p)
		} else {
			wantPermanent(e, "OpenConsumer with the protocol "+p.String(), err)
		}
	}
}

func wantPermanent(e *env, what string, err error) {
	e.t.Helper()
	e.judgeError(what, err)
	if !errors.Is(err, driver.ErrPermanent) {
		e.errorf("%s returned %v, want an ErrPermanent", what, err)
	}
}

// takenInstanceWaits is instancesCompete with the ConsumerProtocol: the older member
// keeps its place.
func takenInstanceWaits(e *env) {
	topic := e.topic(1)
	a := e.joinStatic(e.consumerConfig(e.unique("group"), topic))
	claim := a.waitClaims(1)[0]
	b := e.join(a.cfg)
	b.await("UNRELEASED_INSTANCE_ID", func() bool { return b.heard("UNRELEASED_INSTANCE_ID") || b.returned })
	e.quiet()
	e.wantRunning(b)
	e.mu.Lock()
	if len(b.owned) > 0 || !a.ownership(claim).alive() {
		e.errorf("a newcomer has taken the place of a live member of its instance")
	}
	e.mu.Unlock()
	e.send(topic, 0, "v")
	a.waitRecords(claim, 1)
	a.commit(claim, 1)
	a.stop()
	b.waitClaim(e.minute(), topic, 0)
}

package drivertest

import (
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

func pauseChecks() []check {
	return []check{
		{"PauseStopsFetching", "Pause stops fetching for claims.", pauseStopsFetching},
		{"PauseLeavesOthers", "A paused claim must not hold up other claims.", pauseLeavesOthers},
		{"PauseIsIdempotent", "Pause and Resume must be idempotent.", pauseIsIdempotent},
		{"PauseInsideDeliver", "The core may call Pause and Resume from inside any method of Handler.", pauseInsideDeliver},
		{"PauseInsideAssign", "The core may call Pause from inside Assign.", pauseInsideAssign},
		{"ResumeContinuesWherePauseStopped", "Resume continues where Pause stopped.", resumeGoesOn},
		{"PauseEndsWithItsClaim", "A pause ends with its claim: a partition that comes back is not paused.", pauseEndsWithItsClaim},
		{"PauseOfEndedClaimIsIgnored", "Pause and Resume must ignore ended claims.", pauseOfEndedClaim},
		{"PauseMakesNoRoundTrip", "Pause and Resume must return without a round trip.", pauseMakesNoRoundTrip},
	}
}

// wantStopped reports a claim for which fetching continues. Records that were fetched
// before the pause may still arrive, so it sends one record at a time until one does
// not arrive.
func wantStopped(e *env, m *member, c *driver.Claim) {
	e.t.Helper()
	const attempts = 5
	for range attempts {
		before := len(m.records(c))
		e.send(c.Topic, c.Partition, "while paused")
		e.quiet()
		if len(m.records(c)) == before {
			return
		}
	}
	e.errorf("partition %d is paused, but all of %d records sent since then were delivered", c.Partition, attempts)
}

func pauseStopsFetching(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	e.send(topic, 0, "first")
	m.waitRecords(claim, 1)
	m.callPause(claim)
	wantStopped(e, m, claim)
}

func pauseLeavesOthers(e *env) {
	topic := e.topic(3)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	claims := m.waitClaims(3)
	m.callPause(claims[0])
	wantStopped(e, m, claims[0])
	for p := range int32(3) {
		e.send(topic, p, numbered("v", 50)...)
	}
	m.waitRecords(claims[1], 50)
	m.waitRecords(claims[2], 50)
}

func pauseIsIdempotent(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	m.callResume(claim)
	m.callPause(claim, claim)
	m.callPause(claim)
	wantStopped(e, m, claim)
	m.callResume(claim)
	before := len(e.read(topic, 0))
	m.waitRecords(claim, before)
	m.callResume(claim)
	e.send(topic, 0, "last")
	m.waitRecords(claim, before+1)
	m.wantValues(ruleOrder, claim, values(e.read(topic, 0)))
}

func pauseInsideDeliver(e *env) {
	topic := e.topic(1)
	m := e.open(e.consumerConfig(e.unique("group"), topic))
	var paused atomic.Bool
	m.onDeliver = func(c *driver.Claim, _ driver.Batch) {
		m.callPause(c)
		m.callResume(c)
		m.callPause(c)
		paused.Store(true)
	}
	e.send(topic, 0, "first")
	m.start()
	claim := m.waitClaims(1)[0]
	m.waitRecords(claim, 1)
	e.eventually("Pause inside Deliver has returned", paused.Load)
	wantStopped(e, m, claim)
	m.callResume(claim)
	m.waitRecords(claim, 2)
}

func pauseInsideAssign(e *env) {
	topic := e.topic(1)
	e.send(topic, 0, "first")
	m := e.open(e.consumerConfig(e.unique("group"), topic))
	m.onAssign = func(claims []*driver.Claim) { m.callPause(claims...) }
	m.start()
	claim := m.waitClaims(1)[0]
	wantStopped(e, m, claim)
	m.callResume(claim)
	want := values(e.read(topic, 0))
	m.waitRecords(claim, len(want))
	m.wantValues(ruleOrder, claim, want)
}

func resumeGoesOn(e *env) {
	const n = 400
	topic := e.topic(1)
	m := e.open(e.consumerConfig(e.unique("group"), topic))
	m.onDeliver = func(c *driver.Claim, _ driver.Batch) { m.callPause(c) }
	m.start()
	claim := m.waitClaims(1)[0]
	for i := range 20 {
		e.send(topic, 0, numbered("v", n/20)...)
		e.eventually("the records of a round", func() bool {
			m.callResume(claim)
			return len(m.records(claim)) >= (i+1)*n/20
		})
	}
	m.wantValues(e.name, claim, values(e.read(topic, 0)))
}

// comesBack makes the only partition of a group leave a member and come back: a
// second member joins and leaves. With the ConsumerProtocol a member keeps its only
// partition, so its session ends instead. It returns the new claim.
func comesBack(e *env, m *member, old *driver.Claim) *driver.Claim {
	e.t.Helper()
	if !e.classic() {
		e.must(ability[SessionEnder](e).EndSessions(e.context(), m.cfg.Group))
		m.await("the end of the first claim", func() bool { return !m.ownership(old).alive() })
		return m.waitClaims(1)[0]
	}
	e.mu.Lock()
	joins := m.assigns
	e.mu.Unlock()
	other := e.join(m.cfg)
	m.await("a call of Assign for the second member", func() bool { return m.assigns > joins })
	m.await("the end of the first claim", func() bool { return !m.ownership(old).alive() })
	e.mu.Lock()
	joins = m.assigns
	e.mu.Unlock()
	other.stop()
	m.await("a call of Assign without the second member", func() bool { return m.assigns > joins })
	return m.waitClaims(1)[0]
}

func pauseEndsWithItsClaim(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	m.callPause(claim)
	wantStopped(e, m, claim)
	again := comesBack(e, m, claim)
	want := values(e.read(topic, 0))
	m.waitRecords(again, len(want))
	m.wantValues(e.name, again, want)
}

func pauseOfEndedClaim(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	again := comesBack(e, m, claim)
	m.callPause(claim)
	e.send(topic, 0, numbered("v", 5)...)
	m.waitRecords(again, 5)
	m.callPause(again)
	wantStopped(e, m, again)
	m.callResume(claim)
	wantStopped(e, m, again)
}

func pauseMakesNoRoundTrip(e *env) {
	topic := e.topic(1)
	m, claim := consume(e, topic)
	e.silence()
	e.returnsBy(e.name, 0, "Pause without answers", func() { m.callPause(claim) })
	e.returnsBy(e.name, 0, "Resume without answers", func() { m.callResume(claim) })
}

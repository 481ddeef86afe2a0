package drivertest

import (
	"context"
	"errors"

	"github.com/aarontianqx/gopkg/driver"
)

func openChecks() []check {
	return []check{
		{"OpenJoinsNothing", "OpenConsumer validates cfg and connects to the cluster. It must not join the group.", openJoinsNothing},
		{"OpenContextEndsNothing", "The consumer that OpenConsumer returns must not depend on ctx.", openContextEndsNothing},
		{"ValidatorAgreesWithOpen", "A driver must reject a setting that it does not support with ErrPermanent, and should also implement ConsumerValidator and ProducerValidator.", validatorAgreesWithOpen},
		{"UnsupportedProtocolIsRejected", "A driver without GroupProtocolSupporter supports ClassicProtocol alone. A driver must reject a setting that it does not support with ErrPermanent.", unsupportedProtocolIsRejected},
		{ruleAssignFirst, "A driver must call Assign before it delivers any record of a claim.", assignComesFirst},
		{"AssignWithoutClaims", "A driver must call Assign at least once each time that the member has joined the group, without claims if the member got none.", assignWithoutClaims},
		{ruleFixed, "The exported fields of a Claim never change.", claimsNeverChange},
		{ruleRunNil, "Run returns nil after Close.", runReturnsNilAfterClose},
		{"RunAfterCloseReturnsAtOnce", "A Run that is called after Close must return nil at once without calling h.", runAfterClose},
		{ruleRunEndsClaims, "Run must end every assigned claim, by Revoke or by Lost, before it returns.", runEndsEveryClaim},
		{ruleSilence, "After Run has returned, no method of h runs or will run.", silenceAfterRun},
		{ruleOwnGoroutine, "A driver must call a Handler from its own goroutines, never from inside a call that the core has made, except from inside Consumer.Run.", handlerRunsOnTheDriversGoroutines},
	}
}

func openJoinsNothing(e *env) {
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	a := e.join(cfg)
	a.waitClaims(2)

	e.open(cfg)
	e.quiet()
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(a.live()); n != 2 {
		e.errorf("the running member has %d of 2 claims after another consumer was opened, want 2", n)
	}
}

func openContextEndsNothing(e *env) {
	topic := e.topic(1)
	cfg := e.consumerConfig(e.unique("group"), topic)
	ctx, cancel := context.WithCancel(e.context())
	consumer, err := e.h.Driver().OpenConsumer(ctx, cfg)
	cancel()
	if err != nil {
		e.fatalf("OpenConsumer: %v", err)
	}
	m := e.adopt(consumer, cfg)
	m.start()
	claim := m.waitClaims(1)[0]
	e.send(topic, 0, "after")
	m.waitRecords(claim, 1)
	m.commit(claim, 1)
}

// validatorAgreesWithOpen uses the settings of the other cases, and a mechanism that
// no driver knows. A driver may accept or reject that mechanism.
func validatorAgreesWithOpen(e *env) {
	topic := e.topic(1)
	for _, sasl := range []*driver.SASL{nil, {Mechanism: "NO-SUCH-MECHANISM", User: "u", Password: "p"}} {
		consumer, producer := e.consumerConfig(e.unique("group"), topic), e.producerConfig()
		consumer.SASL, producer.SASL = sasl, sasl
		var validated error
		if v, ok := e.h.Driver().(driver.ConsumerValidator); ok {
			validated = v.ValidateConsumer(consumer)
		}
		c, err := e.h.Driver().OpenConsumer(e.within(e.Patience), consumer)
		if err == nil {
			e.adopt(c, consumer).stop()
		}
		wantAgreement(e, "Consumer", validated, err)

		validated = nil
		if v, ok := e.h.Driver().(driver.ProducerValidator); ok {
			validated = v.ValidateProducer(producer)
		}
		p, err := e.h.Driver().OpenProducer(e.within(e.Patience), producer)
		if err == nil {
			e.adoptProducer(p).stop()
		}
		wantAgreement(e, "Producer", validated, err)
	}
}

func wantAgreement(e *env, kind string, validated, opened error) {
	e.t.Helper()
	if validated != nil && !errors.Is(validated, driver.ErrPermanent) {
		e.errorf("Validate%s returned %v, want an ErrPermanent", kind, validated)
	}
	if (validated != nil) != errors.Is(opened, driver.ErrPermanent) {
		e.errorf("Validate%s returned %v, or is missing, and Open%s returned %v", kind, validated, kind, opened)
	}
}

func assignComesFirst(e *env) {
	topic := e.topic(3)
	for p := range int32(3) {
		e.send(topic, p, numbered("v", 20)...)
	}
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	for _, c := range m.waitClaims(3) {
		if c.Topic != topic {
			e.errorf("the claim's topic is %q, want %q", c.Topic, topic)
		}
		m.waitRecords(c, 20)
	}
}

func assignWithoutClaims(e *env) {
	topic, group := e.topic(1), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	a := e.join(cfg)
	a.waitClaims(1)
	b := e.join(cfg)
	b.await("a call of Assign, with or without claims", func() bool { return b.assigns > 0 })
	if e.classic() { // with which each rebalance is a join
		a.await("a call of Assign for the second join", func() bool { return a.assigns > 1 })
	}
	e.await("one owner of the one partition", func() bool { return len(a.live())+len(b.live()) == 1 })
}

func claimsNeverChange(e *env) {
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	e.strategy(&cfg, driver.CooperativeSticky)
	a := e.join(cfg)
	claims := a.waitClaims(2)
	e.send(topic, 0, "one")
	e.send(topic, 1, "one")
	a.waitRecords(claims[0], 1)
	a.waitRecords(claims[1], 1)
	a.commit(claims[0], 1)
	a.commit(claims[1], 1)
	b := e.join(cfg)
	b.waitClaims(1)
	e.send(topic, 0, "two")
	e.send(topic, 1, "two")
	e.await("the records after the rebalance", func() bool { return a.total()+b.total() >= 4 })
}

func runReturnsNilAfterClose(e *env) {
	topic := e.topic(1)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	m.waitClaims(1)
	m.stop()
}

func runAfterClose(e *env) {
	topic := e.topic(1)
	e.send(topic, 0, "v")
	m := e.open(e.consumerConfig(e.unique("group"), topic))
	m.stop()
	m.start()
	if !e.ends(e.name, 0, "Run after Close", m.ran) {
		return
	}
	if m.runErr != nil {
		e.errorf("Run after Close returned %v, want nil", m.runErr)
	}
	e.quiet()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(m.history) > 0 || m.total() > 0 {
		e.errorf("Run after Close called the Handler: %v", m.history)
	}
}

func runEndsEveryClaim(e *env) {
	topic := e.topic(4)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	m.waitClaims(4)
	m.stop()
}

func silenceAfterRun(e *env) {
	topic := e.topic(2)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	claims := m.waitClaims(2)
	e.send(topic, 0, numbered("v", 10)...)
	m.waitRecords(claims[0], 10)
	m.stop()
	e.send(topic, 0, numbered("late", 10)...)
	e.send(topic, 1, numbered("late", 10)...)
	e.quiet()
}

func handlerRunsOnTheDriversGoroutines(e *env) {
	topic := e.topic(2)
	m := e.join(e.consumerConfig(e.unique("group"), topic))
	claims := m.waitClaims(2)
	e.send(topic, 0, numbered("v", 10)...)
	m.callPause(claims...)
	m.callResume(claims...)
	m.waitRecords(claims[0], 10)
	m.commit(claims[0], 10)
	m.stop()
}

package drivertest

import (
	"context"
	"errors"

	"github.com/aarontianqx/gopkg/driver"
)

func openChecks() []check {
	return []check{
		{"OpenJoinsNothing", "OpenConsumer validates cfg and reaches the cluster; it joins nothing yet.", openJoinsNothing},
		{"OpenContextEndsNothing", "The consumer that OpenConsumer returns does not depend on ctx any more.", openContextEndsNothing},
		{"ValidatorAgreesWithOpen", "What a driver can not honour of a configuration it refuses with ErrPermanent; a driver of which that can happen also implements ConsumerValidator and ProducerValidator.", validatorAgreesWithOpen},
		{ruleAssignFirst, "Assign tells of new claims, before anything of them is delivered.", assignComesFirst},
		{"AssignWithoutClaims", "Assign is called at least once for each time that the group is joined, without claims if there are none for this member.", assignWithoutClaims},
		{ruleFixed, "The exported fields of a Claim never change.", claimsNeverChange},
		{ruleRunNil, "Run returns nil after Close.", runReturnsNilAfterClose},
		{"RunAfterCloseReturnsAtOnce", "Called after Close, Run returns nil at once and calls nothing.", runAfterClose},
		{ruleRunEndsClaims, "Every claim that was assigned has been ended, by Revoke or by Lost, before Run returns.", runEndsEveryClaim},
		{ruleSilence, "When Run has returned, no method of h runs or will run.", silenceAfterRun},
		{ruleOwnGoroutine, "No method of a Handler runs inside a call that the core has made, but for Consumer.Run.", handlerRunsOnTheDriversGoroutines},
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
		e.errorf("the member that runs has %d of 2 claims after another was opened, want 2", n)
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

// validatorAgreesWithOpen asks for what the cases use, and for what no driver
// knows; whether that is refused is the driver's own affair.
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
	a.await("a call of Assign for the second join", func() bool { return a.assigns > 1 })
	e.await("one owner of the one partition", func() bool { return len(a.live())+len(b.live()) == 1 })
}

func claimsNeverChange(e *env) {
	topic, group := e.topic(2), e.unique("group")
	cfg := e.consumerConfig(group, topic)
	cfg.BalanceStrategies = []driver.BalanceStrategy{driver.CooperativeSticky}
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
		e.errorf("Run after Close has called %v", m.history)
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

package drivertest

import (
	"errors"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func errorChecks() []check {
	return []check{
		{ruleNamedErrors, "Every error that a driver reports must wrap an Error with a code, unless it is a sentinel of package driver or a context error.", errorsHaveNames},
		{"OpenReturnsByItsContext", "OpenConsumer and OpenProducer must return by the end of ctx.", openReturnsByItsContext},
		{"UnknownTopicIsReported", "A driver must report a topic that does not exist, and never as permanent.", unknownTopicIsReported},
		{"RunOutlivesAnOutage", "Run must recover from everything that rejoining the group can cure, and must report each such failure to h.Error.", runOutlivesAnOutage},
		{"RunDoesNotSpin", "Run must not spin: it must space out attempts that fail at once.", runDoesNotSpin},
		{"FencedInstanceEndsRun", "With ClassicProtocol a newcomer takes the place of the older member of its InstanceID, whose Run must return an ErrPermanent with the code FENCED_INSTANCE_ID. With ConsumerProtocol the newcomer must wait, must get no claim, and must report UNRELEASED_INSTANCE_ID.", instancesCompete},
	}
}

// errorsHaveNames causes the errors that every environment can cause, and, where the
// harness is able to, those of an outage and a lost session. The recorder and the
// sender check each of them.
func errorsHaveNames(e *env) {
	topic, group := e.topic(1), e.unique("group")
	// A driver may look for a partition that is missing as often as it tries anything else.
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 1 })
	s := p.produce(e.context(), &driver.Message{Topic: topic, Partition: 99, Value: []byte("v")})
	p.flush()
	if s.outcome() == nil {
		e.errorf("a message to partition 99 of 1 was acknowledged with nil")
	}
	m := e.join(e.consumerConfig(group, topic))
	claim := m.waitClaims(1)[0]
	if ender, ok := e.h.(SessionEnder); ok {
		e.must(ender.EndSessions(e.context(), group))
		m.await("the loss of the claim", func() bool { return m.ownership(claim).lost })
		m.waitClaims(1)
	}
	if cutter, ok := e.h.(Cutter); ok {
		heal := e.cut(cutter)
		e.quiet()
		heal()
	}
}

// wantTransient reports an error that is nil, has no code, or is permanent.
func wantTransient(e *env, what string, err error) {
	e.t.Helper()
	switch {
	case err == nil:
		e.errorf("%s is nil, want an error", what)
	case errors.Is(err, driver.ErrPermanent):
		e.errorf("%s is %v, want no ErrPermanent, because a retry can cure it", what, err)
	default:
		e.judgeError(what, err)
	}
}

func openReturnsByItsContext(e *env) {
	cutter := ability[Cutter](e)
	topic := e.topic(1)
	e.cut(cutter)
	ctx := e.within(e.Quiet)
	e.returnsBy(e.name, e.Quiet, "OpenConsumer without brokers", func() {
		c, err := e.h.Driver().OpenConsumer(ctx, e.consumerConfig(e.unique("group"), topic))
		if err == nil {
			_ = c.Close(ctx)
		}
		wantTransient(e, "the answer of OpenConsumer without brokers", err)
	})
	later := e.within(e.Quiet)
	e.returnsBy(e.name, e.Quiet, "OpenProducer without brokers", func() {
		p, err := e.h.Driver().OpenProducer(later, e.producerConfig())
		if err == nil {
			_ = p.Close(later)
		}
		wantTransient(e, "the answer of OpenProducer without brokers", err)
	})
}

// unknownTopicIsReported accepts the error from OpenConsumer, from Run or from
// Handler.Error.
func unknownTopicIsReported(e *env) {
	cfg := e.consumerConfig(e.unique("group"), e.unique("missing"))
	consumer, err := e.h.Driver().OpenConsumer(e.context(), cfg)
	if err != nil {
		wantTransient(e, "the answer of OpenConsumer", err)
		return
	}
	m := e.adopt(consumer, cfg)
	m.start()
	m.await("an error", func() bool { return len(m.errs) > 0 || m.returned })
	e.mu.Lock()
	errs := m.errs
	e.mu.Unlock()
	if len(errs) == 0 {
		wantTransient(e, "the answer of Run", m.waitRun(e.name))
		m.closeAfterFailure()
		return
	}
	wantTransient(e, "the error of Handler.Error", errs[0])
}

func runOutlivesAnOutage(e *env) {
	cutter := ability[Cutter](e)
	topic := e.topic(1)
	m, claim := consume(e, topic)
	e.send(topic, 0, numbered("before", 5)...)
	m.waitRecords(claim, 5)
	heal := e.cut(cutter)
	m.await("an error or a loss", func() bool { return len(m.errs) > 0 || anyLost(m) })
	heal()
	e.send(topic, 0, "after")
	m.await("the record after the outage", func() bool {
		last := m.owned[len(m.owned)-1].values()
		return len(last) > 0 && last[len(last)-1] == "after"
	})
	e.quiet()
	e.wantRunning(m)
}

func runDoesNotSpin(e *env) {
	const perSecond, atOnce = 50, 50
	cutter := ability[Cutter](e)
	topic := e.topic(1)
	m, _ := consume(e, topic)
	e.cut(cutter)
	start := time.Now()
	for range 4 {
		e.quiet()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	most := atOnce + int(perSecond*time.Since(start).Seconds())
	if len(m.errs) > most {
		e.errorf("%d errors in %v without brokers, want at most %d", len(m.errs), time.Since(start), most)
	}
}

func instancesCompete(e *env) {
	if !e.classic() {
		takenInstanceWaits(e)
		return
	}
	a := e.joinStatic(e.consumerConfig(e.unique("group"), e.topic(1)))
	a.waitClaims(1)
	e.change(func() { e.zombies = true })
	b := e.join(a.cfg)
	b.waitClaims(1)
	err := a.waitRun(e.name)
	if !errors.Is(err, driver.ErrPermanent) || codeOf(err) != "FENCED_INSTANCE_ID" {
		e.errorf("Run of the fenced member returned %v, want an ErrPermanent with code FENCED_INSTANCE_ID", err)
	}
	a.closeAfterFailure()
}

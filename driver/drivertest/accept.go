package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// acceptChecks check what Produce accepts and refuses, and what an acknowledgement
// means.
func acceptChecks() []check {
	return []check{
		{"ProduceWithEndedContext", "Produce must accept nothing if ctx has already ended, and must never call Ack then.", produceWithEndedContext},
		{"ProduceContextBoundsAcceptance", "ctx bounds acceptance, not delivery.", produceContextBoundsAcceptance},
		{ruleProduceInTime, "Produce may block for buffer space only, until ctx ends or Close begins.", produceBlocksForContext},
		{"ProduceBlocksUntilClose", "Produce must return ErrClosed when Close begins while it blocks for buffer space.", produceBlocksUntilClose},
		{"ProduceTooLarge", "Produce must report every refusal except ctx's error and ErrClosed through Ack, as a record that is not in the log.", produceTooLarge},
		{"ProduceToUnknownPartition", "The outcome of a message for which no attempt was sent must not be unknown.", produceToUnknownPartition},
		{"AckIsTruthful", "An error that wraps ErrUnknownOutcome means that the record may be in the log. Any other error means that it is not and will not be.", ackIsTruthful},
		{"LostAnswerStaysUnknown", "A message of which an attempt got no answer may be in the log, even if a later attempt was refused: any error must wrap ErrUnknownOutcome.", lostAnswerStaysUnknown},
		{"ProduceInsideAck", "A driver must hold no lock while it calls an Acker: Ack may call Produce.", produceInsideAck},
		{ruleFlush, "Flush blocks until every message that was accepted before the call has been acknowledged.", flushWaits},
		{"FlushWaitsForNothingLater", "Flush waits for no message that was accepted after the call.", flushWaitsForNothingLater},
		{"FlushReturnsByItsContext", "Flush must return by the end of ctx.", flushReturnsByItsContext},
	}
}

// wantRefusal reports a message that Produce did not refuse with want, or that was
// acknowledged or stored although Produce refused it.
func wantRefusal(e *env, p *sender, ctx context.Context, topic string, want error) {
	e.t.Helper()
	refused := make(chan error, 2)
	m := &driver.Message{Topic: topic, Value: []byte("refused")}
	if _, err := p.try(ctx, m, func(err error) { refused <- err }); !errors.Is(err, want) {
		e.errorf("Produce returned %v, want %v", err, want)
		return
	}
	e.quiet()
	select {
	case err := <-refused:
		e.errorf("Produce refused the message, but it was acknowledged with %v", err)
	default:
	}
	for _, v := range values(e.read(topic, 0)) {
		if v == "refused" {
			e.errorf("Produce refused the message, but it is in the log")
		}
	}
}

func produceWithEndedContext(e *env) {
	topic := e.topic(1)
	p := e.producer()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	wantRefusal(e, p, ctx, topic, context.Canceled)
	wantDelivered(e, p.produceAll(topic, 0, "accepted")...)
}

func produceContextBoundsAcceptance(e *env) {
	topic := e.topic(1)
	p := e.producer()
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	heal := e.silence()
	ctx, cancel := context.WithCancel(context.Background())
	s := p.produce(ctx, &driver.Message{Topic: topic, Value: []byte("accepted")})
	cancel()
	e.quiet()
	if s.acked() {
		e.errorf("the message was acknowledged with %v after the context of Produce had ended", s.outcome())
	}
	heal()
	wantDelivered(e, s)
	wantStored(e, s)
}

// fill sends messages while no broker answers until Produce blocks, and reports
// whether it did: a driver's buffers need not be bounded. Each Produce must return by
// the end of its context.
func fill(e *env) (p *sender, next *driver.Message, blocked bool) {
	e.t.Helper()
	const most = 20_000
	topic := e.topic(1)
	p = e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxMessageBytes = 2_000 })
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	e.silence()
	value := bytes.Repeat([]byte("v"), 500)
	refused := 0
	for range most {
		next = &driver.Message{Topic: topic, Value: value}
		ctx, cancel := context.WithTimeout(context.Background(), e.Quiet)
		_, err := p.try(ctx, next, nil)
		cancel()
		if err == nil {
			refused = 0
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			e.errorf("Produce without buffer space returned %v, want its context's error", err)
		}
		if refused++; refused < 2 {
			continue // on a busy machine a context can end before its Produce begins
		}
		return p, &driver.Message{Topic: topic, Value: value}, true
	}
	return p, next, false
}

func produceBlocksForContext(e *env) { fill(e) }

func produceBlocksUntilClose(e *env) {
	p, next, blocked := fill(e)
	if !blocked {
		e.t.Skipf("the driver's buffers are larger than this case fills")
	}
	answer := make(chan error, 1)
	go func() {
		_, err := p.try(e.context(), next, nil)
		answer <- err
	}()
	e.quiet()
	p.close(ruleProducerCloseInTime, e.Quiet)
	if err := receive(e, "the answer of Produce", answer); !errors.Is(err, driver.ErrClosed) {
		e.errorf("Produce that blocked when Close began returned %v, want ErrClosed", err)
	}
}

func produceTooLarge(e *env) {
	topic := e.topic(1)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxMessageBytes = 10_000 })
	before := p.produceAll(topic, 0, numbered("before", 10)...)
	large := p.produce(e.context(), &driver.Message{Topic: topic, Value: bytes.Repeat([]byte("v"), 50_000)})
	after := p.produceAll(topic, 0, numbered("after", 10)...)
	wantDelivered(e, before...)
	wantDelivered(e, after...)
	wantDefiniteFailure(e, large)
	if n := len(e.read(topic, 0)); n != 20 {
		e.errorf("%d records are in the log, want the 20 small ones", n)
	}
}

// wantDefiniteFailure reports a message that succeeded or whose outcome is unknown.
func wantDefiniteFailure(e *env, s *sent) {
	e.t.Helper()
	if err := s.outcome(); err == nil || errors.Is(err, driver.ErrUnknownOutcome) {
		e.errorf("the message was acknowledged with %v, want a failure that is not an unknown outcome", err)
	}
}

func produceToUnknownPartition(e *env) {
	topic := e.topic(2)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 3 })
	s := p.produceAll(topic, 7, "v")[0]
	others := p.produceAll(topic, 1, "others go on")
	wantDefiniteFailure(e, s)
	wantDelivered(e, others...)
}

// ackIsTruthful has the few retries of a producer end in an outage.
func ackIsTruthful(e *env) {
	cutter := ability[Cutter](e)
	topic := e.topic(1)
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.MaxRetries = 2 })
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	all := p.produceAll(topic, 0, numbered("early", 20)...)
	heal := e.cut(cutter)
	all = append(all, p.produceAll(topic, 0, numbered("late", 20)...)...)
	for _, s := range all {
		_ = s.outcome()
	}
	heal()
	e.quiet()
	stored := values(e.read(topic, 0))
	for _, s := range all {
		err, found := s.outcome(), slices.Contains(stored, string(s.m.Value))
		if found != (err == nil) && !errors.Is(err, driver.ErrUnknownOutcome) {
			e.errorf("message %s was acknowledged with %v, and in the log: %v", s.m.Value, err, found)
		}
	}
}

func lostAnswerStaysUnknown(e *env) {
	loser := ability[AnswerLoser](e)
	topic := e.topic(1)
	p := e.producer()
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	refuse, err := loser.LoseAnswers(e.context(), topic)
	e.must(err)
	answer := e.atEnd(func() {
		if err := refuse(e.context()); err != nil {
			e.breach("harness", "%v", err)
		}
	})
	s := p.produce(e.context(), &driver.Message{Topic: topic, Value: bytes.Repeat([]byte("v"), 10_000)})
	e.eventually("the record in the log", func() bool { return len(e.read(topic, 0)) > 1 })
	answer()
	if err := s.outcome(); err != nil && !errors.Is(err, driver.ErrUnknownOutcome) {
		e.errorf("the message, which is in the log, was acknowledged with %v, want nil or ErrUnknownOutcome", err)
	}
}

func produceInsideAck(e *env) {
	const rounds = 50
	topic := e.topic(1)
	p := e.producer()
	last := make(chan error, rounds+1)
	var next func(i int) func(error)
	next = func(i int) func(error) {
		return func(err error) {
			if err != nil || i == rounds {
				last <- err
				return
			}
			m := &driver.Message{Topic: topic, Value: fmt.Appendf(nil, "v-%d", i)}
			if _, err := p.try(e.context(), m, next(i+1)); err != nil {
				last <- err
			}
		}
	}
	next(0)(nil)
	if err := receive(e, "a chain of messages, each sent by the Ack of the previous one", last); err != nil {
		e.errorf("a message that Ack sent: %v", err)
	}
	wantOrder(e, topic, 0, "v", rounds)
}

func flushWaits(e *env) {
	topic := e.topic(3)
	p := e.producer()
	for round := range 5 {
		all := p.produceAll(topic, int32(round%3), numbered(fmt.Sprint(round), 40)...)
		p.flush()
		for _, s := range all {
			if !s.acked() {
				e.errorf("Flush has returned, but message %s has not been acknowledged", s.m.Value)
				return
			}
		}
	}
}

// flushWaitsForNothingLater accepts a message to a missing topic during Flush. That message
// stays without an acknowledgement until the topic exists.
func flushWaitsForNothingLater(e *env) {
	topic, missing := e.topic(1), e.unique("missing")
	p := e.producer(func(cfg *driver.ProducerConfig) { cfg.DeliveryTimeout = 3 * e.Patience })
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	heal := e.silence()
	before := p.produceAll(topic, 0, "before")
	flushed := make(chan error, 1)
	go func() { flushed <- p.producer.Flush(e.within(2 * e.Patience)) }()
	e.quiet()
	after := p.produceAll(missing, 0, "after")
	heal()
	wantDelivered(e, before...)
	select {
	case err := <-flushed:
		if err != nil {
			e.errorf("Flush returned %v, want nil", err)
		}
	case <-after[0].done:
		e.errorf("the message to a missing topic was acknowledged with %v before Flush has returned", after[0].outcome())
	case <-time.After(e.Patience):
		e.errorf("Flush has not returned %v after all messages that were accepted before it were acknowledged", e.Patience)
	}
	e.must(e.h.CreateTopic(e.context(), missing, 1))
	wantDelivered(e, after...)
}

func flushReturnsByItsContext(e *env) {
	topic := e.topic(1)
	p := e.producer()
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	heal := e.silence()
	p.produceAll(topic, 0, "unanswered")
	ctx := e.within(e.Quiet)
	err, returned := answerBy(e, e.name, e.Quiet, "Flush without answers", func() error { return p.producer.Flush(ctx) })
	if returned && !errors.Is(err, context.DeadlineExceeded) {
		e.errorf("Flush without answers returned %v, want its context's error", err)
	}
	heal()
}

package drivertest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func produceCloseChecks() []check {
	return []check{
		{ruleProducerCloseWaits, "Close of a producer must send what was accepted and wait for the answers.", producerCloseWaits},
		{"ProduceAfterClose", "After Close, Produce must return ErrClosed and must never call Ack.", produceAfterClose},
		{ruleAckSilence, "After Close of a producer has returned, no Ack runs or will run.", noAckAfterClose},
		{ruleProducerCloseInTime, "When ctx ends, Close of a producer must return ctx's error.", producerCloseInTime},
		{"ProducerCloseReportsUnknown", "When ctx ends, Close must acknowledge every unanswered message with ErrUnknownOutcome, or with another error if the message was certainly never sent.", producerCloseReportsUnknown},
		{"ProducerCloseTwice", "A second Close of a producer must return the same answer.", producerCloseTwice},
		{"ProducerCloseConcurrently", "A Producer must be safe for concurrent use by several goroutines, also while it is being closed.", producerCloseConcurrently},
	}
}

func producerCloseWaits(e *env) {
	topic := e.topic(2)
	p := e.producer()
	all := p.produceAll(topic, 0, numbered("a", 100)...)
	all = append(all, p.produceAll(topic, 1, numbered("b", 100)...)...)
	p.stop()
	wantDelivered(e, all...)
	wantOrder(e, topic, 0, "a", 100)
	wantOrder(e, topic, 1, "b", 100)
}

func produceAfterClose(e *env) {
	topic := e.topic(1)
	p := e.producer()
	wantDelivered(e, p.produceAll(topic, 0, "v")...)
	p.stop()
	wantRefusal(e, p, e.context(), topic, driver.ErrClosed)
	err, _ := answerBy(e, e.name, e.Patience, "Flush after Close", func() error { return p.producer.Flush(e.context()) })
	if err != nil && !errors.Is(err, driver.ErrClosed) {
		e.errorf("Flush after Close returned %v, want nil or ErrClosed", err)
	}
}

// unanswered returns a producer with n messages that wait for their acknowledgement.
func unanswered(e *env, n int) (p *sender, waiting []*sent, heal func()) {
	e.t.Helper()
	topic := e.topic(1)
	p = e.producer()
	wantDelivered(e, p.produceAll(topic, 0, "first")...)
	heal = e.silence()
	return p, p.produceAll(topic, 0, numbered("v", n)...), heal
}

func noAckAfterClose(e *env) {
	p, _, heal := unanswered(e, 20)
	p.close(ruleProducerCloseInTime, e.Quiet)
	heal()
	e.quiet()
}

func producerCloseInTime(e *env) {
	p, _, _ := unanswered(e, 20)
	if err, returned := p.close(e.name, e.Quiet); returned && !errors.Is(err, context.DeadlineExceeded) {
		e.errorf("Close without answers returned %v, want its context's error", err)
	}
}

// producerCloseReportsUnknown requires an unknown outcome of the first message,
// because nothing keeps a driver from sending it. The log decides about the others.
func producerCloseReportsUnknown(e *env) {
	p, waiting, heal := unanswered(e, 20)
	p.close(ruleProducerCloseInTime, e.Quiet)
	var certain []string
	for i, s := range waiting {
		if !s.acked() {
			e.errorf("message %s was not acknowledged when Close had returned", s.m.Value)
			continue
		}
		switch err := s.outcome(); {
		case err == nil, i == 0 && !errors.Is(err, driver.ErrUnknownOutcome):
			e.errorf("message %s was acknowledged with %v, want ErrUnknownOutcome", s.m.Value, err)
		case !errors.Is(err, driver.ErrUnknownOutcome):
			certain = append(certain, string(s.m.Value))
		}
	}
	heal()
	e.quiet()
	for _, v := range values(e.read(waiting[0].m.Topic, 0)) {
		if slices.Contains(certain, v) {
			e.errorf("message %s was acknowledged as never sent, but it is in the log", v)
		}
	}
}

func producerCloseTwice(e *env) {
	p, _, heal := unanswered(e, 5)
	first, _ := p.close(ruleProducerCloseInTime, e.Quiet)
	second, _ := p.close(e.name, e.Patience)
	if first == nil || second == nil || first.Error() != second.Error() {
		e.errorf("Close returned %v and then %v, want the same answer twice", first, second)
	}
	heal()
	q := e.producer()
	for range 2 {
		if err, _ := q.close(ruleProducerCloseInTime, e.Patience); err != nil {
			e.errorf("Close of an idle producer returned %v, want nil", err)
		}
	}
}

func producerCloseConcurrently(e *env) {
	topic := e.topic(2)
	p := e.producer()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() { produceUntilClosed(e, p, topic, int32(g%2)) })
	}
	wantDelivered(e, p.produceAll(topic, 0, "v")...)
	p.closed = true
	for range 4 {
		wg.Go(func() {
			err, returned := answerBy(e, ruleProducerCloseInTime, e.Patience, "Close of the producer", func() error { return p.producer.Close(e.context()) })
			if returned && err != nil {
				e.errorf("Close returned %v, want nil", err)
			}
		})
	}
	wg.Wait()
}

// produceUntilClosed sends messages one at a time until Produce refuses one, which
// must be with ErrClosed.
func produceUntilClosed(e *env, p *sender, topic string, partition int32) {
	for start := time.Now(); time.Since(start) < e.Patience; time.Sleep(time.Millisecond) {
		m := &driver.Message{Topic: topic, Partition: partition, Value: []byte("v")}
		switch _, err := p.try(e.context(), m, nil); {
		case err == nil:
		case errors.Is(err, driver.ErrClosed):
			return
		default:
			e.errorf("Produce during Close returned %v, want ErrClosed", err)
			return
		}
	}
	e.errorf("Produce has not returned ErrClosed %v after Close", e.Patience)
}

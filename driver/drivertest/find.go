package drivertest

import (
	"context"
	"errors"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func findChecks() []check {
	return []check{
		{"FindTopic", "FindTopic must ask at each call whether a topic exists, and must not create it. The error of a topic that does not exist must have the code UNKNOWN_TOPIC_OR_PARTITION and must not wrap ErrPermanent.", findTopic},
		{"FindTopicInTime", "FindTopic must return by the end of ctx, and returns ErrClosed after Close.", findTopicInTime},
	}
}

// finder returns a producer that can look topics up, or skips the case.
func (e *env) finder() (*sender, driver.TopicFinder) {
	e.t.Helper()
	p := e.producer()
	f, ok := p.producer.(driver.TopicFinder)
	if !ok {
		e.t.Skipf("the producer does not implement driver.TopicFinder")
	}
	return p, f
}

func findTopic(e *env) {
	there, missing := e.topic(2), e.unique("missing")
	_, f := e.finder()
	if err := f.FindTopic(e.context(), there); err != nil {
		e.errorf("a topic that exists: %v", err)
	}
	for range 2 { // the second call would find what the first one has created
		err := f.FindTopic(e.context(), missing)
		switch {
		case err == nil:
			e.errorf("a topic that does not exist was found, or created")
		case codeOf(err) != "UNKNOWN_TOPIC_OR_PARTITION" || errors.Is(err, driver.ErrPermanent):
			e.errorf("a topic that does not exist: %v, want UNKNOWN_TOPIC_OR_PARTITION, not permanent", err)
		}
		e.quiet()
	}
	e.must(e.h.CreateTopic(e.context(), missing, 1))
	e.eventually("the topic to be found once it exists", func() bool {
		return f.FindTopic(e.context(), missing) == nil
	})
}

func findTopicInTime(e *env) {
	topic := e.topic(1)
	staller, stalls := e.h.(Staller)
	p, f := e.finder()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.FindTopic(ended, topic); !errors.Is(err, context.Canceled) {
		e.errorf("with a context that has ended: %v, want context.Canceled", err)
	}
	if stalls {
		heal, err := staller.Stall(e.context())
		e.must(err)
		heal = e.atEnd(heal)
		began := time.Now()
		if err := f.FindTopic(e.within(e.Quiet), topic); !errors.Is(err, context.DeadlineExceeded) {
			e.errorf("while no broker answers: %v, want context.DeadlineExceeded", err)
		}
		if took := time.Since(began); took > e.Quiet+e.Grace {
			e.errorf("FindTopic returned after %v, %v after the end of its context", took, took-e.Quiet)
		}
		heal()
	}
	p.stop()
	if err := f.FindTopic(e.context(), topic); !errors.Is(err, driver.ErrClosed) {
		e.errorf("after Close: %v, want ErrClosed", err)
	}
}

package kafkatest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// wait returns when done reports true, and fails the test if that is not so
// within the timeout: report says what was waited for and what is known.
func (k *Kafka) wait(done func() bool, report func() string) {
	k.t.Helper()
	timer := time.NewTimer(k.Timeout)
	defer timer.Stop()
	for {
		k.mu.Lock()
		changed := k.changed
		k.mu.Unlock()
		if done() {
			return
		}
		select {
		case <-changed:
		case <-timer.C:
			if !done() {
				k.t.Fatalf("kafkatest: waited %v for %s", k.Timeout, report())
			}
			return
		}
	}
}

// WaitHandled waits until each record has been handled, with a nil error, by
// every consumer of its topic that is not off. A record that was handled before
// counts. It may not be committed yet: see [Kafka.WaitCommitted].
func (k *Kafka) WaitHandled(records ...*kafka.Message) {
	k.t.Helper()
	for _, r := range records {
		k.wait(func() bool { return k.handled(r) }, func() string {
			return k.describeRecord(r, "be handled")
		})
	}
}

func (k *Kafka) handled(r *kafka.Message) bool {
	var some bool
	for _, s := range k.readers(r.Topic) {
		if k.history(s, r).handled {
			some = true
			continue
		}
		if k.state(s.JobName) != kafka.StateOff {
			return false
		}
	}
	return some
}

// WaitFailed waits until a consumer's handler has failed a record so many times,
// and returns the error of the latest failure. A failure that its consumer does
// not count is none: one after the partition was taken away or the consumer
// switched off.
func (k *Kafka) WaitFailed(r *kafka.Message, times int) error {
	k.t.Helper()
	var latest error
	k.wait(func() bool {
		return slices.ContainsFunc(k.readers(r.Topic), func(s kafka.ConsumerStatus) bool {
			h := k.history(s, r)
			latest = h.err
			return h.failures >= times
		})
	}, func() string {
		return k.describeRecord(r, "fail "+counted(times, "time"))
	})
	return latest
}

// WaitAttempts waits until a record has been handed to a handler n times, be it
// for a retry or for a redelivery. The latest attempt may still be under way.
func (k *Kafka) WaitAttempts(r *kafka.Message, n int) {
	k.t.Helper()
	k.wait(func() bool { return k.Attempts(r) >= n }, func() string {
		return k.describeRecord(r, "have "+counted(n, "attempt"))
	})
}

// Attempts returns how many times a record has been handed to a handler, all
// consumers of its topic together.
func (k *Kafka) Attempts(r *kafka.Message) int {
	n := 0
	for _, s := range k.readers(r.Topic) {
		n += k.history(s, r).attempts
	}
	return n
}

// WaitState waits until a job is in a state, or has been in it for a moment
// since the call, and returns its status.
func (k *Kafka) WaitState(job string, state kafka.State) kafka.ConsumerStatus {
	k.t.Helper()
	job = k.must(job).JobName
	k.mu.Lock()
	from := len(k.states)
	k.mu.Unlock()
	k.wait(func() bool { return k.state(job) == state || k.wasIn(job, state, from) }, func() string {
		return fmt.Sprintf("consumer %q to be %v\n%s", job, state, k.describe(k.must(job)))
	})
	return k.must(job)
}

// state returns the latest state that the hooks were called with for a job. The status
// changes earlier, before the hooks of the test have returned.
func (k *Kafka) state(job string) kafka.State {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range slices.Backward(k.states) {
		if e.JobName == job {
			return e.To
		}
	}
	return kafka.StateOff
}

// wasIn reports whether a job has gone into a state, leaving out the first from
// changes of all jobs.
func (k *Kafka) wasIn(job string, state kafka.State, from int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.ContainsFunc(k.states[from:], func(e kafka.StateChanged) bool {
		return e.To == state && e.JobName == job
	})
}

// WaitCommitted waits until a job's group has committed everything that has been
// sent to its topics by now.
func (k *Kafka) WaitCommitted(job string) {
	k.t.Helper()
	s := k.must(job)
	ctx, cancel := context.WithTimeout(context.Background(), k.Timeout)
	defer cancel()
	for _, topic := range s.Topics {
		for p := range int32(k.Broker.Partitions(topic)) {
			start, end, err := k.Broker.Offsets(topic, p)
			if err == nil && end > start {
				err = k.Broker.WaitCommitted(ctx, s.Group, topic, p, end)
			}
			if err != nil {
				k.t.Fatalf("kafkatest: waited %v for group %q to commit %s/%d at %d\n%s",
					k.Timeout, s.Group, topic, p, end, k.describe(k.must(job)))
			}
		}
	}
}

// readers returns the consumers of a topic.
func (k *Kafka) readers(topic string) []kafka.ConsumerStatus {
	return slices.DeleteFunc(k.Consumers(), func(s kafka.ConsumerStatus) bool { return !slices.Contains(s.Topics, topic) })
}

// history returns a copy of what has happened to r in a consumer.
func (k *Kafka) history(s kafka.ConsumerStatus, r *kafka.Message) history {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.records[positionOf(s.JobName, r)]; h != nil {
		return *h
	}
	return history{}
}

package kafkatest

import (
	"context"
	"slices"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A partition is one that a job reads.
type partition struct {
	job string
	memory.TopicPartition
}

// A position is that of a record that a job reads.
type position struct {
	partition
	offset int64
}

// A history is what has happened to one record in one job.
type history struct {
	attempts int // times handed out
	failures int
	handled  bool
	err      error // of the latest failure

	// The records of the latest call that it was in. They fail together. Those of several
	// calls may be with handlers of one partition at once.
	call []*history

	dead    *kafka.RecordForwarded // the latest
	skipped *kafka.RecordSkipped
}

func partitionOf(job, topic string, p int32) partition {
	return partition{job, memory.TopicPartition{Topic: topic, Partition: p}}
}

// place returns the position of a record as a handler of a job gets it. One that lies in a
// retry topic counts where it first lay: its calls there are further attempts.
func (k *Kafka) place(job string, m *kafka.Message) position {
	if k.isRetryTopic(job, m.Topic) {
		s := m.Source()
		return position{partitionOf(job, s.Topic, s.Partition), s.Offset}
	}
	return positionOf(job, m)
}

// isRetryTopic reports whether a topic is a retry topic of a job.
func (k *Kafka) isRetryTopic(job, topic string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	topics, known := k.retryTopics[job]
	if !known {
		k.mu.Unlock()
		s, err := k.Consumer(job)
		k.mu.Lock()
		if err == nil {
			topics = s.RetryTopics
			k.retryTopics[job] = topics
		}
	}
	return slices.Contains(topics, topic)
}

func positionOf(job string, m *kafka.Message) position {
	return position{partitionOf(job, m.Topic, m.Partition), m.Offset}
}

// observe is a middleware: it notes the records that go into a handler and those that
// are done. The core reports failures, since it alone knows what counts as one.
func (k *Kafka) observe(next kafka.HandlerFunc) kafka.HandlerFunc {
	return func(ctx context.Context, ms []*kafka.Message) error {
		hs := k.begin(kafka.JobName(ctx), ms)
		err := next(ctx, ms)
		if err == nil {
			k.finish(hs)
		}
		return err
	}
}

// begin notes that records are handed out, and returns their histories.
func (k *Kafka) begin(job string, ms []*kafka.Message) []*history {
	places := make([]position, len(ms))
	for i, m := range ms {
		places[i] = k.place(job, m)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	hs := make([]*history, len(ms))
	for i, pos := range places {
		if k.records[pos] == nil {
			k.records[pos] = new(history)
		}
		hs[i] = k.records[pos]
		hs[i].attempts++
	}
	for _, h := range hs {
		h.call = hs
	}
	k.fire()
	return hs
}

// finish notes that records have been handled.
func (k *Kafka) finish(hs []*history) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, h := range hs {
		h.handled = true
	}
	k.fire()
}

// failed notes that the latest call with a record has failed. The caller holds the mutex.
func (k *Kafka) failed(e kafka.HandlerFailed) {
	pos := position{partitionOf(e.JobName, e.Source.Topic, e.Source.Partition), e.Source.Offset}
	if k.records[pos] == nil {
		return
	}
	for _, h := range k.records[pos].call {
		h.failures++
		h.err = e.Err
	}
}

// A hook wakes the waits for everything that happens in the manager.
type hook struct {
	kafka.NopHook
	k *Kafka
}

func (h hook) Event(e kafka.Event) {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	switch e := e.(type) {
	case kafka.HandlerFailed:
		h.k.failed(e)
	case kafka.RecordForwarded:
		h.k.given(e.JobName, e.Source).dead = &e
	case kafka.RecordSkipped:
		h.k.given(e.JobName, e.Source).skipped = &e
	case kafka.StateChanged:
		h.k.states = append(h.k.states, e)
	}
	h.k.fire()
}

// fire wakes all waits. The caller holds the mutex; closing a channel under it
// blocks no goroutine.
func (k *Kafka) fire() {
	close(k.changed)
	k.changed = make(chan struct{})
}

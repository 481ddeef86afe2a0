package kafkatest

import (
	"context"
	"slices"
	"strconv"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// FailTimes returns a handler that fails each record n times with err, and then hands
// it to next; a nil next handles it. With kafka.Unlimited for n it fails them always.
// Topic, partition and offset distinguish the records of one handler.
func FailTimes(n int, err error, next func(context.Context, *kafka.Message) error) func(context.Context, *kafka.Message) error {
	var mu sync.Mutex
	failed := make(map[position]int)
	fails := func(m *kafka.Message) bool {
		mu.Lock()
		defer mu.Unlock()
		pos := positionOf("", m)
		failed[pos]++
		return n == kafka.Unlimited || failed[pos] <= n
	}
	return func(ctx context.Context, m *kafka.Message) error {
		if fails(m) {
			return err
		}
		if next == nil {
			return nil
		}
		return next(ctx, m)
	}
}

// A DeadLetter is a record of a dead-letter topic, read as what it was.
type DeadLetter struct {
	// Record is the record that became a dead letter, with the topic, the partition,
	// the offset and the timestamp that it had there, and its own headers.
	Record *kafka.Message

	Group     string // of the consumer that gave it up
	Attempts  int    // that failed
	Reason    string // one of the kafka.DeadLetterReason constants
	Exception string // the kind of the error
	Error     string // its text; "" with DeadLetterConfig.NoErrorText

	// Letter is the copy as it lies in the dead-letter topic.
	Letter *kafka.Message
}

// DeadLetters returns what lies in a dead-letter topic, as Produced does, in order.
func (k *Kafka) DeadLetters(topic string) []DeadLetter {
	k.t.Helper()
	var all []DeadLetter
	for _, m := range k.Produced(topic) {
		all = append(all, readDeadLetter(m))
	}
	return all
}

// readDeadLetter reads a copy as what it was.
func readDeadLetter(m *kafka.Message) DeadLetter {
	from := m.Source()
	d := DeadLetter{Letter: m, Record: &kafka.Message{
		Topic: from.Topic, Partition: from.Partition, Offset: from.Offset, Timestamp: from.Timestamp,
		Key: m.Key, Value: m.Value,
	}}
	for _, h := range m.Headers {
		switch h.Key {
		case kafka.HeaderErrorGroup:
			d.Group = string(h.Value)
		case kafka.HeaderErrorDeliveryCount:
			d.Attempts, _ = strconv.Atoi(string(h.Value))
		case kafka.HeaderErrorReason:
			d.Reason = string(h.Value)
		case kafka.HeaderErrorException:
			d.Exception = string(h.Value)
		case kafka.HeaderErrorMessage:
			d.Error = string(h.Value)
		case kafka.HeaderErrorTopic, kafka.HeaderErrorPartition, kafka.HeaderErrorOffset,
			kafka.HeaderErrorTimestamp, kafka.HeaderErrorFailed, kafka.HeaderRedrives:
		default:
			d.Record.Headers = append(d.Record.Headers, h)
		}
	}
	return d
}

// WaitDead waits until a consumer has copied the record to its dead-letter topic, and
// returns the copy, read as what it was.
func (k *Kafka) WaitDead(r *kafka.Message) DeadLetter {
	k.t.Helper()
	var e *kafka.RecordForwarded
	k.wait(func() bool {
		return slices.ContainsFunc(k.readers(r.Topic), func(s kafka.ConsumerStatus) bool {
			e = k.history(s, r).dead
			return e != nil
		})
	}, func() string { return k.describeRecord(r, "become a dead letter") })
	records, err := k.Broker.Records(e.To.Topic, e.To.Partition, driver.ReadUncommitted)
	if err != nil {
		k.t.Fatalf("kafkatest: read %v: %v", e.To, err)
	}
	for _, l := range records {
		if l.Offset == e.ToOffset {
			return readDeadLetter(&kafka.Message{
				Topic: e.To.Topic, Partition: e.To.Partition, Offset: l.Offset, Timestamp: l.Timestamp,
				Key: l.Key, Value: l.Value, Headers: l.Headers,
			})
		}
	}
	k.t.Fatalf("kafkatest: the dead letter at %v offset %d is gone", e.To, e.ToOffset)
	return DeadLetter{}
}

// WaitSkipped waits until a consumer has skipped the record, and returns the error for
// which it did.
func (k *Kafka) WaitSkipped(r *kafka.Message) error {
	k.t.Helper()
	var e *kafka.RecordSkipped
	k.wait(func() bool {
		return slices.ContainsFunc(k.readers(r.Topic), func(s kafka.ConsumerStatus) bool {
			e = k.history(s, r).skipped
			return e != nil
		})
	}, func() string { return k.describeRecord(r, "be skipped") })
	return e.Err
}

// given returns the history of a record of a job, for an event about it. The caller
// holds the mutex.
func (k *Kafka) given(job string, s kafka.Source) *history {
	pos := position{partitionOf(job, s.Topic, s.Partition), s.Offset}
	if k.records[pos] == nil {
		k.records[pos] = new(history)
	}
	return k.records[pos]
}

// A finder is a producer that creates the topic that it looks up, as everything here
// does that asks for a topic.
type finder struct {
	driver.Producer
	k *Kafka
}

// FindTopic implements driver.TopicFinder.
func (f *finder) FindTopic(ctx context.Context, topic string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	_ = f.k.Broker.CreateTopic(topic, 1) // or it exists, or its name is wrong
	return f.Producer.(driver.TopicFinder).FindTopic(ctx, topic)
}

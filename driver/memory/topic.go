package memory

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
)

// A TopicPartition names one partition.
type TopicPartition struct {
	Topic     string
	Partition int32
}

func comparePartitions(a, b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// A topic is one incarnation of a name: a topic that is created again after a deletion
// is another topic.
type topic struct {
	id         int // unique within the broker, never 0
	partitions []*partitionLog
	next       int32 // partition of the next Broker.Send without a key
	limits     limits
	forbidden  bool // to all clients
}

func (t *topic) grow(n int) {
	for len(t.partitions) < n {
		t.partitions = append(t.partitions, new(partitionLog))
	}
}

// CreateTopic creates a topic. Groups that subscribe to it rebalance.
func (b *Broker) CreateTopic(name string, partitions int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := checkTopicName(name); err != nil {
		return err
	}
	switch {
	case partitions < 1:
		return failPermanently("INVALID_PARTITIONS", "topic %q: %d partitions, less than 1", name, partitions)
	case b.topics[name] != nil:
		return fail("TOPIC_ALREADY_EXISTS", "topic %q exists", name)
	}
	b.createTopic(name, partitions)
	return nil
}

// longestTopicName is Kafka's limit, which leaves room for a suffix in file names.
const longestTopicName = 249

// checkTopicName checks a name by Kafka's rules.
func checkTopicName(name string) *driver.Error {
	illegal := func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-", r)
	}
	invalid := func(why string) *driver.Error {
		return failPermanently("INVALID_TOPIC_EXCEPTION", "topic %q: the name %s", name, why)
	}
	switch {
	case name == "":
		return invalid("is empty")
	case name == "." || name == "..":
		return invalid("is . or ..")
	case len(name) > longestTopicName:
		return invalid(fmt.Sprintf("is longer than %d", longestTopicName))
	case strings.ContainsFunc(name, illegal):
		return invalid("has a character that is neither an ASCII letter or digit nor one of . _ -")
	}
	return nil
}

func (b *Broker) createTopic(name string, partitions int) *topic {
	b.topicIDs++
	t := &topic{id: b.topicIDs}
	t.grow(partitions)
	b.topics[name] = t
	b.metadataChanged(name)
	return t
}

// AddPartitions raises the number of a topic's partitions to total. Groups that
// subscribe to it rebalance.
func (b *Broker) AddPartitions(name string, total int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topics[name]
	if t == nil {
		return errUnknownTopic(name)
	}
	if n := len(t.partitions); total <= n {
		return failPermanently("INVALID_PARTITIONS", "topic %q: %d partitions, not more than its %d", name, total, n)
	}
	t.grow(total)
	b.metadataChanged(name)
	return nil
}

// DeleteTopic deletes a topic and the offsets that groups have committed for it.
// Reachable consumers lose their claims.
func (b *Broker) DeleteTopic(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.topics[name] == nil {
		return errUnknownTopic(name)
	}
	b.deleteTopic(name)
	return nil
}

// RecreateTopic deletes a topic and creates it again in one step, so that no client sees
// the topic missing. The new topic has another ID and none of the old topic's limits.
func (b *Broker) RecreateTopic(name string, partitions int) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.topics[name] == nil:
		return errUnknownTopic(name)
	case partitions < 1:
		return failPermanently("INVALID_PARTITIONS", "topic %q: %d partitions, less than 1", name, partitions)
	}
	b.deleteTopic(name)
	b.createTopic(name, partitions)
	return nil
}

// TopicID returns the ID of a topic, or 0 for an unknown topic. A topic that was deleted
// and created again has another ID.
func (b *Broker) TopicID(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.topicID(name)
}

func (b *Broker) topicID(name string) int {
	if t := b.topics[name]; t != nil {
		return t.id
	}
	return 0
}

func (b *Broker) deleteTopic(name string) {
	t := b.topics[name]
	delete(b.topics, name)
	for _, l := range t.partitions {
		l.changed.fire()
	}
	for _, g := range b.groups {
		g.forget(name)
	}
	b.metadataChanged(name)
}

// Topics returns the names of all topics, sorted.
func (b *Broker) Topics() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.topics))
}

// Partitions returns the number of a topic's partitions, or 0 for an unknown topic.
func (b *Broker) Partitions(name string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := b.topics[name]; t != nil {
		return len(t.partitions)
	}
	return 0
}

// Offsets returns the first offset of a partition and the offset after its last one.
func (b *Broker) Offsets(name string, partition int32) (start, end int64, err error) {
	err = b.withLog(name, partition, func(l *partitionLog) error {
		start, end = l.start, l.end
		return nil
	})
	return start, end, err
}

// Records returns all records of a partition that a consumer with that isolation level
// could read now. The caller must not modify the bytes and headers of the records.
func (b *Broker) Records(name string, partition int32, level driver.IsolationLevel) ([]driver.Record, error) {
	var all []driver.Record
	err := b.withLog(name, partition, func(l *partitionLog) error {
		damaged := l.damaged
		l.damaged = nil
		for next := l.start; next < l.limit(level); {
			var run []driver.Record
			run, next = l.read(next, level, 1<<30)
			all = append(all, run...)
		}
		l.damaged = damaged
		return nil
	})
	return all, err
}

// DeleteRecords moves the start of a partition up to an offset. A consumer whose position
// is below that gets OFFSET_OUT_OF_RANGE.
func (b *Broker) DeleteRecords(name string, partition int32, before int64) error {
	return b.withLog(name, partition, func(l *partitionLog) error {
		if before > l.end {
			return errOutOfRange(l, TopicPartition{name, partition}, before)
		}
		if before > l.start {
			l.deleteBefore(before)
		}
		return nil
	})
}

// Truncate moves the end of a partition down to an offset, like an unclean leader
// election: acknowledged records are lost.
func (b *Broker) Truncate(name string, partition int32, end int64) error {
	return b.withLog(name, partition, func(l *partitionLog) error {
		if end < l.start || end > l.end {
			return errOutOfRange(l, TopicPartition{name, partition}, end)
		}
		l.truncate(end)
		return nil
	})
}

// Compact removes single records, like compaction: their offsets hold no record then.
func (b *Broker) Compact(name string, partition int32, offsets ...int64) error {
	return b.withLog(name, partition, func(l *partitionLog) error {
		for _, o := range offsets {
			if !l.remove(o) {
				return errOutOfRange(l, TopicPartition{name, partition}, o)
			}
		}
		return nil
	})
}

// AppendControl appends a control record, which takes an offset and is never delivered.
func (b *Broker) AppendControl(name string, partition int32) error {
	return b.withLog(name, partition, func(l *partitionLog) error {
		l.skip()
		return nil
	})
}

func (b *Broker) withLog(name string, partition int32, f func(*partitionLog) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.log(TopicPartition{name, partition})
	if l == nil {
		return errUnknownPartition(name, partition)
	}
	return f(l)
}

func errOutOfRange(l *partitionLog, tp TopicPartition, offset int64) *driver.Error {
	return failPermanently("OFFSET_OUT_OF_RANGE", "%s/%d: offset %d, the log holds [%d, %d)",
		tp.Topic, tp.Partition, offset, l.start, l.end)
}

// log returns the log of a partition, or nil.
func (b *Broker) log(tp TopicPartition) *partitionLog {
	t := b.topics[tp.Topic]
	if t == nil || tp.Partition < 0 || int(tp.Partition) >= len(t.partitions) {
		return nil
	}
	return t.partitions[tp.Partition]
}

// topicError returns the error that a client gets for a topic, or nil.
func (b *Broker) topicError(name string) *driver.Error {
	switch t := b.topics[name]; {
	case t == nil:
		return errNoTopic(name)
	case t.forbidden:
		return errForbidden(name)
	}
	return nil
}

// ensureTopic returns a topic, which it creates if the broker has WithAutoCreate, or nil.
func (b *Broker) ensureTopic(name string) *topic {
	if t := b.topics[name]; t != nil || b.autoCreate < 1 || checkTopicName(name) != nil {
		return t
	}
	return b.createTopic(name, b.autoCreate)
}

func (b *Broker) metadataChanged(topic string) {
	for _, g := range b.groups {
		g.metadataChanged(topic)
	}
	for _, p := range b.producers {
		p.changed.fire()
	}
}

package memory

import (
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// Damage makes the record at an offset one that no client can read, as a flipped
// bit on disk does to a batch. What lies before it can be read; a reader that
// stands at it reports CORRUPT_MESSAGE and goes no further until [Broker.Repair],
// or until the log begins behind it. Broker.Records reads it all the same.
func (b *Broker) Damage(name string, partition int32, offset int64) error {
	return b.withLog(name, partition, func(l *partitionLog) error {
		if offset < l.start || offset >= l.end {
			return errOutOfRange(l, TopicPartition{name, partition}, offset)
		}
		if i, found := slices.BinarySearch(l.damaged, offset); !found {
			l.damaged = slices.Insert(l.damaged, i, offset)
		}
		return nil
	})
}

// Repair makes all that Damage has damaged in a partition readable again.
func (b *Broker) Repair(name string, partition int32) error {
	return b.withLog(name, partition, func(l *partitionLog) error {
		l.damaged = nil
		l.changed.fire()
		return nil
	})
}

// intact returns the first damaged offset from offset on, or limit if none is
// before that.
func (l *partitionLog) intact(offset, limit int64) int64 {
	i, _ := slices.BinarySearch(l.damaged, offset)
	if i < len(l.damaged) {
		return min(l.damaged[i], limit)
	}
	return limit
}

// damagedAt reports whether a reader that stands at offset can read no further.
func (l *partitionLog) damagedAt(offset int64) bool {
	_, found := slices.BinarySearch(l.damaged, offset)
	return found
}

// mend forgets damage outside of the log.
func (l *partitionLog) mend() {
	l.damaged = slices.DeleteFunc(l.damaged, func(o int64) bool { return o < l.start || o >= l.end })
}

func errDamaged(tp TopicPartition, offset int64) *driver.PartitionError {
	return &driver.PartitionError{
		Topic: tp.Topic, Partition: tp.Partition, Offset: offset,
		Err: fail("CORRUPT_MESSAGE", "the batch can not be read"),
	}
}

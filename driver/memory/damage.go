package memory

import (
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// Damage makes the record at an offset unreadable for clients, like a flipped bit in a
// batch on disk. Clients read the records before it. A client whose position is at that
// offset reports CORRUPT_MESSAGE and stops there until [Broker.Repair], or until the log
// begins behind the offset. Broker.Records still returns the record.
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

// Repair makes all damaged records of a partition readable again.
func (b *Broker) Repair(name string, partition int32) error {
	return b.withLog(name, partition, func(l *partitionLog) error {
		l.damaged = nil
		l.changed.fire()
		return nil
	})
}

// intact returns the first damaged offset at or after offset, or limit if that is
// lower.
func (l *partitionLog) intact(offset, limit int64) int64 {
	i, _ := slices.BinarySearch(l.damaged, offset)
	if i < len(l.damaged) {
		return min(l.damaged[i], limit)
	}
	return limit
}

// damagedAt reports whether offset is damaged.
func (l *partitionLog) damagedAt(offset int64) bool {
	_, found := slices.BinarySearch(l.damaged, offset)
	return found
}

// mend drops damaged offsets that are outside the log.
func (l *partitionLog) mend() {
	l.damaged = slices.DeleteFunc(l.damaged, func(o int64) bool { return o < l.start || o >= l.end })
}

func errDamaged(tp TopicPartition, offset int64) *driver.PartitionError {
	return &driver.PartitionError{
		Topic: tp.Topic, Partition: tp.Partition, Offset: offset,
		Err: fail("CORRUPT_MESSAGE", "the batch cannot be read"),
	}
}

package franz

import (
	"math/rand/v2"

	"github.com/twmb/franz-go/pkg/kgo"
)

// stickyBytes is how many bytes of messages without a key go to one partition before the next
// one is drawn, so that batches fill.
const stickyBytes = 64 << 10

// java chooses as Java's client does: by the murmur2 hash of the key, or without a key a
// partition that changes from time to time.
type java struct{}

// ForTopic implements kgo's Partitioner.
func (java) ForTopic(string) kgo.TopicPartitioner { return new(javaTopic) }

type javaTopic struct{ sticky, n, left int }

// byKey hashes a key as Java's client does. It has no state for messages with a key.
var byKey = kgo.StickyKeyPartitioner(nil).ForTopic("")

// RequiresConsistency implements kgo's TopicPartitioner. Only a message that may go anywhere
// avoids partitions without a leader.
func (*javaTopic) RequiresConsistency(r *kgo.Record) bool { return r.Key != nil }

// Partition implements kgo's TopicPartitioner.
func (t *javaTopic) Partition(r *kgo.Record, n int) int {
	if r.Key != nil {
		return byKey.Partition(r, n)
	}
	if t.left <= 0 || t.n != n {
		t.sticky, t.left, t.n = rand.IntN(n), stickyBytes, n
	}
	t.left -= len(r.Value) + recordBytes
	return t.sticky
}

// asked sends a message to the partition that it asks for, and lets another partitioner choose
// if it asks for none.
type asked struct{ p *producer }

// ForTopic implements kgo's Partitioner.
func (a asked) ForTopic(name string) kgo.TopicPartitioner {
	t := &askedTopic{a.p.topic(name), a.p.partitioner.ForTopic(name)}
	switch t.other.(type) {
	case kgo.TopicBackupPartitioner:
		return askedBackup{t}
	case kgo.TopicPartitionerOnNewBatch:
		return askedNewBatch{t}
	}
	return t
}

type askedTopic struct {
	topic *topic
	other kgo.TopicPartitioner
}

// RequiresConsistency implements kgo's TopicPartitioner.
func (t *askedTopic) RequiresConsistency(r *kgo.Record) bool {
	return slotOf(r).want >= 0 || t.other.RequiresConsistency(r)
}

// Partition implements kgo's TopicPartitioner.
func (t *askedTopic) Partition(r *kgo.Record, n int) int {
	return t.choose(r, n, func() int { return t.other.Partition(r, n) })
}

func (t *askedTopic) choose(r *kgo.Record, n int, other func() int) (pick int) {
	s := slotOf(r)
	if known := t.topic.partitions.Load(); int32(n) > known {
		t.topic.partitions.Store(int32(n))
	}
	switch {
	case s.want >= int32(n):
		s.broken = errNoPartition
		return -1
	case s.want >= 0:
		return int(s.want)
	}
	defer func() {
		if p := recover(); p != nil {
			s.broken, pick = panicked(p), -1
		}
	}()
	return other()
}

// askedNewBatch is for partitioners that want to know about new batches.
type askedNewBatch struct{ *askedTopic }

// OnNewBatch implements kgo's TopicPartitionerOnNewBatch.
func (t askedNewBatch) OnNewBatch() { t.other.(kgo.TopicPartitionerOnNewBatch).OnNewBatch() }

// askedBackup is for partitioners that look at what the partitions have buffered.
type askedBackup struct{ *askedTopic }

// OnNewBatch implements kgo's TopicPartitionerOnNewBatch.
func (t askedBackup) OnNewBatch() {
	if other, ok := t.other.(kgo.TopicPartitionerOnNewBatch); ok {
		other.OnNewBatch()
	}
}

// PartitionByBackup implements kgo's TopicBackupPartitioner.
func (t askedBackup) PartitionByBackup(r *kgo.Record, n int, backup kgo.TopicBackupIter) int {
	return t.choose(r, n, func() int { return t.other.(kgo.TopicBackupPartitioner).PartitionByBackup(r, n, backup) })
}

package sarama

import (
	"math/rand/v2"

	ibm "github.com/IBM/sarama"
)

// stickyBytes is how many bytes of messages without a key go to one partition before the next
// one is drawn: as in Java's client, so that batches fill.
const stickyBytes = 16 << 10

// A partitioner sends a message to the partition of its key, as Java's client does, else to a
// partition that changes from time to time. It is not asked for a message that names its
// partition. Each topic has one, which one goroutine uses.
type partitioner struct {
	byKey  ibm.Partitioner
	sticky int32
	left   int // bytes until the next draw
}

func newPartitioner(topic string) ibm.Partitioner {
	return &partitioner{byKey: ibm.NewMurmur2Partitioner(topic)}
}

// Partition implements Sarama's Partitioner.
func (p *partitioner) Partition(m *ibm.ProducerMessage, n int32) (int32, error) {
	if m.Key != nil {
		return p.byKey.Partition(m, n)
	}
	if p.left <= 0 || p.sticky >= n {
		p.sticky, p.left = rand.Int32N(n), stickyBytes
	}
	p.left -= m.Value.Length()
	return p.sticky, nil
}

// RequiresConsistency implements Sarama's Partitioner.
func (p *partitioner) RequiresConsistency() bool { return true }

// MessageRequiresConsistency implements Sarama's DynamicConsistencyPartitioner.
// Only a message that may go anywhere avoids partitions without a leader.
func (p *partitioner) MessageRequiresConsistency(m *ibm.ProducerMessage) bool {
	return m.Key != nil
}

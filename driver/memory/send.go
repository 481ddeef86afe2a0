package memory

import (
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// Send appends m from outside, as a producer that is always connected would,
// and sets its Partition and Offset. It copies what m points to, and calls no
// Acker.
func (b *Broker) Send(m *driver.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.send(m, nil, nil)
}

// send appends m. turn is whose turn it is without a key; nil stands for the
// topic's own.
func (b *Broker) send(m *driver.Message, tx *Transaction, turn *int32) error {
	t := b.ensureTopic(m.Topic)
	if t == nil {
		return errNoTopic(m.Topic)
	}
	if err := t.limits.check(m); err != nil {
		return err
	}
	if turn == nil {
		turn = &t.next
	}
	p := choose(m, len(t.partitions), turn)
	if p < 0 || int(p) >= len(t.partitions) {
		return errUnknownPartition(m.Topic, p)
	}
	m.Partition, m.Offset = p, t.partitions[p].append(record(m), tx)
	if tx != nil {
		tx.touch(t.partitions[p])
	}
	return nil
}

// choose returns the partition that m asks for: its own, its key's, or the next.
func choose(m *driver.Message, n int, turn *int32) int32 {
	switch {
	case m.Partition != -1:
		return m.Partition
	case m.Key != nil:
		return partitionOf(m.Key, n)
	}
	p := *turn % int32(n)
	*turn = p + 1
	return p
}

func record(m *driver.Message) driver.Record {
	at := m.Timestamp
	if at.IsZero() {
		at = time.Now()
	}
	return driver.Record{
		Timestamp: at.Truncate(time.Millisecond),
		Key:       m.Key,
		Value:     m.Value,
		Headers:   m.Headers,
	}
}

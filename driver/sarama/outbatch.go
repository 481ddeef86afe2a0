package sarama

import (
	"slices"
	"time"

	ibm "github.com/IBM/sarama"
)

const (
	recordVersion = 2  // of the format in which records are written
	batchOverhead = 61 // of a batch without records
)

// An outBatch is the part of a request for one partition. Once it was sent and not certainly
// refused it does not change until it is settled: only then does the broker recognize a batch
// that it has already.
//
// It is guarded by the mutex of its lane's topic.
type outBatch struct {
	lane    *lane
	slots   []*slot
	size    int
	records *ibm.RecordBatch

	numbered bool // with idempotence, from seq on
	seq      int32

	tries   int
	unknown bool // an attempt may have been appended
	stored  bool
	written bool // the request is on its way: it reads the user's bytes no longer
	parted  int  // how many messages, from the first, have expired while the request was on its way
}

func newOutBatch(l *lane, slots []*slot, size int) *outBatch {
	conf := &l.topic.p.conf.Producer
	now := time.Now()
	first := stamp(slots[0], now)
	records := &ibm.RecordBatch{
		Version: recordVersion, Codec: conf.Compression, CompressionLevel: conf.CompressionLevel,
		ProducerID: noIdentity.id, ProducerEpoch: noIdentity.epoch, FirstSequence: -1,
		FirstTimestamp: first, MaxTimestamp: first, LastOffsetDelta: int32(len(slots) - 1),
		Records: make([]*ibm.Record, len(slots)),
	}
	for i, s := range slots {
		at := stamp(s, now)
		if at.After(records.MaxTimestamp) {
			records.MaxTimestamp = at
		}
		s.record.OffsetDelta, s.record.TimestampDelta = int64(i), at.Sub(first)
		records.Records[i] = &s.record
	}
	return &outBatch{lane: l, slots: slots, size: size, records: records}
}

// stamp returns the time of a message in the precision of the wire.
func stamp(s *slot, now time.Time) time.Time {
	if !s.user.Timestamp.IsZero() {
		now = s.user.Timestamp
	}
	return now.Truncate(time.Millisecond)
}

// fails counts a failed attempt, and reports whether it was the last one.
func (b *outBatch) fails(err error) bool {
	b.tries++
	b.lane.reason = err
	p := b.lane.topic.p
	if limit := p.cfg.DeliveryTimeout; limit > 0 {
		return time.Since(b.slots[len(b.slots)-1].accepted) >= limit
	}
	return b.tries > p.conf.Producer.Retry.Max
}

// An answer is the result of one request for one batch.
type answer struct {
	block   *ibm.ProduceResponseBlock // nil if err is set
	err     error
	unknown bool // the broker may have the batch
}

// settle acts on the answer to a request.
func (b *outBatch) settle(a answer) {
	if a.err == nil && (a.block.Err == ibm.ErrNoError || a.block.Err == ibm.ErrDuplicateSequenceNumber) {
		b.succeed(a.block)
		return
	}
	if a.err == nil {
		a.err, a.unknown = a.block.Err, !refused(a.block.Err)
	}
	b.lane.topic.acknowledge(b.fail(a))
}

// succeed acknowledges the messages.
func (b *outBatch) succeed(block *ibm.ProduceResponseBlock) {
	l := b.lane
	l.topic.mu.Lock()
	b.stored, l.reason = true, nil
	l.settled()
	l.topic.mu.Unlock()

	base := block.Offset
	if block.Err != ibm.ErrNoError || base < 0 {
		base = -1
	}
	slots := b.slots
	parted := append([]*slot(nil), slots[:b.parted]...)
	l.topic.p.buffer.ack(slots, func(i int, s *slot) error {
		s.user.Partition, s.user.Offset = l.id, base
		if base >= 0 {
			s.user.Offset += int64(i)
		}
		return nil
	})
	l.topic.p.buffer.recycle(parted)
}

// fail decides about a batch that this attempt did not store: another attempt, a split, or
// its end. If the batch has ended, the slots whose messages have expired become free. That
// is decided under the same lock: once it is released, a batch that waits for a retry may
// expire as a whole, and its slots would be freed twice.
func (b *outBatch) fail(a answer) []ending {
	l := b.lane
	l.topic.mu.Lock()
	defer l.topic.mu.Unlock()
	endings := b.judge(a)
	if l.batch != b && b.parted > 0 {
		endings = append(endings, ending{free: slices.Clone(b.slots[:b.parted])})
	}
	return endings
}

// judge is fail without the slots. The broker's verdict on a batch is one on a message only
// if the message is alone. It is called with mu held.
func (b *outBatch) judge(a answer) []ending {
	l := b.lane
	b.unknown = b.unknown || a.unknown
	l.reason = a.err
	left := b.slots[b.parted:]
	switch {
	case l.topic.p.severed():
	case spoiled(a.err) && !b.unknown && len(left) > 1:
		b.split(a)
		return nil
	case isCode(a.err, ibm.ErrOutOfOrderSequenceNumber, ibm.ErrUnknownProducerID, ibm.ErrInvalidProducerEpoch) && !b.unknown && !b.fails(a.err):
		l.giveBack(len(left))
		l.tries = b.tries
		l.renumber()
		l.retry()
		return nil
	case !a.passing():
	case !b.fails(a.err):
		if b.parted > 0 && !b.unknown {
			l.giveBack(len(left))
			l.tries = b.tries
		}
		l.retry()
		return nil
	case isCode(a.err, ibm.ErrInvalidMessage) && !b.unknown && len(left) > 1:
		b.split(a)
		return nil
	}
	e := ending{slots: left, err: b.outcome(a.err)}
	l.settled()
	return []ending{e}
}

// split gives the messages back, so that the next batches are smaller: those that the broker
// has named go alone, and without names each half does. A batch that is too large shows how
// large one may be instead.
func (b *outBatch) split(a answer) {
	l := b.lane
	first, n := b.parted, len(b.slots)-b.parted
	if isCode(a.err, ibm.ErrMessageSizeTooLarge, ibm.ErrMessageSetSizeTooLarge) {
		l.topic.learn(b.size)
		l.giveBack(n)
	} else {
		l.giveBack(around(named(a.block, first, n), n)...)
	}
	l.state = idle
	l.move()
}

// named returns, in order, which of n messages the broker has named as those that it refuses
// (KIP-467).
func named(block *ibm.ProduceResponseBlock, first, n int) (indexes []int) {
	if block == nil {
		return nil
	}
	last := -1
	for _, r := range block.RecordErrors {
		i := int(r.BatchIndex) - first
		if i > last && i < n {
			indexes = append(indexes, i)
			last = i
		}
	}
	return indexes
}

// around returns the lengths of batches such that each index of n is alone, or two halves
// without indexes.
func around(indexes []int, n int) (cuts []int) {
	if len(indexes) == 0 {
		return []int{n / 2, n - n/2}
	}
	from := 0
	for _, i := range indexes {
		if i > from {
			cuts = append(cuts, i-from)
		}
		cuts = append(cuts, 1)
		from = i + 1
	}
	if from < n {
		cuts = append(cuts, n-from)
	}
	return cuts
}

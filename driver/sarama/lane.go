package sarama

import (
	"math"
	"slices"
	"time"

	ibm "github.com/IBM/sarama"
)

// A lane is the way to one partition: the messages that wait, in order, and at most one
// batch that was cut from them. So a later message never overtakes a batch that is retried
// or split, and with idempotence a batch gets sequence numbers only when all before it are
// settled.
//
// It is guarded by the mutex of its topic.
type lane struct {
	topic *topic
	id    int32
	known bool // the cluster has named a leader

	queue  fifo
	cuts   []int // sizes of the next batches in messages, since one was refused
	batch  *outBatch
	state  laneState
	worker *worker // of the broker that leads; nil if unknown

	lingerUntil time.Time // zero is without end
	linger      *time.Timer
	retryAt     time.Time
	reason      error // why the latest attempt failed
	tries       int   // failed attempts at the messages that are cut next

	producer identity
	next     int32 // sequence number
}

// A laneState is the state of a lane, and names the party that moves it on.
type laneState int

const (
	idle      laneState = iota // move, when something is pushed
	lingering                  // the timer, a flush, or the message that fills the batch
	lost                       // the look-up of the topic
	ready                      // the worker, which has it in its list
	sent                       // the worker, which has its batch
)

// push takes s. It is called with mu held, as are all methods here.
func (l *lane) push(s *slot) {
	if s.accepted.IsZero() && (l.topic.p.cfg.DeliveryTimeout > 0 || !l.known) {
		s.accepted = time.Now()
	}
	l.queue.push(s)
}

// move sends the lane on its way if it has something to send.
func (l *lane) move() {
	switch {
	case l.state != idle && l.state != lingering, l.batch == nil && l.queue.len() == 0:
	case l.batch == nil && l.mayLinger():
		l.stay()
	default:
		l.hasten()
	}
}

// hasten hands the lane to its worker, or has the leader looked up.
func (l *lane) hasten() {
	l.stopLinger()
	if l.worker == nil || !l.worker.push(l) {
		l.worker = nil
		l.topic.lose(l, 0)
		return
	}
	l.state = ready
}

// mayLinger reports whether the queued messages may wait for more, as Configure has asked
// for by Producer.Flush. They may not once a Flush waits for one of them.
func (l *lane) mayLinger() bool {
	f := &l.topic.p.conf.Producer.Flush
	switch {
	case f.Frequency == 0 && f.Messages == 0 && f.Bytes == 0:
		return false
	case len(l.cuts) > 0: // they have waited, and were refused together
		return false
	case f.Messages > 0 && l.queue.len() >= f.Messages, f.Bytes > 0 && l.queue.bytes >= f.Bytes:
		return false
	case l.queue.holdsBefore(l.topic.p.buffer.due.Load()):
		return false
	}
	return l.state == idle || l.lingerUntil.IsZero() || time.Now().Before(l.lingerUntil)
}

// stay begins to linger, if it does not yet.
func (l *lane) stay() {
	if l.state == lingering {
		return
	}
	l.state, l.lingerUntil = lingering, time.Time{}
	wait := l.topic.p.conf.Producer.Flush.Frequency
	if wait == 0 {
		return
	}
	l.lingerUntil = time.Now().Add(wait)
	l.linger = time.AfterFunc(wait, func() {
		l.topic.mu.Lock()
		defer l.topic.mu.Unlock()
		if l.state == lingering {
			l.move()
		}
	})
}

func (l *lane) stopLinger() {
	if l.linger != nil {
		l.linger.Stop()
		l.linger = nil
	}
}

// follow gives the lane to the worker of the broker that leads the partition.
func (l *lane) follow(leader *ibm.Broker) {
	l.known = true
	l.worker = l.topic.p.workerOf(leader)
	l.state = idle
	if l.batch != nil || l.queue.len() > 0 {
		l.hasten()
	}
}

// cut takes the next batch from the queue.
func (l *lane) cut() {
	limit, most := l.topic.batchBytes(), l.queue.len()
	if m := l.topic.p.conf.Producer.Flush.MaxMessages; m > 0 {
		most = min(most, m)
	}
	if len(l.cuts) > 0 {
		most = min(most, l.cuts[0])
	}
	n, size := 0, batchOverhead
	for n < most && (n == 0 || size+l.queue.at(n).size < limit) {
		size += l.queue.at(n).size
		n++
	}
	l.consumeCuts(n)
	l.batch = newOutBatch(l, l.queue.pop(n), size)
	l.batch.tries, l.tries = l.tries, 0
}

// consumeCuts takes n messages off the sizes of the next batches.
func (l *lane) consumeCuts(n int) {
	for n > 0 && len(l.cuts) > 0 {
		k := min(n, l.cuts[0])
		l.cuts[0] -= k
		n -= k
		if l.cuts[0] == 0 {
			l.cuts = l.cuts[1:]
		}
	}
}

// number gives the batch the next sequence numbers, if the producer is idempotent and the
// batch has none. It reports false without a producer ID.
func (l *lane) number() bool {
	b := l.batch
	if b.numbered || !l.topic.p.cfg.Idempotent {
		return true
	}
	if l.producer == noIdentity {
		l.producer = l.topic.p.producerIDs.current()
	}
	if l.producer == noIdentity {
		return false
	}
	b.numbered, b.seq = true, l.next
	b.records.ProducerID, b.records.ProducerEpoch, b.records.FirstSequence = l.producer.id, l.producer.epoch, l.next
	l.next = int32((int64(l.next) + int64(len(b.slots))) & math.MaxInt32) // wraps to 0, as Kafka's do
	return true
}

// settled lets go of the batch, and moves on.
func (l *lane) settled() {
	l.drop()
	l.reason = nil // it was about these messages
	l.state = idle
	l.move()
}

// drop lets go of the batch. If no message of it is in the log, or will be, the next batch
// gets its numbers. If that is not certain, the broker must refuse a request that is still
// on its way: a new epoch makes sure of that.
func (l *lane) drop() {
	b := l.batch
	l.batch = nil
	switch {
	case !b.numbered, b.stored:
	case b.unknown:
		l.renumber()
	default:
		l.next = b.seq
	}
}

// renumber begins a new epoch, or a new producer if no epoch is left. The broker keeps an
// epoch per partition, so other partitions keep theirs.
func (l *lane) renumber() {
	l.next = 0
	if l.producer.epoch < math.MaxInt16 {
		l.producer.epoch++
		return
	}
	l.topic.p.producerIDs.retire(l.producer)
	l.producer = noIdentity
}

// giveBack returns the messages of the batch to the queue, from which they are cut again into
// batches of at most so many. None of them is in the log, and no request on its way brings
// them there. Messages that have expired stay with the batch.
func (l *lane) giveBack(cuts ...int) {
	b := l.batch
	l.queue.unpop(b.slots[b.parted:])
	l.cuts = append(cuts, l.cuts...)
	l.batch = nil
	if b.numbered {
		l.next = b.seq
	}
}

// missed notes that the leader could not be reached, and that nothing was sent. It returns
// the messages for which this was the last attempt.
func (l *lane) missed(err error) []ending {
	l.reason, l.worker = err, nil
	if !l.known && l.batch == nil {
		return l.missing(err)
	}
	if l.batch == nil && l.queue.len() > 0 {
		l.cut()
	}
	if l.batch == nil { // all have expired meanwhile
		l.state = idle
		return nil
	}
	if b := l.batch; b.fails(err) {
		e := ending{slots: b.slots[b.parted:], err: b.outcome(err), free: slices.Clone(b.slots[:b.parted])}
		l.settled()
		return []ending{e}
	}
	l.retry()
	return nil
}

// retry has the leader looked up again, after the backoff.
func (l *lane) retry() {
	l.worker = nil
	l.topic.doubt()
	l.topic.lose(l, l.topic.p.conf.Producer.Retry.Backoff)
}

// missing is missed for a partition that has never been seen.
func (l *lane) missing(err error) (endings []ending) {
	for l.queue.len() > 0 && l.topic.p.patience(l.queue.front(), err) <= 0 {
		endings = append(endings, ending{slots: l.queue.pop(1), err: wrap(err)})
	}
	if l.queue.len() == 0 {
		l.state = idle
		delete(l.topic.lanes, l.id) // a user may name any number of such partitions
		return endings
	}
	l.topic.doubt()
	l.topic.lose(l, askAgain)
	return endings
}

package sarama

// A fifo is a queue of slots from which a run can be taken and given back.
type fifo struct {
	slots []*slot
	head  int
	bytes int   // on the wire
	epoch int64 // of the oldest slot, or an earlier one; see holdsBefore
}

func (q *fifo) len() int       { return len(q.slots) - q.head }
func (q *fifo) at(i int) *slot { return q.slots[q.head+i] }
func (q *fifo) front() *slot   { return q.slots[q.head] }

func (q *fifo) push(s *slot) {
	if len(q.slots) == cap(q.slots) && q.head > len(q.slots)/2 { // make room instead of growing
		n := copy(q.slots, q.slots[q.head:])
		clear(q.slots[n:])
		q.slots, q.head = q.slots[:n], 0
	}
	if q.len() == 0 {
		q.epoch = s.epoch
	}
	q.epoch = min(q.epoch, s.epoch)
	q.slots = append(q.slots, s)
	q.bytes += s.size
}

// pop takes the first n slots. The caller owns the slice.
func (q *fifo) pop(n int) []*slot {
	taken := make([]*slot, n)
	copy(taken, q.slots[q.head:])
	clear(q.slots[q.head : q.head+n])
	if q.head += n; q.head == len(q.slots) {
		q.slots, q.head = q.slots[:0], 0
	}
	for _, s := range taken {
		q.bytes -= s.size
	}
	return taken
}

// holdsBefore reports whether a slot is of an epoch before the given one. It is not
// always the first: two goroutines may take their slots in one order and push them in
// the other.
func (q *fifo) holdsBefore(epoch int64) bool {
	if q.len() == 0 || q.epoch >= epoch {
		return false
	}
	q.epoch = q.front().epoch // the slot of the earlier epoch may have been popped
	for _, s := range q.slots[q.head:] {
		q.epoch = min(q.epoch, s.epoch)
	}
	return q.epoch < epoch
}

// unpop gives slots back, before all others.
func (q *fifo) unpop(slots []*slot) {
	for i, s := range slots {
		if i == 0 && q.len() == 0 {
			q.epoch = s.epoch
		}
		q.epoch = min(q.epoch, s.epoch)
	}
	q.slots = append(append(make([]*slot, 0, len(slots)+q.len()), slots...), q.slots[q.head:]...)
	q.head = 0
	for _, s := range slots {
		q.bytes += s.size
	}
}

package kafka

import (
	"github.com/aarontianqx/gopkg/driver"
)

// A batchHandler gets several records in one call.
type batchHandler HandlerFunc

func (h batchHandler) hands(e *env) hands {
	return &batchHands{handle: HandlerFunc(h), most: e.batchSize}
}
func (h batchHandler) op() OpKind { return OpProcessBatch }

// batchHands pass a lane's run to the handler in one call. What has failed of it comes
// again without the rest, before the lane takes another run.
type batchHands struct {
	handle HandlerFunc
	most   int

	open  []handed  // what is not done of the run, in order; nil until one has failed
	size  int       // how many of them are with the handler
	alone bool      // they come one by one
	made  []Message // for calls to come
}

// A handed is a record of a run that is not done.
type handed struct {
	at    int // in the run
	times int // that it has been handed out
}

func (h *batchHands) limit() (int, bool) { return h.most, true }

func (h *batchHands) rest() { h.made = nil }

func (h *batchHands) hand(l *lane) error {
	if l.ticket != nil && l.i < len(l.run.Records) {
		h.spread(l, 0) // a probe is one record
	}
	if h.open != nil {
		return h.handOpen(l)
	}
	ctx, ok := l.beginWith(l.run.Records[l.i:], len(l.run.Records))
	if !ok {
		return nil
	}
	ms := h.messages(l, l.run.Records[l.i:], l.attempt)
	if err := h.handle(ctx, ms); err != nil {
		return err
	}
	l.size = len(ms)
	l.finish(OutcomeDone)
	return nil
}

// handOpen hands out what is not done of a run of which a record has failed.
func (h *batchHands) handOpen(l *lane) error {
	h.size = len(h.open)
	if h.alone || l.ticket != nil {
		h.size = 1
	}
	records := make([]driver.Record, h.size)
	for i, o := range h.open[:h.size] {
		records[i] = l.run.Records[o.at]
	}
	ctx, ok := l.beginWith(records, h.open[h.size-1].at+1)
	if !ok {
		return nil
	}
	ms := h.messages(l, records, 0)
	for i, m := range ms {
		h.open[i].times++
		m.Attempt += h.open[i].times
	}
	if err := h.handle(ctx, ms); err != nil {
		return err
	}
	h.drop(l, h.size, OutcomeDone, func(int) bool { return true })
	return nil
}

// messageBlock is how many messages of batches are made in one piece of memory. They fill
// one of the sizes in which the runtime allocates: of a piece for 100 messages an eighth would
// be left unused. Messages of two calls may share a piece.
const messageBlock = 99

// messages returns records as the messages of one call, for that attempt at them.
func (h *batchHands) messages(l *lane, records []driver.Record, attempt int) []*Message {
	ms := make([]*Message, len(records))
	for i := 0; i < len(ms); {
		if len(h.made) == 0 {
			h.made = make([]Message, blockFor(len(ms)-i))
		}
		n := min(len(h.made), len(ms)-i)
		made := h.made[:n]
		h.made = h.made[n:]
		l.write(made, records[i:i+n], attempt)
		for j := range made {
			ms[i+j] = &made[j]
		}
		i += n
	}
	return ms
}

// blockFor returns how many messages are made when n are needed: what is over is for the next
// call, but a call with a few records is no reason for a whole block.
func blockFor(n int) int {
	if n < messageBlock/4 {
		return n
	}
	return messageBlock
}

// spread notes each record of a run, when the first fails or is to come alone. They have
// been handed out so many times.
func (h *batchHands) spread(l *lane, times int) {
	if h.open != nil {
		return
	}
	h.size = len(l.run.Records)
	h.open = make([]handed, h.size)
	for i := range h.open {
		h.open[i] = handed{i, times}
	}
}

// failures asks a BatchError which records have failed. Without one, all that were with
// the handler have.
func (h *batchHands) failures(l *lane, err error) []*failure {
	h.spread(l, 1)
	if named, around := batchErrorOf(err); named != nil {
		if fs, ok := h.named(l, named, around); ok {
			return fs
		}
	}
	fs := make([]*failure, h.size)
	for i, o := range h.open[:h.size] {
		fs[i] = &failure{record: l.run.Records[o.at], err: err, whole: h.size > 1}
	}
	return fs
}

// named returns the failures that a BatchError names. Those that it does not name are
// done, but for those that were not handled. It returns false if it names a record that
// was not with the handler.
func (h *batchHands) named(l *lane, e *BatchError, around mark) (fs []*failure, ok bool) {
	records, keys := l.run.Records, make([]recordKey, h.size)
	for i, o := range h.open[:h.size] {
		keys[i] = recordKey{keyOf(l.claim), records[o.at].Offset}
	}
	errs, unhandled, ok := e.of(keys, around)
	if !ok {
		return nil, false
	}
	rest, others := e.restOf(around), 0
	for i, err := range errs {
		switch {
		case err != nil:
			fs = append(fs, &failure{record: records[h.open[i].at], err: err})
		case rest != nil && !unhandled[i]:
			fs = append(fs, &failure{record: records[h.open[i].at], err: rest, whole: true})
			others++
		}
	}
	if rest == nil {
		h.drop(l, h.size, OutcomeDone, func(i int) bool { return errs[i] == nil && !unhandled[i] })
	}
	if others == 1 { // it was alone with the handler
		for _, f := range fs {
			f.whole = false
		}
	}
	return fs, true
}

func (h *batchHands) oneByOne() { h.alone = true }

func (h *batchHands) done(l *lane, offset int64, how Outcome) {
	records := l.run.Records
	h.drop(l, len(h.open), how, func(i int) bool { return records[h.open[i].at].Offset == offset })
}

func (h *batchHands) passOver(l *lane, offset int64) {
	h.spread(l, 0)
	h.done(l, offset, OutcomeSkipped)
}

// drop notes that records are done, and how: those of the first most for which is returns
// true. It gets their places in open.
func (h *batchHands) drop(l *lane, most int, how Outcome, is func(int) bool) {
	var left []handed
	var dropped []driver.Record
	size := h.size
	for i, o := range h.open {
		if i >= most || !is(i) {
			left = append(left, o)
			continue
		}
		dropped = append(dropped, l.run.Records[o.at])
		if i < h.size {
			size--
		}
	}
	if len(dropped) == 0 {
		return
	}
	h.open, h.size = left, size
	if len(left) > 0 {
		l.advance(left[0].at, dropped, how)
		return
	}
	h.open, h.alone = nil, false
	l.size = len(l.run.Records) - l.i
	l.finish(how)
}

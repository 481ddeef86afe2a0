package franz

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// A lane is the way to one partition.
//
// It counts the records that kgo has put into the buffer of the partition, and those that it
// has given back, which happens in the same order. So a record has a number, and it is known
// up to which number records may be in the log although no broker has said so.
type lane struct {
	topic *topic
	id    int32
	leash *leash // ends what kgo has

	entered atomic.Int64 // records that kgo has put into its buffer
	left    atomic.Int64 // of these, those that it has given back
	held    atomic.Bool  // later messages wait in pending; changed with the topic's gate held

	// Guarded by the topic's gate, all in order:
	back    []*slot // what kgo has given back, with cause
	cause   error
	todo    []*slot // what is sent next
	pending []*slot // what was accepted meanwhile
	window  int     // how many messages may go to kgo at a time; 0 is any number
	sized   bool    // and how many bytes is what batchBytes says

	mu        sync.Mutex // guards what follows
	flight    []int64    // records of the batches that were written and have no answer
	base      int64      // the number of the first record that kgo has
	stuck     int64      // records before the batches in flight whose attempt has failed
	uncertain int64      // records below this number may be in the log
	behind    int64      // likewise, if kgo has not stored the batch before: see note
	blamed    int        // records of the first batch that was refused
	era       int        // goes up when kgo has given everything back
	final     bool       // the first batch has an answer by which kgo gives everything back
	returning bool       // kgo gives back what it has, and has not finished
	astray    bool       // a batch was written meanwhile, perhaps of records that were given back
	latest    error      // the latest refusal, or nil
	times     []time.Time
}

func newLane(t *topic, id int32) *lane {
	l := &lane{topic: t, id: id, leash: newLeash(t.p.cfg.DeliveryTimeout > 0)}
	l.sized = t.p.together > 0
	l.held.Store(l.sized)
	return l
}

// empty reports whether kgo has nothing for the partition.
func (l *lane) empty() bool { return l.left.Load() == l.entered.Load() }

// enter counts a record that kgo has put into its buffer.
func (l *lane) enter(s *slot) {
	if l.topic.p.cfg.DeliveryTimeout > 0 {
		l.mu.Lock()
		l.times = append(l.times, s.accepted)
		l.mu.Unlock()
	}
	l.entered.Add(1)
}

// store counts a record that is in the log. It reports whether the lane is held and has become
// empty.
func (l *lane) store() bool {
	if l.topic.p.cfg.DeliveryTimeout > 0 {
		l.mu.Lock()
		l.times = l.times[1:]
		l.mu.Unlock()
	}
	return l.left.Add(1) == l.entered.Load() && l.held.Load()
}

// leave counts a record that kgo gives back, and reports whether it may be in the log.
//
// A batch without an answer may be. Otherwise this would happen: a batch is written; its
// broker does not answer; the metadata say that the topic is gone, so kgo gives the batch
// back; the caller sends the messages again; the broker appends the batch.
//
// No record behind a batch that was refused is in the log: an idempotent producer's batches
// are stored in sequence, and another producer has one batch in flight.
func (l *lane) leave() (unknown bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.times) > 0 {
		l.times = l.times[1:]
	}
	if !l.returning {
		l.returning = true
		if first := l.left.Load(); first <= l.base {
			l.uncertain = max(l.uncertain, l.base, l.behind)
		} else { // the answer that made the lane stuck was one to an earlier era's batch
			l.base = first
		}
		if l.stuck == 0 {
			l.uncertain = max(l.uncertain, l.base+sum(l.flight))
		}
	}
	return l.left.Add(1)-1 < l.uncertain
}

// givesBack reports whether kgo gives back what it has for the partition.
func (l *lane) givesBack() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.returning
}

func sum(batches []int64) (records int64) {
	for _, n := range batches {
		records += n
	}
	return records
}

func (l *lane) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest
}

// A settlement is what has happened to a lane when kgo has nothing for its partition.
type settlement struct {
	blamed int  // how many messages the batch had that was refused, or 0
	astray bool // what kgo has given back may be in the log after all
	cut    bool // the driver has had kgo give everything back
}

// settle begins a new era: kgo has nothing for the partition.
func (l *lane) settle() settlement {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := settlement{l.blamed, l.astray, l.leash.cut()}
	l.era++
	l.flight, l.stuck, l.behind, l.base = nil, 0, 0, l.left.Load()
	l.blamed, l.astray, l.returning, l.final = 0, false, false, false
	l.leash.renew()
	return was
}

// feed hands messages to kgo, which has none for the partition. The gate must be held.
func (l *lane) feed(t *topic) {
	if len(l.todo) == 0 {
		l.window = 0
	}
	most := t.batchBytes()
	if most == 0 {
		l.sized = false
	}
	if l.window == 0 && !l.sized {
		t.open(l)
		return
	}
	n, bytes := 0, 0
	for (l.window == 0 || n < l.window) && len(l.todo)+len(l.pending) > 0 {
		from := &l.todo
		if len(l.todo) == 0 {
			if l.window > 0 {
				break
			}
			from = &l.pending
		}
		s := (*from)[0]
		if n > 0 && l.sized && bytes+s.size > most {
			break
		}
		*from = (*from)[1:]
		n, bytes = n+1, bytes+s.size
		s.again()
		t.submit(s)
	}
}

// has reports whether kgo has so many records for the partition. It may have given back those
// of a batch between building the request and writing it.
//
// It can be wrong if kgo gives the records of a batch back after it has built the request, and
// all of them are handed to kgo again before that is written, which is a matter of microseconds:
// the later records count for the batch. Then it is written, and so is its copy: the messages
// are twice in the log, and are acknowledged once.
func (l *lane) has(n int64) bool { return l.entered.Load()-l.left.Load() >= n }

// wrote notes that a batch of so many records is about to be written. It returns the era.
func (l *lane) wrote(n int64) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.returning && l.stuck == 0: // else the broker refuses it: see leave
		l.astray = true
	case !l.returning && !l.final && len(l.flight) == 0: // kgo begins with its first batch
		l.stuck = 0
	}
	l.flight = append(l.flight, n)
	return l.era
}

// unwrote takes back what wrote has noted last.
func (l *lane) unwrote(era int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if era == l.era && len(l.flight) > 0 {
		l.flight = l.flight[:len(l.flight)-1]
	}
}

// answered notes the answer to a batch, or that none comes, before kgo learns it.
func (l *lane) answered(n int64, era int, err error, lost bool) {
	switch failed, stored := l.note(n, era, err, lost); {
	case failed:
		l.topic.hold(l)
	case stored:
		l.topic.goneWell(l)
	}
}

// note reports whether the batch has failed, or is one that kgo takes as stored.
//
// kgo looks at no answer behind a batch that has failed, and sends those batches again. So the
// records of such a batch may be in the log although kgo still has them.
func (l *lane) note(n int64, era int, err error, lost bool) (failed, stored bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if era != l.era {
		return false, false
	}
	if len(l.flight) > 0 {
		l.flight = l.flight[1:]
	}
	switch good := err == nil && !lost; {
	case good && l.stuck > 0:
		l.stuck += n
		l.behind = l.base + l.stuck
		return false, false
	case good:
		l.base += n
		l.latest, l.blamed = nil, 0
		return false, true
	}
	if l.stuck == 0 && err != nil {
		l.blamed = int(n)
		l.final = !kerr.IsRetriable(err) && refused(err) && !outOfSequence(err)
	}
	if isCode(err, kerr.OutOfOrderSequenceNumber) {
		// It refuses what follows, too, or is the answer to a batch of an earlier era that
		// was written late: that one is not ahead of those that kgo has.
		return true, false
	}
	l.stuck += n
	if lost || !refused(err) {
		l.uncertain = max(l.uncertain, l.base+l.stuck+sum(l.flight))
	}
	if err != nil {
		l.latest = err
	}
	return true, false
}

// outOfSequence reports whether kgo sends a batch again under a new producer epoch after err.
func outOfSequence(err error) bool {
	return isCode(err, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.InvalidProducerEpoch)
}

// A leash is a context by which the driver has kgo give messages back.
type leash struct {
	mu     sync.Mutex // guards what follows
	long   bool       // it can be cut
	ctx    atomic.Pointer[context.Context]
	cancel context.CancelFunc
	isCut  bool
}

var background = context.Background()

func newLeash(long bool) *leash {
	l := &leash{long: long}
	l.ctx.Store(&background)
	l.isCut = true
	l.renew()
	return l
}

func (l *leash) context() context.Context { return *l.ctx.Load() }

// pull has kgo give everything back.
func (l *leash) pull() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.long && !l.isCut {
		l.isCut = true
		l.cancel()
	}
}

func (l *leash) cut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.isCut
}

// renew makes a leash that was pulled as good as new.
func (l *leash) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.isCut {
		return
	}
	l.isCut = false
	if l.long {
		ctx, cancel := context.WithCancel(background)
		l.ctx.Store(&ctx)
		l.cancel = cancel
	}
}

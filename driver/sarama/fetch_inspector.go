package sarama

import (
	"sync"
	"sync/atomic"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/fetchwire"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

const (
	// recordCost and headerCost are the bytes that a record and a header take once Sarama
	// and this driver have read them, beside the bytes that they point to.
	recordCost = 416
	headerCost = 96
)

// saramaBound is the largest size to which Sarama may decompress one batch, unless the
// program has set MaxDecompressedBatchSize.
const saramaBound = 64 << 20

// Sarama has one bound for the whole process, and none by default. It is set before a
// consumer can run, since Sarama reads it without a lock. It is the second line of
// defence: an examination rejects a large batch before, and only a batch that claims a
// wrong size comes this far.
func init() {
	if ibm.MaxDecompressedBatchSize == 0 {
		ibm.MaxDecompressedBatchSize = saramaBound
	}
}

// An inspector looks at fetched records before Sarama does, and keeps a feed per partition.
// All connections that fetch share it.
type inspector struct {
	limits  recordbatch.Limits
	damaged func(*feed) // is called when a partition cannot be read on
	arrived func(p partition, bytes int)

	mu    sync.Mutex // guards feeds
	feeds map[string]map[int32]*feed
}

func newInspector(limit, fetch int, damaged func(*feed), arrived func(partition, int)) *inspector {
	if limit <= 0 {
		limit = saramaBound
	}
	return &inspector{
		limits: recordbatch.Limits{
			Batch: limit, Share: max(fetch, 1) * recordbatch.ShareFetches, Answer: int(ibm.MaxResponseSize),
			Record: recordCost, Header: headerCost,
		},
		damaged: damaged, arrived: arrived, feeds: map[string]map[int32]*feed{},
	}
}

// A feed is the state of the fetches of one partition.
type feed struct {
	where partition
	end   atomic.Int64 // the high watermark, or -1
	heard atomic.Int64 // when end was answered, in nanoseconds since 1970

	mu      sync.Mutex // guards what follows
	asked   int64      // the offset in the latest request
	first   int64      // the base offset of the first batch that came last, or -1
	partial int        // answers in a row that held the beginning of a batch only
	since   time.Time  // of the first answer in a row without records although the log goes on; zero if the latest had some
	damage  *recordbatch.Damage

	failed time.Time // when Sarama last could not read an answer
}

func (in *inspector) feed(topic []byte, id int32) *feed {
	in.mu.Lock()
	defer in.mu.Unlock()
	of := in.feeds[string(topic)]
	if of == nil {
		of = map[int32]*feed{}
		in.feeds[string(topic)] = of
	}
	f := of[id]
	if f == nil {
		f = &feed{where: partition{Topic: string(topic), ID: id}, first: -1}
		f.end.Store(-1)
		of[id] = f
	}
	return f
}

// forget drops the feed of a partition whose claim has ended.
func (in *inspector) forget(p partition) {
	in.mu.Lock()
	defer in.mu.Unlock()
	delete(in.feeds[p.Topic], p.ID)
}

// Asked implements [fetchwire.Examiner]. It notes where a partition is fetched.
func (in *inspector) Asked(p fetchwire.Asked) {
	f := in.feed(p.Topic, p.ID)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = p.Offset
}

// Answered implements [fetchwire.Examiner]. It looks at an answer, and hides from Sarama what
// it must not decode.
func (in *inspector) Answered(answer []byte, version int16) {
	now := time.Now()
	b := recordbatch.NewBudget(in.limits)
	fetchwire.EachAnswered(answer, version, func(p fetchwire.Answered) {
		if p.Code != 0 {
			return
		}
		f := in.feed(p.Topic, p.ID)
		f.noteEnd(p.End, now)
		bytes, bad := in.examine(f, p, b, now)
		if bytes > 0 {
			in.arrived(f.where, bytes)
		}
		if bad {
			in.damaged(f)
		}
	})
}

// noteEnd notes the end of the log.
func (f *feed) noteEnd(end int64, now time.Time) {
	if end >= 0 {
		f.end.Store(end)
		f.heard.Store(now.UnixNano())
	}
}

// unheard reports whether the end of the log is older than d.
func (f *feed) unheard(d time.Duration, now time.Time) bool {
	return now.UnixNano()-f.heard.Load() > int64(d)
}

// partialAnswers is how many answers in a row may bring only the beginning of a batch.
// Brokers send at least one whole batch (KIP-74); older ones send more when Sarama asks for
// more, as it does after the first such answer.
const partialAnswers = 5

// examine looks at the records of one partition. It returns how many bytes of them Sarama
// may decode, and reports whether a batch is damaged.
func (in *inspector) examine(f *feed, p fetchwire.Answered, b *recordbatch.Budget, now time.Time) (bytes int, bad bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(p.Records) == 0 {
		f.nothing(p, now)
		return 0, false
	}
	first := recordbatch.FirstOffset(p.Records)
	again := first >= 0 && first == f.first
	x := recordbatch.Examination{
		Records: p.Records, Next: f.asked, Budget: b,
		Thorough: again || f.damage != nil,
	}
	f.first = first
	t := x.Run()
	if t == nil && x.Part > 0 {
		if f.partial++; f.partial >= partialAnswers {
			t = &recordbatch.Damage{Offset: f.asked, Err: recordbatch.Corrupt("of a batch of %d bytes only %d come", x.Part, len(p.Records))}
			if len(p.Records) > recordbatch.MagicAt {
				recordbatch.Hide(p.Records)
			}
		}
	}
	if x.Whole > 0 {
		f.damage, f.partial = nil, 0
	}
	if t != nil {
		f.damage = t
	}
	if x.Whole > 0 && !again || t != nil {
		f.since = time.Time{}
	} else {
		f.nothing(p, now)
	}
	return x.Bytes, t != nil
}

// nothing notes that an answer brought no new record. It is called with mu held.
func (f *feed) nothing(p fetchwire.Answered, now time.Time) {
	switch {
	case p.Stable <= f.asked:
		f.since = time.Time{}
	case f.since.IsZero():
		f.since = now
	}
}

// state returns the damage that keeps the partition from being read on, if any, and since
// when no record has come although the log goes on.
func (f *feed) state() (*recordbatch.Damage, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.damage, f.since
}

// damageAt returns the report of damage in a partition.
func damageAt(p partition, d *recordbatch.Damage) *driver.PartitionError {
	return &driver.PartitionError{Topic: p.Topic, Partition: p.ID, Offset: d.Offset, Err: d.Err}
}

// position returns the offset of the latest request.
func (f *feed) position() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

// blamed notes that Sarama could not read an answer, and reports whether that had not
// happened for a minute.
func (f *feed) blamed(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.failed
	f.failed = now
	return now.Sub(before) > time.Minute
}

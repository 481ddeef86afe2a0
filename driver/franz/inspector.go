package franz

import (
	"sync"

	"github.com/aarontianqx/gopkg/driver/internal/fetchwire"
	"github.com/aarontianqx/gopkg/driver/internal/incarnation"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

const (
	// recordCost and headerCost are the bytes that a record and a header take once kgo and
	// this driver have read them, beside the bytes that they point to.
	recordCost = 320
	headerCost = 80

	// inflatedBound is the bound of a batch once it is decompressed, unless the
	// configuration has one.
	inflatedBound = 64 << 20
)

// An inspector looks at fetched records before kgo does: kgo checks neither their order nor
// what their headers take. It hides from kgo a batch that is damaged or too large. All
// connections of a session share it.
type inspector struct {
	limits recordbatch.Limits

	// damaged is called when the batch at the position of a partition cannot be read.
	damaged func(partition, *recordbatch.Damage)

	mu    sync.Mutex // guards what follows
	names map[incarnation.ID]string
	feeds map[feedKey]*feed
}

// A feedKey is a partition, by the name or by the ID of its topic, as a fetch names it.
type feedKey struct {
	topic string
	id    int32
}

// A feed is the state of the fetches of one partition. The answers of one broker come one
// after the other.
type feed struct {
	asked   int64 // the offset in the latest request
	first   int64 // the base offset of the first batch that came last, or -1
	partial int   // answers in a row that held the beginning of a batch only
	damage  bool  // the latest answer was damaged
}

func newInspector(limit, fetch int, damaged func(partition, *recordbatch.Damage)) *inspector {
	if limit <= 0 {
		limit = inflatedBound
	}
	return &inspector{
		limits: recordbatch.Limits{
			Batch: limit, Share: max(fetch, 1) * recordbatch.ShareFetches, Answer: maxRead,
			Record: recordCost, Header: headerCost,
		},
		damaged: damaged, names: map[incarnation.ID]string{}, feeds: map[feedKey]*feed{},
	}
}

// learn notes the IDs of topics.
func (in *inspector) learn(s survey) {
	in.mu.Lock()
	defer in.mu.Unlock()
	for name, id := range s.ids() {
		in.names[id] = name
	}
}

// feed returns the state of a partition. It is called with mu held.
func (in *inspector) feed(topic []byte, id int32) *feed {
	f := in.feeds[feedKey{string(topic), id}]
	if f == nil {
		f = &feed{first: -1}
		in.feeds[feedKey{string(topic), id}] = f
	}
	return f
}

// Asked implements [fetchwire.Examiner]. It notes where a partition is fetched.
func (in *inspector) Asked(p fetchwire.Asked) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.feed(p.Topic, p.ID).asked = p.Offset
}

// Answered implements [fetchwire.Examiner]. It looks at an answer, and hides from kgo what it
// must not decode.
func (in *inspector) Answered(answer []byte, version int16) {
	b := recordbatch.NewBudget(in.limits)
	fetchwire.EachAnswered(answer, version, func(p fetchwire.Answered) {
		if p.Code != 0 || len(p.Records) == 0 {
			return
		}
		where, asked, d := in.examine(p, b)
		if d != nil && d.Offset == asked {
			in.damaged(where, d) // else what is before it comes first
		}
	})
}

// partialAnswers is how many answers in a row may bring only the beginning of a batch.
// Brokers send at least one whole batch (KIP-74).
const partialAnswers = 5

// examine looks at the records of one partition. It returns where they were asked for, and
// what is damaged.
func (in *inspector) examine(p fetchwire.Answered, b *recordbatch.Budget) (where partition, asked int64, d *recordbatch.Damage) {
	in.mu.Lock()
	f := in.feed(p.Topic, p.ID)
	where = partition{Topic: in.nameOf(p.Topic), ID: p.ID}
	first := recordbatch.FirstOffset(p.Records)
	again := first >= 0 && first == f.first || f.damage
	f.first, asked = first, f.asked
	in.mu.Unlock()

	x := recordbatch.Examination{Records: p.Records, Next: asked, Budget: b, Thorough: again, Lenient: true}
	d = x.Run()

	in.mu.Lock()
	defer in.mu.Unlock()
	if d == nil && x.Part > 0 {
		if f.partial++; f.partial >= partialAnswers {
			d = &recordbatch.Damage{Offset: asked, Err: recordbatch.Corrupt("of a batch of %d bytes only %d come", x.Part, len(p.Records))}
			if len(p.Records) > recordbatch.MagicAt {
				recordbatch.Hide(p.Records)
			}
		}
	}
	if x.Whole > 0 {
		f.partial = 0
	}
	f.damage = d != nil
	return where, asked, d
}

// nameOf returns the name of a topic that a fetch names by its name or its ID. It is called
// with mu held.
func (in *inspector) nameOf(topic []byte) string {
	if len(topic) == len(incarnation.ID{}) {
		if name, ok := in.names[incarnation.ID(topic)]; ok {
			return name
		}
	}
	return string(topic)
}

package recordbatch

import (
	"math/rand/v2"

	"github.com/aarontianqx/gopkg/driver"
)

// Limits bound what the batches of one answer take in memory.
type Limits struct {
	Batch  int // bytes that one batch may take
	Share  int // decompressed bytes of one partition after which the answer ends
	Answer int // bytes of the longest answer

	// Record and Header are the bytes that a record and a header take once the client
	// has decoded them, beside the bytes that they point to.
	Record, Header int
}

// A Budget bounds what one answer takes in memory. A client may decode all batches of an
// answer before it delivers a record, as Sarama does.
//
// The Budget cannot know what a batch takes without decompressing it: a header of two
// bytes takes a hundred. A batch whose cheap bound is below the limit passes without
// that. So many such batches could pass, each below the limit and all together far above
// it. Therefore the Budget decompresses one batch now and then, at a distance that a
// producer cannot know. If that one takes much, it decompresses all that follow, and the
// answer ends where it takes too much. The client asks for the rest again.
type Budget struct {
	Limits
	spent int // upper bound for the batches that have passed
	due   int // the next batch is decompressed when spent would exceed it
	heavy bool
}

// answerLimits is what one answer may take in memory, in limits of a batch.
const answerLimits = 4

// errEnough reports that an answer has to end here. It is no damage.
var errEnough = &driver.Error{Code: "ENOUGH"}

// NewBudget returns the budget of one answer.
func NewBudget(l Limits) *Budget {
	b := &Budget{Limits: l}
	b.postpone()
	return b
}

func (b *Budget) postpone() {
	b.spent, b.due = 0, 3*b.Batch+rand.IntN(3*b.Batch)
}

// afford accounts for a batch, and rejects one that takes more than it may.
func (x *Examination) afford(body []byte, h batchHeader) (err *driver.Error) {
	b := x.Budget
	size, cost := b.costAtMost(body, h)
	if size = x.inflated(size, len(body)); x.Whole > 0 && x.Bytes+size > x.Budget.Share {
		return errEnough
	}
	x.Bytes += size
	sample := !b.heavy && b.spent+cost > b.due
	if sample || b.heavy || x.Thorough || cost < 0 || cost > b.Batch {
		if cost, err = x.read(body, h); err != nil {
			return err
		}
	}
	if sample {
		if b.heavy = cost > b.Batch/4; !b.heavy {
			b.postpone()
		}
	}
	if b.heavy && b.spent > 0 && b.spent+cost > answerLimits*b.Batch {
		return errEnough
	}
	b.spent += cost
	return nil
}

// ShareFetches is how many fetches of data, as the client has asked for, one partition may
// bring in an answer after decompression. An answer with more ends early: otherwise 100
// records of 900 kB, which came in 10 kB, would all be in memory at once.
const ShareFetches = 8

// exactBytes is the size from which on the bound of a decompressed batch is better than
// a guess: codecs count in blocks of up to 128 KiB, also if these are not full.
const exactBytes = 256 << 10

// inflated returns what a batch counts towards the share: size is the bound of its body
// of n bytes once decompressed, or -1.
func (x *Examination) inflated(size, n int) int {
	if size < exactBytes {
		return max(n, min(size, ShareFetches*n))
	}
	return max(n, size)
}

// costAtMost returns upper bounds for the size of body once decompressed and for the
// memory that a client needs to decode it, or -1 for both.
func (b *Budget) costAtMost(body []byte, h batchHeader) (size, cost int) {
	if size = atMost(h.codec, body); size < 0 {
		return -1, -1
	}
	return size, size + h.count*b.Record + size/2*b.Header // a header takes two bytes at least
}

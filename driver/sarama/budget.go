package sarama

import (
	"math/rand/v2"

	"github.com/aarontianqx/gopkg/driver"
)

// A budget bounds what one answer takes in memory. Sarama decodes all of its
// batches before it delivers a record.
//
// What a batch takes is not known without reading it: a header of two bytes takes
// a hundred. Up to limit by the cheap bound it is not read. So many of such batches
// could pass, each below the limit and all together far above. Therefore one is
// read now and then, at a distance that a producer cannot know; if it takes much,
// all that follow are read, and the answer ends where it takes too much. Sarama
// asks for the rest again.
type budget struct {
	limit int // for one batch
	spent int // by what has passed, at most
	due   int // where the next batch is read
	heavy bool
}

// answerLimits is what one answer may take in memory, in limits of a batch.
const answerLimits = 4

// errEnough says that an answer has to end here. It is no trouble.
var errEnough = &driver.Error{Code: "ENOUGH"}

func newBudget(limit int) *budget {
	b := &budget{limit: limit}
	b.postpone()
	return b
}

func (b *budget) postpone() {
	b.spent, b.due = 0, 3*b.limit+rand.IntN(3*b.limit)
}

// afford accounts for a batch, and refuses one that takes more than it may.
func (x *examination) afford(body []byte, h batchHeader) (err *driver.Error) {
	b := x.budget
	size, cost := costAtMost(body, h)
	if size = x.inflated(size, len(body)); x.whole > 0 && x.bytes+size > x.share {
		return errEnough
	}
	x.bytes += size
	sample := !b.heavy && b.spent+cost > b.due
	if sample || b.heavy || x.thorough || cost < 0 || cost > b.limit {
		if cost, err = x.read(body, h); err != nil {
			return err
		}
	}
	if sample {
		if b.heavy = cost > b.limit/4; !b.heavy {
			b.postpone()
		}
	}
	if b.heavy && b.spent > 0 && b.spent+cost > answerLimits*b.limit {
		return errEnough
	}
	b.spent += cost
	return nil
}

// shareFetches is how much of one partition an answer may bring after decompression,
// in fetches as they were asked for. What compresses better ends the answer early:
// otherwise 100 records of 900 kB, which came in 10 kB, would all be in memory at
// once, whatever MaxBufferedBytes says.
const shareFetches = 8

// exactBytes is where the bound on what a batch inflates to is worth more than a
// guess: codecs count in blocks of up to 128 KiB, also where these are not full.
const exactBytes = 256 << 10

// inflated returns what a batch counts towards the share: size is the bound on what
// its body of n bytes inflates to, or -1.
func (x *examination) inflated(size, n int) int {
	if size < exactBytes {
		return max(n, min(size, shareFetches*n))
	}
	return max(n, size)
}

// costAtMost returns bounds on the size of body once it is inflated, and on what
// Sarama needs to read it, or -1 for both.
func costAtMost(body []byte, h batchHeader) (size, cost int) {
	if size = atMost(h.codec, body); size < 0 {
		return -1, -1
	}
	return size, size + h.count*recordCost + size/2*headerCost // a header takes two bytes at least
}

package kafka

import (
	"errors"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka/internal/finished"
)

// A commit carries, beside the position of a partition with a crew, which offsets above
// the position are done, as the text of package finished. The next owner of the partition
// reads the text and does not handle these records again. So after a crash only those
// come again that were in flight, or were done since the last commit.
//
// The text is never trusted further than its sum goes: what cannot be read says nothing,
// and then everything above the position is handled again. It is never a reason to move
// the position.

// A beside is what lies beside a partition's committed position. The intake's mutex guards
// it.
type beside struct {
	text   string         // what was acknowledged last, or what a crew has found and read
	strike bool           // the text that was found has to go, though the position may stand
	known  []finished.Run // what was found to be done, and has not been delivered; in order, and empty with a crew
	runs   []finished.Run // used again for each commit
}

// errNoEnd is why a text is not read: it may name offsets that the log no longer has.
var errNoEnd = errors.New("the driver does not know the end of the log")

// place returns what the sum of a text covers. Contracts name no topic by an ID.
func (in *intake) place() finished.Place {
	return finished.Place{Topic: in.claim.Topic, Partition: in.claim.Partition}
}

// heed reads what was found beside the start of the claim, before anything is delivered.
//
// The end of the log when the claim was made bounds what it says. If it names offsets
// beyond that end, the log has been cut off since, and other records get these offsets
// later. The end at the first delivery would be too late: such records may
// have been written by then.
//
// A text that reaches beyond the end is taken away, even while the position stands. The
// log grows, and a later owner would find the text within its end. Any other text that
// cannot be read stays until the position moves: no later owner can read it either.
func (in *intake) heed() {
	if in.claim.Metadata == "" || !in.env.readMetadata {
		return
	}
	done, err := finished.Decode(in.place(), in.claim.Start, in.claim.End, in.claim.Metadata)
	if err != nil {
		if errors.Is(err, finished.ErrBeyondEnd) {
			in.beside.strike = true
			if in.claim.End < 0 {
				err = errNoEnd
			}
		}
		in.env.log.Warn("kafka: metadata beside the committed position is ignored: records above it that were done are handled again",
			"topic", in.claim.Topic, "partition", in.claim.Partition, "offset", in.claim.Start, "error", loggable(err))
		return
	}
	if in.many != nil {
		in.beside.text = in.claim.Metadata
		in.many.Known(done)
	} else {
		in.beside.known = done
	}
	in.env.ledger.clearRuns(keyOf(in.claim), done) // another member has handled them
}

// push adds a batch to the window, without the records that were found to be done. A
// crew's window knows them itself. Called under the mutex.
func (in *intake) push(b driver.Batch) {
	rest := b.Records
	for len(in.beside.known) > 0 && len(rest) > 0 {
		run := in.beside.known[0]
		from := firstFrom(rest, run.From)
		to := firstFrom(rest, run.To)
		if from > 0 {
			in.window.Push(driver.Batch{Records: rest[:from:from]})
		}
		if to > from {
			in.window.Push(driver.Batch{Next: rest[to-1].Offset + 1})
		}
		if rest = rest[to:]; len(rest) == 0 && b.Records[len(b.Records)-1].Offset+1 < run.To {
			break // the rest of the run is still to come
		}
		in.beside.known = in.beside.known[1:]
	}
	in.window.Push(driver.Batch{Records: rest, Next: b.Next})
}

// firstFrom returns the index of the first record at or behind an offset.
func firstFrom(records []driver.Record, offset int64) int {
	i := 0
	for i < len(records) && records[i].Offset < offset {
		i++
	}
	return i
}

// mark returns what a commit should carry, and whether that is news. Position and text
// are taken in one critical section. Otherwise a record could get done in between, and
// the text would be for another position: its sum would be wrong, or, without a sum, it
// would name the wrong records.
func (in *intake) mark() (m driver.Mark, news bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	m.Claim, m.Offset = in.claim, in.durable()
	if in.many != nil && in.env.metadata {
		_, in.beside.runs = in.many.Progress(in.beside.runs[:0])
		m.Metadata = finished.Encode(in.place(), m.Offset, in.beside.runs)
	}
	committed := in.committed.Load()
	stands := m.Offset == committed && m.Offset >= 0
	return m, m.Offset > committed || stands && (in.beside.strike || m.Metadata != in.beside.text)
}

// acknowledged notes that a mark is durable.
func (in *intake) acknowledged(m driver.Mark) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.committed.Store(m.Offset)
	in.beside.text, in.beside.strike = m.Metadata, false
}

// stale reports whether a commit has to take away the text that was found.
func (in *intake) stale() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.beside.strike
}

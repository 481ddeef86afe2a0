// Package finished is the text that a commit carries beside its position: which
// offsets above the position are finished. A consumer that handles many records of a
// partition at once finishes them in any order. After a crash its successor reads the
// text, and does not handle these records again.
//
// # Text
//
// The text is "gk1." and the base64url, without padding, of two things: run lengths as
// uvarints, and a sum of four bytes, the highest first. A run is a number of offsets.
// The first run begins at the position and is not finished, the next one is finished,
// and so on in turn; the last one is finished. Runs count offsets and not records,
// because a later owner of the partition may find fewer records: compaction removes
// some. No run is empty or longer than 2³¹-1. The text has at most [MaxText] bytes.
//
// The sum is a CRC-32C over the place, the position and the runs. Tools that mirror a
// topic copy the text beside a position of the other topic: there the sum is wrong.
//
// # Safety
//
// An offset that the text does not name is not finished, and is handled again: that is
// at least once. An offset that is named without being finished would be lost. So
// [Encode] names only what lies in the runs that it gets, and never the position.
// [Decode] returns either exactly what was encoded at this place and position, or an
// error and no runs: then nothing above the position is finished.
package finished

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/bits"
	"strings"
)

// MaxText is how many bytes a text has at most. Brokers accept 4,096 bytes of metadata
// by default.
const MaxText = 2 << 10

const (
	version = "gk1."
	sumSize = 4
	maxRun  = math.MaxInt32
)

// Room is how many bytes of run lengths fit into a text.
const Room = (MaxText-len(version))*6/8 - sumSize

// encoding refuses bits that are set behind the last byte, so that there is one text
// for the same bytes.
var encoding = base64.RawURLEncoding.Strict()

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Place is the partition whose offsets a text names.
type Place struct {
	Topic     string
	TopicID   [16]byte // zero if unknown
	Partition int32
}

// A Run is neighbouring offsets that are finished: From and those after it, up to To,
// which is not one of them.
type Run struct {
	From, To int64
}

// What can be wrong with a text. The error of [Decode] wraps one of them.
var (
	ErrForeign   = errors.New("the text is another program's, or another version's")
	ErrTooLarge  = errors.New("the text is too large")
	ErrMalformed = errors.New("the text is malformed")
	ErrSum       = errors.New("the sum is wrong")
	ErrRun       = errors.New("a run has an impossible length")
	ErrBeyondEnd = errors.New("an offset is beyond the end of the log")
)

// Encode returns the text for runs above a committed position, or "" if no finished
// offset is above it or the position is negative. The runs should rise; those that
// touch become one. What lies below the position is left out, and so is the position
// itself. Encode stops before a run that does not fit into the text, and before one
// that is longer than 2³¹-1 or lies that far behind the one before.
//
// Whatever the runs are, the text names only offsets that lie in one of them.
func Encode(place Place, position int64, runs []Run) string {
	if position < 0 {
		return ""
	}
	raw := appendHead(make([]byte, 0, headSize(place)+lengthsSize(runs)+sumSize), place, position)
	head := len(raw)
	raw = appendLengths(raw, position, runs)
	if len(raw) == head {
		return ""
	}
	raw = binary.BigEndian.AppendUint32(raw, crc32.Checksum(raw, castagnoli))
	text := append(make([]byte, 0, MaxText), version...)
	return string(encoding.AppendEncode(text, raw[head:]))
}

// Cost returns how many bytes of run lengths a run of so many offsets takes, of which
// the first lies gap offsets behind the end of the run before, or behind the position.
// It is more than [Room] for a run that no text can name. [Encode] names all runs if the
// sum of their costs is at most Room.
func Cost(gap, length int64) int {
	if gap > maxRun || length > maxRun {
		return Room + 1
	}
	return uvarintSize(gap) + uvarintSize(length)
}

// uvarintSize returns how many bytes the uvarint of n takes, which is at least 1.
func uvarintSize(n int64) int { return (bits.Len64(uint64(n)) + 6) / 7 }

// Decode returns the runs that [Encode] has put into text for the same place and
// committed position, or none for an empty text. The runs rise and do not touch, and
// the first one begins above the position. end is the end of the log, the offset after
// its last record, when the caller became the owner. A negative end is unknown, and makes
// every run one beyond the end.
//
// With an error there are no runs, and nothing above the position is finished.
func Decode(place Place, position, end int64, text string) ([]Run, error) {
	if text == "" {
		return nil, nil
	}
	runs, err := decode(place, position, end, text)
	if err != nil {
		return nil, fmt.Errorf("finished offsets of %s/%d above %d: %w", place.Topic, place.Partition, position, err)
	}
	return runs, nil
}

func decode(place Place, position, end int64, text string) ([]Run, error) {
	if !strings.HasPrefix(text, version) {
		return nil, fmt.Errorf("%w: it begins with %.16q", ErrForeign, text)
	}
	if len(text) > MaxText {
		return nil, fmt.Errorf("%w: it has %d bytes, and at most %d are written", ErrTooLarge, len(text), MaxText)
	}
	raw, err := decodeBase64(text[len(version):])
	if err != nil {
		return nil, err
	}
	lengths := raw[:len(raw)-sumSize]
	got, want := binary.BigEndian.Uint32(raw[len(lengths):]), sum(place, position, lengths)
	if got != want {
		return nil, fmt.Errorf("%w: %08x, not %08x: the text is damaged, or of another topic, partition or position",
			ErrSum, got, want)
	}
	return readRuns(position, end, lengths)
}

// decodeBase64 returns the bytes of a text, which are enough for a sum. The decoder of
// the standard library passes over line ends; Encode writes none.
func decodeBase64(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, fmt.Errorf("%w: it has a line end", ErrMalformed)
	}
	raw, err := encoding.DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(raw) < sumSize {
		return nil, fmt.Errorf("%w: it is too short for a sum", ErrMalformed)
	}
	return raw, nil
}

// readRuns returns the finished runs of lengths whose sum is right.
func readRuns(position, end int64, lengths []byte) ([]Run, error) {
	if position < 0 {
		return nil, fmt.Errorf("%w: it is for a position below 0", ErrMalformed)
	}
	n := countLengths(lengths)
	if n == 0 || n%2 != 0 {
		return nil, fmt.Errorf("%w: it has %d runs, and each finished one follows one that is not", ErrMalformed, n)
	}
	if position > end {
		return nil, fmt.Errorf("%w: the position is, and the log ends at %d", ErrBeyondEnd, end)
	}
	runs := make([]Run, 0, n/2)
	for at := position; len(lengths) > 0; {
		var r Run
		var err error
		if r.From, lengths, err = pass(at, end, lengths); err != nil {
			return nil, err
		}
		if r.To, lengths, err = pass(r.From, end, lengths); err != nil {
			return nil, err
		}
		runs = append(runs, r)
		at = r.To
	}
	return runs, nil
}

// countLengths returns how many uvarints end in lengths.
func countLengths(lengths []byte) (n int) {
	for _, b := range lengths {
		if b < 0x80 {
			n++
		}
	}
	return n
}

// pass takes one run from lengths, which begins at an offset up to end, and returns the
// offset after it.
//
// It compares the length with what is left of the log. A sum of the two could
// overflow: the run would end far below its beginning, and pass as one within the log.
func pass(at, end int64, lengths []byte) (after int64, rest []byte, err error) {
	length, size := binary.Uvarint(lengths)
	switch {
	case size == 0:
		return 0, nil, fmt.Errorf("%w: its last run is cut off", ErrMalformed)
	case size < 0:
		return 0, nil, fmt.Errorf("%w: the run at %d has more than 64 bits", ErrRun, at)
	case length == 0:
		return 0, nil, fmt.Errorf("%w: the run at %d is empty", ErrRun, at)
	case length > maxRun:
		return 0, nil, fmt.Errorf("%w: the run at %d has %d offsets, and at most %d are written", ErrRun, at, length, maxRun)
	case size > 1 && lengths[size-1] == 0:
		return 0, nil, fmt.Errorf("%w: the length of the run at %d has zeros in front", ErrMalformed, at)
	case int64(length) > end-at:
		return 0, nil, fmt.Errorf("%w: the run at %d has %d offsets, and the log ends at %d", ErrBeyondEnd, at, length, end)
	}
	return at + int64(length), lengths[size:], nil
}

// lengthsSize returns room for the lengths of runs. Rising runs rarely need more than
// two bytes for each length; more only costs another allocation.
func lengthsSize(runs []Run) int { return min(4*len(runs), Room) + 2*binary.MaxVarintLen32 }

// appendLengths adds the lengths of runs to raw, as many as fit into a text.
func appendLengths(raw []byte, position int64, runs []Run) []byte {
	limit := len(raw) + Room
	for at := position; len(runs) > 0; {
		var r Run
		r, runs = join(runs)
		if r.To <= at {
			continue
		}
		r.From = max(r.From, at+1)
		if r.From >= r.To {
			continue
		}
		gap, length := r.From-at, r.To-r.From
		if gap > maxRun || length > maxRun {
			break
		}
		before := len(raw)
		raw = binary.AppendUvarint(raw, uint64(gap))
		raw = binary.AppendUvarint(raw, uint64(length))
		if len(raw) > limit {
			return raw[:before]
		}
		at = r.To
	}
	return raw
}

// join returns the first run together with those that touch it, and what follows them.
func join(runs []Run) (Run, []Run) {
	r, n := runs[0], 1
	for n < len(runs) && runs[n].From <= r.To {
		r.To = max(r.To, runs[n].To)
		n++
	}
	return r, runs[n:]
}

// sum returns the sum of lengths at a place and position.
func sum(place Place, position int64, lengths []byte) uint32 {
	head := appendHead(make([]byte, 0, headSize(place)), place, position)
	return crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, lengths)
}

// headSize returns how many bytes appendHead adds.
func headSize(place Place) int {
	return len(version) + len(place.TopicID) + 8 + len(place.Topic) + 4 + 8
}

// appendHead adds what the sum covers before the lengths. The topic's name follows its
// own length, so that no two places have the same bytes.
func appendHead(raw []byte, place Place, position int64) []byte {
	raw = append(raw, version...)
	raw = append(raw, place.TopicID[:]...)
	raw = binary.BigEndian.AppendUint64(raw, uint64(len(place.Topic)))
	raw = append(raw, place.Topic...)
	raw = binary.BigEndian.AppendUint32(raw, uint32(place.Partition))
	return binary.BigEndian.AppendUint64(raw, uint64(position))
}

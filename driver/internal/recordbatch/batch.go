// Package recordbatch examines record batches as a broker sends them, before a client
// decodes them.
//
// An [Examination] finds a batch that is damaged, that claims what it cannot hold, or
// that takes more memory than it may. It hides that batch and everything behind it from
// the client, which then asks again from there. So one batch harms neither the process
// nor other partitions.
package recordbatch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/aarontianqx/gopkg/driver"
)

// The layout of a batch.
const (
	LengthBytes = 12 // the base offset, and the length of the bytes that follow
	MagicAt     = 16
	HeadBytes   = 61 // up to the records

	smallestBody = HeadBytes - LengthBytes
	smallestOld  = 14 // of a message in the formats before record batches
)

// A Codec is the compression of a batch.
type Codec int8

// Kafka's codecs.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Damage is why a partition cannot be read on.
type Damage struct {
	Offset int64 // from which on nothing can be delivered
	Err    *driver.Error
}

// Corrupt returns the error of damaged data.
func Corrupt(format string, args ...any) *driver.Error {
	return &driver.Error{Code: "CORRUPT_MESSAGE", Err: fmt.Errorf(format, args...)}
}

// FirstOffset returns the base offset of the first batch, or -1 if it has not come.
func FirstOffset(records []byte) int64 {
	if len(records) < 8 {
		return -1
	}
	return int64(binary.BigEndian.Uint64(records))
}

// An Examination goes through the records of one partition in an answer.
//
// It looks at the head of each batch, and at the offsets of records that are not
// compressed. It leaves checksums and everything else to the client, unless Thorough is
// set: to check them twice would cost too much. A caller sets Thorough for records that
// come a second time, because the client could not read them or made nothing of them.
type Examination struct {
	Records  []byte
	Next     int64 // the least offset that may come next
	Thorough bool
	Budget   *Budget // of the answer

	// Lenient says that the client makes of a batch what it can, and goes on behind it. A
	// batch of which it would leave out a record is damaged, then.
	Lenient bool

	// Whole, Bytes and Part are the result of Run.
	Whole int // batches that have come as a whole, and in order
	Bytes int // an upper bound on the size of these, decompressed
	Part  int // the size of the first batch, if it has not come as a whole
}

// Run examines the records and returns what is damaged, if anything is. It hides from
// the client the damaged batch and everything behind it.
func (x *Examination) Run() *Damage {
	for at := 0; ; {
		b := x.Records[at:]
		if len(b) <= MagicAt {
			x.incomplete(b, at)
			return nil
		}
		size, err := x.batch(b)
		if err == errEnough {
			Hide(b)
			return nil
		}
		if err != nil {
			Hide(b)
			return &Damage{max(x.Next, 0), err}
		}
		if size == 0 {
			x.incomplete(b, at)
			return nil
		}
		x.Whole++
		at += size
	}
}

// incomplete notes that the rest is not a whole batch, which is usual at the end of an
// answer.
func (x *Examination) incomplete(b []byte, at int) {
	if at == 0 && len(b) > 0 {
		x.Part = LengthBytes
		if len(b) >= LengthBytes {
			x.Part += max(0, int(int32(binary.BigEndian.Uint32(b[8:]))))
		}
	}
}

// Hide makes b look like the answer of a broker that cannot convert the records that
// follow (KIP-283): a message at offset -1 that is larger than the bytes that have come.
// A client passes over it and asks again.
func Hide(b []byte) {
	binary.BigEndian.PutUint64(b, math.MaxUint64)
	binary.BigEndian.PutUint32(b[8:], math.MaxInt32)
	b[MagicAt] = 0
}

// batch looks at the batch with which b begins and returns its size, or 0 if it has not
// come as a whole.
func (x *Examination) batch(b []byte) (int, *driver.Error) {
	size, magic := int(int32(binary.BigEndian.Uint32(b[8:]))), int8(b[MagicAt])
	least := smallestBody
	if magic < 2 {
		least = smallestOld
	}
	switch {
	case magic < 0 || magic > 2:
		return 0, Corrupt("a batch with magic %d", magic)
	case size < least:
		return 0, Corrupt("a batch says that it has %d bytes", size)
	case size > x.Budget.Answer:
		return 0, Corrupt("a batch says that it has %d bytes, more than an answer can hold", size)
	}
	if size += LengthBytes; size > len(b) {
		return 0, nil
	}
	if magic < 2 {
		return size, x.old(b[:size])
	}
	return size, x.recordBatch(b[:size])
}

// old looks at a message in a format that brokers have not written since Kafka 3.
func (x *Examination) old(b []byte) *driver.Error {
	if sum := crc32.ChecksumIEEE(b[MagicAt:]); x.Thorough && sum != binary.BigEndian.Uint32(b[LengthBytes:]) {
		return Corrupt("the checksum of a message is wrong")
	}
	return nil
}

// A batchHeader is the head of a record batch.
type batchHeader struct {
	base  int64
	last  int64
	codec Codec
	count int
}

func (x *Examination) recordBatch(b []byte) *driver.Error {
	h, err := header(b, x.Next)
	if err != nil {
		return err
	}
	x.Next = max(x.Next, h.base)
	if x.Thorough && crc32.Checksum(b[21:], castagnoli) != binary.BigEndian.Uint32(b[17:]) {
		return Corrupt("the checksum of a batch of %d bytes is wrong", len(b))
	}
	body := b[HeadBytes:]
	if h.codec == None && !x.Thorough {
		if err := inOrder(body, h); err != nil {
			return err
		}
		if x.Lenient && !wellFormed(body, h.count) {
			return Corrupt("the records of a batch from offset %d to %d are cut short", h.base, h.last)
		}
	}
	if err := x.afford(body, h); err != nil {
		return err
	}
	x.Next = h.last + 1
	return nil
}

// header reads the head of b. A sound batch holds nothing below next.
func header(b []byte, next int64) (batchHeader, *driver.Error) {
	h := batchHeader{
		base:  int64(binary.BigEndian.Uint64(b)),
		codec: Codec(b[22] & 7),
		count: int(int32(binary.BigEndian.Uint32(b[57:]))),
	}
	delta := int64(int32(binary.BigEndian.Uint32(b[23:])))
	switch {
	case h.base < 0 || delta < 0 || h.base >= math.MaxInt64-delta:
		return h, Corrupt("a batch at offset %d goes on for %d more", h.base, delta)
	case h.base+delta < next:
		return h, Corrupt("a batch ends at offset %d, and the next one is %d", h.base+delta, next)
	case h.codec > Zstd:
		return h, Corrupt("a batch at offset %d is compressed with the unknown codec %d", h.base, h.codec)
	case h.count < 0 || int64(h.count) > delta+1:
		return h, Corrupt("a batch at offset %d holds %d records from there to %d", h.base, h.count, h.base+delta)
	}
	h.last = h.base + delta
	return h, nil
}

var errShort = errors.New("something is cut short")

func tooLarge(size int, h batchHeader, limit int) *driver.Error {
	return &driver.Error{Code: "RECORD_TOO_LARGE", Err: fmt.Errorf(
		"a batch of %d bytes, with %d records from offset %d to %d, takes more than MaxDecompressedBytes, %d, in memory",
		size, h.count, h.base, h.last, limit)}
}

// inOrder looks at the offsets of records that are not compressed.
func inOrder(b []byte, h batchHeader) *driver.Error {
	before := int64(-1)
	for i := 0; i < h.count; i++ {
		length, n := binary.Varint(b)
		if n <= 0 || length < 0 || length > int64(len(b)-n) {
			return nil // the client makes nothing of the batch: it comes again
		}
		record := b[n : n+int(length)]
		b = b[n+int(length):]
		if len(record) == 0 {
			return nil
		}
		_, n = binary.Varint(record[1:])
		if n <= 0 {
			return nil
		}
		delta, n := binary.Varint(record[1+n:])
		if n <= 0 {
			return nil
		}
		if err := h.follows(delta, before); err != nil {
			return err
		}
		before = delta
	}
	return nil
}

// follows rejects a record that does not come after the one before it.
func (h batchHeader) follows(delta, before int64) *driver.Error {
	if delta <= before || delta > h.last-h.base {
		return Corrupt("in a batch from offset %d to %d a record with delta %d comes after %d", h.base, h.last, delta, before)
	}
	return nil
}

// wellFormed reports whether b, which is not compressed, holds count records that a client
// can read, and nothing else.
func wellFormed(b []byte, count int) bool {
	for ; count > 0; count-- {
		record, rest, ok := sized(b)
		if !ok || !readable(record) {
			return false
		}
		b = rest
	}
	return len(b) == 0
}

// sized cuts off what a length at the beginning of b counts. A length of -1 counts nothing.
func sized(b []byte) (of, rest []byte, ok bool) {
	length, n := binary.Varint(b)
	if n <= 0 || length > int64(len(b)-n) {
		return nil, nil, false
	}
	length = max(length, 0)
	return b[n : n+int(length)], b[n+int(length):], true
}

func readable(record []byte) bool {
	if len(record) == 0 {
		return false
	}
	b, ok := record[1:], true // after the attributes
	for range 2 {             // the time, and the offset
		_, n := binary.Varint(b)
		if n <= 0 {
			return false
		}
		b = b[n:]
	}
	for range 2 { // the key, and the value
		if _, b, ok = sized(b); !ok {
			return false
		}
	}
	headers, n := binary.Varint(b)
	if n <= 0 || headers > int64(len(b)) {
		return false
	}
	for b = b[n:]; headers > 0; headers-- {
		for range 2 {
			if _, b, ok = sized(b); !ok {
				return false
			}
		}
	}
	return true
}

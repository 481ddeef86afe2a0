package sarama

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

const (
	batchPrefix  = 12 // the base offset, and the length of what follows
	magicAt      = 16
	batchHead    = 61 // up to the records
	smallestBody = batchHead - batchPrefix
	smallestOld  = 14 // of a message in the formats before record batches

	// What a record and a header take in memory once Sarama and this driver have
	// read them, beside the bytes that they point to.
	recordCost = 416
	headerCost = 96
)

// A trouble is why a partition stands still.
type trouble struct {
	offset int64 // from which on nothing can be delivered
	err    *driver.Error
}

func corrupt(format string, args ...any) *driver.Error {
	return &driver.Error{Code: "CORRUPT_MESSAGE", Err: fmt.Errorf(format, args...)}
}

// An examination goes through the records of one partition in an answer.
//
// It always looks at the head of each batch, and at the offsets of what is not
// compressed. Checksums and everything else Sarama looks at itself: to do so twice
// would cost what an examination must not. So what comes a second time, because
// Sarama could not read it or made nothing of it, is looked at thoroughly.
type examination struct {
	records  []byte
	next     int64 // the offset that may come next at the earliest
	thorough bool
	table    *crc32.Table
	budget   *budget
	share    int // of bytes, once they are inflated: more ends the answer

	whole int // batches that are all there, and in order
	bytes int // in them once they are inflated, at most
	part  int // the size of the first batch, if it is not all there
}

// run returns what is wrong, if something is. What is wrong, and all behind it, is
// made invisible to Sarama.
func (x *examination) run() *trouble {
	for at := 0; ; {
		b := x.records[at:]
		if len(b) <= magicAt {
			x.incomplete(b, at)
			return nil
		}
		size, err := x.batch(b)
		if err == errEnough {
			hide(b)
			return nil
		}
		if err != nil {
			hide(b)
			return &trouble{max(x.next, 0), err}
		}
		if size == 0 {
			x.incomplete(b, at)
			return nil
		}
		x.whole++
		at += size
	}
}

// incomplete notes that what is left is not a whole batch, which is usual at the
// end of an answer.
func (x *examination) incomplete(b []byte, at int) {
	if at == 0 && len(b) > 0 {
		x.part = batchPrefix
		if len(b) >= batchPrefix {
			x.part += max(0, int(int32(binary.BigEndian.Uint32(b[8:]))))
		}
	}
}

// hide makes b look like what a broker sends when it cannot convert what follows
// (KIP-283): a message at offset -1 that is larger than what is there. A client
// passes over it and asks again.
func hide(b []byte) {
	binary.BigEndian.PutUint64(b, math.MaxUint64)
	binary.BigEndian.PutUint32(b[8:], math.MaxInt32)
	b[magicAt] = 0
}

// batch looks at the batch with which b begins and returns its size, or 0 if it is
// not all there.
func (x *examination) batch(b []byte) (int, *driver.Error) {
	size, magic := int(int32(binary.BigEndian.Uint32(b[8:]))), int8(b[magicAt])
	least := smallestBody
	if magic < 2 {
		least = smallestOld
	}
	switch {
	case magic < 0 || magic > 2:
		return 0, corrupt("a batch with magic %d", magic)
	case size < least:
		return 0, corrupt("a batch says that it has %d bytes", size)
	case size > int(ibm.MaxResponseSize):
		return 0, corrupt("a batch says that it has %d bytes, more than an answer can hold", size)
	}
	if size += batchPrefix; size > len(b) {
		return 0, nil
	}
	if magic < 2 {
		return size, x.old(b[:size])
	}
	return size, x.recordBatch(b[:size])
}

// old looks at a message in a format that brokers have not written since Kafka 3.
func (x *examination) old(b []byte) *driver.Error {
	if sum := crc32.ChecksumIEEE(b[magicAt:]); x.thorough && sum != binary.BigEndian.Uint32(b[batchPrefix:]) {
		return corrupt("the checksum of a message is wrong")
	}
	return nil
}

// A batchHeader is what the head of a record batch says.
type batchHeader struct {
	base  int64
	last  int64
	codec ibm.CompressionCodec
	count int
}

func (x *examination) recordBatch(b []byte) *driver.Error {
	h, err := header(b, x.next)
	if err != nil {
		return err
	}
	x.next = max(x.next, h.base)
	if x.thorough && crc32.Checksum(b[21:], x.table) != binary.BigEndian.Uint32(b[17:]) {
		return corrupt("the checksum of a batch of %d bytes is wrong", len(b))
	}
	body := b[batchHead:]
	if h.codec == ibm.CompressionNone && !x.thorough {
		if err := inOrder(body, h); err != nil {
			return err
		}
	}
	if err := x.afford(body, h); err != nil {
		return err
	}
	x.next = h.last + 1
	return nil
}

// header reads the head of b, which holds nothing below next if it is sound.
func header(b []byte, next int64) (batchHeader, *driver.Error) {
	h := batchHeader{
		base:  int64(binary.BigEndian.Uint64(b)),
		codec: ibm.CompressionCodec(b[22] & 7),
		count: int(int32(binary.BigEndian.Uint32(b[57:]))),
	}
	delta := int64(int32(binary.BigEndian.Uint32(b[23:])))
	switch {
	case h.base < 0 || delta < 0 || h.base >= math.MaxInt64-delta:
		return h, corrupt("a batch at offset %d goes on for %d more", h.base, delta)
	case h.base+delta < next:
		return h, corrupt("a batch ends at offset %d, and the next one is %d", h.base+delta, next)
	case h.codec > ibm.CompressionZSTD:
		return h, corrupt("a batch at offset %d is compressed with codec %d, which there is not", h.base, h.codec)
	case h.count < 0 || int64(h.count) > delta+1:
		return h, corrupt("a batch at offset %d holds %d records from there to %d", h.base, h.count, h.base+delta)
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
			return nil // Sarama makes nothing of the batch: it comes again
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

// follows refuses a record that does not come after the one before it.
func (h batchHeader) follows(delta, before int64) *driver.Error {
	if delta <= before || delta > h.last-h.base {
		return corrupt("in a batch from offset %d to %d a record with delta %d comes after %d", h.base, h.last, delta, before)
	}
	return nil
}

package recordbatch

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var limits = Limits{Batch: 1 << 20, Share: 8 << 20, Answer: 100 << 20, Record: 400, Header: 100}

// batch returns a batch of n records of 100 bytes from base on.
func batch(t *testing.T, base int64, n int, codec Codec) []byte {
	t.Helper()
	var records []byte
	for i := range n {
		b := binary.AppendVarint([]byte{0, 0}, int64(i))
		b = append(b, 1) // no key
		b = binary.AppendVarint(b, 100)
		b = append(append(b, make([]byte, 100)...), 0)
		records = append(binary.AppendVarint(records, int64(len(b))), b...)
	}
	if codec == Gzip {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, err := w.Write(records)
		require.NoError(t, err)
		require.NoError(t, w.Close())
		records = packed.Bytes()
	}
	r := kmsg.RecordBatch{
		FirstOffset: base, Length: int32(smallestBody + len(records)), Magic: 2, Attributes: int16(codec),
		LastOffsetDelta: int32(n - 1), ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: int32(n), Records: records,
	}
	b := r.AppendTo(nil)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

func examine(records []byte, next int64, thorough bool) (*Examination, *Damage) {
	x := &Examination{Records: records, Next: next, Thorough: thorough, Budget: NewBudget(limits)}
	return x, x.Run()
}

// TestExamination holds which batches pass, and that a damaged one is hidden from the
// client while the batches before it are not.
func TestExamination(t *testing.T) {
	for _, c := range []struct {
		name     string
		change   func(b []byte) []byte // of the second of two batches
		thorough bool
		whole    int
		code     string // of the damage; empty is none
	}{
		{"sound", func(b []byte) []byte { return b }, true, 2, ""},
		{"cut at the end of the answer", func(b []byte) []byte { return b[:len(b)-1] }, true, 1, ""},
		{"head cut", func(b []byte) []byte { return b[:10] }, true, 1, ""},
		{"magic", func(b []byte) []byte { b[MagicAt] = 4; return b }, false, 1, "CORRUPT_MESSAGE"},
		{"offset before the first batch", func([]byte) []byte { return batch(t, 3, 2, None) }, false, 1, "CORRUPT_MESSAGE"},
		{"codec", func(b []byte) []byte { b[22] |= 7; return b }, false, 1, "CORRUPT_MESSAGE"},
		{"offset of a record", func(b []byte) []byte { b[HeadBytes+4] = 40; return b }, false, 1, "CORRUPT_MESSAGE"},
		{"a bit of a value, unseen", func(b []byte) []byte { b[HeadBytes+20] ^= 1; return b }, false, 2, ""},
		{"a bit of a value", func(b []byte) []byte { b[HeadBytes+20] ^= 1; return b }, true, 1, "CORRUPT_MESSAGE"},
		{"too many records", func([]byte) []byte { return batch(t, 20, 3000, None) }, false, 1, "RECORD_TOO_LARGE"},
		{"too many records, compressed", func([]byte) []byte { return batch(t, 20, 3000, Gzip) }, false, 1, "RECORD_TOO_LARGE"},
		{"compressed", func([]byte) []byte { return batch(t, 20, 30, Gzip) }, true, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			first := batch(t, 10, 10, None)
			second := c.change(batch(t, 20, 5, None))
			records := append(bytes.Clone(first), second...)
			x, damage := examine(records, 10, c.thorough)
			assert.Equal(t, c.whole, x.Whole, "whole batches")
			assert.Equal(t, first, records[:len(first)], "the first batch")
			if c.code == "" {
				assert.Nil(t, damage)
				assert.Equal(t, second, records[len(first):], "the second batch")
				return
			}
			require.NotNil(t, damage)
			assert.Equal(t, c.code, damage.Err.Code)
			assert.Equal(t, int64(20), damage.Offset)
			assert.Equal(t, int64(-1), FirstOffset(records[len(first):]), "the damaged batch is not hidden")
		})
	}
}

// TestPart: the size of a batch that has not come as a whole is known from its head.
func TestPart(t *testing.T) {
	b := batch(t, 0, 10, None)
	x, damage := examine(b[:len(b)/2], 0, false)
	assert.Nil(t, damage)
	assert.Equal(t, []int{0, len(b)}, []int{x.Whole, x.Part})
	assert.Equal(t, int64(-1), FirstOffset(b[:7]))
}

// TestBudgetEndsAnAnswer: batches that pass one by one do not pass together.
func TestBudgetEndsAnAnswer(t *testing.T) {
	one := batch(t, 0, 1500, Gzip) // 0.75 MB in memory each
	var records []byte
	for i := range 100 {
		binary.BigEndian.PutUint64(one, uint64(1500*i))
		records = append(records, one...)
	}
	x, damage := examine(records, 0, false)
	assert.Nil(t, damage)
	assert.Greater(t, x.Whole, 0)
	assert.Less(t, x.Whole, 20, "batches in one answer")
}

//go:build unix

package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The codecs of a batch.
const (
	plain     = 0
	gzipCodec = 1
	zstdCodec = 4
)

// A batch is a batch of records, each field of which can lie.
type batch struct {
	first     int64
	lastDelta int32
	count     int32
	codec     int16
	records   []byte // as they lie in the batch
}

// bytes returns the batch with the right length and checksum.
func (b batch) bytes() []byte {
	body := binary.BigEndian.AppendUint16(nil, uint16(b.codec))
	body = binary.BigEndian.AppendUint32(body, uint32(b.lastDelta))
	body = binary.BigEndian.AppendUint64(body, 1_700_000_000_000) // first timestamp
	body = binary.BigEndian.AppendUint64(body, 1_700_000_000_000) // last
	body = binary.BigEndian.AppendUint64(body, 1<<64-1)           // producer
	body = binary.BigEndian.AppendUint16(body, 1<<16-1)
	body = binary.BigEndian.AppendUint32(body, 1<<32-1)
	body = binary.BigEndian.AppendUint32(body, uint32(b.count))
	body = append(body, b.records...)
	out := binary.BigEndian.AppendUint64(nil, uint64(b.first))
	out = binary.BigEndian.AppendUint32(out, uint32(len(body)+9))
	out = binary.BigEndian.AppendUint32(out, 0) // leader epoch
	out = append(out, 2)
	out = binary.BigEndian.AppendUint32(out, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	return append(out, body...)
}

// record returns one record without a key. Its headers follow their count.
func record(delta int64, value []byte, headers int64, raw []byte) []byte {
	body := []byte{0, 0} // attributes, and the timestamp's delta
	body = binary.AppendVarint(body, delta)
	body = binary.AppendVarint(body, -1)
	body = binary.AppendVarint(body, int64(len(value)))
	body = append(body, value...)
	body = binary.AppendVarint(body, headers)
	body = append(body, raw...)
	return append(binary.AppendVarint(nil, int64(len(body))), body...)
}

const gib = 1 << 30

// bomb is a batch of some kilobytes with one record of a gibibyte.
var bomb = sync.OnceValue(func() []byte {
	head := []byte{0, 0}
	head = binary.AppendVarint(head, 0)
	head = binary.AppendVarint(head, -1)
	head = binary.AppendVarint(head, gib)
	head = append(binary.AppendVarint(nil, int64(len(head)+gib+1)), head...)
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	w.Write(head)
	io.CopyN(w, zeros{}, gib)
	w.Write([]byte{0}) // headers
	if err := w.Close(); err != nil {
		panic(err)
	}
	return batch{count: 1, codec: zstdCodec, records: out.Bytes()}.bytes()
})

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

const manyHeaders = 10_000_000

// headers is a record with ten million empty headers.
var headers = sync.OnceValue(func() []byte {
	return record(0, []byte("v"), manyHeaders, bytes.Repeat([]byte{0, 1}, manyHeaders))
})

func plainHeaders() []byte { return batch{count: 1, records: headers()}.bytes() }

var packedHeaders = sync.OnceValue(func() []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(headers())
	if err := w.Close(); err != nil {
		panic(err)
	}
	return batch{count: 1, codec: gzipCodec, records: out.Bytes()}.bytes()
})

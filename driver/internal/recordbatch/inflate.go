package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	snappy "github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// atMost returns an upper bound for the size of b once decompressed, without
// decompressing it, or -1 if no cheap bound exists. Compressed data consist of blocks;
// the first bytes of each give how much it can hold.
func atMost(codec Codec, b []byte) int {
	switch codec {
	case None:
		return len(b)
	case Gzip:
		return gzipAtMost(b)
	case Snappy:
		return snappyAtMost(b)
	case LZ4:
		return lz4AtMost(b)
	case Zstd:
		return zstdAtMost(b)
	}
	return -1
}

// gzipAtMost takes the size at the end of a gzip member, if no other member can come
// before it. A member with a wrong size fails at its end; until then the client's own
// limit of decompression bounds it.
func gzipAtMost(b []byte) int {
	magic := []byte{0x1f, 0x8b, 0x08}
	if len(b) < 18 || !bytes.HasPrefix(b, magic) || bytes.Contains(b[1:], magic) {
		return -1
	}
	return int(binary.LittleEndian.Uint32(b[len(b)-4:]))
}

// snappyMagic begins the framing of Java's snappy library, which Kafka uses.
const snappyMagic = "\x82SNAPPY\x00"

func snappyAtMost(b []byte) int {
	if !bytes.HasPrefix(b, []byte(snappyMagic)) {
		n, ok := snappyBlock(b)
		if !ok {
			return -1
		}
		return n
	}
	sum := 0
	for b = b[min(16, len(b)):]; len(b) > 4; {
		size := int(binary.BigEndian.Uint32(b))
		if size > len(b)-4 {
			return -1
		}
		n, ok := snappyBlock(b[4 : 4+size])
		if !ok {
			return -1
		}
		sum += n
		b = b[4+size:]
	}
	return sum
}

func snappyBlock(b []byte) (int, bool) {
	n, size := binary.Uvarint(b)
	return int(n), size > 0 && n <= 1<<32
}

const (
	lz4Magic  = 0x184D2204
	zstdMagic = 0xFD2FB528
	zstdBlock = 128 << 10 // the largest
)

// lz4AtMost walks the blocks of one frame.
func lz4AtMost(b []byte) int {
	if len(b) < 7 || binary.LittleEndian.Uint32(b) != lz4Magic {
		return -1
	}
	flags, code := b[4], b[5]>>4&7
	if code < 4 {
		return -1
	}
	block, head, check := 1<<(8+2*code), 7, 0
	if flags&8 != 0 {
		head += 8 // the size of the content
	}
	if flags&1 != 0 {
		head += 4 // the ID of a dictionary
	}
	if flags&16 != 0 {
		check = 4
	}
	sum := 0
	for b = b[min(head, len(b)):]; len(b) >= 4; {
		size := int(binary.LittleEndian.Uint32(b) &^ (1 << 31))
		if size == 0 {
			if end := len(b) - 4; end > 4 {
				return -1 // another frame
			}
			return sum
		}
		if size > len(b)-4-check {
			return -1
		}
		sum += block
		b = b[4+size+check:]
	}
	return -1
}

// zstdAtMost walks the blocks of one frame.
func zstdAtMost(b []byte) int {
	if len(b) < 6 || binary.LittleEndian.Uint32(b) != zstdMagic {
		return -1
	}
	descriptor := b[4]
	single := descriptor&(1<<5) != 0
	head := 5 + [4]int{0, 1, 2, 4}[descriptor&3] + [4]int{0, 2, 4, 8}[descriptor>>6]
	if !single {
		head++ // the window
	} else if descriptor>>6 == 0 {
		head++ // a size in one byte
	}
	check := 0
	if descriptor&4 != 0 {
		check = 4
	}
	sum := 0
	for b = b[min(head, len(b)):]; len(b) >= 3; {
		block := int(b[0]) | int(b[1])<<8 | int(b[2])<<16
		last, kind, size := block&1 != 0, block>>1&3, block>>3
		held := size
		switch kind {
		case 1:
			size = 1 // one byte, repeated
		case 2:
			held = zstdBlock
		}
		sum += held
		if size > len(b)-3 {
			return -1
		}
		b = b[3+size:]
		if last {
			if len(b) != check {
				return -1 // another frame
			}
			return sum
		}
	}
	return -1
}

// errTooLarge reports that records take more than they may.
var errTooLarge = errors.New("too large")

// inflate returns a reader of b decompressed, which never holds more than limit bytes at
// once, and a function that releases it.
func inflate(codec Codec, b []byte, limit int) (io.Reader, func(), error) {
	nothing := func() {}
	switch codec {
	case None:
		return bytes.NewReader(b), nothing, nil
	case Gzip:
		r, err := gzip.NewReader(bytes.NewReader(b))
		return r, nothing, err
	case Snappy:
		n := snappyAtMost(b)
		if n > limit {
			return nil, nothing, errTooLarge
		}
		plain, err := snappy.DecodeCapped(make([]byte, 0, max(n, 0)), b)
		return bytes.NewReader(plain), nothing, err
	case LZ4:
		return lz4.NewReader(bytes.NewReader(b)), nothing, nil
	case Zstd:
		r, err := zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(uint64(min(max(limit, 1<<10), 1<<29))))
		if err != nil {
			return nil, nothing, err
		}
		return r, r.Close, nil
	}
	return nil, nothing, fmt.Errorf("there is no codec %d", codec)
}

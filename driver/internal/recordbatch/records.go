package recordbatch

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/aarontianqx/gopkg/driver"
)

// read goes through the records of a batch as a client would, without keeping any, and
// returns what they take in memory. It stops when that is too much.
func (x *Examination) read(body []byte, h batchHeader) (int, *driver.Error) {
	limit := x.Budget.Batch
	r, done, err := inflate(h.codec, body, limit)
	defer done()
	if err == nil {
		w := recordWalk{in: bufio.NewReaderSize(r, 64<<10), h: h, budget: x.Budget}
		if err = w.all(); err == nil {
			return w.cost, nil
		}
	}
	if errors.Is(err, errTooLarge) || errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, zstd.ErrDecoderSizeExceeded) {
		return 0, tooLarge(len(body)+HeadBytes, h, limit)
	}
	var known *driver.Error
	if errors.As(err, &known) {
		return 0, known
	}
	return 0, Corrupt("the records of a batch from offset %d to %d, %d bytes, cannot be read: %w", h.base, h.last, len(body), err)
}

// A recordWalk reads records and keeps count of what they would take in memory.
type recordWalk struct {
	in     *bufio.Reader
	h      batchHeader
	budget *Budget
	cost   int

	left int64 // bytes of the record that is being read
}

func (w *recordWalk) all() error {
	before := int64(-1)
	for i := 0; i < w.h.count; i++ {
		delta, err := w.record()
		if err == nil {
			if late := w.h.follows(delta, before); late != nil {
				return late
			}
			err = w.spend(w.budget.Record)
		}
		if err != nil {
			return err
		}
		before = delta
	}
	if _, err := w.in.ReadByte(); err != io.EOF {
		return errors.Join(errors.New("more bytes follow the records"), err)
	}
	return nil
}

// record reads one record and returns its offset's delta.
func (w *recordWalk) record() (int64, error) {
	w.left = binary.MaxVarintLen64
	length, err := w.varint()
	if err != nil {
		return 0, err
	}
	w.left = length
	if err := w.skip(1); err != nil { // attributes
		return 0, err
	}
	if _, err := w.varint(); err != nil { // the timestamp
		return 0, err
	}
	delta, err := w.varint()
	if err != nil {
		return 0, err
	}
	for range 2 { // key and value
		if err := w.field(); err != nil {
			return 0, err
		}
	}
	if err := w.headers(); err != nil {
		return 0, err
	}
	if w.left != 0 {
		return 0, errors.New("a record is longer than what it holds")
	}
	return delta, nil
}

func (w *recordWalk) headers() error {
	n, err := w.varint()
	if err != nil {
		return err
	}
	if n < 0 || n > w.left {
		return errShort
	}
	for ; n > 0; n-- {
		if err := w.spend(w.budget.Header); err != nil {
			return err
		}
		for range 2 {
			if err := w.field(); err != nil {
				return err
			}
		}
	}
	return nil
}

// field passes over a key or a value. Its bytes count as they are.
func (w *recordWalk) field() error {
	n, err := w.varint()
	if err != nil {
		return err
	}
	if n == -1 {
		return nil
	}
	if n < 0 || n > w.left {
		return errShort
	}
	if err := w.spend(int(n)); err != nil {
		return err
	}
	return w.skip(n)
}

func (w *recordWalk) spend(n int) error {
	if w.cost += n; w.cost > w.budget.Batch {
		return errTooLarge
	}
	return nil
}

func (w *recordWalk) skip(n int64) error {
	if n > w.left {
		return errShort
	}
	w.left -= n
	_, err := w.in.Discard(int(n))
	return short(err)
}

func (w *recordWalk) varint() (int64, error) {
	v, err := binary.ReadVarint(w)
	return v, short(err)
}

// ReadByte implements io.ByteReader. It reads nothing beyond the record.
func (w *recordWalk) ReadByte() (byte, error) {
	if w.left <= 0 {
		return 0, errShort
	}
	w.left--
	return w.in.ReadByte()
}

func short(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errShort
	}
	return err
}

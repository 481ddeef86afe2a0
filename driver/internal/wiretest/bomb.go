package wiretest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	snappy "github.com/klauspost/compress/snappy/xerial"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// Mebi is the number of bytes of a MiB.
const Mebi = 1 << 20

// HeapPeak collects garbage and samples what is left, again and again, until it is called back.
// It returns the largest growth in between. A collection that nothing forces may not come before
// the test is over.
func HeapPeak(t *testing.T) (stop func() int) {
	t.Helper()
	now := func() int {
		runtime.GC()
		s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(s)
		return int(s[0].Value.Uint64())
	}
	before, peak := now(), 0
	done := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		for {
			peak = max(peak, now()-before)
			select {
			case <-time.After(10 * time.Millisecond):
			case <-done:
				return
			}
		}
	})
	var once sync.Once
	stop = func() int {
		once.Do(func() { close(done) })
		sampling.Wait()
		return peak
	}
	t.Cleanup(func() { stop() })
	return stop
}

// zeros writes n zero bytes.
func zeros(t *testing.T, w io.Writer, n int) {
	t.Helper()
	for chunk := make([]byte, Mebi); n > 0; n -= len(chunk) {
		_, err := w.Write(chunk[:min(n, len(chunk))])
		require.NoError(t, err)
	}
}

// Compressed returns the output of write, compressed with codec.
func Compressed(t *testing.T, codec int16, write func(io.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch codec {
	case 1:
		w = gzip.NewWriter(&b)
	case 2:
		var plain bytes.Buffer
		write(&plain)
		return snappy.Encode(nil, plain.Bytes())
	case 3:
		w = lz4.NewWriter(&b)
	case 4:
		z, err := zstd.NewWriter(&b)
		require.NoError(t, err)
		w = z
	default:
		write(&b)
		return b.Bytes()
	}
	write(w)
	require.NoError(t, w.Close())
	return b.Bytes()
}

// Large writes one record with a value of n zeros.
func Large(t *testing.T, n int) func(io.Writer) {
	return func(w io.Writer) {
		b := []byte{0, 0, 0, 1} // attributes, time, offset, no key
		b = binary.AppendVarint(b, int64(n))
		w.Write(binary.AppendVarint(nil, int64(len(b)+n+1)))
		w.Write(b)
		zeros(t, w, n+1)
	}
}

// Headed writes one record with n empty headers.
func Headed(t *testing.T, n int) func(io.Writer) {
	return func(w io.Writer) {
		b := []byte{0, 0, 0, 1, 0} // attributes, time, offset, no key, empty value
		b = binary.AppendVarint(b, int64(n))
		w.Write(binary.AppendVarint(nil, int64(len(b)+2*n)))
		w.Write(b)
		zeros(t, w, 2*n)
	}
}

// twice is gzip in two members, of which the last one is small.
func twice(t *testing.T, zipped []byte) []byte {
	return append(slices.Clone(zipped), Compressed(t, 1, func(w io.Writer) { w.Write([]byte{0}) })...)
}

// BatchThatInflatesStandsAlone: a batch that would take more memory than
// MaxDecompressedBytes stops its partition with RECORD_TOO_LARGE, and does not take that
// memory.
func (s Suite) BatchThatInflatesStandsAlone(t *testing.T) {
	testkit.Slow(t, "compresses some hundreds of megabytes")
	const inflated = 200 * Mebi
	for codec, name := range map[int16]string{2: "snappy", 3: "lz4", 4: "zstd"} {
		t.Run(name, func(t *testing.T) {
			s.standsAlone(t, Batch(20, 9, 1, codec, Compressed(t, codec, Large(t, inflated))), 250*Mebi)
		})
	}
	zipped := Compressed(t, 1, Large(t, inflated))
	t.Run("gzip", func(t *testing.T) {
		s.standsAlone(t, Batch(20, 9, 1, 1, zipped), 250*Mebi)
	})
	t.Run("gzip in two members", func(t *testing.T) {
		s.standsAlone(t, Batch(20, 9, 1, 1, twice(t, zipped)), 250*Mebi)
	})
	t.Run("gzip that lies about its size", func(t *testing.T) {
		b := slices.Clone(zipped)
		binary.LittleEndian.PutUint32(b[len(b)-4:], 100)
		s.standsAlone(t, Batch(20, 9, 1, 1, b), 450*Mebi) // it is read up to Sarama's bound
	})
}

// RecordOfManyHeadersStandsAlone does the same with ten million headers.
func (s Suite) RecordOfManyHeadersStandsAlone(t *testing.T) {
	testkit.Slow(t, "compresses some hundreds of megabytes")
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(name, func(t *testing.T) {
			s.standsAlone(t, Batch(20, 9, 1, int16(codec), Compressed(t, int16(codec), Headed(t, 10_000_000))), 450*Mebi)
		})
	}
	t.Run("gzip in two members", func(t *testing.T) {
		s.standsAlone(t, Batch(20, 9, 1, 1, twice(t, Compressed(t, 1, Headed(t, 10_000_000)))), 450*Mebi)
	})
}

// standsAlone checks that the partition with the bomb stands, that nothing else does, and
// that the heap grows by no more than most.
func (s Suite) standsAlone(t *testing.T, bomb []byte, most int) {
	t.Helper()
	store := Damaged(func([]byte) []byte { return bomb })
	peak := HeapPeak(t)
	m := s.startStore(t, store, 64*Mebi)
	m.waitFor(t, soon, "delivery of what is intact, and a report", func() bool {
		return len(m.offsets(1)) >= 40 && len(m.offsets(0)) >= 20 && len(m.troubles()) > 0
	})
	store.Mend.Store(true)
	m.waitFor(t, soon, "delivery of the rest", func() bool { return len(m.offsets(0)) >= 40 })
	p := peak()
	t.Logf("the heap has grown by %d MiB", p/Mebi)
	assert.LessOrEqual(t, p, most, "growth of the heap")
	m.mu.Lock()
	defer m.mu.Unlock()
	assert.Equal(t, UpTo(40), m.offsets(0), "offsets of partition 0")
	assert.Equal(t, 2, m.assigned, "claims assigned")
	for _, p := range m.troubles() {
		assert.Equal(t, driver.PartitionError{Topic: "t", Offset: 20, Err: p.Err}, *p)
		assert.Equal(t, "RECORD_TOO_LARGE", testkit.Code(p), "code of %v", p)
	}
}

// startStore starts a member over a cluster whose fetches are answered from store.
func (s Suite) startStore(t *testing.T, store *Store, limit int) *member {
	t.Helper()
	cluster := s.Fake(t, kfake.SeedTopics(2, "t"))
	// The log that the coordinator and ListOffsets know of.
	for p := range int32(2) {
		require.NoError(t, outside.Of(cluster.ListenAddrs()...).Send(testkit.Within(t, soon), "t", p, numbered("", 40)...))
	}
	store.Serve(cluster)
	cfg := s.Config(cluster.ListenAddrs())
	cfg.MaxDecompressedBytes = limit
	return s.start(t, cfg, nil)
}

// offsets returns the offsets of a partition that were delivered. The caller holds the mutex.
func (m *member) offsets(partition int32) (offsets []int64) {
	for _, r := range m.records {
		if r.claim.Partition == partition {
			offsets = append(offsets, r.offset)
		}
	}
	return offsets
}

// troubles returns the errors that name a partition. The caller holds the mutex.
func (m *member) troubles() (all []*driver.PartitionError) {
	for _, err := range m.errs {
		var p *driver.PartitionError
		if errors.As(err, &p) {
			all = append(all, p)
		}
	}
	return all
}

// ManyHeavyBatchesAreReadInParts: batches that are each below the bound are delivered, though
// a whole answer of them would take many times the bound.
func (s Suite) ManyHeavyBatchesAreReadInParts(t *testing.T) {
	testkit.Slow(t, "compresses some hundreds of megabytes")
	heavy := Compressed(t, 4, Headed(t, 100_000))
	store := &Store{}
	for p := range 2 {
		var of [][]byte
		for i := range 40 {
			of = append(of, Batch(int64(i), 0, 1, 4, heavy))
			if p == 1 {
				of[i] = BatchOf(int64(i), 1)
			}
		}
		store.Intact = append(store.Intact, of)
		store.Batches = append(store.Batches, slices.Clone(of))
	}
	peak := HeapPeak(t)
	m := s.startStore(t, store, 11*Mebi)
	m.waitFor(t, 4*soon, "delivery of all", func() bool { // it is work, also for the race detector
		return len(m.offsets(0)) >= 40 && len(m.offsets(1)) >= 40
	})
	p := peak()
	t.Logf("the heap has grown by %d MiB", p/Mebi)
	assert.LessOrEqual(t, p, 150*Mebi, "growth of the heap")
	m.mu.Lock()
	defer m.mu.Unlock()
	assert.Equal(t, UpTo(40), m.offsets(0), "offsets of partition 0")
	assert.Empty(t, m.errs)
}

package franz

import (
	"bytes"
	"encoding/binary"
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

	"github.com/aarontianqx/gopkg/internal/testkit"
)

const mebi = 1 << 20

// heapPeak samples until it is called back the memory that the process uses, without garbage,
// and returns the largest growth in between.
func heapPeak(t *testing.T) (stop func() int) {
	t.Helper()
	now := func() int {
		s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(s)
		return int(s[0].Value.Uint64())
	}
	runtime.GC()
	before, peak := now(), 0
	done := make(chan struct{})
	var sampling sync.WaitGroup
	sampling.Go(func() {
		for {
			peak = max(peak, now()-before)
			select {
			case <-time.After(2 * time.Millisecond):
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
	for chunk := make([]byte, mebi); n > 0; n -= len(chunk) {
		_, err := w.Write(chunk[:min(n, len(chunk))])
		require.NoError(t, err)
	}
}

// compressed returns the output of write, compressed with codec.
func compressed(t *testing.T, codec int16, write func(io.Writer)) []byte {
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

// large writes one record with a value of n zeros.
func large(t *testing.T, n int) func(io.Writer) {
	return func(w io.Writer) {
		b := []byte{0, 0, 0, 1} // attributes, time, offset, no key
		b = binary.AppendVarint(b, int64(n))
		w.Write(binary.AppendVarint(nil, int64(len(b)+n+1)))
		w.Write(b)
		zeros(t, w, n+1)
	}
}

// headed writes one record with n empty headers.
func headed(t *testing.T, n int) func(io.Writer) {
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
	return append(slices.Clone(zipped), compressed(t, 1, func(w io.Writer) { w.Write([]byte{0}) })...)
}

// TestFault_H1_BatchThatInflatesStandsAlone: a batch that would take more memory than
// MaxDecompressedBytes stops its partition with RECORD_TOO_LARGE, and does not take that
// memory.
func TestFault_H1_BatchThatInflatesStandsAlone(t *testing.T) {
	testkit.Slow(t, "compresses some hundreds of megabytes")
	const inflated = 200 * mebi
	for codec, name := range map[int16]string{2: "snappy", 3: "lz4", 4: "zstd"} {
		t.Run(name, func(t *testing.T) {
			standsAlone(t, batch(20, 9, 1, codec, compressed(t, codec, large(t, inflated))), 250*mebi)
		})
	}
	zipped := compressed(t, 1, large(t, inflated))
	t.Run("gzip", func(t *testing.T) {
		standsAlone(t, batch(20, 9, 1, 1, zipped), 250*mebi)
	})
	t.Run("gzip in two members", func(t *testing.T) {
		standsAlone(t, batch(20, 9, 1, 1, twice(t, zipped)), 250*mebi)
	})
	t.Run("gzip that lies about its size", func(t *testing.T) {
		b := slices.Clone(zipped)
		binary.LittleEndian.PutUint32(b[len(b)-4:], 100)
		standsAlone(t, batch(20, 9, 1, 1, b), 450*mebi) // it is read up to Sarama's bound
	})
}

// TestFault_H5_RecordOfManyHeadersStandsAlone does the same with ten million headers.
func TestFault_H5_RecordOfManyHeadersStandsAlone(t *testing.T) {
	testkit.Slow(t, "compresses some hundreds of megabytes")
	for codec, name := range []string{"none", "gzip", "snappy", "lz4", "zstd"} {
		t.Run(name, func(t *testing.T) {
			standsAlone(t, batch(20, 9, 1, int16(codec), compressed(t, int16(codec), headed(t, 10_000_000))), 450*mebi)
		})
	}
	t.Run("gzip in two members", func(t *testing.T) {
		standsAlone(t, batch(20, 9, 1, 1, twice(t, compressed(t, 1, headed(t, 10_000_000)))), 450*mebi)
	})
}

// standsAlone checks that the partition with the bomb stands, that nothing else does, and
// that the heap grows by no more than most.
func standsAlone(t *testing.T, bomb []byte, most int) {
	t.Helper()
	s := damaged(func([]byte) []byte { return bomb })
	peak := heapPeak(t)
	m := startStore(t, s, 64*mebi)
	r := m.recorder
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
	})
	s.mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
	p := peak()
	t.Logf("the heap has grown by %d MiB", p/mebi)
	assert.LessOrEqual(t, p, most, "growth of the heap")
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, upTo(40), r.offsets(0), "offsets of partition 0")
	assert.Len(t, r.assigned, 2, "claims assigned")
	for _, err := range r.troubles() {
		wantTrouble(t, err, "t", 20, "RECORD_TOO_LARGE")
	}
}

// TestFault_H5_ManyHeavyBatchesAreReadInParts: batches that are each below the bound
// are delivered, though a whole answer of them would take many times the bound.
func TestFault_H5_ManyHeavyBatchesAreReadInParts(t *testing.T) {
	testkit.Slow(t, "compresses some hundreds of megabytes")
	heavy := compressed(t, 4, headed(t, 100_000))
	s := &store{}
	for p := range 2 {
		var of [][]byte
		for i := range 40 {
			of = append(of, batch(int64(i), 0, 1, 4, heavy))
			if p == 1 {
				of[i] = bytesOf(int64(i), 1)
			}
		}
		s.intact = append(s.intact, of)
		s.batches = append(s.batches, slices.Clone(of))
	}
	peak := heapPeak(t)
	m := startStore(t, s, 11*mebi)
	m.waitFor(t, 4*patienceTest, "delivery of all", func() bool { // it is work, also for the race detector
		return len(m.offsets(0)) >= 40 && len(m.offsets(1)) >= 40
	})
	p := peak()
	t.Logf("the heap has grown by %d MiB", p/mebi)
	assert.LessOrEqual(t, p, 150*mebi, "growth of the heap")
	m.recorder.mu.Lock()
	defer m.recorder.mu.Unlock()
	assert.Equal(t, upTo(40), m.offsets(0), "offsets of partition 0")
	assert.Empty(t, m.errs)
}

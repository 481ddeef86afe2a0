package sarama

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

func (r *recorder) offsets(partition int32) (offsets []int64) {
	for _, g := range r.records {
		if g.partition == partition {
			offsets = append(offsets, g.offset)
		}
	}
	return offsets
}

// troubles returns the errors that name a partition.
func (r *recorder) troubles() (all []*driver.PartitionError) {
	for _, err := range r.errs {
		var p *driver.PartitionError
		if errors.As(err, &p) {
			all = append(all, p)
		}
	}
	return all
}

// wantTrouble checks that err is the error code of partition 0 at offset.
func wantTrouble(t testing.TB, err error, topic string, offset int64, code string) {
	t.Helper()
	var p *driver.PartitionError
	if assert.ErrorAs(t, err, &p) {
		assert.Equal(t, driver.PartitionError{Topic: topic, Offset: offset, Err: p.Err}, *p)
		assert.Equal(t, code, testkit.Code(err), "code of %v", err)
	}
}

func startStore(t *testing.T, s *wiretest.Store, limit int) *running {
	t.Helper()
	cluster := fake(t, kfake.SeedTopics(2, "t"))
	// The log that the coordinator and ListOffsets know of.
	for p := range int32(2) {
		seed(t, cluster.ListenAddrs(), "t", p, numbered(0, 40)...)
	}
	s.Serve(cluster)
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.MaxDecompressedBytes = limit
	return start(t, Driver{}, cfg, newRecorder())
}

// TestFault_B1_DamagedBatchStopsItsPartitionAlone: one batch is damaged in some way.
// The other partition and the records before the batch are delivered, the error names
// the place, and the group is not joined again. As soon as the batch can be read, its
// partition goes on.
func TestFault_B1_DamagedBatchStopsItsPartitionAlone(t *testing.T) {
	testkit.Slow(t, "waits for a second look at each batch")
	t.Parallel()
	flip := func(at int, bit byte) func([]byte) []byte {
		return func(b []byte) []byte {
			b[at] ^= bit
			return b
		}
	}
	resigned := func(change func([]byte)) func([]byte) []byte {
		return func(b []byte) []byte {
			change(b)
			wiretest.Sign(b)
			return b
		}
	}
	for _, c := range []struct {
		name   string
		damage func([]byte) []byte
	}{
		{"a bit of a value", flip(recordbatch.HeadBytes+6, 1)},
		{"a bit of a record's offset", flip(recordbatch.HeadBytes+3, 1)},
		{"a bit of the checksum", flip(18, 4)},
		{"the magic, to a later one", flip(recordbatch.MagicAt, 4)},
		{"the magic, to an older one", flip(recordbatch.MagicAt, 2)},
		{"the length, negative", flip(8, 0x80)},
		{"the length, too small", func(b []byte) []byte { binary.BigEndian.PutUint32(b[8:], 20); return b }},
		{"the length, larger than an answer", flip(8, 0x40)},
		{"the base offset, lower", flip(7, 16)},
		{"the codec", resigned(func(b []byte) { b[22] |= 7 })},
		{"more records than offsets", resigned(func(b []byte) { b[60] = 200 })},
		{"a record's length that lies", resigned(func(b []byte) { b[recordbatch.HeadBytes] += 2 })},
		{"2^62 headers", func(b []byte) []byte {
			return wiretest.Batch(20, 9, 1, 0, wiretest.Rec(0, "20", binary.AppendVarint(nil, 1<<62)...))
		}},
		{"records cut short", func(b []byte) []byte { return wiretest.Batch(20, 9, 10, 0, b[recordbatch.HeadBytes:len(b)-5]) }},
		{"records out of order", func(b []byte) []byte {
			return wiretest.Batch(20, 9, 3, 0, slices.Concat(wiretest.Rec(5, "25"), wiretest.Rec(3, "23"), wiretest.Rec(9, "29")))
		}},
		{"a record beyond the batch", func(b []byte) []byte { return wiretest.Batch(20, 9, 1, 0, wiretest.Rec(10, "30")) }},
		{"an offset of 2^63-1", func(b []byte) []byte { return wiretest.Batch(1<<63-1, 0, 1, 0, wiretest.Rec(0, "x")) }},
		{"gzip that is none", func(b []byte) []byte { return wiretest.Batch(20, 9, 10, 1, b[recordbatch.HeadBytes:]) }},
		{"zstd that is none", func(b []byte) []byte { return wiretest.Batch(20, 9, 10, 4, b[recordbatch.HeadBytes:]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := wiretest.Damaged(c.damage)
			m := startStore(t, s, 0)
			r := m.recorder
			r.wait(t, "delivery of what is intact, and a report", func() bool {
				return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
			})
			r.mu.Lock()
			assert.Equal(t, wiretest.UpTo(40), r.offsets(1), "offsets of partition 1")
			assert.Equal(t, wiretest.UpTo(20), r.offsets(0), "offsets of partition 0")
			for _, err := range r.errs {
				wantTrouble(t, err, "t", 20, "CORRUPT_MESSAGE")
			}
			assert.Empty(t, r.revoked)
			assert.Empty(t, r.lost)
			r.mu.Unlock()
			// It is fetched once per look, and not in a loop.
			asked := s.Asked[0].Load()
			time.Sleep(500 * time.Millisecond)
			assert.LessOrEqual(t, s.Asked[0].Load()-asked, int64(3), "fetches of the partition in half a second")
			s.Mend.Store(true)
			r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, wiretest.UpTo(40), r.offsets(0), "offsets of partition 0")
			assert.Len(t, r.assigned, 2, "claims assigned")
		})
	}
}

// TestFault_H7_NothingOfALogThatGoesOnIsReported: a leader that names an end beyond
// the position and sends no records is reported once, by an error that names the
// partition, and ends no session.
func TestFault_H7_NothingOfALogThatGoesOnIsReported(t *testing.T) {
	t.Parallel()
	s := wiretest.Damaged(func([]byte) []byte { return nil })
	s.Batches[0][3] = nil
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "delivery of what is there", func() bool { return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 })
	cl := m.claims.at(partition{Topic: "t"})
	require.Eventually(t, func() bool {
		_, since := cl.feed.state()
		return !since.IsZero()
	}, patienceTest, time.Millisecond, "the feed notices nothing")
	watch := newMender(m.claims, m.core)
	watch.round(time.Now())
	r.mu.Lock()
	assert.Empty(t, r.errs, "errors at first")
	r.mu.Unlock()
	later := time.Now().Add(stuckAfter + time.Second)
	watch.round(later)
	watch.round(later.Add(time.Second))
	r.mu.Lock()
	if all := r.troubles(); assert.Len(t, all, 1, "troubles among %v", r.errs) {
		wantTrouble(t, all[0], "t", 20, "FETCH_STALLED")
	}
	assert.Empty(t, r.revoked)
	assert.Empty(t, r.lost)
	r.mu.Unlock()
	s.Mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
}

// TestFault_H7_BatchThatNeverComesWholeStandsAlone: a broker sends the beginning of a
// batch only.
func TestFault_H7_BatchThatNeverComesWholeStandsAlone(t *testing.T) {
	t.Parallel()
	s := wiretest.Damaged(func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[8:], 1<<16)
		return b
	})
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
	})
	s.Mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, wiretest.UpTo(40), r.offsets(0), "offsets of partition 0")
	wantTrouble(t, r.troubles()[0], "t", 20, "CORRUPT_MESSAGE")
	for _, err := range r.errs {
		assert.Equal(t, "CORRUPT_MESSAGE", testkit.Code(err), "code of %v", err)
	}
}

// TestFault_H11_OffsetsBelowThePositionAreRefused: records before the position, in a
// broker's answer, do not move it and are not delivered.
func TestFault_H11_OffsetsBelowThePositionAreRefused(t *testing.T) {
	t.Parallel()
	s := wiretest.Damaged(func([]byte) []byte { return nil })
	old := s.Intact[0][0]
	s.Batches[0] = [][]byte{s.Batches[0][0], s.Batches[0][1], slices.Clone(old), slices.Clone(s.Batches[0][3])}
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
	})
	r.mu.Lock()
	assert.Equal(t, wiretest.UpTo(20), r.offsets(0), "offsets of partition 0")
	wantTrouble(t, r.troubles()[0], "t", 20, "CORRUPT_MESSAGE")
	r.mu.Unlock()
	s.Mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
}

// TestFault_B1_DamagedFirstBatch: no record lies before the damage, so that Sarama gets an
// answer without records for the partition.
func TestFault_B1_DamagedFirstBatch(t *testing.T) {
	t.Parallel()
	s := wiretest.Damaged(func(b []byte) []byte { return b })
	s.Batches[0][0] = slices.Clone(s.Batches[0][0])
	s.Batches[0][0][70] ^= 1
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "a report", func() bool { return len(r.offsets(1)) >= 40 && len(r.troubles()) > 0 })
	r.mu.Lock()
	assert.Empty(t, r.offsets(0), "offsets of partition 0")
	assert.Equal(t, int64(0), r.troubles()[0].Offset, "place of the damage")
	r.mu.Unlock()
	s.Mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, wiretest.UpTo(40), r.offsets(0), "offsets of partition 0")
}

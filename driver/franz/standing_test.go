package franz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A store serves one topic, "t", from batches by partition, without looking into them,
// as a broker does.
type store struct {
	batches [][][]byte // by partition
	fetches atomic.Int64
	asked   [2]atomic.Int64 // fetches by partition
	refusal atomic.Int32    // the error code for partition 0
	mend    atomic.Bool     // serve the undamaged batches
	intact  [][][]byte
}

func baseOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }
func lastOf(b []byte) int64 { return baseOf(b) + int64(binary.BigEndian.Uint32(b[23:])) }

// batch makes a record batch with the right length and checksum for any records.
func batch(base int64, delta, count int32, attributes int16, records []byte) []byte {
	r := kmsg.RecordBatch{
		FirstOffset: base, Length: int32(49 + len(records)), Magic: 2, Attributes: attributes,
		LastOffsetDelta: delta, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: count, Records: records,
	}
	b := r.AppendTo(nil)
	sign(b)
	return b
}

func sign(b []byte) {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
}

// rec makes a record with a delta, a value and headers.
func rec(delta int64, value string, headers ...byte) []byte {
	b := []byte{0, 0}
	b = binary.AppendVarint(b, delta)
	b = append(b, 1) // no key
	b = binary.AppendVarint(b, int64(len(value)))
	b = append(b, value...)
	if headers == nil {
		headers = []byte{0}
	}
	b = append(b, headers...)
	return append(binary.AppendVarint(nil, int64(len(b))), b...)
}

// bytesOf makes a batch of n records from base on, whose values are their offsets.
func bytesOf(base int64, n int) []byte {
	var records []byte
	for i := range n {
		records = append(records, rec(int64(i), fmt.Sprint(base+int64(i)))...)
	}
	return batch(base, int32(n-1), int32(n), 0, records)
}

// serve lets cluster answer fetches from s. Everything else is answered by it.
func (s *store) serve(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		s.fetches.Add(1)
		asked := req.(*kmsg.FetchRequest)
		resp := asked.ResponseKind().(*kmsg.FetchResponse)
		found := false
		for _, topic := range asked.Topics {
			answer := kmsg.NewFetchResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				one := s.partition(p.Partition, p.FetchOffset)
				found = found || len(one.RecordBatches) > 0
				answer.Partitions = append(answer.Partitions, one)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		if !found {
			time.Sleep(5 * time.Millisecond)
		}
		return resp, nil, true
	})
}

func (s *store) partition(id int32, from int64) kmsg.FetchResponseTopicPartition {
	one := kmsg.NewFetchResponseTopicPartition()
	one.Partition = id
	s.asked[id].Add(1)
	if id == 0 && s.refusal.Load() != 0 {
		one.ErrorCode = int16(s.refusal.Load())
		return one
	}
	batches := s.batches[id]
	if s.mend.Load() {
		batches = s.intact[id]
	}
	for i, b := range batches {
		if at := s.intact[id][i]; lastOf(at) >= from {
			one.RecordBatches = append(one.RecordBatches, b...)
		}
		one.HighWatermark = lastOf(s.intact[id][i]) + 1
	}
	one.LastStableOffset = one.HighWatermark
	return one
}

// damaged returns a store of two partitions of four batches of ten records, the
// third one of partition 0 changed by damage.
func damaged(damage func([]byte) []byte) *store {
	s := &store{}
	for range 2 {
		var of [][]byte
		for i := range 4 {
			of = append(of, bytesOf(int64(10*i), 10))
		}
		s.intact = append(s.intact, of)
		s.batches = append(s.batches, slices.Clone(of))
	}
	s.batches[0][2] = damage(slices.Clone(s.batches[0][2]))
	return s
}

func (r *recorder) offsets(partition int32) (offsets []int64) {
	for _, g := range r.records {
		if g.partition == partition {
			offsets = append(offsets, g.offset)
		}
	}
	return offsets
}

func upTo(n int) (offsets []int64) {
	for i := range n {
		offsets = append(offsets, int64(i))
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

func startStore(t *testing.T, s *store, limit int, faults ...kfake.Fault) *running {
	t.Helper()
	cluster := fake(t, kfake.SeedTopics(2, "t"))
	for _, f := range faults {
		cluster.Fault(f)
	}
	// The log that the coordinator and ListOffsets know of.
	for p := range int32(2) {
		seed(t, cluster.ListenAddrs(), "t", p, numbered(0, 40)...)
	}
	s.serve(cluster)
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
			sign(b)
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
			return batch(20, 9, 1, 0, rec(0, "20", binary.AppendVarint(nil, 1<<62)...))
		}},
		{"records cut short", func(b []byte) []byte { return batch(20, 9, 10, 0, b[recordbatch.HeadBytes:len(b)-5]) }},
		{"records out of order", func(b []byte) []byte {
			return batch(20, 9, 3, 0, slices.Concat(rec(5, "25"), rec(3, "23"), rec(9, "29")))
		}},
		{"a record beyond the batch", func(b []byte) []byte { return batch(20, 9, 1, 0, rec(10, "30")) }},
		{"an offset of 2^63-1", func(b []byte) []byte { return batch(1<<63-1, 0, 1, 0, rec(0, "x")) }},
		{"gzip that is none", func(b []byte) []byte { return batch(20, 9, 10, 1, b[recordbatch.HeadBytes:]) }},
		{"zstd that is none", func(b []byte) []byte { return batch(20, 9, 10, 4, b[recordbatch.HeadBytes:]) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := damaged(c.damage)
			m := startStore(t, s, 0)
			r := m.recorder
			r.wait(t, "delivery of what is intact, and a report", func() bool {
				return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
			})
			r.mu.Lock()
			assert.Equal(t, upTo(40), r.offsets(1), "offsets of partition 1")
			assert.Equal(t, upTo(20), r.offsets(0), "offsets of partition 0")
			for _, err := range r.errs {
				wantTrouble(t, err, "t", 20, "CORRUPT_MESSAGE")
			}
			assert.Empty(t, r.revoked)
			assert.Empty(t, r.lost)
			r.mu.Unlock()
			// It is fetched once per look, and not in a loop.
			asked := s.asked[0].Load()
			time.Sleep(500 * time.Millisecond)
			assert.LessOrEqual(t, s.asked[0].Load()-asked, int64(3), "fetches of the partition in half a second")
			s.mend.Store(true)
			r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, upTo(40), r.offsets(0), "offsets of partition 0")
			assert.Len(t, r.assigned, 2, "claims assigned")
		})
	}
}

// TestStandingClaimKeepsItsLook: records that were before a damaged batch are noted only after
// the claim has stopped in front of that batch.
func TestStandingClaimKeepsItsLook(t *testing.T) {
	testkit.Slow(t, "waits for a second look at a batch")
	t.Parallel()
	s := damaged(func(b []byte) []byte { b[18] ^= 4; return b })
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
	})
	cl := m.claims.at(partition{Topic: "t", ID: 0})
	require.NotNil(t, cl)
	cl.session.readOn(cl)
	s.mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
}

// TestFault_H7_NothingOfALogThatGoesOnIsReported: a leader that names an end beyond
// the position and sends no records is reported once, by an error that names the
// partition, and ends no session.
func TestFault_H7_NothingOfALogThatGoesOnIsReported(t *testing.T) {
	t.Parallel()
	s := damaged(func([]byte) []byte { return nil })
	s.batches[0][3] = nil
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "delivery of what is there", func() bool { return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 })
	asker := newEndAsker(m.claims, m.leaders, m.core)
	now := time.Now()
	for _, at := range []time.Duration{0, stuckAfter / 2} {
		asker.look(t.Context(), m.claims.all(nil), now.Add(at))
	}
	r.mu.Lock()
	assert.Empty(t, r.errs, "errors at first")
	r.mu.Unlock()
	for _, at := range []time.Duration{stuckAfter + time.Second, stuckAfter + 2*time.Second} {
		asker.look(t.Context(), m.claims.all(nil), now.Add(at))
	}
	r.mu.Lock()
	if all := r.troubles(); assert.Len(t, all, 1, "troubles among %v", r.errs) {
		wantTrouble(t, all[0], "t", 20, "FETCH_STALLED")
	}
	assert.Empty(t, r.revoked)
	assert.Empty(t, r.lost)
	r.mu.Unlock()
	s.mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
}

// TestFault_H7_BatchThatNeverComesWholeStandsAlone: a broker sends the beginning of a
// batch only.
func TestFault_H7_BatchThatNeverComesWholeStandsAlone(t *testing.T) {
	t.Parallel()
	s := damaged(func(b []byte) []byte {
		binary.BigEndian.PutUint32(b[8:], 1<<16)
		return b
	})
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
	})
	s.mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, upTo(40), r.offsets(0), "offsets of partition 0")
	wantTrouble(t, r.troubles()[0], "t", 20, "CORRUPT_MESSAGE")
	for _, err := range r.errs {
		assert.Equal(t, "CORRUPT_MESSAGE", testkit.Code(err), "code of %v", err)
	}
}

// TestFault_H11_OffsetsBelowThePositionAreRefused: records before the position, in a
// broker's answer, do not move it and are not delivered.
func TestFault_H11_OffsetsBelowThePositionAreRefused(t *testing.T) {
	t.Parallel()
	s := damaged(func([]byte) []byte { return nil })
	old := s.intact[0][0]
	s.batches[0] = [][]byte{s.batches[0][0], s.batches[0][1], slices.Clone(old), slices.Clone(s.batches[0][3])}
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "delivery of what is intact, and a report", func() bool {
		return len(r.offsets(1)) >= 40 && len(r.offsets(0)) >= 20 && len(r.troubles()) > 0
	})
	r.mu.Lock()
	assert.Equal(t, upTo(20), r.offsets(0), "offsets of partition 0")
	wantTrouble(t, r.troubles()[0], "t", 20, "CORRUPT_MESSAGE")
	r.mu.Unlock()
	s.mend.Store(true)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
}

// TestRefusedFetchesArePaced: a broker refuses one partition, with a code that does not pass
// by itself. The other partition goes on, and this one does when the broker serves it again.
func TestRefusedFetchesArePaced(t *testing.T) {
	t.Parallel()
	s := damaged(func(b []byte) []byte { return b })
	s.refusal.Store(int32(kerr.UnknownServerError.Code))
	m := startStore(t, s, 0)
	r := m.recorder
	r.wait(t, "a report", func() bool { return len(r.offsets(1)) >= 40 && len(r.troubles()) > 0 })
	asked := s.asked[0].Load()
	time.Sleep(500 * time.Millisecond)
	assert.LessOrEqual(t, s.asked[0].Load()-asked, int64(3), "fetches of the partition in half a second")
	r.mu.Lock()
	assert.LessOrEqual(t, len(r.errs), 4, "reports")
	for _, err := range r.errs {
		wantTrouble(t, err, "t", -1, "UNKNOWN_SERVER_ERROR")
	}
	r.mu.Unlock()
	s.refusal.Store(0)
	r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, upTo(40), r.offsets(0), "offsets of partition 0")
	assert.Len(t, r.assigned, 2, "claims assigned")
}

// TestFault_B1_DamagedFirstBatch: no record lies before the damage, so that the answer has
// no records for the partition. The start of the claim may be unknown, as its leader was away.
func TestFault_B1_DamagedFirstBatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		faults []kfake.Fault
		start  int64
	}{
		{"known start", nil, 0},
		{"unknown start", []kfake.Fault{{
			Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "t", Partitions: []int32{0}, Err: kerr.LeaderNotAvailable, Count: 1,
		}}, startUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := damaged(func(b []byte) []byte { return b })
			s.batches[0][0] = slices.Clone(s.batches[0][0])
			s.batches[0][0][70] ^= 1
			m := startStore(t, s, 0, c.faults...)
			r := m.recorder
			r.wait(t, "a report", func() bool { return len(r.offsets(1)) >= 40 && len(r.troubles()) > 0 })
			assert.Equal(t, c.start, r.claim(0).Start, "start of partition 0")
			r.mu.Lock()
			assert.Empty(t, r.offsets(0), "offsets of partition 0")
			assert.Equal(t, int64(0), r.troubles()[0].Offset, "place of the damage")
			r.mu.Unlock()
			s.mend.Store(true)
			r.wait(t, "delivery of the rest", func() bool { return len(r.offsets(0)) >= 40 })
			r.mu.Lock()
			defer r.mu.Unlock()
			assert.Equal(t, upTo(40), r.offsets(0), "offsets of partition 0")
			assert.Len(t, r.assigned, 2, "claims assigned")
		})
	}
}

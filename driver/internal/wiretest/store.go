package wiretest

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A Store serves one topic, "t", from batches by partition, without looking into them,
// as a broker does.
type Store struct {
	Batches [][][]byte      // by partition
	Asked   [2]atomic.Int64 // fetches by partition
	Refusal atomic.Int32    // the error code for partition 0
	Mend    atomic.Bool     // serve the undamaged batches
	Intact  [][][]byte
}

func baseOf(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }
func lastOf(b []byte) int64 { return baseOf(b) + int64(binary.BigEndian.Uint32(b[23:])) }

// Batch makes a record batch with the right length and checksum for any records.
func Batch(base int64, delta, count int32, attributes int16, records []byte) []byte {
	r := kmsg.RecordBatch{
		FirstOffset: base, Length: int32(49 + len(records)), Magic: 2, Attributes: attributes,
		LastOffsetDelta: delta, ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1,
		NumRecords: count, Records: records,
	}
	b := r.AppendTo(nil)
	Sign(b)
	return b
}

// Sign sets the checksum of a batch.
func Sign(b []byte) {
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], crc32.MakeTable(crc32.Castagnoli)))
}

// Rec makes a record with a delta, a value and headers.
func Rec(delta int64, value string, headers ...byte) []byte {
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

// BatchOf makes a batch of n records from base on, whose values are their offsets.
func BatchOf(base int64, n int) []byte {
	var records []byte
	for i := range n {
		records = append(records, Rec(int64(i), fmt.Sprint(base+int64(i)))...)
	}
	return Batch(base, int32(n-1), int32(n), 0, records)
}

// Serve lets cluster answer fetches from s. Everything else is answered by it.
func (s *Store) Serve(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
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

func (s *Store) partition(id int32, from int64) kmsg.FetchResponseTopicPartition {
	one := kmsg.NewFetchResponseTopicPartition()
	one.Partition = id
	s.Asked[id].Add(1)
	if id == 0 && s.Refusal.Load() != 0 {
		one.ErrorCode = int16(s.Refusal.Load())
		return one
	}
	batches := s.Batches[id]
	if s.Mend.Load() {
		batches = s.Intact[id]
	}
	for i, b := range batches {
		if at := s.Intact[id][i]; lastOf(at) >= from {
			one.RecordBatches = append(one.RecordBatches, b...)
		}
		one.HighWatermark = lastOf(s.Intact[id][i]) + 1
	}
	one.LastStableOffset = one.HighWatermark
	return one
}

// Damaged returns a store of two partitions of four batches of ten records, the
// third one of partition 0 changed by damage.
func Damaged(damage func([]byte) []byte) *Store {
	s := &Store{}
	for range 2 {
		var of [][]byte
		for i := range 4 {
			of = append(of, BatchOf(int64(10*i), 10))
		}
		s.Intact = append(s.Intact, of)
		s.Batches = append(s.Batches, slices.Clone(of))
	}
	s.Batches[0][2] = damage(slices.Clone(s.Batches[0][2]))
	return s
}

// UpTo returns the offsets below n.
func UpTo(n int) (offsets []int64) {
	for i := range n {
		offsets = append(offsets, int64(i))
	}
	return offsets
}

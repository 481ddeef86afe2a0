package franz

import (
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
)

func fetched(n int, headers ...kgo.RecordHeader) []*kgo.Record {
	records := make([]*kgo.Record, n)
	for i := range records {
		records[i] = &kgo.Record{Offset: int64(i), Value: []byte("v"), Headers: headers}
	}
	return records
}

// TestDeliveryMakesOneSlice counts what a delivery allocates: its records, and their headers.
func TestDeliveryMakesOneSlice(t *testing.T) {
	for _, c := range []struct {
		headers []kgo.RecordHeader
		want    float64
	}{
		{nil, 1}, {[]kgo.RecordHeader{{Key: "a"}, {Key: "b", Value: []byte("x")}}, 2},
	} {
		records, cl := fetched(1000, c.headers...), &claim{}
		n := testing.AllocsPerRun(100, func() {
			cl.next.Store(0)
			b, damage := cl.batch(records)
			if len(b.Records) != len(records) || damage != nil || b.Next != 1000 {
				t.Error("records are missing")
			}
		})
		assert.LessOrEqual(t, n, c.want, "allocations with %d headers", len(c.headers))
	}
	b, _ := (&claim{}).batch(fetched(2, kgo.RecordHeader{Key: "a", Value: []byte("x")}))
	assert.Equal(t, []driver.Header{{Key: "a", Value: []byte("x")}}, b.Records[1].Headers)
}

// TestFault_H11_BrokenOffsetsEndADelivery: what comes before them is delivered.
func TestFault_H11_BrokenOffsetsEndADelivery(t *testing.T) {
	for _, broken := range []int64{1, math.MaxInt64} {
		records := fetched(4)
		records[2].Offset = broken
		b, damage := (&claim{}).batch(records)
		assert.Len(t, b.Records, 2)
		assert.Equal(t, int64(2), b.Next)
		if assert.NotNil(t, damage) {
			assert.Equal(t, int64(2), damage.Offset)
			assert.Equal(t, "CORRUPT_MESSAGE", damage.Err.Code)
		}
	}
}

// TestEpochs: a mark travels with the epoch of the record before it.
func TestEpochs(t *testing.T) {
	var e epochs
	assert.Equal(t, int32(-1), e.at(5))
	for _, r := range []epochStart{{10, 3}, {12, 3}, {20, 5}, {30, 8}} {
		e.note(r.from, r.epoch)
	}
	for offset, want := range map[int64]int32{9: -1, 10: 3, 19: 3, 20: 5, 29: 5, 30: 8, 99: 8} {
		assert.Equal(t, want, e.at(offset), "epoch at %d", offset)
	}
	e.forget(25)
	assert.Equal(t, int32(5), e.at(25))
	assert.Equal(t, int32(8), e.at(30))
	assert.Len(t, e, 2)
}

// TestMarkAtStartKeepsTheEpoch: it travels with the epoch that was committed beside Start,
// since no record before it is delivered.
func TestMarkAtStartKeepsTheEpoch(t *testing.T) {
	s := &session{}
	cl := s.newClaim(partition{Topic: "t"}, startAt{at: 5, metadata: "read", epoch: 3, parted: -1}, noMember)
	assert.Equal(t, "read", cl.public.Metadata)
	assert.Equal(t, int32(3), cl.epochAt(5))
	cl.setCommitted(5, "new")
	assert.Equal(t, int32(3), cl.epochAt(5))
	cl.epochs.note(5, 4)
	assert.Equal(t, int32(3), cl.epochAt(5))
	assert.Equal(t, int32(4), cl.epochAt(6))

	cl = s.newClaim(partition{Topic: "t"}, startingAt(5), noMember)
	assert.Equal(t, int32(-1), cl.epochAt(5))
}

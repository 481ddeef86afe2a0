package groupview

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

// TestFindOffsets puts the answers together: each partition that is asked for has what is known
// of it, and its own error.
func TestFindOffsets(t *testing.T) {
	var asked []position.Partition
	w := &fakeWire{
		survey: func(context.Context) (map[string]Topic, error) {
			return map[string]Topic{
				"a": {Partitions: []int32{0, 1, 2, 3, 4}}, "b": {Partitions: []int32{0, 1}}, "unasked": {Partitions: []int32{0}}, "forbidden": {Err: errRefused},
			}, nil
		},
		logs: Join(
			map[position.Partition]int64{at("a", 0): 1, at("a", 1): 2, at("a", 3): 0, at("a", 4): 5, at("b", 1): 7},
			map[position.Partition]int64{at("a", 0): 10, at("a", 1): 20, at("a", 3): 9, at("a", 4): 10, at("b", 1): 8},
			map[position.Partition]error{at("a", 2): errLoading}),
		find: func(ps []position.Partition, from int64) (map[position.Partition]int64, map[position.Partition]error) {
			require.Equal(t, int64(1001), from)
			asked = ps
			return map[position.Partition]int64{at("a", 0): 4, at("a", 1): -1, at("a", 4): 3, at("b", 1): 12},
				map[position.Partition]error{at("a", 3): errRefused}
		},
	}
	v := New([]string{"b", "forbidden", "a", "unasked", "gone"}, w)
	of := map[string][]int32{"a": nil, "b": {1, 9, 1, -1}, "forbidden": {3}, "gone": nil, "unknown": nil}
	all, err := v.FindOffsets(t.Context(), of, time.UnixMilli(1000).Add(1))
	require.NoError(t, err)
	none := driver.FoundOffsets{Partition: -1, Begin: -1, End: -1, At: -1}
	with := func(topic string, id int32, err error) driver.FoundOffsets {
		f := none
		f.Topic, f.Partition, f.Err = topic, id, err
		return f
	}
	require.Equal(t, []driver.FoundOffsets{
		with("b", -1, errNoPartition(-1, 2)),
		{Topic: "b", Partition: 1, Begin: 7, End: 8, At: 12}, // records have come since
		with("b", 9, errNoPartition(9, 2)),
		with("forbidden", -1, w.Wrap(errRefused)),
		{Topic: "a", Partition: 0, Begin: 1, End: 10, At: 4},
		{Topic: "a", Partition: 1, Begin: 2, End: 20, At: 20}, // no record is as late
		with("a", 2, w.Wrap(errLoading)),
		{Topic: "a", Partition: 3, Begin: 0, End: 9, At: -1, Err: w.Wrap(errRefused)},
		{Topic: "a", Partition: 4, Begin: 5, End: 10, At: 5}, // the answer is of a replica that is behind
		with("gone", -1, errNoPartitions),
	}, all)
	require.Equal(t, []position.Partition{at("b", 1), at("a", 0), at("a", 1), at("a", 3), at("a", 4)}, asked)

	w.find = nil // no record is older than 1970
	all, err = v.FindOffsets(t.Context(), map[string][]int32{"b": {1}}, time.Unix(0, -1))
	require.NoError(t, err)
	require.Equal(t, []driver.FoundOffsets{{Topic: "b", Partition: 1, Begin: 7, End: 8, At: 7}}, all)

	all, err = v.FindOffsets(t.Context(), nil, time.Now())
	require.NoError(t, err)
	require.Empty(t, all)

	w.survey = func(context.Context) (map[string]Topic, error) { return nil, errNever }
	_, err = v.FindOffsets(t.Context(), of, time.Now())
	require.Equal(t, errNever, err)
	require.NoError(t, v.Close(t.Context()))
	_, err = v.FindOffsets(t.Context(), of, time.Now())
	require.ErrorIs(t, err, driver.ErrClosed)
}

func TestMilliseconds(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want int64
	}{
		{time.Time{}, -1},
		{time.Unix(0, -1), -1},
		{time.Unix(0, 0), 0},
		{time.Unix(0, 1), 1},
		{time.UnixMilli(5), 5},
		{time.UnixMilli(5).Add(time.Millisecond - 1), 6},
		{time.UnixMilli(math.MaxInt64), math.MaxInt64},
		{time.UnixMilli(math.MaxInt64).Add(time.Second), math.MaxInt64},
	} {
		require.Equal(t, c.want, millis(c.at), "%v", c.at)
	}
}

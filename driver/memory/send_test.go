package memory_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// Without an option the key decides, and without a key the partitions take turns.
func TestSendChoosesThePartition(t *testing.T) {
	b := newBroker(t, 3)
	place := func(key []byte, opts ...memory.SendOption) int32 {
		partition, offset := int32(-1), int64(-1)
		require.NoError(t, b.Send("t", key, nil, append(opts, memory.Placed(&partition, &offset))...))
		rs, err := b.Records("t", partition, driver.ReadCommitted)
		require.NoError(t, err)
		assert.Equal(t, offset, rs[len(rs)-1].Offset)
		return partition
	}
	assert.Equal(t, []int32{0, 1, 2, 0}, []int32{place(nil), place(nil), place(nil), place(nil)})
	key := []byte("a key")
	assert.Equal(t, place(key), place(key))
	assert.Equal(t, place(key), place(key, memory.ToPartition(-1)))
	used := map[int32]bool{}
	for i := range 20 {
		used[place([]byte{byte(i)})] = true
	}
	assert.Len(t, used, 3)
	for p := range int32(3) {
		assert.Equal(t, p, place(key, memory.ToPartition(p)))
	}
	partition, offset := int32(-1), int64(-1)
	for _, none := range []int32{3, -2} {
		err := b.Send("t", nil, nil, memory.ToPartition(none), memory.Placed(&partition, &offset))
		assert.Equal(t, "UNKNOWN_TOPIC_OR_PARTITION", testkit.Code(err))
	}
	assert.Equal(t, int32(-1), partition)
	assert.Equal(t, int64(-1), offset)
}

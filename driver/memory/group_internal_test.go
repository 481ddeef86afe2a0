package memory

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// TestAViewOfAGroupMakesNone: a look at a group that does not exist leaves nothing behind.
// It waits for a broker that is stopped.
func TestAViewOfAGroupMakesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBroker()
		require.NoError(t, b.CreateTopic("t", 1))
		require.NoError(t, b.CreateTopic("other", 1))
		g, err := b.OpenGroup(t.Context(), driver.ConsumerConfig{Group: "g", Topics: []string{"t"}})
		require.NoError(t, err)
		b.Stop()
		began := time.Now()
		go func() { time.Sleep(time.Second); b.Start() }()
		all, err := g.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, time.Second, time.Since(began))
		require.Equal(t, []driver.GroupPartition{{Topic: "t", Committed: driver.NoPosition}}, all)
		require.Equal(t, int64(-1), b.Committed("g", "t", 0))
		require.Empty(t, b.CommittedMetadata("g", "t", 0))
		require.Empty(t, b.Members("g"))
		require.Empty(t, b.groups)
		for _, m := range []driver.GroupMark{{Topic: "t", Offset: -1}, {Topic: "other", Offset: 1}} {
			err := g.Commit(t.Context(), []driver.GroupMark{m})
			var refused *driver.PartitionError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, "INVALID_REQUEST", code(err))
			require.Equal(t, int64(-1), b.Committed("g", m.Topic, 0))
		}
		require.NoError(t, g.Close(t.Context()))
	})
}

package franz

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// TestFault_A4_StartWithoutPositionIsReported: the group's positions are gone, and
// records came meanwhile. The start is as configured, and is reported to the handler.
func TestFault_A4_StartWithoutPositionIsReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		initial driver.InitialOffset
		start   int64
	}{{driver.OffsetNewest, 10}, {driver.OffsetOldest, 3}} {
		t.Run(c.initial.String(), func(t *testing.T) {
			h, _ := fakeHarness(t)
			seed(t, h.brokers, "t", 0, numbered(0, 10)...)
			require.NoError(t, h.Truncate(t.Context(), "t", 0, 3))
			cfg := consumerConfig(h.brokers)
			cfg.InitialOffset = c.initial
			r := newRecorder()
			m := start(t, Driver{}, cfg, r)
			want := []driver.NoPositionError{{Topic: "t", Start: c.start, Begin: 3}}
			r.wait(t, "the report", func() bool { return slices.Equal(r.starts, want) })
			r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
			require.NoError(t, h.Send(t.Context(), "t", 0, driver.Record{Value: []byte("more")}))
			r.wait(t, "a record", func() bool { return len(r.records) > 0 })
			require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 11}}))
			m.stop(t)

			again := newRecorder()
			start(t, Driver{}, cfg, again)
			again.wait(t, "the assignment", func() bool { return len(again.live) == 1 })
			assert.Empty(t, again.starts, "reported although the group has a position")
		})
	}
}

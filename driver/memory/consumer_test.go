package memory_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConsumeCommitClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, "a", "b")
		r := run(t, b)
		send(t, b, 0, "c")
		synctest.Wait()
		c := r.claim(0)
		require.Equal(t, []string{"a", "b", "c"}, r.got(c), "values")
		require.NoError(t, r.Commit(t.Context(), mark(c, 3)))
		require.Equal(t, int64(3), b.Committed("g", "t", 0), "committed")

		begin := time.Now()
		require.NoError(t, r.Close(t.Context()))
		<-r.done
		require.NoError(t, r.err, "Run")
		require.Zero(t, time.Since(begin), "time to close")
		require.Equal(t, []string{"assign t/0", "revoke t/0"}, r.takeLog(), "log")
		require.Empty(t, b.Members("g"), "members")
	})
}

package franz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestFault_E3_APausedClaimHoldsOneFetch: a claim that the core has paused keeps the batch
// that comes next, and is fetched no longer. Nothing is lost or out of order when it goes
// on.
func TestFault_E3_APausedClaimHoldsOneFetch(t *testing.T) {
	t.Parallel()
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.waitRecords(t, 10)
	cl := r.claim(0).Backend.(*claim)
	m.Pause(cl.public)
	for i := 10; i < 20; i++ {
		seed(t, cluster.ListenAddrs(), "t", 0, numbered(i, i+1)...)
		time.Sleep(20 * time.Millisecond)
	}
	held := func() (n int, stopped bool) {
		cl.mu.Lock()
		defer cl.mu.Unlock()
		for _, b := range cl.held {
			n += len(b.Records)
		}
		return n, cl.stopped
	}
	require.Eventually(t, func() bool { n, _ := held(); return n > 0 }, patienceTest, time.Millisecond)
	n, stopped := held()
	assert.True(t, stopped, "kgo goes on fetching a paused claim")
	assert.LessOrEqual(t, n, 2, "records that are held")
	assert.Len(t, r.values(), 10)
	m.Resume(cl.public)
	r.waitRecords(t, 20)
	assert.Equal(t, numbered(0, 20), r.values())
}

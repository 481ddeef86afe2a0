package franz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
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

// TestBatchesThatAreHeldKeepTheirOrder: a claim with a batch that is held is resumed, and
// another batch comes. The core pauses the claim again, while it is called for another claim,
// before either of the batches is delivered.
func TestBatchesThatAreHeldKeepTheirOrder(t *testing.T) {
	r := newRecorder()
	k := new(core.Calls)
	k.SetHandler(r)
	s := &session{c: &consumer{core: k}, claims: newClaims(), turn: newTurn(t.Context()), standings: map[*claim]*standing{}}
	var claims []*claim
	for id := range int32(2) {
		claims = append(claims, s.newClaim(partition{Topic: "t", ID: id}, startingAt(0), noMember))
	}
	s.assign(claims)
	other, cl := claims[0], claims[1]
	come := func(cl *claim, offset int64) {
		s.hand(cl, driver.Batch{Records: []driver.Record{{Offset: offset}}, Next: offset + 1})
	}
	for _, cl := range claims {
		cl.pause()
		come(cl, 0)
		cl.resume()
	}
	r.onRecord = func(c *driver.Claim, _ driver.Record) {
		if c == other.public {
			cl.pause()
		}
	}
	come(cl, 1)
	s.deliverHeld()
	r.mu.Lock()
	assert.Empty(t, r.offsets(1), "offsets of a claim that is paused")
	r.mu.Unlock()
	cl.resume()
	s.deliverHeld()
	come(cl, 2)
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, []int64{0}, r.offsets(0))
	assert.Equal(t, wiretest.UpTo(3), r.offsets(1))
	assert.Empty(t, r.faults)
	assert.Empty(t, s.withheld)
}

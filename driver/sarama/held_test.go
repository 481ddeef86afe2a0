package sarama

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestFault_E3_APausedClaimHoldsOneFetch: Sarama is paused as soon as half a fetch has
// come since a pause began, and not only after holdTime, in which it would fetch as
// many large records as its channel has room for.
func TestFault_E3_APausedClaimHoldsOneFetch(t *testing.T) {
	cluster := fake(t)
	seed(t, cluster.ListenAddrs(), "t", 0, numbered(0, 10)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.waitRecords(t, 10)
	cl := r.claim(0).Backend.(*claim)
	m.arrived(cl.where, 1<<30)
	assert.False(t, cl.isStopped(), "a claim that is not paused was stopped")
	m.Pause(cl.public)
	m.arrived(cl.where, m.cfg.MaxMessageBytes/2+1)
	assert.True(t, cl.isStopped(), "Sarama goes on fetching a paused claim after half a fetch")
	m.Resume(cl.public)
	assert.False(t, cl.isStopped(), "a claim that was resumed is not fetched")
}

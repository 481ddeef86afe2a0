package sarama

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
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

// TestFault_E3_AClaimThatIsReadLateHoldsTwoAnswers: on a busy machine answers may come faster
// than the claim passes them on. Sarama is paused then, and fetches again afterwards.
func TestFault_E3_AClaimThatIsReadLateHoldsTwoAnswers(t *testing.T) {
	const size, records, inAnswer = 900_000, 60, recordbatch.ShareFetches << 20 / 900_000
	cluster := fake(t)
	var values []string
	for i := range records {
		values = append(values, fmt.Sprint(i, "-")+strings.Repeat("0123456789", size/10))
	}
	seed(t, cluster.ListenAddrs(), "t", 0, values...)
	r := newRecorder()
	reached, release := make(chan struct{}), make(chan struct{})
	r.onRecord = func(_ *driver.Claim, rec driver.Record) {
		if rec.Offset == 0 {
			close(reached)
			<-release
		}
	}
	start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	select {
	case <-reached:
	case <-time.After(patienceTest):
		require.Fail(t, "no record came")
	}
	source := r.claim(0).Backend.(*claim).source
	require.Eventually(t, func() bool { return len(source.Messages()) >= inAnswer }, patienceTest, time.Millisecond)
	time.Sleep(300 * time.Millisecond) // long enough for all to come, if nothing keeps them
	held := len(source.Messages())
	close(release)
	assert.LessOrEqual(t, held, 2*inAnswer, "records that Sarama holds")
	r.waitRecords(t, records)
}

package sarama

import (
	"errors"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestJudgingDelaysNoOtherError: the coordinator does not answer for a position that is not in
// the log. The next error does not wait for the verdict, and the verdict ends no later session.
func TestJudgingDelaysNoOtherError(t *testing.T) {
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "t", "u"))
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.OffsetFetch}, Topic: "u", Err: kerr.CoordinatorLoadInProgress, Count: -1})

	where := partition{Topic: "u"}
	began := time.Now()
	m.handle(wrap(ibm.ErrOffsetOutOfRange), where)
	assert.Less(t, time.Since(began), surveyTimeout/2)
	verdict := m.judge.under(where)
	require.NotNil(t, verdict, "the position is not judged")
	m.handle(wrap(ibm.ErrOffsetOutOfRange), where) // no second verdict

	m.membership.end(errors.New("the test ends the session"))
	r.wait(t, "the next session", func() bool { return len(r.assigned) == 2 && len(r.live) == 1 })
	later := m.membership.current()
	require.NotNil(t, later)
	select {
	case <-verdict:
	case <-time.After(patienceTest):
		require.FailNow(t, "the position is judged for too long")
	}
	assert.Nil(t, m.judge.under(where))
	assert.Contains(t, m.positions.takeAstray([]string{"u"}), where)
	assert.NoError(t, later.sess.Context().Err(), "the later session")
}

package franz

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/core"
)

// TestLateJoinBringsNoMembership: kgo calls back for a join while the session leaves, or after
// it has left.
func TestLateJoinBringsNoMembership(t *testing.T) {
	m := newMembership(driver.ConsumerConfig{SessionTimeout: time.Minute}, new(core.Calls), nil)
	old, next := new(session), new(session)
	m.enter(old)
	m.joined(old)
	require.NotZero(t, m.deadline(), "the deadline of a member")
	m.leave()
	m.joined(old)
	assert.Zero(t, m.deadline(), "the deadline of a session that has left")
	m.enter(next)
	m.joined(old)
	assert.Zero(t, m.deadline(), "the deadline of a session that has not joined")
	m.joined(next)
	assert.False(t, m.endMembership(old), "a session that has left was a member")
	assert.NotZero(t, m.deadline(), "the deadline of a member")
	assert.True(t, m.endMembership(next))
	assert.Zero(t, m.deadline(), "the deadline after the membership is over")
}

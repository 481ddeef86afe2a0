package sarama

import (
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/wiretest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestLateAnswerCostsNoSession: an answer has come too late, and no broker can name
// the coordinator of the group. It is still the same broker.
func TestLateAnswerCostsNoSession(t *testing.T) {
	testkit.Slow(t, "waits for late answers")
	t.Parallel()
	cluster := fake(t, kfake.SeedTopics(1, "__consumer_offsets")) // without it Sarama sleeps
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.SessionTimeout = 3 * time.Second
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	asked := wiretest.HideCoordinator(cluster, new(atomic.Bool))
	m.split.distrust()
	time.Sleep(cfg.SessionTimeout + time.Second)
	assert.NotZero(t, asked.Load(), "no broker was asked for the coordinator")
	wantOneSession(t, r)
}

// TestCommitOfEndedClaimsLeavesTheConnectionOpen: a commit that finds all its claims
// ended sends nothing, and leaves the connection open for others.
func TestCommitOfEndedClaimsLeavesTheConnectionOpen(t *testing.T) {
	cluster := fake(t)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(cluster.ListenAddrs()), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	var asked *ibm.Broker
	_, err := exchange(t.Context(), m.coordinator, func(b *ibm.Broker) (struct{}, error) {
		asked = b
		return struct{}{}, driver.ErrClaimEnded
	})
	require.True(t, err == driver.ErrClaimEnded, "exchange = %v", err)
	ok, err := asked.Connected()
	assert.NoError(t, err)
	assert.True(t, ok, "the coordinator is connected")
}

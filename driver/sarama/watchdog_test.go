package sarama

import (
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A stall answers fetches while it is on, with nothing in them.
type stall struct {
	on       atomic.Bool
	answered atomic.Int64
}

// begin returns when no fetch from before is under way.
func (s *stall) begin(t *testing.T) {
	t.Helper()
	s.on.Store(true)
	require.Eventually(t, func() bool { return s.answered.Load() > 0 }, patienceTest, time.Millisecond, "nothing is fetched")
}

func stallable(t *testing.T) (*kfake.Cluster, *stall) {
	cluster := fake(t)
	s := new(stall)
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if !s.on.Load() {
			return nil, nil, false
		}
		s.answered.Add(1)
		time.Sleep(5 * time.Millisecond)
		asked := req.(*kmsg.FetchRequest)
		resp := asked.ResponseKind().(*kmsg.FetchResponse)
		for _, topic := range asked.Topics {
			answer := kmsg.NewFetchResponseTopic()
			answer.Topic, answer.TopicID = topic.Topic, topic.TopicID
			for _, p := range topic.Partitions {
				one := kmsg.NewFetchResponseTopicPartition()
				one.Partition, one.HighWatermark, one.LastStableOffset = p.Partition, 10, 10
				answer.Partitions = append(answer.Partitions, one)
			}
			resp.Topics = append(resp.Topics, answer)
		}
		return resp, nil, true
	})
	return cluster, s
}

// TestStalledFetchEndsTheSession: a claim whose log grows, and which gets nothing
// of it, is fetched again after the group has been joined again.
func TestStalledFetchEndsTheSession(t *testing.T) {
	t.Parallel()
	cluster, stall := stallable(t)
	brokers := cluster.ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	var watch sync.WaitGroup
	t.Cleanup(watch.Wait) // after the consumer is closed
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 10)
	stall.begin(t)
	seed(t, brokers, "t", 0, numbered(10, 15)...)
	watch.Go(func() { m.watchdog.run(m.watching, 100*time.Millisecond) })
	r.wait(t, "the end of the session", func() bool { return len(r.revoked) > 0 })
	stall.on.Store(false)
	r.wait(t, "the rest", func() bool { return slices.ContainsFunc(r.records, func(g got) bool { return g.value == "14" }) })
	r.mu.Lock()
	defer r.mu.Unlock()
	if assert.NotEmpty(t, r.errs) {
		assert.True(t, isStall(r.errs[0]), "reported %v, want FETCH_STALLED", r.errs)
	}
	assert.Empty(t, r.lost, "claims lost instead of revoked")
}

// TestStallOfAClaimThatHasEnded: a claim ends while the leader is asked about it. The
// next session goes on.
func TestStallOfAClaimThatHasEnded(t *testing.T) {
	t.Parallel()
	cluster, stall := stallable(t)
	brokers := cluster.ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 10)
	stall.begin(t)
	seed(t, brokers, "t", 0, numbered(10, 15)...)
	last := m.watchdog.check(m.watchdog.check(nil))
	var once sync.Once
	cluster.ControlKey(int16(kmsg.ListOffsets), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		once.Do(func() {
			cluster.SleepControl(func() {
				m.membership.end(errors.New("a rebalance"))
				assert.True(t, r.happens(patienceTest, func() bool { return len(r.revoked) == 1 }), "the end of the claim")
			})
		})
		return nil, nil, false
	})
	m.watchdog.check(last)
	stall.on.Store(false)
	r.wait(t, "the rest", func() bool { return slices.ContainsFunc(r.records, func(g got) bool { return g.value == "14" }) })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 2, r.joins, "the second session goes on")
	assert.Empty(t, r.errs)
}

// A busyListener does something when a stall is reported.
type busyListener struct {
	*recorder
	stalled func()
}

func (b *busyListener) Error(err error) {
	b.recorder.Error(err)
	if isStall(err) {
		b.stalled()
	}
}

func isStall(err error) bool {
	var de *driver.Error
	return errors.As(err, &de) && de.Code == "FETCH_STALLED"
}

// TestStallEndsItsOwnSession: while a stall is reported, the session ends for
// another reason. The stall must not end the next one.
func TestStallEndsItsOwnSession(t *testing.T) {
	t.Parallel()
	cluster, stall := stallable(t)
	brokers := cluster.ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	c, err := Driver{}.OpenConsumer(t.Context(), consumerConfig(brokers))
	require.NoError(t, err)
	m := c.(*consumer)
	h := &busyListener{recorder: r, stalled: func() {
		m.membership.end(errors.New("a rebalance"))
		r.wait(t, "the next session", func() bool { return r.joins == 2 && len(r.live) == 1 })
	}}
	var run sync.WaitGroup
	run.Go(func() { c.Run(h) })
	t.Cleanup(func() {
		c.Close(within(t, patienceTest))
		run.Wait()
	})
	r.waitRecords(t, 10)
	stall.begin(t)
	seed(t, brokers, "t", 0, numbered(10, 15)...)
	m.watchdog.check(m.watchdog.check(m.watchdog.check(nil)))
	stall.on.Store(false)
	r.wait(t, "the rest", func() bool { return slices.ContainsFunc(r.records, func(g got) bool { return g.value == "14" }) })
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 2, r.joins, "the second session goes on")
	assert.Len(t, r.revoked, 1)
}

// TestSilenceIsNoStall calls the watchdog's check itself: neither a log without new
// records nor a pause ends a session.
func TestSilenceIsNoStall(t *testing.T) {
	brokers := fake(t).ListenAddrs()
	seed(t, brokers, "t", 0, numbered(0, 10)...)
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.waitRecords(t, 10)

	idle := m.watchdog.check(nil)
	time.Sleep(2 * maxWait)
	idle = m.watchdog.check(idle)

	m.Pause(r.claim(0))
	time.Sleep(2*holdTime + maxWait) // until the fetch that is in flight has come
	seed(t, brokers, "t", 0, numbered(10, 20)...)
	paused := m.watchdog.check(idle)
	paused = m.watchdog.check(paused)

	m.Resume(r.claim(0))
	resumed := m.watchdog.check(paused)
	m.watchdog.check(idle) // the claim was paused between the two
	r.waitRecords(t, 20)
	m.watchdog.check(resumed)

	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 1, r.joins, "joins")
	assert.Empty(t, r.errs)
}

// TestRecordNearALookIsNoStall: a quiet partition gets records at about the time of
// the looks, when the fetch that brings them may not have been answered.
func TestRecordNearALookIsNoStall(t *testing.T) {
	testkit.Slow(t, "waits for the watchdog")
	brokers := fake(t).ListenAddrs()
	r := newRecorder()
	m := start(t, Driver{}, consumerConfig(brokers), r)
	r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
	var last map[*claim]pulse
	for i := range 40 {
		last = m.watchdog.check(last)
		appended := make(chan struct{})
		go func() {
			defer close(appended)
			time.Sleep(time.Duration(rand.IntN(4000)) * time.Microsecond)
			assert.NoError(t, write(t.Context(), brokers, "t", 0, "v"))
		}()
		last = m.watchdog.check(last)
		<-appended
		r.waitRecords(t, i+1)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(t, 1, r.joins, "joins")
	assert.Empty(t, r.errs)
}

package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// A ledger counts what the members handle, and fails when two handle one partition at
// once.
type ledger struct {
	t  *testing.T
	mu sync.Mutex
	// by topic/partition/offset, and by partition
	times map[string]int
	busy  map[int32]string
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, times: map[string]int{}, busy: map[int32]string{}}
}

func (l *ledger) handler(member string, work time.Duration) func(context.Context, *kafka.Message) error {
	return func(ctx context.Context, m *kafka.Message) error {
		l.mu.Lock()
		other := l.busy[m.Partition]
		assert.Empty(l.t, other, "also handles partition %d, beside %s", m.Partition, member)
		l.busy[m.Partition] = member
		l.mu.Unlock()
		defer func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.busy[m.Partition] = ""
		}()
		select {
		case <-time.After(work):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		l.times[string(m.Value)]++
		return nil
	}
}

func (l *ledger) counts() (records, handlings int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.times {
		handlings += n
	}
	return len(l.times), handlings
}

// Members come and go under every strategy: each record is handled exactly
// once, since every change is graceful, and no partition by two at once.
func TestMembersComeAndGo(t *testing.T) {
	for _, strategy := range []kafka.BalanceStrategy{kafka.RoundRobin, kafka.Range, kafka.Sticky, kafka.CooperativeSticky} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 6)
			for p := range int32(6) {
				send(t, b, p, 0, 50)
			}
			l := newLedger(t)
			cfg := orders()
			cfg.BalanceStrategies = []kafka.BalanceStrategy{strategy}
			var members []*kafka.Manager
			for i := range 3 {
				members = append(members, launch(t, b, cfg, l.handler(fmt.Sprint("member ", i), 100*time.Millisecond)))
				time.Sleep(730 * time.Millisecond)
			}
			require.NoError(t, members[1].SetConsumerSwitch("orders", false))
			time.Sleep(410 * time.Millisecond)
			require.NoError(t, members[0].Shutdown(t.Context()))
			time.Sleep(time.Minute)
			synctest.Wait()
			records, handlings := l.counts()
			assert.Equal(t, 300, records, "%v: records handled", strategy)
			assert.GreaterOrEqual(t, handlings, 300, "%v", strategy)
			for p := range int32(6) {
				assert.Equal(t, int64(50), b.Committed("orders", "orders", p), "%v: partition %d", strategy, p)
			}
		})
	}
}

// A member is cut off in the middle of its work: another one takes over after the
// session timeout, and a record that the first one finishes late is not committed.
func TestZombieCommitsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 10)
		var slow []int64
		zombie := launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error {
			time.Sleep(time.Second) // deaf
			slow = append(slow, m.Offset)
			return nil
		})
		time.Sleep(2500 * time.Millisecond)
		link := b.Members("orders")[0]
		link.Cut()
		time.Sleep(time.Minute)
		synctest.Wait()
		committed := b.Committed("orders", "orders", 0)
		require.LessOrEqual(t, committed, int64(3), "cut off after 2 records")
		var fresh []int64
		launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error {
			fresh = append(fresh, m.Offset)
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NotEmpty(t, fresh)
		require.Equal(t, committed, fresh[0], "the next member handled %v", fresh)
		require.Equal(t, int64(9), fresh[len(fresh)-1], "the next member handled %v", fresh)
		require.Equal(t, int64(10), b.Committed("orders", "orders", 0))
		link.Heal()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, int64(10), b.Committed("orders", "orders", 0), "the zombie has committed")
		s, err := zombie.Consumer("orders")
		require.NoError(t, err)
		require.Equal(t, kafka.StateRunning, s.State, "the zombie joins again")
	})
}

// The broker goes away and comes back: the state says so, producers and
// consumers go on, and nothing is lost.
func TestOutageHealsWithoutLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, 0, 20)
		l := newLedger(t)
		m := launch(t, b, orders(), l.handler("member", 200*time.Millisecond))
		time.Sleep(time.Second)
		b.Stop()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		s, err := m.Consumer("orders")
		require.NoError(t, err)
		require.Error(t, errors.Join(s.DriverError, s.Reason), "the status of an outage: %+v", s)
		b.Start()
		send(t, b, 1, 0, 20)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		records, _ := l.counts()
		require.Equal(t, 40, records)
		require.Equal(t, int64(20), b.Committed("orders", "orders", 0))
		require.Equal(t, int64(20), b.Committed("orders", "orders", 1))
	})
}

// An unknown topic shows in the status, and is consumed once it exists.
func TestUnknownTopicShowsAndIsConsumedOnceItExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := memory.NewBroker()
		l := newLedger(t)
		m := launch(t, b, orders(), l.handler("member", 0))
		time.Sleep(3 * time.Second)
		synctest.Wait()
		s, err := m.Consumer("orders")
		require.NoError(t, err)
		wantCode(t, errors.Join(s.Reason, s.DriverError), "UNKNOWN_TOPIC_OR_PARTITION")
		require.NoError(t, b.CreateTopic("orders", 1))
		send(t, b, 0, 0, 3)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		records, _ := l.counts()
		require.Equal(t, 3, records)
	})
}

// With OffsetNewest, records that arrive after the first assignment are handled even
// if the member dies before it has committed anything.
func TestNewestIsPinned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		send(t, b, 0, 0, 5)
		cfg := orders()
		cfg.InitialOffset = kafka.OffsetNewest
		first := launch(t, b, cfg, func(ctx context.Context, _ *kafka.Message) error {
			<-ctx.Done()
			return ctx.Err()
		})
		send(t, b, 0, 5, 15)
		synctest.Wait()
		b.Members("orders")[0].Cut()
		time.Sleep(time.Minute)
		require.NoError(t, first.SetConsumerSwitch("orders", false))
		var offsets []int64
		launch(t, b, cfg, func(_ context.Context, m *kafka.Message) error {
			offsets = append(offsets, m.Offset)
			return nil
		})
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, []int64{5, 6, 7, 8, 9, 10, 11, 12, 13, 14}, offsets)
	})
}

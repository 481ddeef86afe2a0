package fault_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
)

// An errorCalls also records the errors that Error gets.
type errorCalls struct {
	calls
	mu   sync.Mutex
	errs []error
}

func (h *errorCalls) Error(err error) {
	h.mu.Lock()
	h.errs = append(h.errs, err)
	h.mu.Unlock()
	h.add(fmt.Sprint("error, ", err), []*driver.Claim{{}})
}

// A partition's trouble is reported with its place, before the batch comes.
func TestDeliverFailsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		h := &errorCalls{}
		c, err := fault.Wrap(b, fault.On(fault.Deliver, fault.Partition(1, fault.First(1, fault.Before(fault.Error("CORRUPT_MESSAGE")))))).
			OpenConsumer(t.Context(), consumerConfig)
		require.NoError(t, err)
		ran := make(chan error, 1)
		go func() { ran <- c.Run(h) }()
		synctest.Wait()
		h.taken()
		for range 2 {
			for p := range int32(2) {
				require.NoError(t, b.Send("t", nil, nil, memory.ToPartition(p)))
				synctest.Wait()
			}
		}
		require.Equal(t, []string{
			"deliver 0", "error, t/1 at offset 0: CORRUPT_MESSAGE: injected 0", "deliver 1", "deliver 0", "deliver 1",
		}, h.taken(), "calls")
		require.ErrorAs(t, h.errs[0], new(*driver.PartitionError))
		require.NoError(t, c.Close(t.Context()), "Close")
		require.NoError(t, <-ran, "Run")
	})
}

// A late heartbeat brings the deadline forward. A consumer that is no member has none.
func TestLateHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := fault.NewSwitch(fault.On(fault.Heartbeat, fault.Delay(3*time.Second)))
		r := run(t, newBroker(t, 1), late, &calls{})
		left := func() time.Duration {
			return time.Until(r.Consumer.(driver.SessionDeadliner).SessionDeadline()).Round(time.Second)
		}
		require.Equal(t, 10*time.Second, left(), "in time")
		late.Set(true)
		require.Equal(t, 7*time.Second, left(), "late")
		require.NoError(t, r.Close(t.Context()), "Close")
		require.Equal(t, time.Time{}, r.Consumer.(driver.SessionDeadliner).SessionDeadline(), "no member")
	})
}

// Run that loses its membership ends its claims with that as the cause.
func TestMembershipLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, newBroker(t, 1), fault.On(fault.Run, fault.All(fault.Delay(time.Second), fault.After(fault.MembershipLost()))), &calls{})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		err := <-r.end
		require.ErrorIs(t, err, driver.ErrMembershipLost)
		require.NotErrorIs(t, err, driver.ErrPermanent)
		require.Equal(t, []string{"assign 0", "lost, UNKNOWN_MEMBER_ID: membership lost: injected 0"}, r.taken(), "calls")
	})
}

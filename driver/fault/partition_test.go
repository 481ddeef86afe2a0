package fault_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
)

// A toldErrors also keeps what Error is told.
type toldErrors struct {
	told
	mu   sync.Mutex
	errs []error
}

func (h *toldErrors) Error(err error) {
	h.mu.Lock()
	h.errs = append(h.errs, err)
	h.mu.Unlock()
	h.add(fmt.Sprint("error, ", err), []*driver.Claim{{}})
}

// A partition's trouble is reported with its place, before the batch comes.
func TestDeliverFailsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		h := &toldErrors{}
		c, err := fault.Wrap(b, fault.On(fault.Deliver, fault.Partition(1, fault.First(1, fault.Before(fault.Error("CORRUPT_MESSAGE")))))).
			OpenConsumer(t.Context(), consumerConfig)
		if err != nil {
			t.Fatal(err)
		}
		ran := make(chan error, 1)
		go func() { ran <- c.Run(h) }()
		synctest.Wait()
		h.taken()
		for range 2 {
			for p := range int32(2) {
				if err := b.Send(&driver.Message{Topic: "t", Partition: p}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			}
		}
		equal(t, "told", h.taken(), []string{
			"deliver 0", "error, t/1 at offset 0: CORRUPT_MESSAGE: injected 0", "deliver 1", "deliver 0", "deliver 1",
		})
		var trouble *driver.PartitionError
		if !errors.As(h.errs[0], &trouble) {
			t.Errorf("%T is no PartitionError", h.errs[0])
		}
		equal(t, "Close", c.Close(t.Context()), error(nil))
		equal(t, "Run", <-ran, error(nil))
	})
}

// A late heartbeat brings the deadline forward. A consumer that is no member has none.
func TestLateHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := fault.NewSwitch(fault.On(fault.Heartbeat, fault.Delay(3*time.Second)))
		r := run(t, newBroker(t, 1), late, &told{})
		left := func() time.Duration {
			return time.Until(r.Consumer.(driver.SessionDeadliner).SessionDeadline()).Round(time.Second)
		}
		equal(t, "in time", left(), 10*time.Second)
		late.Set(true)
		equal(t, "late", left(), 7*time.Second)
		equal(t, "Close", r.Close(t.Context()), error(nil))
		equal(t, "no member", r.Consumer.(driver.SessionDeadliner).SessionDeadline(), time.Time{})
	})
}

// Run that loses its membership ends its claims with that as the cause.
func TestMembershipLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := run(t, newBroker(t, 1), fault.On(fault.Run, fault.All(fault.Delay(time.Second), fault.After(fault.MembershipLost()))), &told{})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if err := <-r.end; !errors.Is(err, driver.ErrMembershipLost) || errors.Is(err, driver.ErrPermanent) {
			t.Errorf("Run: %v", err)
		}
		equal(t, "told", r.taken(), []string{"assign 0", "lost, UNKNOWN_MEMBER_ID: membership lost: injected 0"})
	})
}

package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

var errSilent = &driver.Error{Code: "SESSION_TIMED_OUT", Err: fmt.Errorf("%w: no heartbeat was answered", driver.ErrMembershipLost)}

// D2: a consumer whose group may have removed it is starting, with the reason, until
// a broker has confirmed the membership again. It was reported by Error, or as the
// cause of a loss.
func TestFault_D2_LostMembershipIsNotRunning(t *testing.T) {
	for _, test := range []struct {
		name string
		lose func(c *fakeConsumer, cl *driver.Claim)
	}{
		{"Error", func(c *fakeConsumer, cl *driver.Claim) { c.h.Error(errSilent) }},
		{"Lost", func(c *fakeConsumer, cl *driver.Claim) {
			c.take(cl)
			c.h.Lost([]*driver.Claim{cl}, errSilent)
		}},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, hook := &fakeDriver{}, &recorder{}
			m := start(t, d, testConfig(), nothing, WithHook(hook))
			c := d.consumer(t)
			cl := c.assign(0, 0)
			synctest.Wait()
			require.Equal(t, StateRunning, state(t, m).State, test.name)
			test.lose(c, cl)
			pass(time.Minute)
			s := state(t, m)
			require.Equal(t, StateStarting, s.State, test.name)
			require.ErrorIs(t, s.Reason, driver.ErrMembershipLost, test.name)
			require.Equal(t, time.Now().Add(-time.Minute), s.Since, test.name)

			// While it waits, an error of the driver replaces the reason.
			c.h.Error(errDial)
			synctest.Wait()
			s = state(t, m)
			require.Equal(t, StateStarting, s.State, test.name)
			require.ErrorIs(t, s.Reason, errDial, test.name)
			require.ErrorIs(t, s.DriverError, errDial, test.name)
			require.Equal(t, time.Now(), s.DriverErrorAt, test.name)

			c.h.Assign(nil)
			synctest.Wait()
			s = state(t, m)
			require.Equal(t, StateRunning, s.State, test.name)
			require.NoError(t, s.Reason, test.name)
			require.NoError(t, s.DriverError, test.name)
			require.Zero(t, s.DriverErrorAt, test.name)
			require.Equal(t, 1, d.openCount(), "the session goes on")

			changes := eventsOf[StateChanged](hook)
			require.Len(t, changes, 4, test.name)
			require.Equal(t, [2]State{StateRunning, StateStarting}, [2]State{changes[2].From, changes[2].To}, test.name)
			require.ErrorIs(t, changes[2].Reason, driver.ErrMembershipLost, test.name)
			require.Equal(t, [2]State{StateStarting, StateRunning}, [2]State{changes[3].From, changes[3].To}, test.name)
		})
	}
}

// D2: an error that does not concern the membership leaves the state alone. It
// carries its time, and is gone when brokers have answered and it has not come
// again; while they are silent it stays.
func TestFault_D2_DriverErrorIsNoMemoryOfThePast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		m := start(t, d, testConfig(), nothing, WithHook(hook))
		c := d.consumer(t)
		cl := c.assign(0, 0)
		at := time.Now()
		c.h.Error(errDial)
		pass(time.Hour)
		s := state(t, m)
		require.Equal(t, StateRunning, s.State)
		require.NoError(t, s.Reason)
		require.ErrorIs(t, s.DriverError, errDial)
		require.Equal(t, at, s.DriverErrorAt)
		require.Equal(t, []DriverError{{JobName: "job", Partition: -1, Err: errDial, At: at}}, eventsOf[DriverError](hook))

		c.h.Error(errDial)
		c.deliver(cl, 0, 0) // of one broker, while another is away
		pass(30 * time.Second)
		require.ErrorIs(t, state(t, m).DriverError, errDial)
		pass(31 * time.Second)
		s = state(t, m)
		require.NoError(t, s.DriverError)
		require.Zero(t, s.DriverErrorAt)
	})
}

// A commit error is shown while something is uncommitted because of it, no longer.
func TestFault_D2_CommitErrorEndsWithWhatItKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := errors.New("no answer")
		d := &fakeDriver{commit: func(context.Context, []driver.Mark) error { return failing }}
		m := start(t, d, testConfig(), nothing)
		c := d.consumer(t)
		cl := c.assign(0, 0)
		c.assign(1, 0)
		c.deliver(cl, 0, 0)
		pass(5 * time.Second)
		require.ErrorIs(t, state(t, m).CommitError, failing)
		c.lose(cl)
		synctest.Wait()
		require.NoError(t, state(t, m).CommitError, "the next owner handles it")
	})
}

// The failed starts of the past are forgotten when a consumer has been a member for
// longer than any backoff, though it has nothing to handle.
func TestFault_D2_FailedStartsAreForgottenWithoutRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDriver{openErr: func(n int) error {
			if n <= 3 {
				return errDial
			}
			return nil
		}}
		m := start(t, d, testConfig(), nothing)
		pass(10 * time.Second)
		require.Equal(t, 3, state(t, m).Errors)
		pass(2 * time.Minute)
		require.Zero(t, state(t, m).Errors)
	})
}

// B1, B2, core part: an error of one partition stands in the status of that
// partition until fetching has passed it, and never changes the state of the
// consumer.
func TestFault_B1_TroubleStandsWithItsPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook := &fakeDriver{}, &recorder{}
		m := start(t, d, testConfig(), nothing, WithHook(hook))
		c := d.consumer(t)
		bad, good := c.assign(0, 0), c.assign(1, 0)
		damaged := &driver.PartitionError{Topic: "orders", Partition: 0, Offset: 5, Err: &driver.Error{Code: "CORRUPT_MESSAGE"}}
		missing := &driver.PartitionError{Topic: "invoices", Partition: -1, Offset: -1, Err: &driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION"}}
		foreign := &driver.PartitionError{Topic: "orders", Partition: 7, Offset: -1, Err: &driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION"}}
		for _, err := range []error{damaged, missing, &driver.Error{Code: "X", Err: foreign}} {
			c.h.Error(err)
		}
		c.deliver(bad, 0, 4) // the intact head
		c.deliver(good, 0, 9)
		at := time.Now()
		pass(time.Minute)
		s := state(t, m)
		require.Equal(t, StateRunning, s.State)
		require.ErrorIs(t, s.Partitions[0].FetchError, damaged)
		require.Equal(t, at, s.Partitions[0].FetchErrorAt)
		require.NoError(t, s.Partitions[1].FetchError)
		require.Equal(t, int64(5), c.position(bad))
		require.Equal(t, int64(10), c.position(good))
		require.Equal(t, []TopicError{{"invoices", -1, missing, at}, {"orders", 7, foreign, at}}, s.TopicErrors)
		events := eventsOf[DriverError](hook)
		require.Len(t, events, 3)
		require.Equal(t, DriverError{"job", "orders", 0, damaged, at}, events[0])
		require.Equal(t, int32(-1), events[1].Partition)
		require.Equal(t, int32(7), events[2].Partition)

		c.deliver(bad, 5, 5) // it could be read after all
		others := []*driver.Claim{{Topic: "invoices"}, {Topic: "orders", Partition: 7}}
		c.h.Assign(others)
		pass(time.Second)
		s = state(t, m)
		require.NoError(t, s.Partitions[1].FetchError)
		require.Zero(t, s.Partitions[1].FetchErrorAt)
		require.Empty(t, s.TopicErrors)
		c.h.Lost(others, errDial)
	})
}

// A1, core part: a topic that was created again is reported as that, not as a gap.
func TestFault_A1_RecreatedTopicIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, log := &fakeDriver{}, &recorder{}, &lines{}
		start(t, d, testConfig(), nothing, WithHook(hook), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
		d.consumer(t).h.Error(&driver.DataLossError{Topic: "orders", Partition: 3, From: 50, To: 0, Recreated: true})
		require.Equal(t, []DataLoss{{JobName: "job", Topic: "orders", Partition: 3, From: 50, Recreated: true}}, eventsOf[DataLoss](hook))
		require.Len(t, log.with("level=ERROR", "deleted and created again", "partition=3", "from=50", "to=0"), 1)
		require.Empty(t, log.with("no longer in the log"))
	})
}

// A4, core part: a start without a committed position is an event and a log line; a
// warning if records lie before it. It is no error of the driver.
func TestFault_A4_StartWithoutPositionIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, hook, log := &fakeDriver{}, &recorder{}, &lines{}
		m := start(t, d, testConfig(), nothing, WithHook(hook), WithLogger(slog.New(slog.NewTextHandler(log, nil))))
		h := d.consumer(t).h
		h.Error(&driver.Error{Code: "NO_POSITION", Err: &driver.NoPositionError{Topic: "orders", Partition: 1, Start: 20, Begin: 5}})
		h.Error(&driver.NoPositionError{Topic: "orders", Partition: 2, Start: 5, Begin: 5})
		require.Equal(t, []NoPosition{{"job", "orders", 1, 20, 5}, {"job", "orders", 2, 5, 5}}, eventsOf[NoPosition](hook))
		require.Len(t, log.with("level=WARN", "no committed position", "partition=1", "start=20", "begin=5"), 1)
		require.Len(t, log.with("level=INFO", "no committed position", "partition=2", "start=5", "begin=5"), 1)
		require.NoError(t, state(t, m).DriverError)
		require.Empty(t, eventsOf[DriverError](hook))
	})
}

// D6: rebalances are logged at INFO, with partitions.
func TestFault_D6_RebalancesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, log := &fakeDriver{}, &lines{}
		start(t, d, testConfig(), nothing, WithLogger(slog.New(slog.NewTextHandler(log, nil))))
		c := d.consumer(t)
		cl := c.assign(3, 0)
		c.revoke(cl)
		require.Len(t, log.with("level=INFO", "partitions assigned", "partitions=orders/3", "consumer=job"), 1)
		require.Len(t, log.with("level=INFO", "partitions revoked", "partitions=orders/3", "consumer=job"), 1)

		many := make([]*driver.Claim, 1000)
		for i := range many {
			many[i] = &driver.Claim{Topic: "orders", Partition: int32(i)}
		}
		c.h.Assign(many)
		c.h.Lost(many, errDial)
		for _, line := range log.with("and 980 more") {
			require.Less(t, len(line), 1000)
		}
		require.Len(t, log.with("and 980 more"), 2)
	})
}

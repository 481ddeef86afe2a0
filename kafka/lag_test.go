package kafka_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/kafka"
)

// TestLagOfTheWholeGroup asks in one state of the consumer after the other: the answer is
// of the group, whatever the consumer does.
func TestLagOfTheWholeGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, 0, 10)
		send(t, b, 1, 0, 5)
		refused := errors.New("refused")
		failing := fault.NewSwitch(fault.On(fault.OpenConsumer, fault.Before(refused)))
		m := newManager(t, fault.Wrap(b, failing))
		cfg := orders()
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
		want := func(state kafka.State, lags ...int64) {
			t.Helper()
			s, err := m.Consumer("orders")
			require.NoError(t, err)
			require.Equal(t, state, s.State)
			all, err := m.Lag(t.Context(), "Orders")
			require.NoError(t, err)
			var got []int64
			for _, l := range all {
				assert.NoError(t, l.Err)
				got = append(got, l.Lag)
			}
			require.Equal(t, lags, got, "while %v", state)
		}
		want(kafka.StateOff, 10, 5) // before the start

		require.NoError(t, m.StartAllConsumers(context.WithoutCancel(t.Context())))
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		time.Sleep(2 * time.Second) // the interval of commits is one
		want(kafka.StateRunning, 0, 0)

		require.NoError(t, m.SetConsumerSwitch("orders", false))
		synctest.Wait()
		send(t, b, 1, 5, 8)
		want(kafka.StateOff, 0, 3)

		failing.Set(true)
		require.NoError(t, m.SetConsumerSwitch("orders", true))
		synctest.Wait()
		want(kafka.StateBackingOff, 0, 3)
		time.Sleep(time.Hour)
		want(kafka.StateDisabled, 0, 3)

		// Another program is the group's only member, and owns both partitions.
		other := launch(t, b, cfg, handleNothing)
		time.Sleep(2 * time.Second)
		want(kafka.StateDisabled, 0, 0)
		all, err := other.Lag(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, kafka.PartitionLag{Topic: "orders", Partition: 1, Committed: 8, Start: 8, Begin: 0, End: 8}, all[1])
	})
}

// TestLagWhereTheGroupHasNoPosition counts from where the group would begin.
func TestLagWhereTheGroupHasNoPosition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 2)
		send(t, b, 0, 0, 10)
		send(t, b, 1, 0, 5)
		require.NoError(t, b.DeleteRecords("orders", 1, 3))
		m := newManager(t, b)
		for _, c := range []struct {
			name   string
			offset kafka.InitialOffset
		}{{"oldest", kafka.OffsetOldest}, {"newest", kafka.OffsetNewest}} {
			cfg := orders()
			cfg.JobName, cfg.ConsumerGroup, cfg.InitialOffset = c.name, c.name, c.offset
			cfg.Topics = []string{"missing", "results"}
			require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
		}
		lag := func(name string) []kafka.PartitionLag {
			t.Helper()
			all, err := m.Lag(t.Context(), name)
			require.NoError(t, err)
			require.Len(t, all, 4)
			for i := range all {
				if all[i].Topic == "missing" {
					wantCode(t, all[i].Err, "UNKNOWN_TOPIC_OR_PARTITION")
					all[i].Err = nil
				}
			}
			return all
		}
		missing := kafka.PartitionLag{Topic: "missing", Partition: -1, Committed: -2, Start: -1, Begin: -1, End: -1, Lag: -1}
		empty := kafka.PartitionLag{Topic: "results", Committed: -1}
		part := func(partition int32, committed, start, begin, end, lag int64) kafka.PartitionLag {
			return kafka.PartitionLag{Topic: "orders", Partition: partition, Committed: committed, Start: start, Begin: begin, End: end, Lag: lag}
		}
		require.ElementsMatch(t, []kafka.PartitionLag{part(0, -1, 0, 0, 10, 10), part(1, -1, 3, 3, 5, 2), missing, empty}, lag("oldest"))
		require.ElementsMatch(t, []kafka.PartitionLag{part(0, -1, 10, 0, 10, 0), part(1, -1, 5, 3, 5, 0), missing, empty}, lag("newest"))

		// A partition without a position beside one that has one was created later.
		require.NoError(t, b.SetCommitted("newest", "orders", 0, 4))
		require.ElementsMatch(t, []kafka.PartitionLag{part(0, 4, 4, 0, 10, 6), part(1, -1, 3, 3, 5, 2), missing, empty}, lag("newest"))

	})
}

// TestLagOfAPositionThatIsNotInTheLog counts from where the group goes on, if it does.
func TestLagOfAPositionThatIsNotInTheLog(t *testing.T) {
	for policy, want := range map[kafka.OutOfRange][2]kafka.PartitionLag{
		kafka.OutOfRangeStop:   {{Committed: 12, Start: -1, Lag: -1}, {Committed: 1, Start: -1, Lag: -1}},
		kafka.OutOfRangeOldest: {{Committed: 12, Start: 3, Lag: 7}, {Committed: 1, Start: 3, Lag: 7}},
		kafka.OutOfRangeNewest: {{Committed: 12, Start: 10}, {Committed: 1, Start: 10}},
	} {
		t.Run(policy.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBroker(t, 2)
				for p, at := range []int64{12, 1} { // of a log that was cut off, and of one that retention has overtaken
					send(t, b, int32(p), 0, 10)
					require.NoError(t, b.DeleteRecords("orders", int32(p), 3))
					require.NoError(t, b.SetCommitted("orders", "orders", int32(p), at))
				}
				m := newManager(t, b)
				cfg := orders()
				cfg.ConsumerGroup, cfg.OutOfRange = "orders", policy
				require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
				all, err := m.Lag(t.Context(), "orders")
				require.NoError(t, err)
				for p := range all {
					want[p].Topic, want[p].Partition, want[p].Begin, want[p].End = "orders", int32(p), 3, 10
					if policy == kafka.OutOfRangeStop {
						wantCode(t, all[p].Err, "OFFSET_OUT_OF_RANGE")
						all[p].Err = nil
					}
				}
				require.Equal(t, want[:], all)
			})
		})
	}
}

// TestLagOfAnAnswerThatIsNotWhole makes no number of what is not known.
func TestLagOfAnAnswerThatIsNotWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := &driver.Error{Code: "LEADER_NOT_AVAILABLE"}
		d := &groupDriver{Driver: newBroker(t, 1), read: func(context.Context) ([]driver.GroupPartition, error) {
			return []driver.GroupPartition{
				{Topic: "orders", Partition: 0, Committed: 7, Begin: -1, End: -1, Err: why},
				{Topic: "orders", Partition: 1, Committed: driver.UnknownPosition, Begin: 2, End: 9, Err: why},
				{Topic: "orders", Partition: 2, Committed: driver.NoPosition, Begin: 2, End: 9},
				{Topic: "results", Partition: 0, Committed: driver.NoPosition, Begin: -1, End: 9, Err: why},
				{Topic: "results", Partition: 1, Committed: driver.NoPosition, Begin: 2, End: 9},
				{Topic: "unknown", Partition: 0, Committed: driver.UnknownPosition, Begin: -1, End: -1, Err: why},
				{Topic: "unknown", Partition: 1, Committed: driver.NoPosition, Begin: 2, End: 9},
			}, nil
		}}
		m := newManager(t, d)
		cfg := orders()
		cfg.InitialOffset = kafka.OffsetNewest
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, handleNothing)))
		all, err := m.Lag(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, []kafka.PartitionLag{
			{Topic: "orders", Partition: 0, Committed: 7, Start: 7, Begin: -1, End: -1, Lag: -1, Err: why},
			{Topic: "orders", Partition: 1, Committed: -2, Start: -1, Begin: 2, End: 9, Lag: -1, Err: why},
			{Topic: "orders", Partition: 2, Committed: -1, Start: 2, Begin: 2, End: 9, Lag: 7},
			{Topic: "results", Partition: 0, Committed: -1, Start: 9, Begin: -1, End: 9, Lag: 0, Err: why},
			{Topic: "results", Partition: 1, Committed: -1, Start: 9, Begin: 2, End: 9, Lag: 0},
			{Topic: "unknown", Partition: 0, Committed: -2, Start: -1, Begin: -1, End: -1, Lag: -1, Err: why},
			{Topic: "unknown", Partition: 1, Committed: -1, Start: -1, Begin: 2, End: 9, Lag: -1},
		}, all)
		require.True(t, d.closed)
		text, err := json.Marshal(all[0])
		require.NoError(t, err)
		require.JSONEq(t, `{"Topic":"orders","Partition":0,"Committed":7,"Start":7,"Begin":-1,"End":-1,"Lag":-1,"Err":"LEADER_NOT_AVAILABLE"}`, string(text))
	})
}

// A groupDriver reads a group as the test says.
type groupDriver struct {
	driver.Driver
	read   func(context.Context) ([]driver.GroupPartition, error)
	closed bool
}

func (d *groupDriver) OpenGroup(context.Context, driver.ConsumerConfig) (driver.Group, error) {
	return d, nil
}

func (d *groupDriver) Read(ctx context.Context) ([]driver.GroupPartition, error) { return d.read(ctx) }

func (d *groupDriver) Commit(context.Context, []driver.GroupMark) error { return nil }

func (d *groupDriver) Close(context.Context) error {
	d.closed = true
	return nil
}

// TestLagIsRefused has every reason for which there is no answer.
func TestLagIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		lag := func(d driver.Driver, ctx context.Context) (*kafka.Manager, error) {
			m := newManager(t, d)
			require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(orders(), handleNothing)))
			_, err := m.Lag(ctx, "orders")
			return m, err
		}
		m, err := lag(struct{ driver.Driver }{b}, t.Context())
		require.ErrorIs(t, err, kafka.ErrUnsupported)
		require.ErrorContains(t, err, `kafka: lag of consumer "orders": the driver struct`)
		_, err = m.Lag(t.Context(), "nothing")
		require.ErrorIs(t, err, kafka.ErrUnknownConsumer)
		var none context.Context
		_, err = m.Lag(none, "orders")
		require.ErrorContains(t, err, "ctx is nil")
		_, err = (*kafka.Manager)(nil).Lag(t.Context(), "orders")
		require.Error(t, err)

		_, err = lag(fault.Wrap(struct{ driver.Driver }{b}, fault.Any()), t.Context())
		require.ErrorIs(t, err, kafka.ErrUnsupported, "of a driver around another one")
		_, err = lag(nil, t.Context())
		require.ErrorIs(t, err, kafka.ErrNoDriver)
		boom := errors.New("boom")
		for _, op := range []fault.Op{fault.OpenGroup, fault.ReadGroup} {
			_, err = lag(fault.Wrap(b, fault.On(op, fault.Before(boom))), t.Context())
			require.ErrorIs(t, err, boom)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = lag(fault.Wrap(b, fault.On(op, fault.Never())), ctx)
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
			began := time.Now()
			_, err = lag(fault.Wrap(b, fault.On(op, fault.Never())), context.WithoutCancel(t.Context()))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, 30*time.Second, time.Since(began), "without a deadline")
		}
		_, err = lag(&groupDriver{Driver: b, read: func(context.Context) ([]driver.GroupPartition, error) { panic("of the driver") }}, t.Context())
		require.ErrorContains(t, err, "of the driver")
	})
}

// TestShutdownEndsLag ends a Lag that waits, and is not over before it. What is known by then is
// returned.
func TestShutdownEndsLag(t *testing.T) {
	b := func(t *testing.T) driver.Driver { return newBroker(t, 1) }
	t.Run("nothing is known", func(t *testing.T) {
		shutdownEndsLag(t, 0, func(t *testing.T) driver.Driver {
			return fault.Wrap(b(t), fault.On(fault.ReadGroup, fault.Never()))
		})
	})
	t.Run("a part is known", func(t *testing.T) {
		shutdownEndsLag(t, 1, func(t *testing.T) driver.Driver {
			return &groupDriver{Driver: b(t), read: func(ctx context.Context) ([]driver.GroupPartition, error) {
				<-ctx.Done()
				return []driver.GroupPartition{{Topic: "orders", Committed: 1, Begin: -1, End: -1, Err: ctx.Err()}}, nil
			}}
		})
	})
}

func shutdownEndsLag(t *testing.T, known int, d func(*testing.T) driver.Driver) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, d(t))
		require.NoError(t, m.RegisterConsumer(t.Context(), kafka.NewConsumer(orders(), handleNothing)))
		answer := make(chan error, 1)
		go func() {
			all, err := m.Lag(t.Context(), "orders")
			assert.Len(t, all, known)
			answer <- err
		}()
		synctest.Wait()
		began := time.Now()
		require.NoError(t, m.Shutdown(t.Context()))
		require.Zero(t, time.Since(began))
		synctest.Wait()
		select {
		case err := <-answer:
			require.ErrorIs(t, err, kafka.ErrClosed)
		default:
			t.Fatal("Lag goes on after the shutdown")
		}
		_, err := m.Lag(t.Context(), "orders")
		require.ErrorIs(t, err, kafka.ErrClosed)
	})
}

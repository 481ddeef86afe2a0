package fault_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestGroup injects each fault into each call on a group.
func TestGroup(t *testing.T) {
	for _, tt := range []struct {
		fault fault.Injector
		want  error
		took  time.Duration
		done  bool // what was asked for
	}{
		{fault.Before(boom), boom, 0, false},
		{fault.After(boom), boom, 0, true},
		{fault.Never(), context.DeadlineExceeded, time.Minute, false},
		{fault.Delay(time.Second), nil, time.Second, true},
		{fault.Delay(time.Hour), context.DeadlineExceeded, time.Minute, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			open := func(op fault.Op) (driver.Group, error) {
				d := fault.Wrap(b, fault.On(op, tt.fault)).(driver.GroupReader)
				return d.OpenGroup(testkit.Within(t, time.Minute), consumerConfig)
			}
			timed := func(what string, call func() error) {
				begin := time.Now()
				assert.ErrorIs(t, call(), tt.want, "%s of %v", what, tt.fault)
				assert.Equal(t, tt.took, time.Since(begin), "%s of %v: time", what, tt.fault)
			}
			timed("OpenGroup", func() error {
				_, err := open(fault.OpenGroup)
				return err
			})
			g, err := open(fault.ReadGroup)
			require.NoError(t, err)
			timed("ReadGroup", func() error {
				all, err := g.Read(testkit.Within(t, time.Minute))
				assert.Equal(t, err == nil, len(all) == 1, "an answer")
				return err
			})
			g, err = open(fault.CommitGroup)
			require.NoError(t, err)
			timed("CommitGroup", func() error {
				return g.Commit(testkit.Within(t, time.Minute), []driver.GroupMark{{Topic: "t", Offset: 7}})
			})
			g, err = open(fault.FindOffsets)
			require.NoError(t, err)
			timed("FindOffsets", func() error {
				all, err := g.(driver.OffsetFinder).FindOffsets(testkit.Within(t, time.Minute), map[string][]int32{"t": nil}, time.Time{})
				assert.Equal(t, err == nil, len(all) == 1, "an answer")
				return err
			})
			assert.Equal(t, tt.done, b.Committed("g", "t", 0) == 7, "%v: the position is committed", tt.fault)
		})
	}
}

// TestCloseEndsAFaultOfAGroup closes a group of which a call has no answer.
func TestCloseEndsAFaultOfAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := fault.Wrap(newBroker(t, 1), fault.On(fault.ReadGroup, fault.Never())).(driver.GroupReader)
		g, err := d.OpenGroup(t.Context(), consumerConfig)
		require.NoError(t, err)
		answer := make(chan error, 1)
		go func() {
			_, err := g.Read(t.Context())
			answer <- err
		}()
		synctest.Wait()
		require.NoError(t, g.Close(t.Context()))
		require.ErrorIs(t, <-answer, driver.ErrClosed)
	})
}

// A bareGroup opens groups that find no offsets.
type bareGroup struct{ *memory.Broker }

func (d bareGroup) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	g, err := d.Broker.OpenGroup(ctx, cfg)
	return struct{ driver.Group }{g}, err
}

// TestGroupThatFindsNoOffsets is the answer for a group that is no OffsetFinder.
func TestGroupThatFindsNoOffsets(t *testing.T) {
	g, err := fault.Wrap(bareGroup{newBroker(t, 1)}, fault.Any()).(driver.GroupReader).OpenGroup(t.Context(), consumerConfig)
	require.NoError(t, err)
	_, err = g.(driver.OffsetFinder).FindOffsets(t.Context(), nil, time.Time{})
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

// TestGroupOfADriverWithoutGroups is the answer for a driver that cannot look at groups.
func TestGroupOfADriverWithoutGroups(t *testing.T) {
	bare := struct{ driver.Driver }{newBroker(t, 1)}
	_, err := fault.Wrap(bare, fault.Any()).(driver.GroupReader).OpenGroup(t.Context(), consumerConfig)
	require.ErrorIs(t, err, errors.ErrUnsupported)
}

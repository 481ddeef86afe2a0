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
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestSeek injects each fault into Seek.
func TestSeek(t *testing.T) {
	for _, tt := range []struct {
		fault   fault.Injector
		want    error
		took    time.Duration
		moved   bool
		unknown bool
	}{
		{fault.Before(boom), boom, 0, false, false},
		{fault.After(boom), boom, 0, true, true},
		{fault.Never(), context.DeadlineExceeded, time.Minute, false, false},
		{fault.Delay(time.Second), nil, time.Second, true, false},
		{fault.Delay(time.Hour), context.DeadlineExceeded, time.Minute, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newBroker(t, 1)
			require.NoError(t, b.Send("t", nil, nil))
			r := run(t, b, fault.On(fault.Seek, tt.fault), &calls{})
			began := time.Now()
			to := driver.Mark{Claim: r.claims[0], Offset: 1}
			err := r.Consumer.(driver.Seeker).Seek(testkit.Within(t, time.Minute), []driver.Mark{to})
			assert.ErrorIs(t, err, tt.want, "%v", tt.fault)
			assert.Equal(t, tt.took, time.Since(began), "%v: time", tt.fault)
			assert.Equal(t, tt.moved, b.Committed("g", "t", 0) == 1, "%v: the position has moved", tt.fault)
			assert.Equal(t, tt.unknown, errors.Is(err, driver.ErrUnknownOutcome), "%v: unknown", tt.fault)
			if failed := (*driver.CommitError)(nil); errors.As(err, &failed) {
				require.Len(t, failed.Failed, 1)
				assert.Equal(t, to, failed.Failed[0].Mark)
			} else {
				assert.NoError(t, err, "%v: not a CommitError", tt.fault)
			}
			synctest.Wait()
			assert.Equal(t, tt.moved, len(r.claims) == 2, "%v: another claim", tt.fault)
			if tt.moved {
				err := r.Consumer.(driver.Seeker).Seek(t.Context(), []driver.Mark{to})
				assert.ErrorIs(t, err, driver.ErrClaimEnded, "%v: of an ended claim", tt.fault)
			}
		})
	}
}

// TestCloseEndsAFaultOfSeek closes a consumer of which a Seek has no answer.
func TestCloseEndsAFaultOfSeek(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, fault.On(fault.Seek, fault.Never()), &calls{})
		answer := make(chan error, 1)
		go func() {
			answer <- r.Consumer.(driver.Seeker).Seek(t.Context(), []driver.Mark{{Claim: r.claims[0], Offset: 1}})
		}()
		synctest.Wait()
		require.NoError(t, r.Close(t.Context()))
		require.ErrorIs(t, <-answer, driver.ErrClaimEnded)
		require.Equal(t, int64(-1), b.Committed("g", "t", 0))
	})
}

// TestSeekAfterACrash moves nothing: the claims of the crash are gone.
func TestSeekAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBroker(t, 1)
		r := run(t, b, fault.On(fault.Run, fault.All(fault.Delay(time.Second), fault.After(boom))), &calls{})
		time.Sleep(2 * time.Second)
		err := r.Consumer.(driver.Seeker).Seek(t.Context(), []driver.Mark{{Claim: r.claims[0], Offset: 1}})
		require.ErrorIs(t, err, driver.ErrClaimEnded)
		require.Equal(t, int64(-1), b.Committed("g", "t", 0))
	})
}

// A bareConsumer opens consumers that move no positions.
type bareConsumer struct{ driver.Driver }

func (d bareConsumer) OpenConsumer(ctx context.Context, cfg driver.ConsumerConfig) (driver.Consumer, error) {
	c, err := d.Driver.OpenConsumer(ctx, cfg)
	return struct{ driver.Consumer }{c}, err
}

// TestSeekOfAConsumerThatMovesNothing is the answer for a consumer that is no Seeker.
func TestSeekOfAConsumerThatMovesNothing(t *testing.T) {
	c, err := fault.Wrap(bareConsumer{newBroker(t, 1)}, fault.Any()).OpenConsumer(t.Context(), consumerConfig)
	require.NoError(t, err)
	require.ErrorIs(t, c.(driver.Seeker).Seek(t.Context(), nil), errors.ErrUnsupported)
	require.NoError(t, c.Close(t.Context()))
}

package seek

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

var (
	errLost    = &driver.Error{Code: "CONNECTION_FAILED", Err: errors.New("lost")}
	errRefused = &driver.Error{Code: "UNKNOWN_SERVER_ERROR"}
	errGone    = &driver.Error{Code: "UNKNOWN_MEMBER_ID"}
	errNever   = &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: driver.ErrPermanent}
	errLarge   = &driver.Error{Code: "OFFSET_METADATA_TOO_LARGE"}
)

// A fakeWire answers as a test says.
type fakeWire struct {
	send     func(ctx context.Context, take func() []driver.Mark) ([]error, error)
	gave     map[*driver.Claim]bool // partitions that the group gave to others
	plain    bool                   // no metadata is sent
	reported []error
}

func (w *fakeWire) Send(ctx context.Context, take func() []driver.Mark) ([]error, error) {
	return w.send(ctx, take)
}

func (w *fakeWire) Metadata(m driver.Mark) string {
	if w.plain {
		return ""
	}
	return m.Metadata
}

func (w *fakeWire) Owns(c *driver.Claim) bool { return !w.gave[c] }
func (w *fakeWire) Gone(err error) bool       { return err == errGone }
func (w *fakeWire) Wrap(err error) error      { return err }
func (w *fakeWire) Report(err error)          { w.reported = append(w.reported, err) }

func marks(n int) (all []driver.Mark) {
	for i := range n {
		all = append(all, driver.Mark{Claim: &driver.Claim{Topic: "t", Partition: int32(i)}, Offset: int64(10 + i), Metadata: "m"})
	}
	return all
}

// failures returns the errors of a CommitError by partition.
func failures(t *testing.T, err error) map[int32]error {
	t.Helper()
	var ce *driver.CommitError
	require.ErrorAs(t, err, &ce)
	failed := map[int32]error{}
	for _, f := range ce.Failed {
		failed[f.Mark.Claim.Partition] = f.Err
	}
	return failed
}

// TestOutcomes: each mark has its own outcome, and is sent again only for a reason that passes.
func TestOutcomes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		to := marks(6)
		to[5].Offset = -1
		var sent [][]driver.Mark
		verdicts := [][]error{
			{nil, errRefused, errGone, errNever},
			{nil},
		}
		w := &fakeWire{gave: map[*driver.Claim]bool{to[4].Claim: true}}
		w.send = func(_ context.Context, take func() []driver.Mark) ([]error, error) {
			sent = append(sent, take())
			return verdicts[len(sent)-1], nil
		}
		c := New(t.Context(), to)
		require.Len(t, c.Open(), 5)
		c.Pursue(t.Context(), w)
		failed := failures(t, c.Wait())
		require.Len(t, failed, 4)
		assert.ErrorIs(t, failed[2], driver.ErrClaimEnded)
		assert.ErrorIs(t, failed[2], errGone)
		assert.Equal(t, errNever, failed[3])
		assert.Equal(t, driver.ErrClaimEnded, failed[4])
		assert.ErrorIs(t, failed[5], driver.ErrPermanent)
		require.Equal(t, [][]driver.Mark{to[:4], to[1:2]}, sent)
		require.Equal(t, to[:2], c.Durable())
		require.NoError(t, c.Doubt())
		require.Equal(t, []error{errRefused}, w.reported)
	})
}

// TestRefusedForLong: a mark is not sent forever.
func TestRefusedForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWire{send: func(_ context.Context, take func() []driver.Mark) ([]error, error) {
			take()
			return []error{errRefused}, nil
		}}
		c, began := New(t.Context(), marks(1)), time.Now()
		c.Pursue(t.Context(), w)
		require.Equal(t, errRefused, failures(t, c.Wait())[0])
		took := time.Since(began)
		require.True(t, took >= refusalPatience && took < refusalPatience+lastRetry, "%v", took)
		require.Len(t, w.reported, 1)
	})
}

// TestMetadataAsSent: of metadata that is too large the next attempt has none, and the mark that
// is durable is the one that was sent.
func TestMetadataAsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := new(fakeWire)
		w.send = func(_ context.Context, take func() []driver.Mark) ([]error, error) {
			if all := take(); len(all) == 1 {
				return []error{nil}, nil
			}
			w.plain = true
			return []error{nil, errLarge}, nil
		}
		c := New(t.Context(), marks(2))
		c.Pursue(t.Context(), w)
		require.NoError(t, c.Wait())
		durable := c.Durable()
		require.Equal(t, []string{"m", ""}, []string{durable[0].Metadata, durable[1].Metadata})
	})
}

// TestNothingIsSentAfterTheEnd: the context of Seek, and the claims, end before an attempt is
// made.
func TestNothingIsSentAfterTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		w := &fakeWire{send: func(_ context.Context, take func() []driver.Mark) ([]error, error) {
			time.Sleep(time.Minute) // behind another request
			sent += len(take())
			return nil, nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := New(ctx, marks(1))
		go c.Pursue(t.Context(), w)
		began := time.Now()
		err := failures(t, c.Wait())[0]
		require.Equal(t, time.Second, time.Since(began))
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.NotErrorIs(t, err, driver.ErrUnknownOutcome)
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, sent)
		require.NoError(t, c.Doubt())

		c = New(ctx, marks(1))
		require.Empty(t, c.Open(), "the context has ended before")
		assert.ErrorIs(t, failures(t, c.Wait())[0], context.DeadlineExceeded)

		over, end := context.WithCancel(t.Context())
		end()
		c = New(t.Context(), marks(2))
		c.End(c.Open()[0])
		require.Len(t, c.Open(), 1)
		c.Pursue(over, w)
		require.Equal(t, map[int32]error{0: driver.ErrClaimEnded, 1: driver.ErrClaimEnded}, failures(t, c.Wait()))
		require.Zero(t, sent)
	})
}

// TestDoubt: an attempt without an answer may be durable until a later one is, whatever ends the
// call.
func TestDoubt(t *testing.T) {
	lose := func(_ context.Context, take func() []driver.Mark) ([]error, error) {
		take()
		return nil, errLost
	}
	for name, c := range map[string]struct {
		later func(ctx context.Context, take func() []driver.Mark) ([]error, error) // after the lost answer
		also  error                                                                 // in the answer
		doubt bool
		fails bool
	}{
		"it ends": {lose, context.DeadlineExceeded, true, true},
		"the coordinator refuses": {func(_ context.Context, take func() []driver.Mark) ([]error, error) {
			take()
			return []error{errGone}, nil
		}, errGone, true, true},
		"it is durable": {func(_ context.Context, take func() []driver.Mark) ([]error, error) {
			take()
			return []error{nil}, nil
		}, nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				w := &fakeWire{send: func(ctx context.Context, take func() []driver.Mark) ([]error, error) {
					if attempts++; attempts == 1 {
						return lose(ctx, take)
					}
					return c.later(ctx, take)
				}}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				call := New(ctx, marks(1))
				go call.Pursue(t.Context(), w)
				err := call.Wait()
				synctest.Wait()
				require.Equal(t, c.doubt, call.Doubt() != nil)
				require.Equal(t, !c.fails, len(call.Durable()) == 1)
				if !c.fails {
					require.NoError(t, err)
					return
				}
				err = failures(t, err)[0]
				assert.ErrorIs(t, err, driver.ErrUnknownOutcome)
				assert.ErrorIs(t, err, errLost)
				assert.ErrorIs(t, err, c.also)
				assert.NotErrorIs(t, err, driver.ErrClaimEnded, "the position may have moved")
			})
		})
	}
}

// TestLateAnswer: the answer comes after the end of the context. The caller does not know, and
// the driver does.
func TestLateAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWire{send: func(_ context.Context, take func() []driver.Mark) ([]error, error) {
			take()
			time.Sleep(time.Minute)
			return []error{nil}, nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		c := New(ctx, marks(1))
		go c.Pursue(t.Context(), w)
		err := failures(t, c.Wait())[0]
		assert.ErrorIs(t, err, driver.ErrUnknownOutcome)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		require.Error(t, c.Doubt(), "while the answer is due")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.NoError(t, c.Doubt())
		require.Len(t, c.Durable(), 1)
	})
}

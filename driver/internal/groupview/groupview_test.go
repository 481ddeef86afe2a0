package groupview

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

var (
	errLoading = errors.New("loading")
	errRefused = errors.New("refused")
	errMembers = errors.New("members")
	errNever   = &driver.Error{Code: "GROUP_AUTHORIZATION_FAILED", Kind: driver.ErrPermanent}
)

// A fakeWire answers as a test says.
type fakeWire struct {
	survey  func(ctx context.Context) (map[string]Topic, error)
	commit  func(marks []driver.GroupMark) (map[position.Partition]error, error)
	at      position.Committed
	logs    Logs
	find    func(ps []position.Partition, from int64) (map[position.Partition]int64, map[position.Partition]error)
	severed bool
	closed  chan struct{} // Close waits for it, if it is not nil
}

func (w *fakeWire) Survey(ctx context.Context) (map[string]Topic, error) { return w.survey(ctx) }

func (w *fakeWire) Committed(context.Context, []position.Partition) (position.Committed, error) {
	return w.at, nil
}

func (w *fakeWire) Logs(context.Context, []position.Partition) Logs { return w.logs }

func (w *fakeWire) Commit(_ context.Context, marks []driver.GroupMark) (map[position.Partition]error, error) {
	return w.commit(marks)
}

func (w *fakeWire) Find(_ context.Context, ps []position.Partition, from int64) (map[position.Partition]int64, map[position.Partition]error) {
	return w.find(ps, from)
}

func (w *fakeWire) OfTheGroup(err error) bool { return err == errLoading || err == errMembers }
func (w *fakeWire) HasMembers(err error) bool { return err == errMembers }
func (w *fakeWire) Sever()                    { w.severed = true }

func (w *fakeWire) Wrap(err error) error {
	if _, ok := errors.AsType[*driver.Error](err); ok || err == nil {
		return err
	}
	return &driver.Error{Code: "CODE", Err: err}
}

func (w *fakeWire) Close() {
	if w.closed != nil {
		<-w.closed
	}
}

func at(topic string, id int32) position.Partition { return position.Partition{Topic: topic, ID: id} }

// TestRead puts the answers together: each partition has what is known of it, and its own
// error.
func TestRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		surveys := 0
		w := &fakeWire{
			survey: func(context.Context) (map[string]Topic, error) {
				if surveys++; surveys < 4 {
					return nil, errLoading
				}
				return map[string]Topic{
					"a": {Partitions: []int32{0, 1, 2, 3}}, "b": {Partitions: []int32{0}}, "forbidden": {Err: errRefused}, "empty": {},
				}, nil
			},
			at: position.Committed{
				At:     map[position.Partition]int64{at("a", 0): 4, at("a", 1): 0},
				Beside: map[position.Partition]string{at("a", 0): "m"},
				Failed: map[position.Partition]error{at("a", 3): errRefused},
			},
			logs: Join(
				map[position.Partition]int64{at("a", 0): 1, at("a", 1): 2, at("a", 3): 3, at("b", 0): 0},
				map[position.Partition]int64{at("a", 0): 10, at("a", 3): 30, at("b", 0): 0},
				map[position.Partition]error{at("a", 2): errLoading},
				map[position.Partition]error{at("a", 1): errLoading, at("a", 2): errLoading}),
		}
		v := New([]string{"b", "forbidden", "a", "empty", "unnamed"}, w)
		all, err := v.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, []driver.GroupPartition{
			{Topic: "b", Committed: -1, Begin: 0, End: 0},
			{Topic: "forbidden", Partition: -1, Committed: driver.UnknownPosition, Begin: -1, End: -1, Err: w.Wrap(errRefused)},
			{Topic: "a", Partition: 0, Committed: 4, Metadata: "m", Begin: 1, End: 10},
			{Topic: "a", Partition: 1, Committed: 0, Begin: 2, End: -1, Err: w.Wrap(errLoading)},
			{Topic: "a", Partition: 2, Committed: driver.NoPosition, Begin: -1, End: -1, Err: w.Wrap(errLoading)},
			{Topic: "a", Partition: 3, Committed: driver.UnknownPosition, Begin: 3, End: 30, Err: w.Wrap(errRefused)},
			{Topic: "empty", Partition: -1, Committed: driver.UnknownPosition, Begin: -1, End: -1, Err: errNoPartitions},
			{Topic: "unnamed", Partition: -1, Committed: driver.UnknownPosition, Begin: -1, End: -1, Err: errNoPartitions},
		}, all)

		w.survey = func(context.Context) (map[string]Topic, error) { return nil, errNever }
		_, err = v.Read(t.Context())
		require.Equal(t, errNever, err, "what no retry cures")

		w.survey = func(context.Context) (map[string]Topic, error) { return nil, errLoading }
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		_, err = v.Read(ctx)
		require.Equal(t, time.Minute, time.Since(began))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errLoading, "the reason")
	})
}

// TestCommit tries again what the coordinator could not decide, and nothing else.
func TestCommit(t *testing.T) {
	marks := []driver.GroupMark{{Topic: "a", Partition: 0, Offset: 1}, {Topic: "a", Partition: 1, Offset: 2}, {Topic: "a", Partition: 2, Offset: 3}}
	refusal := func(w *fakeWire, i int, err error) error {
		return &driver.PartitionError{Topic: "a", Partition: marks[i].Partition, Offset: marks[i].Offset, Err: err}
	}
	for _, c := range []struct {
		name    string
		answers []map[position.Partition]error // of one attempt after the other
		sent    [][]driver.GroupMark
		want    func(w *fakeWire) []error // in the tree of the error
		members bool
	}{
		{"all are durable", []map[position.Partition]error{{}}, [][]driver.GroupMark{marks}, nil, false},
		{"one is refused", []map[position.Partition]error{{at("a", 1): errRefused}}, [][]driver.GroupMark{marks},
			func(w *fakeWire) []error { return []error{refusal(w, 1, w.Wrap(errRefused))} }, false},
		{"what is not decided comes again", []map[position.Partition]error{{at("a", 0): errRefused, at("a", 2): errLoading}, {}},
			[][]driver.GroupMark{marks, marks[2:]}, func(w *fakeWire) []error { return []error{refusal(w, 0, w.Wrap(errRefused))} }, false},
		{"members come between two attempts", []map[position.Partition]error{{at("a", 2): errLoading}, {at("a", 2): errMembers}},
			[][]driver.GroupMark{marks, marks[2:]}, func(w *fakeWire) []error { return []error{refusal(w, 2, hasMembers(w.Wrap(errMembers)))} }, true},
		{"the group has members", []map[position.Partition]error{{at("a", 0): errMembers, at("a", 1): errMembers, at("a", 2): errMembers}},
			[][]driver.GroupMark{marks}, func(w *fakeWire) []error { return []error{hasMembers(w.Wrap(errMembers))} }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			var sent [][]driver.GroupMark
			w := &fakeWire{commit: func(marks []driver.GroupMark) (map[position.Partition]error, error) {
				sent = append(sent, marks)
				return c.answers[len(sent)-1], nil
			}}
			err := New([]string{"a"}, w).Commit(t.Context(), marks)
			assert.Equal(t, c.sent, sent, c.name)
			var want []error
			if c.want != nil {
				want = c.want(w)
			}
			switch joined := err.(type) {
			case interface{ Unwrap() []error }:
				if _, one := err.(*driver.Error); one {
					assert.Equal(t, want, []error{err}, c.name)
				} else {
					assert.Equal(t, want, joined.Unwrap(), c.name)
				}
			default:
				assert.Empty(t, want, c.name)
				assert.NoError(t, err, c.name)
			}
			assert.Equal(t, c.members, errors.Is(err, driver.ErrGroupHasMembers), c.name)
		})
	}
}

// TestClose ends the calls that run, and has the same answer for all calls.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWire{closed: make(chan struct{}), survey: func(ctx context.Context) (map[string]Topic, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}}
		v := New([]string{"a"}, w)
		read := make(chan error, 1)
		go func() {
			_, err := v.Read(context.Background())
			read <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := make(chan error, 1)
		go func() { first <- v.Close(ctx) }()
		synctest.Wait()
		require.ErrorIs(t, <-read, driver.ErrClosed)
		require.True(t, w.severed)
		hasty, cancelHasty := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancelHasty()
		require.ErrorIs(t, v.Close(hasty), context.DeadlineExceeded, "a second Close waits for its own context")
		require.ErrorIs(t, <-first, context.DeadlineExceeded)
		require.ErrorIs(t, v.Close(context.Background()), context.DeadlineExceeded, "the same answer")
		close(w.closed)
		_, err := v.Read(t.Context())
		require.ErrorIs(t, err, driver.ErrClosed)
	})
}

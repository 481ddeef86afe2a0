package kafka

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

// A mark of nil is nil, so that a handler can return one around a call.
func TestMarkOfNilIsNil(t *testing.T) {
	assert.NoError(t, Retry(nil, time.Second))
	assert.NoError(t, Skip(nil))
	assert.NoError(t, DeadLetter(nil))
	assert.NoError(t, Stop(nil))
	assert.NoError(t, Hold(nil, time.Second))
}

// A mark changes neither the text of an error nor what errors.Is and errors.As find.
func TestMarksAreSeenThrough(t *testing.T) {
	inner := &PanicError{Value: "v"}
	for _, err := range []error{Retry(inner, 0), Skip(inner), DeadLetter(inner), Stop(inner), Hold(inner, 0)} {
		var found *PanicError
		assert.ErrorIs(t, err, inner)
		assert.ErrorAs(t, err, &found)
		assert.EqualError(t, err, inner.Error())
	}
}

// The mark that counts is the outermost; of a join it is the safest, wherever it stands:
// errors.As would find the first.
func TestWhichMarkCounts(t *testing.T) {
	boom := errors.New("boom")
	skip, dead, again, hold, stop := Skip(boom), DeadLetter(boom), Retry(boom, time.Second), Hold(boom, time.Minute), Stop(boom)
	unmarked := mark{}
	marked := func(do Failure, after time.Duration) mark { return mark{do, true, after} }
	for _, tt := range []struct {
		name string
		err  error
		want mark
	}{
		{"none", boom, unmarked},
		{"one", skip, marked(FailureSkip, 0)},
		{"wrapped", fmt.Errorf("outside: %w", dead), marked(FailureDeadLetter, 0)},
		{"mark around a mark", Stop(skip), marked(FailureStop, 0)},
		{"mark around a safer mark", Skip(stop), marked(FailureSkip, 0)},
		{"negative wait", Retry(boom, -time.Second), marked(FailureKeep, 0)},
		{"join, unsafe first", errors.Join(skip, stop), marked(FailureStop, 0)},
		{"join, unsafe last", errors.Join(stop, skip), marked(FailureStop, 0)},
		{"join with an unmarked error", errors.Join(skip, boom), unmarked},
		{"join with an unmarked error, first", errors.Join(boom, dead), unmarked},
		{"join of Skip and DeadLetter", errors.Join(skip, dead), marked(FailureDeadLetter, 0)},
		{"join of Retry and an unmarked error", errors.Join(boom, again), marked(FailureKeep, time.Second)},
		{"join of Hold and Retry", errors.Join(again, hold), marked(FailureHold, time.Minute)},
		{"join of Stop and Hold", errors.Join(hold, stop), marked(FailureStop, 0)},
		{"join in a join", errors.Join(skip, fmt.Errorf("deep: %w", errors.Join(dead, hold))), marked(FailureHold, time.Minute)},
		{"several %w", fmt.Errorf("%w and %w", skip, stop), marked(FailureStop, 0)},
		{"mark around a join", Skip(errors.Join(stop, boom)), marked(FailureSkip, 0)},
		{"panic with a mark", &PanicError{Value: skip}, unmarked},
		{"wrapped panic with a mark", fmt.Errorf("outside: %w", &PanicError{Value: skip}), unmarked},
		{"join with a panic", errors.Join(skip, &PanicError{Value: skip}), unmarked},
		{"batch error", batchErrorWith(skip), unmarked},
		{"join with a batch error", errors.Join(skip, batchErrorWith(skip)), unmarked},
	} {
		assert.Equal(t, tt.want, markOf(tt.err), tt.name)
	}
}

// batchErrorWith is a BatchError that names one record.
func batchErrorWith(err error) *BatchError {
	e := new(BatchError)
	e.Add(&Message{Topic: "orders", Offset: 1}, err)
	return e
}

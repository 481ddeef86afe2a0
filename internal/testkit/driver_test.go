package testkit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// An errorRecorder counts failures.
type errorRecorder struct{ errors int }

func (r *errorRecorder) Errorf(string, ...any) { r.errors++ }

func TestAcksDescribeOutcomesAndReportASecondAck(t *testing.T) {
	r := new(errorRecorder)
	a := NewAcks(r)
	refused := &driver.Error{Code: "MESSAGE_TOO_LARGE", Kind: driver.ErrPermanent}
	unanswered := &driver.Error{Code: "REQUEST_TIMED_OUT", Kind: driver.ErrUnknownOutcome}
	a.Message("t", "a").Acker.Ack(nil)
	a.Acker("b").Ack(fmt.Errorf("send: %w", refused))
	a.Acker("c").Ack(unanswered)
	a.Acker("d").Ack(errors.New("other"))
	for name, want := range map[string]string{
		"a": "sent", "b": "failed: MESSAGE_TOO_LARGE", "c": "unknown: REQUEST_TIMED_OUT", "d": "failed: other", "e": "none",
	} {
		assert.Equal(t, want, a.Outcome(name), name)
	}
	assert.Equal(t, 4, a.Len())
	assert.Zero(t, r.errors)
	a.Acker("c").Ack(nil)
	assert.Equal(t, 1, r.errors, "a second acknowledgement")
	assert.Equal(t, a.Acker("a"), a.Message("t", "a").Acker)
}

func TestContextsEnd(t *testing.T) {
	assert.ErrorIs(t, Ended().Err(), context.Canceled)
	ctx := Within(t, time.Millisecond)
	<-ctx.Done()
	assert.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
}

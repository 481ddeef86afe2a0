package core

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// A listener is a Handler of which only Error is called.
type listener struct {
	driver.Handler
	gate  chan struct{} // Error waits for it, unless it is nil
	heard []error
}

func (l *listener) Error(err error) {
	if l.gate != nil {
		<-l.gate
	}
	l.heard = append(l.heard, err)
}

var errAny = errors.New("any")

// TestReportsBelongToARun: what is reported before Run or after it is dropped.
func TestReportsBelongToARun(t *testing.T) {
	var k Calls
	l := new(listener)
	k.Report(errAny)
	k.ReportAside(errAny)
	k.SetHandler(l)
	k.Report(errAny)
	k.Close()
	k.Report(errAny)
	k.ReportAside(errAny)
	assert.Equal(t, []error{errAny}, l.heard)
}

// TestCloseWaitsForReportsAside: a report is never lost because its goroutine has not run yet.
// Its caller waits for nothing.
func TestCloseWaitsForReportsAside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var k Calls
		l := &listener{gate: make(chan struct{})}
		k.SetHandler(l)
		k.ReportAside(errAny)
		closed := false
		go func() {
			k.Close()
			closed = true
		}()
		synctest.Wait()
		assert.False(t, closed, "Close has returned before the report")
		close(l.gate)
		synctest.Wait()
		assert.True(t, closed)
		assert.Equal(t, []error{errAny}, l.heard)
	})
}

// TestPanicsAreReported: a method of the handler panics.
func TestPanicsAreReported(t *testing.T) {
	var k Calls
	l := new(listener)
	k.SetHandler(l)
	func() {
		defer k.Recovered("Assign")
		panic("boom")
	}()
	if assert.Len(t, l.heard, 1) {
		assert.EqualError(t, l.heard[0], "HANDLER_PANIC: panic in Handler.Assign: boom")
	}
}

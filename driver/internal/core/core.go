// Package core calls the core, which is the [driver.Handler] of a Run, for the parts of a
// consumer.
package core

import (
	"fmt"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// Calls are the calls of one Run. The zero value has no Handler and drops reports.
type Calls struct {
	Handler driver.Handler // set by SetHandler, before any part calls it

	mu      sync.Mutex // guards over, and the start of a report
	over    bool       // Run has ended: no more calls of the handler
	reports sync.WaitGroup
}

// SetHandler makes h the handler that is called.
func (k *Calls) SetHandler(h driver.Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.Handler = h
}

// Report passes err to Handler.Error, from the start of Run until its end.
func (k *Calls) Report(err error) {
	if k.enter() {
		k.report(err)
	}
}

// ReportAside is Report for a caller that others wait for. Close waits for the report, too.
func (k *Calls) ReportAside(err error) {
	if k.enter() {
		go k.report(err)
	}
}

// enter notes that a report begins, unless Run has not begun or has ended.
func (k *Calls) enter() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over || k.Handler == nil {
		return false
	}
	k.reports.Add(1)
	return true
}

func (k *Calls) report(err error) {
	defer k.reports.Done()
	k.Handler.Error(err)
}

// Close returns when no report is under way, and there will be none.
func (k *Calls) Close() {
	k.mu.Lock()
	k.over = true
	k.mu.Unlock()
	k.reports.Wait()
}

// Recovered reports a panic in a method of the handler. It must be deferred.
func (k *Calls) Recovered(method string) {
	if p := recover(); p != nil {
		k.Report(Panic(method, p))
	}
}

// Panic returns the error of a method of the handler that has panicked with p.
func Panic(method string, p any) error {
	return &driver.Error{Code: "HANDLER_PANIC", Err: fmt.Errorf("panic in Handler.%s: %v", method, p)}
}

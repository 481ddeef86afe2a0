package franz

import (
	"fmt"
	"sync"

	"github.com/aarontianqx/gopkg/driver"
)

// A core calls the Handler of one Run for the parts of a consumer.
type core struct {
	handler driver.Handler // set before any part calls it

	mu      sync.Mutex // guards over, and the start of a report
	over    bool       // Run has ended: no more calls of the handler
	reports sync.WaitGroup
}

// setHandler makes h the handler that is called.
func (k *core) setHandler(h driver.Handler) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.handler = h
}

// report passes err to Handler.Error, from the start of Run until its end.
func (k *core) report(err error) {
	k.mu.Lock()
	if k.over || k.handler == nil {
		k.mu.Unlock()
		return
	}
	k.reports.Add(1)
	k.mu.Unlock()
	defer k.reports.Done()
	k.handler.Error(err)
}

// close returns when no report is under way, and there will be none.
func (k *core) close() {
	k.mu.Lock()
	k.over = true
	k.mu.Unlock()
	k.reports.Wait()
}

// recovered reports a panic in a method of the handler. It must be deferred.
func (k *core) recovered(method string) {
	if p := recover(); p != nil {
		k.report(handlerPanic(method, p))
	}
}

// handlerPanic returns the error of a method of the handler that has panicked with p.
func handlerPanic(method string, p any) error {
	return &driver.Error{Code: "HANDLER_PANIC", Err: fmt.Errorf("panic in Handler.%s: %v", method, p)}
}

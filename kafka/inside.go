package kafka

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
)

// ErrInside is wrapped by the answer to a call that would wait for its own
// caller: Run, Shutdown, WaitStop or Resolve inside a handler, a callback or a hook, and Close
// or Flush of a producer inside a hook.
var ErrInside = errors.New("would wait for its own caller")

// caller names the handler, callback or hook of m that the calling goroutine
// runs, or returns "". What ends those waits for them, so it must not be called
// by one: the two would wait for each other.
//
// A goroutine that a handler has started is not the handler, and may call what
// it likes as long as the handler does not wait for it.
func (m *Manager) caller() string {
	id := goroutineID()
	for _, j := range m.allJobs() {
		for _, p := range j.workers.busy() {
			if p.hasGoroutine(id) {
				return fmt.Sprintf("a handler of consumer %q", j.name())
			}
		}
	}
	for _, p := range m.allProducers() {
		if p.callbacks.inside() {
			return fmt.Sprintf("a callback of producer %q", p.id)
		}
	}
	if m.insideHook() {
		return "a hook"
	}
	return ""
}

// insideHook reports whether a hook has made the call that asks. Hooks run on
// whatever goroutine performs an operation, and far too often to note where; so
// it looks for what calls them among the callers. A hook of another manager
// counts too, since none may block.
func (m *Manager) insideHook() bool {
	if len(m.hooks) == 0 && len(m.subscribers.now()) == 0 {
		return false
	}
	frames := runtime.CallersFrames(callers())
	for {
		f, more := frames.Next()
		if slices.Contains(hookCallers(), f.Function) {
			return true
		}
		if !more {
			return false
		}
	}
}

// callers returns the whole call stack of the goroutine.
func callers() []uintptr {
	pcs := make([]uintptr, 64)
	for {
		n := runtime.Callers(2, pcs)
		if n < len(pcs) {
			return pcs[:n]
		}
		pcs = make([]uintptr, 2*len(pcs))
	}
}

// hookCallers names the functions that call the methods of hooks.
func hookCallers() []string {
	pkg := reflect.TypeFor[Manager]().PkgPath()
	return []string{pkg + ".(*Op).startHook", pkg + ".(*Op).endHook", pkg + ".(*Manager).tell", pkg + ".(*Manager).guardHook"}
}

package kafka

import (
	"context"
	"runtime/debug"
)

// Hooks are called from here. A manager without hooks makes no operations.

// newOp returns an operation that can be started again and again, one time
// after the other.
func (m *Manager) newOp(kind OpKind, c *Client) Op {
	return Op{Kind: kind, Client: c, m: m, tokens: make([]OpToken, len(m.hooks))}
}

// start calls the hooks, the first one outermost. The fields that describe the
// operation have been set.
func (o *Op) start(ctx context.Context) context.Context {
	for i := range o.m.hooks {
		ctx = o.startHook(ctx, i)
	}
	return ctx
}

func (o *Op) startHook(ctx context.Context, i int) (inside context.Context) {
	inside = ctx // also if the hook panics
	defer o.guard("start")
	c, t := o.m.hooks[i].Start(ctx, o)
	o.tokens[i] = t
	if c != nil {
		inside = c
	}
	return inside
}

// end calls the hooks that returned a token, the last one first.
func (o *Op) end() {
	for i := len(o.tokens) - 1; i >= 0; i-- {
		if t := o.tokens[i]; t != nil {
			o.tokens[i] = nil
			o.endHook(t, o.m.hooks[i])
		}
	}
}

func (o *Op) endHook(t OpToken, h Hook) {
	defer o.guard("end")
	h.End(t, o)
}

// guard is deferred around a hook's method: a panic is the hook's own affair.
func (o *Op) guard(at string) {
	if v := recover(); v != nil {
		o.m.log.Error("kafka: hook panicked", "operation", o.Kind.String(), "at", at, "panic", panicText(v), "stack", string(debug.Stack()))
	}
}

// attachHooks shows the manager to its hooks. Called by New.
func (m *Manager) attachHooks() {
	for _, h := range m.hooks {
		m.guardHook("attach", func() {
			if detach := h.Attach(View{m}); detach != nil {
				m.detach = append(m.detach, detach)
			}
		})
	}
}

func (m *Manager) detachHooks() {
	for _, detach := range m.detach {
		m.guardHook("detach", detach)
	}
}

func (m *Manager) guardHook(at string, call func()) {
	defer func() {
		if v := recover(); v != nil {
			m.log.Error("kafka: hook panicked", "at", at, "panic", panicText(v), "stack", string(debug.Stack()))
		}
	}()
	call()
}

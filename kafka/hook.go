package kafka

import (
	"context"
	"log/slog"
)

// A Hook watches one or several managers. WithHook installs it; without one,
// each place that would tell a hook costs one branch.
//
// Its methods may be called by several goroutines at once. They must not block,
// and must not call the manager's Shutdown. A panic in one is logged, and
// harms nothing else. A manager with several hooks starts an operation with the
// first one outermost and ends it in the opposite order; each hook has a token
// of its own.
//
// Embed NopHook in an implementation, so that methods can be added here.
type Hook interface {
	// Event reports what has happened. The states of one consumer come in order.
	Event(e Event)

	// Start is called as an operation begins, on the goroutine that performs it,
	// and with the context of this very call: never one that a message was made
	// or consumed under. The context that it returns takes ctx's place for the
	// operation and for what happens inside it; it must be ctx or derived from it.
	// op belongs to the manager, may be read and given headers (SetHeader) until
	// Start returns, and must not be kept.
	//
	// A nil token says that the hook is not interested in the end.
	Start(ctx context.Context, op *Op) (context.Context, OpToken)

	// End is called once for each Start that has returned a token, maybe on
	// another goroutine, when the outcome is known, whatever that is: a send ends
	// with its acknowledgement and not before, also when the producer is closed;
	// a handler's operation ends when it panics. op says how; it is used again
	// when End has returned.
	End(t OpToken, op *Op)

	// Attach is called by New, with a view of the manager, for a hook that reports
	// numbers now and then. detach, if it is not nil, is called when the manager
	// has shut down, before Shutdown returns.
	Attach(v View) (detach func())
}

// An OpToken is what a hook wants to have back at the end of an operation. A
// pointer needs no allocation here.
type OpToken any

// NopHook is a Hook that does nothing.
type NopHook struct{}

// Event does nothing.
func (NopHook) Event(Event) {}

// Start returns ctx and no token.
func (NopHook) Start(ctx context.Context, _ *Op) (context.Context, OpToken) { return ctx, nil }

// End does nothing.
func (NopHook) End(OpToken, *Op) {}

// Attach does nothing.
func (NopHook) Attach(View) (detach func()) { return nil }

// A View shows a manager to a hook. Its methods take a snapshot without asking
// a broker, and may be called at any time, also after the shutdown.
type View struct{ m *Manager }

// Consumers returns what Manager.Consumers does.
func (v View) Consumers() []ConsumerStatus { return v.m.Consumers() }

// Logger returns the manager's logger.
func (v View) Logger() *slog.Logger { return v.m.log }

// Producers returns what Manager.Producers does.
func (v View) Producers() []ProducerStatus { return v.m.Producers() }

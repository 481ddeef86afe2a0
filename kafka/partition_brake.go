package kafka

import (
	"context"
	"sync"
	"sync/atomic"
)

// A brake stops one partition: it lets no further record be handed out, and cancels
// the context of the handler that runs. It is pulled once and never released. A hold, and
// an operator's pause, let it be pulled for a while, too.
//
// Its flags are one word, so that a lane asks for all of them by one load per record.
type brake struct {
	flags atomic.Uint32
	haltC chan struct{} // closed when halted

	// The handler's context, cancelled with the cause for which the partition has to
	// stop. It lives as long as the claim.
	ctx    context.Context
	cancel context.CancelCauseFunc

	// The context of what the lane sends for its claim. It outlives the handler's.
	sends    context.Context
	endSends context.CancelFunc

	mu          sync.Mutex
	pauseChange chan struct{} // closed and replaced when an operator's pause begins or ends

	asking []*rateTicket // wait for their turn at the rate, whose mutex guards it
}

const (
	flagHalted  = 1 << iota // no record is handed out any longer
	flagGivenUp             // what the handler comes to is not committed any longer
	flagHeld                // no record is handed out for a while, but for probes; see hold
	flagFenced              // halted because the session's deadline has passed: nothing is committed
	flagPaused              // an operator has paused the partition: no record is handed out, probes included
	flagRated               // each record that is handed out counts against a rate
)

func newBrake(ctx context.Context) *brake {
	b := &brake{haltC: make(chan struct{}), pauseChange: make(chan struct{})}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.sends, b.endSends = context.WithCancel(context.WithoutCancel(ctx))
	return b
}

// free reports that the brake has not been pulled in any way.
func (b *brake) free() bool { return b.flags.Load() == 0 }

func (b *brake) held() bool    { return b.flags.Load()&flagHeld != 0 }
func (b *brake) halted() bool  { return b.flags.Load()&flagHalted != 0 }
func (b *brake) givenUp() bool { return b.flags.Load()&flagGivenUp != 0 }
func (b *brake) fenced() bool  { return b.flags.Load()&flagFenced != 0 }
func (b *brake) paused() bool  { return b.flags.Load()&flagPaused != 0 }

func (b *brake) rated() bool { return b.flags.Load()&flagRated != 0 }

// stopped is free, but that a rate lets records pass.
func (b *brake) stopped() bool { return b.flags.Load()&^flagRated != 0 }

// waits reports that no record is handed out for a while, though a probe may be.
func (b *brake) waits() bool { return b.flags.Load()&(flagHeld|flagPaused) != 0 }

// bars reports whether no record may be handed out now, or no probe.
func (b *brake) bars(probe bool) bool {
	flags := b.flags.Load()
	if probe {
		flags &^= flagHeld
	}
	return flags&(flagHalted|flagHeld|flagPaused) != 0
}

// setPaused sets or lifts an operator's pause, and wakes the lanes that wait at the gate.
func (b *brake) setPaused(paused bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if paused {
		b.flags.Or(flagPaused)
	} else {
		b.flags.And(^uint32(flagPaused))
	}
	close(b.pauseChange)
	b.pauseChange = make(chan struct{})
}

// pauseChanged returns a channel that is closed when an operator's pause begins or ends. A lane
// asks for it before it asks whether there is a pause. Otherwise this could happen: a lane
// finds the partition paused, the pause ends, and the lane waits for the end of the next.
func (b *brake) pauseChanged() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pauseChange
}

// setRated sets or lifts the flag of a rate.
func (b *brake) setRated(rated bool) {
	if rated {
		b.flags.Or(flagRated)
	} else {
		b.flags.And(^uint32(flagRated))
	}
}

// setHeld sets or lifts the flag of a hold.
func (b *brake) setHeld(held bool) {
	if held {
		b.flags.Or(flagHeld)
	} else {
		b.flags.And(^uint32(flagHeld))
	}
}

// pull halts, and sets other flags in the same step. It returns those that were set
// before.
func (b *brake) pull(flags uint32) (before uint32) {
	before = b.flags.Or(flags | flagHalted)
	if before&flagHalted == 0 {
		close(b.haltC)
	}
	return before
}

// halt lets no further record be handed out, but for one that is just on its
// way. With a cause it also cancels the context of the handler that runs. It
// does not wait. The halt comes first: otherwise a handler that is interrupted would
// count as failing.
func (b *brake) halt(cause error) {
	b.pull(0)
	if cause != nil {
		b.cancel(cause)
	}
}

// giveUp says that what the handler comes to is not committed any longer. The caller
// has halted: a lane that is given up but not halted would hand out the next record.
//
// It is called before the last commit reads the position, and the lane asks before
// it publishes one. So a record that the hooks hear of as late is never part of
// that commit, and will certainly be delivered again.
func (b *brake) giveUp() {
	b.flags.Or(flagGivenUp)
	b.endSends()
}

// fence halts and gives up for the session's deadline, in one step, and reports whether
// it is the first to.
func (b *brake) fence() bool {
	defer b.endSends()
	return b.pull(flagFenced|flagGivenUp)&flagFenced == 0
}

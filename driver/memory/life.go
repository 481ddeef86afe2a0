package memory

import "context"

// A life is what Run and Close know of each other. The broker's mutex guards all but the
// channels, and closeErr once closed is closed.
type life struct {
	ended    chan struct{} // closed when Run has ended, or will never begin
	closed   chan struct{} // closed when closeErr is set
	running  bool
	closing  context.Context // of the first Close; nil before
	overran  bool            // Run ended after closing had ended
	closeErr error
}

func newLife() life {
	return life{ended: make(chan struct{}), closed: make(chan struct{})}
}

// begin begins Run. It reports whether Run may go on: not after Close.
func (l *life) begin() bool {
	l.running = l.closing == nil
	return l.running
}

func (l *life) finish() {
	l.overran = l.closing != nil && l.closing.Err() != nil
	close(l.ended)
}

// close begins Close. It reports whether this is the first one.
func (l *life) close(ctx context.Context) bool {
	if l.closing != nil {
		return false
	}
	l.closing = ctx
	if !l.running {
		close(l.ended)
	}
	return true
}

// window returns the context of Close, or one that does not end before Close begins.
func (l *life) window() context.Context {
	if l.closing == nil {
		return context.Background()
	}
	return l.closing
}

// waitEnded waits for the end of Run. It returns false if ctx has ended first. If both
// are over already, the end of Run counts.
func (l *life) waitEnded(ctx context.Context) bool {
	select {
	case <-l.ended:
		return true
	default:
	}
	select {
	case <-l.ended:
		return true
	case <-ctx.Done():
		return false
	}
}

// answer ends Close with err.
func (l *life) answer(err error) error {
	l.closeErr = err
	close(l.closed)
	return err
}

// waitClosed waits for the answer of the first Close.
func (l *life) waitClosed(ctx context.Context) error {
	select {
	case <-l.closed:
		return l.closeErr
	case <-ctx.Done():
		return ctx.Err()
	}
}

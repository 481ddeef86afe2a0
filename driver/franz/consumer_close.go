package franz

import "context"

// Close implements [driver.Consumer].
func (c *consumer) Close(ctx context.Context) error {
	if !c.beginClose(ctx) {
		select {
		case <-c.closed:
			return c.closeErr
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	cut := func() {
		c.abandon(ctx.Err())
		c.sever()
	}
	stop := context.AfterFunc(ctx, cut)
	defer stop()
	done := make(chan struct{})
	go func() { // ends when all that it waits for does; cut sees to that
		defer close(done)
		c.shutDown()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		cut()
		c.closeErr = ctx.Err()
	}
	close(c.closed)
	return c.closeErr
}

// beginClose reports whether this is the first Close.
func (c *consumer) beginClose(ctx context.Context) bool {
	c.mu.Lock()
	if c.isClosing {
		c.mu.Unlock()
		return false
	}
	c.isClosing = true
	c.deadline, _ = ctx.Deadline()
	close(c.closing)
	if !c.running {
		close(c.finished)
	}
	c.mu.Unlock()
	c.stopWatching()
	c.membership.end(errClosing)
	return true
}

// shutDown waits for Run, which drains and leaves the group, and takes everything down.
func (c *consumer) shutDown() {
	<-c.finished
	c.line.Sever()
	c.cut()
	c.client.Close()
	c.coordinator.close()
	c.abandon(context.Canceled)
}

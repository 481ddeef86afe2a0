package sarama

import (
	"context"
	"time"

	ibm "github.com/IBM/sarama"
)

// leaveGrace is how long the end of a session may take once every claim has ended and the
// fetches are cut: a few round trips to the coordinator. After it the connections of a
// pending join are cut, since Sarama cannot cancel a join.
const leaveGrace = 200 * time.Millisecond

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
	defer c.mu.Unlock()
	if c.isClosing {
		return false
	}
	c.isClosing = true
	c.deadline, _ = ctx.Deadline()
	close(c.closing)
	c.stopWatching()
	c.claims.close()
	if !c.running {
		close(c.served)
		close(c.finished)
	}
	return true
}

// shutDown drains, leaves the group, and takes everything down.
func (c *consumer) shutDown() {
	// The claims see closing by themselves. To end the session now would break a
	// cooperative rejoin between its join and its sync, and leave the member with a
	// generation under which it can commit nothing.
	<-c.claims.empty
	c.membership.end(errClosing)
	// A fetch in flight would hold the session for up to its waiting time.
	c.fetches.Sever()
	select {
	case <-c.served:
	case <-time.After(leaveGrace):
		c.groups.Cut()
		c.commits.Cut()
		<-c.served
	}
	c.leave()
	<-c.finished
	c.release()
	c.drained.Wait() // first: it may have brokers asked
	c.topics.asking.Wait()
	c.leaders.asking.Wait()
	c.coordinator.close()
}

// release closes the clients and all connections.
func (c *consumer) release() {
	clients := []ibm.Client{c.data, c.coord}
	if c.coordinator != nil {
		clients = append(clients, c.coordinator.client)
	}
	for _, client := range clients {
		if client != nil {
			client.Close()
		}
	}
	c.sever()
}

package memory

import (
	"context"

	"github.com/aarontianqx/gopkg/driver"
)

// A Foreign is a member of a group that belongs to another program. It accepts its
// assignment and ignores the records.
type Foreign struct {
	c   *consumer
	ran chan struct{} // closed when Run has returned
}

// JoinForeign adds a member of another program to a group. Its topics may be missing or
// have illegal names. The caller must call Leave.
func (b *Broker) JoinForeign(cfg driver.ConsumerConfig) *Foreign {
	f := &Foreign{c: newConsumer(b, cfg), ran: make(chan struct{})}
	go func() {
		defer close(f.ran)
		f.c.Run(idle{})
	}()
	return f
}

// Leave takes the member out of its group, or gives up when ctx ends. When it returns,
// the member's goroutine has ended.
func (f *Foreign) Leave(ctx context.Context) error {
	err := f.c.Close(ctx)
	<-f.ran
	return err
}

// idle is a Handler that does nothing.
type idle struct{}

func (idle) Assign([]*driver.Claim)                  {}
func (idle) Deliver(*driver.Claim, driver.Batch)     {}
func (idle) Revoke(context.Context, []*driver.Claim) {}
func (idle) Lost([]*driver.Claim, error)             {}
func (idle) Error(error)                             {}

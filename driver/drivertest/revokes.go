package drivertest

import (
	"context"

	"github.com/aarontianqx/gopkg/driver"
)

// holdRevokes keeps running members in Revoke until release is called or the case
// ends. draining gets each member that enters Revoke.
func (e *env) holdRevokes(members ...*member) (draining <-chan *member, release func()) {
	entered := make(chan *member, 64)
	released := make(chan struct{})
	e.change(func() {
		for _, m := range members {
			m.onRevoke = func(context.Context, []*driver.Claim) {
				entered <- m
				<-released
			}
		}
	})
	return entered, e.atEnd(func() { close(released) })
}

package testkit

import (
	"context"
	"errors"
	"sync"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// Acks records the acknowledgements of messages by name. It reports a second
// acknowledgement of one message to its test.
type Acks struct {
	t assert.TestingT

	mu  sync.Mutex
	got map[string]error
}

// NewAcks returns an Acks without acknowledgements.
func NewAcks(t assert.TestingT) *Acks { return &Acks{t: t, got: make(map[string]error)} }

// Acker returns the Acker of the named message. Two Ackers of one name are equal.
func (a *Acks) Acker(name string) driver.Acker { return acker{a, name} }

// Message returns a message to a topic whose value and acknowledgement have one name.
// Its key, or else the driver, chooses the partition.
func (a *Acks) Message(topic, name string) *driver.Message {
	return &driver.Message{Topic: topic, Partition: -1, Value: []byte(name), Acker: a.Acker(name)}
}

type acker struct {
	*Acks
	name string
}

func (a acker) Ack(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	assert.NotContains(a.t, a.got, a.name, "a second acknowledgement of one message")
	a.got[a.name] = err
}

// Err returns what the named message was acknowledged with, and whether it was.
func (a *Acks) Err(name string) (err error, acknowledged bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	err, acknowledged = a.got[name]
	return err, acknowledged
}

// Len returns the number of acknowledged messages.
func (a *Acks) Len() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.got)
}

// Outcome describes the acknowledgement of the named message: "none", "sent", or
// "unknown" or "failed" with the error's code, such as "failed: MESSAGE_TOO_LARGE".
func (a *Acks) Outcome(name string) string {
	switch err, acknowledged := a.Err(name); {
	case !acknowledged:
		return "none"
	case err == nil:
		return "sent"
	case errors.Is(err, driver.ErrUnknownOutcome):
		return "unknown: " + Code(err)
	default:
		return "failed: " + Code(err)
	}
}

// AckFunc is an Acker that calls a function.
type AckFunc func(err error)

// Ack calls f.
func (f AckFunc) Ack(err error) { f(err) }

// Code returns the code of the driver.Error that err wraps, the text of another error,
// or "" without an error.
func Code(err error) string {
	if e, ok := errors.AsType[*driver.Error](err); ok {
		return e.Code
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// Idle is a Handler that does nothing. A fake embeds it and overrides what it needs.
type Idle struct{}

// Assign does nothing.
func (Idle) Assign([]*driver.Claim) {}

// Deliver does nothing.
func (Idle) Deliver(*driver.Claim, driver.Batch) {}

// Revoke gives the claims back at once.
func (Idle) Revoke(context.Context, []*driver.Claim) {}

// Lost does nothing.
func (Idle) Lost([]*driver.Claim, error) {}

// Error does nothing.
func (Idle) Error(error) {}

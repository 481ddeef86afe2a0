package drivertest

import (
	"bytes"
	"context"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// An ownership records what a Handler got of one claim. The mutex of the case guards
// its fields.
type ownership struct {
	claim    *driver.Claim
	assigned driver.Claim // as it was then

	delivered []driver.Record  // deep copies
	kept      []*driver.Record // where they were delivered
	next      int64            // where delivery continues; -1 before the first record

	calls    int             // running Handler methods for it
	revoking context.Context // of the Revoke that has begun
	revoked  bool            // Revoke has returned
	lost     bool
	cause    error // of Lost
}

func newOwnership(c *driver.Claim) *ownership {
	return &ownership{claim: c, assigned: *c, next: -1}
}

// alive reports whether the claim is live: it was not lost, and neither Revoke nor its
// window is over.
func (o *ownership) alive() bool {
	windowOver := o.revoking != nil && o.revoking.Err() != nil
	return !o.revoked && !o.lost && !windowOver
}

// idle reports whether the claim is live and not being revoked.
func (o *ownership) idle() bool { return o.alive() && o.revoking == nil }

// take records a batch.
func (o *ownership) take(b driver.Batch) {
	for i := range b.Records {
		r := &b.Records[i]
		o.kept = append(o.kept, r)
		o.delivered = append(o.delivered, cloneRecord(*r))
		o.next = r.Offset + 1
	}
	o.next = max(o.next, b.Next)
}

// rewritten returns a record whose bytes have changed since its delivery.
func (o *ownership) rewritten() (now, then driver.Record, found bool) {
	for i := range o.kept {
		if !sameRecord(*o.kept[i], o.delivered[i]) {
			return *o.kept[i], o.delivered[i], true
		}
	}
	return driver.Record{}, driver.Record{}, false
}

func (o *ownership) values() []string { return values(o.delivered) }

func values(records []driver.Record) []string {
	vs := make([]string, len(records))
	for i, r := range records {
		vs[i] = string(r.Value)
	}
	return vs
}

func cloneRecord(r driver.Record) driver.Record {
	r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	r.Headers = slices.Clone(r.Headers)
	for i := range r.Headers {
		r.Headers[i].Value = bytes.Clone(r.Headers[i].Value)
	}
	return r
}

// sameRecord reports whether two records are equal. It distinguishes nil from empty,
// except in the value of a header, where Kafka's clients differ.
func sameRecord(a, b driver.Record) bool {
	return a.Offset == b.Offset && a.Timestamp.Equal(b.Timestamp) &&
		sameBytes(a.Key, b.Key) && sameBytes(a.Value, b.Value) && slices.EqualFunc(a.Headers, b.Headers, sameHeader)
}

func sameHeader(a, b driver.Header) bool { return a.Key == b.Key && bytes.Equal(a.Value, b.Value) }

func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

package kafka

import (
	"context"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A sendOp is the operation of one send. It is used again when the message is
// in the log; after an error the driver may read the message's headers still.
type sendOp struct {
	Op
	record [1]Record
	p      *Producer
}

// beginSend starts the operation of a send of m, if there is a hook. That is asked
// in a function of its own, which is inlined: without hooks a send has as many
// calls as it would have if there were none.
func (p *Producer) beginSend(ctx context.Context, m *driver.Message) (*sendOp, context.Context) {
	if p.m.hooks == nil {
		return nil, ctx
	}
	return p.startSend(ctx, m)
}

func (p *Producer) startSend(ctx context.Context, m *driver.Message) (*sendOp, context.Context) {
	if ctx == nil {
		return nil, ctx // which check refuses
	}
	o, _ := p.sendOps.Get().(*sendOp)
	if o == nil {
		o = &sendOp{Op: p.m.newOp(OpSend, p.client), p: p}
	}
	o.Topic, o.Partition, o.Offset = m.Topic, m.Partition, -1
	o.record[0] = Record{Offset: -1, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value, Headers: m.Headers}
	o.Records = o.record[:]
	o.Origin, _ = ctx.Value(originKey{}).(*Message)
	o.Start = time.Now()
	return o, o.start(ctx)
}

// A nil operation is that of a manager without hooks: accepted, refused,
// placed and ended do nothing on it.

// accepted notes that the client has the message.
func (o *sendOp) accepted() {
	if o != nil {
		o.Sent = true
	}
}

// refused notes the error of driver.Producer.Produce. A context's error means
// that it ended while there was no buffer space: what had ended before was not
// given to the driver.
func (o *sendOp) refused(err error) {
	if o != nil && (err == context.Canceled || err == context.DeadlineExceeded) {
		o.Err = bufferFullError{err}
	}
}

// placed notes where the record lies, if err is nil.
func (o *sendOp) placed(m *driver.Message, err error) {
	if o != nil && err == nil {
		o.Partition, o.Offset = m.Partition, m.Offset
	}
}

// ended ends the operation with err, and returns it.
func (o *sendOp) ended(err error) error {
	if o != nil {
		o.end(err)
	}
	return err
}

// end reports the outcome of the send to the hooks. o must not be touched
// afterwards.
func (o *sendOp) end(err error) {
	if o.Err == nil {
		o.Err = err
	}
	o.Op.end()
	if err != nil {
		return
	}
	p := o.p
	*o = sendOp{Op: o.reset(), p: p}
	p.sendOps.Put(o)
}

// reset keeps of an operation what serves the next one.
func (o *Op) reset() Op {
	clear(o.headers)
	return Op{Kind: o.Kind, Client: o.Client, m: o.m, tokens: o.tokens, headers: o.headers[:0], buf: o.buf[:0]}
}

// acknowledged ends the operation of an async send, which the driver has answered
// with err.
func (o *sendOp) acknowledged(m *driver.Message, err error) {
	o.accepted()
	o.placed(m, err)
	o.end(err)
}

// A bufferFullError is what hooks see of a send whose context ended while it
// waited for buffer space. The caller gets the context's error as it is.
type bufferFullError struct{ err error }

func (e bufferFullError) Error() string     { return "waited for buffer space: " + e.err.Error() }
func (e bufferFullError) ErrorType() string { return "buffer_full" }
func (e bufferFullError) Unwrap() error     { return e.err }

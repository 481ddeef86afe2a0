package kafka

import (
	"context"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// Operations are told to hooks from here. Where a manager has no hook there is no
// operation.

// newOp returns an operation that can be started again and again, one time
// after the other.
func (m *Manager) newOp(kind OpKind, c *Client) Op {
	return Op{Kind: kind, Client: c, m: m, tokens: make([]OpToken, len(m.hooks))}
}

// start tells the hooks, the first one outermost. What describes the operation
// has been set.
func (o *Op) start(ctx context.Context) context.Context {
	for i := range o.m.hooks {
		ctx = o.startHook(ctx, i)
	}
	return ctx
}

func (o *Op) startHook(ctx context.Context, i int) (inside context.Context) {
	inside = ctx // also if the hook panics
	defer o.guard("start")
	c, t := o.m.hooks[i].Start(ctx, o)
	o.tokens[i] = t
	if c != nil {
		inside = c
	}
	return inside
}

// end tells the hooks that want to know, the last one first.
func (o *Op) end() {
	for i := len(o.tokens) - 1; i >= 0; i-- {
		if t := o.tokens[i]; t != nil {
			o.tokens[i] = nil
			o.endHook(t, o.m.hooks[i])
		}
	}
}

func (o *Op) endHook(t OpToken, h Hook) {
	defer o.guard("end")
	h.End(t, o)
}

// guard is deferred around a hook's method: a panic is the hook's own affair.
func (o *Op) guard(at string) {
	if v := recover(); v != nil {
		o.m.log.Error("kafka: hook panicked", "operation", o.Kind.String(), "at", at, "panic", panicText(v), "stack", string(debug.Stack()))
	}
}

// attachHooks shows the manager to its hooks. Called by New.
func (m *Manager) attachHooks() {
	for _, h := range m.hooks {
		m.guardHook("attach", func() {
			if detach := h.Attach(View{m}); detach != nil {
				m.detach = append(m.detach, detach)
			}
		})
	}
}

func (m *Manager) detachHooks() {
	for _, detach := range m.detach {
		m.guardHook("detach", detach)
	}
}

func (m *Manager) guardHook(at string, call func()) {
	defer func() {
		if v := recover(); v != nil {
			m.log.Error("kafka: hook panicked", "at", at, "panic", panicText(v), "stack", string(debug.Stack()))
		}
	}()
	call()
}

// A sendOp is the operation of one send. It is used again when the message is
// in the log; after an error the driver may read the message's headers still.
type sendOp struct {
	Op
	record  [1]Record
	size    int64
	message *driver.Message // of an async send
	acker   driver.Acker    // likewise: who is told after the hooks
	p       *Producer
}

// pending counts what is under way.
type pending struct{ messages, bytes atomic.Int64 }

// beginSend starts the operation of a send of m, if somebody watches. That is
// asked in a function of its own, which is inlined: without hooks a send has as
// many calls as it would have if there were none.
func (p *Producer) beginSend(ctx context.Context, m *ProducerMessage) (*sendOp, context.Context) {
	if p.m.hooks == nil {
		return nil, ctx
	}
	return p.startSend(ctx, m)
}

func (p *Producer) startSend(ctx context.Context, m *ProducerMessage) (*sendOp, context.Context) {
	if ctx == nil || m == nil {
		return nil, ctx // which check refuses
	}
	o, _ := p.sendOps.Get().(*sendOp)
	if o == nil {
		o = &sendOp{Op: p.m.newOp(OpSend, p.client), p: p}
	}
	o.Topic, o.Partition, o.Offset = m.Topic, -1, -1
	if m.ToPartition != nil {
		o.Partition = *m.ToPartition
	}
	o.record[0] = Record{Offset: -1, Timestamp: m.Timestamp, Key: m.Key, Value: m.Value, Headers: m.Headers}
	o.Records = o.record[:]
	o.Origin, _ = ctx.Value(originKey{}).(*Message)
	o.size = int64(len(m.Key) + len(m.Value))
	p.pending.messages.Add(1)
	p.pending.bytes.Add(o.size)
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

// end tells the outcome of the send. o must not be touched afterwards.
func (o *sendOp) end(err error) {
	if o.Err == nil {
		o.Err = err
	}
	o.Op.end()
	p := o.p
	p.pending.messages.Add(-1)
	p.pending.bytes.Add(-o.size)
	if err != nil {
		return
	}
	*o = sendOp{Op: o.reset(), p: p}
	p.sendOps.Put(o)
}

// reset keeps of an operation what serves the next one.
func (o *Op) reset() Op {
	clear(o.headers)
	return Op{Kind: o.Kind, Client: o.Client, m: o.m, tokens: o.tokens, headers: o.headers[:0], buf: o.buf[:0]}
}

// Ack ends the operation of an async send, and then tells who sent.
func (o *sendOp) Ack(err error) {
	acker := o.acker
	o.accepted()
	o.placed(o.message, err)
	o.end(err)
	acker.Ack(err)
}

// A bufferFullError is what hooks see of a send whose context ended while it
// waited for buffer space. The caller gets the context's error as it is.
type bufferFullError struct{ err error }

func (e bufferFullError) Error() string     { return "waited for buffer space: " + e.err.Error() }
func (e bufferFullError) ErrorType() string { return "buffer_full" }
func (e bufferFullError) Unwrap() error     { return e.err }

package kafka

import (
	"context"

	"github.com/aarontianqx/gopkg/driver"
)

// A handler is a consumer's way to be called, chosen at registration: with values,
// with messages, or with batches of them. Nothing else distinguishes the three.
type handler interface {
	// hands returns what one lane calls the handler with.
	hands(e *env) hands
	// op is what hooks see of one delivery to the handler.
	op() OpKind
}

// Hands pass the records of one lane to the handler.
type hands interface {
	// limit is how many records the lane takes at once, and whether records of several
	// deliveries may be joined for that.
	limit() (n int, gather bool)
	// hand hands out what is left of the lane's run, until the handler fails or the
	// partition is halted.
	hand(l *lane) error
	// failures returns those of the records at hand that the handler has failed with
	// err. The others are done.
	failures(l *lane, err error) []*failure
	// done notes that a record that had failed is done, and how.
	done(l *lane, offset int64, how Outcome)
	// passOver notes that a record that has not been handed out is done without a call.
	passOver(l *lane, offset int64)
	// oneByOne asks for what is left of the records at hand in calls of their own.
	oneByOne()
	// rest lets go of what the hands keep of the lane's last run.
	rest()
}

// newHandler picks the richest method that c has. Only a plain Consumer
// without middleware goes without a Message for each record.
func newHandler(c Consumer, mws []Middleware) handler {
	var handle HandlerFunc
	batch := false
	switch c := c.(type) {
	case BatchConsumer:
		handle, batch = c.HandleBatch, true
	case MessageConsumer:
		handle = func(ctx context.Context, ms []*Message) error { return c.HandleMessage(ctx, ms[0]) }
	default:
		if len(mws) == 0 {
			return valueHandler(c.Handle)
		}
		handle = func(ctx context.Context, ms []*Message) error { return c.Handle(ctx, ms[0].Value) }
	}
	for i := len(mws) - 1; i >= 0; i-- {
		handle = mws[i](handle)
	}
	if batch {
		return batchHandler(handle)
	}
	return messageHandler(handle)
}

// takeLimit is how many records a lane takes at once, and messageLimit the same for
// handlers of messages: these share one allocation, so a handler that keeps one
// Message keeps them all.
const (
	takeLimit    = 128
	messageLimit = 32
)

// A valueHandler gets the value of each record. It is its own hands: it keeps nothing.
type valueHandler func(ctx context.Context, value []byte) error

func (h valueHandler) hands(*env) hands   { return h }
func (h valueHandler) op() OpKind         { return OpProcess }
func (h valueHandler) limit() (int, bool) { return takeLimit, false }
func (h valueHandler) rest()              {}
func (h valueHandler) hand(l *lane) error {
	ctx, ok := l.begin()
	for ok {
		if err := h(ctx, l.record().Value); err != nil {
			return err
		}
		ctx, ok = l.pass(ctx)
	}
	return nil
}

func (h valueHandler) failures(l *lane, err error) []*failure { return failureOfOne(l, err) }
func (h valueHandler) done(l *lane, _ int64, how Outcome)     { l.finish(how) }
func (h valueHandler) passOver(l *lane, _ int64)              { passOverOne(l) }
func (h valueHandler) oneByOne()                              {}

// failureOfOne is that of the record at hand.
func failureOfOne(l *lane, err error) []*failure {
	return []*failure{{record: *l.record(), err: err}}
}

// passOverOne passes over the record at hand.
func passOverOne(l *lane) {
	l.size = 1
	l.finish(OutcomeSkipped)
}

// A messageHandler gets one Message per record.
type messageHandler HandlerFunc

func (h messageHandler) hands(*env) hands { return &messageHands{handle: HandlerFunc(h)} }
func (h messageHandler) op() OpKind       { return OpProcess }

// messageHands make the messages of a run together.
type messageHands struct {
	handle HandlerFunc
	made   []Message // for the first attempts at the records of the run
	one    [1]*Message
}

func (h *messageHands) limit() (int, bool) { return messageLimit, false }

func (h *messageHands) rest() { h.made, h.one[0] = nil, nil }

func (h *messageHands) hand(l *lane) error {
	if l.i == 0 && l.attempt == 0 {
		h.made = l.messages(l.run.Records, 1)
	}
	ctx, ok := l.begin()
	for ok {
		h.one[0] = h.message(l)
		if err := h.handle(ctx, h.one[:]); err != nil {
			return err
		}
		ctx, ok = l.pass(ctx)
	}
	return nil
}

func (h *messageHands) failures(l *lane, err error) []*failure { return failureOfOne(l, err) }
func (h *messageHands) done(l *lane, _ int64, how Outcome)     { l.finish(how) }
func (h *messageHands) passOver(l *lane, _ int64)              { passOverOne(l) }
func (h *messageHands) oneByOne()                              {}

// message returns the record at hand for the attempt under way. Each attempt gets its
// own, since the handler may have kept the one before.
func (h *messageHands) message(l *lane) *Message {
	if l.attempt > 1 {
		return &l.messages(l.run.Records[l.i:l.i+1], l.attempt)[0]
	}
	return &h.made[l.i]
}

// messages returns records as messages, for that attempt at them. They are made in one
// go: between two calls of the handler each would wait for memory.
func (l *lane) messages(records []driver.Record, attempt int) []Message {
	made := make([]Message, len(records))
	l.write(made, records, attempt)
	return made
}

// write makes records the messages of made, which are zero.
func (l *lane) write(made []Message, records []driver.Record, attempt int) {
	for i := range made {
		r, m := &records[i], &made[i]
		m.Topic, m.Partition = l.claim.Topic, l.claim.Partition
		m.Offset, m.Timestamp = r.Offset, r.Timestamp
		m.Key, m.Value, m.Headers = r.Key, r.Value, r.Headers
		m.Attempt = attempt
	}
	if l.delays {
		for i := range made {
			l.env.retries.dress(&made[i])
		}
	}
}

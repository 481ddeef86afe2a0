package kafka

import (
	"context"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// An OpKind is what an operation does.
type OpKind uint8

// The operations that hooks see.
const (
	// OpSend is one message, from the call of Send or SendAsync to its outcome.
	OpSend OpKind = iota + 1

	// OpReceive is a partition's lane that waits for records and takes what is
	// there: it starts without records and ends with those that are to be handed
	// to the handler next. It ends without records when the partition is halted. With
	// OrderByKey and OrderNone it is one record, and no wait.
	OpReceive

	// OpProcess is one delivery of one record to the handler: every attempt and
	// the backoffs between them, until the record is done or the partition halted.
	// What has been fetched and is never handed out has no operation.
	OpProcess

	// OpProcessBatch is the same for the records of one call of HandleBatch.
	OpProcessBatch

	// OpAttempt is one call of the handler, inside OpProcess or OpProcessBatch.
	OpAttempt

	// OpCommit is one commit of the positions of one or several partitions.
	OpCommit

	opKindCount
)

// String returns the kind's name, such as "process batch".
func (k OpKind) String() string {
	names := [...]string{"", "send", "receive", "process", "process batch", "attempt", "commit"}
	if int(k) < len(names) {
		return names[k]
	}
	return ""
}

// An Outcome is how a delivery ended.
type Outcome uint8

const (
	// OutcomeDone: the handler returned nil while it owned the partition. The
	// record is part of the next commit, whose own outcome is that of an OpCommit.
	OutcomeDone Outcome = iota
	// OutcomeFailed: the handler failed, and Err says how. The record is not done
	// and will be delivered again, by the partition's next owner.
	OutcomeFailed
	// OutcomeInterrupted: the handler's context was cancelled, by a revocation, a
	// loss, the switch or a shutdown, and the handler gave up; or a commit made
	// way for another one. That is no failure, and Err is nil.
	OutcomeInterrupted
	// OutcomeLate: the handler returned nil, but it had outlived its claim: the
	// window of a revocation or of a shutdown was over, or the partition was lost.
	// The record is not committed and will be delivered again, by the partition's
	// next owner. Err is nil. It is the outcome of a delivery; the attempt in it is
	// done.
	OutcomeLate
	// OutcomeForwarded: the handler failed, and a broker has acknowledged the record's
	// copy in a dead-letter topic. The record is part of the next commit. Err says how
	// the handler failed last. A batch ends so if that happened to one of its records.
	OutcomeForwarded
	// OutcomeSkipped: the handler failed, and the record is not handled. It is part of
	// the next commit. Err says how the handler failed last. A batch ends so if that
	// happened to one of its records and none was forwarded.
	OutcomeSkipped
	// OutcomeRetryTopic: the handler failed, and a broker has acknowledged the record's
	// copy in a retry topic. The record is part of the next commit. Err says how the
	// handler failed last. A batch ends so if that happened to one of its records and
	// none was forwarded or skipped.
	OutcomeRetryTopic

	outcomeCount
)

// String returns the outcome's name, such as "interrupted".
func (o Outcome) String() string {
	names := [...]string{"done", "failed", "interrupted", "late", "forwarded", "skipped", "retry topic"}
	if int(o) < len(names) {
		return names[o]
	}
	return ""
}

// A Record is one record as it lies in a partition, or is to be sent.
type Record = driver.Record

// A Client is the consumer or producer that an operation belongs to. It is the
// same pointer for all its operations.
type Client struct {
	ID        string   // the client id that the broker sees
	JobName   string   // of a consumer
	Group     string   // of a consumer
	Bootstrap []string // host:port
}

// An Op is one operation as a hook sees it. Fields that do not apply are zero,
// but for Partition.
type Op struct {
	Kind   OpKind
	Client *Client
	Start  time.Time

	Topic     string // "" if there are several
	Partition int32  // -1 while it is not known, or if there are several

	// Records are what is sent or handled. They are borrowed: they must not be
	// changed, nor read when Start or End has returned. Offsets of sent records
	// are not among them.
	Records []Record

	// Attempt counts the attempts so far at what OpProcess, OpProcessBatch and
	// OpAttempt are about, from 1.
	Attempt int

	// Origin is the consumed record that an OpSend forwards, as WithOrigin has
	// said, or nil.
	Origin *Message

	// Marks are the positions of an OpCommit.
	Marks []OpMark

	// Awaited says of an OpCommit that a revocation, a switch-off or a shutdown
	// waits for it, not only the clock.
	Awaited bool

	// What follows is set before End.

	// Err is why the operation failed, or nil.
	Err     error
	Outcome Outcome // of what a handler does, and of an OpCommit

	// Sent says of an OpSend that the client accepted the message for sending. It
	// is false if it was refused before, for what it is or for want of buffer
	// space.
	Sent bool

	// Offset is where the record of an OpSend lies, if it is there and the broker
	// said so, or -1.
	Offset int64

	m       *Manager
	tokens  []OpToken
	copied  bool     // headers is what is sent
	headers []Header // the operation's own
	buf     []byte   // holds the values that hooks have set
}

// An OpMark is one position of a commit.
type OpMark struct {
	Topic     string
	Partition int32
	Offset    int64 // the position: the offset after the last record that is done
}

// Headers returns the headers of the message of an OpSend, with what hooks have
// set. They are borrowed as Records are.
func (o *Op) Headers() []Header {
	if o.copied || len(o.Records) == 0 {
		return o.headers
	}
	return o.Records[0].Headers
}

// SetHeader gives the message of an OpSend a header, in place of any of that
// key. It changes what is sent and never the user's slice of headers, which may
// be shared between messages. It may be called until Start returns.
func (o *Op) SetHeader(key, value string) {
	copy(o.SetHeaderSize(key, len(value)), value)
}

// SetHeaderSize is SetHeader for a value of n bytes that the caller writes into
// the slice that it returns.
func (o *Op) SetHeaderSize(key string, n int) []byte {
	o.DeleteHeader(key)
	// A grown buffer leaves the values that were written before in the old one,
	// where their headers still point.
	if cap(o.buf)-len(o.buf) < n {
		o.buf = make([]byte, 0, max(256, n))
	}
	at := len(o.buf)
	o.buf = o.buf[:at+n]
	value := o.buf[at : at+n : at+n]
	o.headers = append(o.headers, Header{Key: key, Value: value})
	return value
}

// DeleteHeader drops every header of that key from what is sent.
func (o *Op) DeleteHeader(key string) {
	if !o.copied {
		o.headers = append(o.headers[:0], o.Headers()...)
		o.copied = true
	}
	kept := o.headers[:0]
	for _, h := range o.headers {
		if h.Key != key {
			kept = append(kept, h)
		}
	}
	o.headers = kept
}

type originKey struct{}

// WithOrigin marks messages that are sent with the context that it returns as
// forwards of m, a consumed record: to another topic for later, or to one for
// inspection. A trace can then link the two. Nothing else changes.
func WithOrigin(ctx context.Context, m *Message) context.Context {
	return context.WithValue(ctx, originKey{}, m)
}

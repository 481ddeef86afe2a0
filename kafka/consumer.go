package kafka

import (
	"context"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Consumer handles the values of records. It is what a team writes.
//
// Several goroutines call the methods of one consumer at once: one for each partition that
// is assigned or, with OrderByKey and OrderNone, up to [ConsumerConfig].Parallelism for
// each. A nil error means that the record is done and may be committed. An error or a panic
// fails the record. A mark on the error, such as [Skip], says what happens to it then, or
// else [ConsumerConfig].Failure does: by default it is handled again after a backoff. With
// OrderByPartition no later record of its partition comes before it, and with OrderByKey
// none of its key.
//
// ctx carries the values of the context given to StartAllConsumers. It is cancelled
// when the partition is revoked or lost, when the consumer is switched off, and
// when the deadline of a shutdown is near; context.Cause returns which. A handler
// that fails then is not counted as failing, and its record is delivered again to
// the next owner.
type Consumer interface {
	// GetConfig is called once, at registration.
	GetConfig() *ConsumerConfig
	// Handle handles one value. The slice may be kept but not changed. A kept
	// value keeps in memory what came with it: see [Message].
	Handle(ctx context.Context, value []byte) error
}

// A MessageConsumer is a [Consumer] that wants the whole record. HandleMessage
// is called in place of Handle.
type MessageConsumer interface {
	Consumer
	HandleMessage(ctx context.Context, m *Message) error
}

// A BatchConsumer is a [Consumer] that handles several records of one partition
// in one call, in place of Handle and HandleMessage: as many as wait, up to
// MaxBatchSize. An error fails all of them, unless it is a [BatchError], which names
// those that have failed.
type BatchConsumer interface {
	Consumer
	HandleBatch(ctx context.Context, ms []*Message) error
}

// A Header is one of a record's headers. Their order and repetitions count.
type Header = driver.Header

// A Message is one record as a handler gets it. It may be kept but not changed.
//
// Key, Value and Headers are parts of the answer to a fetch. A handler that keeps
// one of them, or a Message, keeps that whole answer in memory: up to
// MaxMessageBytes for each partition that came with it, or more for a larger
// record, and up to MaxDecompressedBytes for a batch that was compressed. Messages
// also come in groups of up to 99 that share one allocation. To keep a part of a
// record for longer than the call, keep a copy: bytes.Clone(m.Value).
type Message struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time
	Key       []byte // nil if the record has none
	Value     []byte // nil for a tombstone
	Headers   []Header

	// Attempt counts the times that this record has been handed to the handler
	// since its partition was assigned, from 1. Unlike HandlerFailed.Failures it counts
	// what was held or interrupted, and starts again after a rebalance. In a retry topic
	// it goes on from the failures before.
	Attempt int

	source *Source // of a record of a retry topic
}

// Header returns the value of the last header of that key, or nil if there is no
// such header. A header's value may be nil itself; Headers shows the difference.
func (m *Message) Header(key string) []byte {
	for i := len(m.Headers) - 1; i >= 0; i-- {
		if m.Headers[i].Key == key {
			return m.Headers[i].Value
		}
	}
	return nil
}

// NewConsumer returns a consumer that hands each record to handle. A nil handle is
// rejected at registration.
func NewConsumer(cfg ConsumerConfig, handle func(ctx context.Context, m *Message) error) Consumer {
	return &funcConsumer{cfg: cfg, handle: handle}
}

type funcConsumer struct {
	cfg    ConsumerConfig
	handle func(ctx context.Context, m *Message) error
}

func (c *funcConsumer) GetConfig() *ConsumerConfig { return &c.cfg }

func (c *funcConsumer) Handle(ctx context.Context, value []byte) error {
	return c.handle(ctx, &Message{Value: value, Attempt: 1})
}

func (c *funcConsumer) HandleMessage(ctx context.Context, m *Message) error {
	return c.handle(ctx, m)
}

// NewBatchConsumer returns a [BatchConsumer] that hands the records of one partition
// to handle, up to MaxBatchSize at a time. A nil handle is rejected at registration.
func NewBatchConsumer(cfg ConsumerConfig, handle func(ctx context.Context, ms []*Message) error) Consumer {
	return &funcBatchConsumer{cfg: cfg, handle: handle}
}

type funcBatchConsumer struct {
	cfg    ConsumerConfig
	handle func(ctx context.Context, ms []*Message) error
}

func (c *funcBatchConsumer) GetConfig() *ConsumerConfig { return &c.cfg }

func (c *funcBatchConsumer) Handle(ctx context.Context, value []byte) error {
	return c.handle(ctx, []*Message{{Value: value, Attempt: 1}})
}

func (c *funcBatchConsumer) HandleBatch(ctx context.Context, ms []*Message) error {
	return c.handle(ctx, ms)
}

// A HandlerFunc handles records of one partition: one, or several if the
// consumer is a [BatchConsumer]. The slice is used again for the next call: a
// HandlerFunc must neither change nor keep it. It may keep the messages.
type HandlerFunc func(ctx context.Context, ms []*Message) error

// A Middleware wraps the handler of every consumer of a manager.
type Middleware func(next HandlerFunc) HandlerFunc

// A handlerKey leads from a handler's context to its *job.
type handlerKey struct{}

// JobName returns the name of the consumer whose handler got ctx, or "" if ctx is
// not of a handler. Middleware serves all consumers of a manager and identifies
// them by it.
func JobName(ctx context.Context) string {
	if j, ok := ctx.Value(handlerKey{}).(*job); ok {
		return j.name()
	}
	return ""
}

// Draining returns a channel that is closed when the shutdown of the manager
// begins that called the handler with ctx. A shutdown leaves a running handler
// in peace until its deadline is near, so ctx ends much later. A handler that
// waits or retries by itself selects on the channel beside ctx, and returns an
// error when it is closed: its record is delivered again to the next owner.
//
// The channel is nil, which never becomes ready, if ctx is not of a handler.
func Draining(ctx context.Context) <-chan struct{} {
	if j, ok := ctx.Value(handlerKey{}).(*job); ok {
		return j.m.stopping
	}
	return nil
}

package kafka

import (
	"context"
	"log/slog"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// An env is what a session's partitions need from above. It is made once per session
// and never changes. The rooms of a partition know the session and the job by it
// alone.
type env struct {
	job    string // its name
	group  string
	client *Client         // the job to hooks
	ctx    context.Context // the parent of all handlers' contexts; it ends with the session
	log    *slog.Logger
	hooks  *Manager // makes the operations that hooks see; nil without hooks
	event  func(Event)

	unmarked func() // counts a record of a retry topic that came there by another way

	// Settings of the consumer.
	handler        handler
	autoCommit     bool
	batchSize      int // the most records of one call of a BatchConsumer
	batchBytes     int // and what they may cost; 0 is no bound
	batchLinger    time.Duration
	handlerTimeout time.Duration // 0 is none
	many           bool          // a crew hands out the records of a partition
	keyed          bool          // in the order of their keys
	parallelism    int           // that many at once
	metadata       bool          // commits carry what is done above the position
	readMetadata   bool          // what a commit has carried is heeded
	backoff        Backoff
	policy         *policy
	sessionTimeout time.Duration
	maxMessages    int // the bounds of one partition's queue
	maxBytes       int

	// What partitions share.
	driver   driver.Consumer
	schedule *schedule
	budget   *budget
	ledger   *ledger
	retries  *retries // nil without retry topics
	arrivals *arrivals
	hold     *hold
	pauses   *pauses
	rate     *rate
	workers  *workers
	places   *places // of handlers that run; nil is no bound
	keeper   keeper

	forwarder forwarder // of copies to other topics; nil if none are configured
}

// A keeper is what a partition asks of, and reports to, the session that owns it.
type keeper interface {
	// checkClock fences c's partition if the session's deadline has passed.
	checkClock(c *driver.Claim)
	// reflow judges every partition of the session by the budget.
	reflow()
	// progressed notes that a record has been handled.
	progressed()
	// stop switches the consumer off because of a record.
	stop(reason error)
}

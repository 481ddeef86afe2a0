package kafka

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
)

var (
	// ErrNoDriver is returned by calls that would open a connection on a manager
	// without a driver.
	ErrNoDriver = errors.New("no driver: choose one in main, for instance kafka.SetDefault(kafka.New(sarama.Driver{}))")

	// ErrClosed is returned by calls after Shutdown, WaitStop or Close.
	ErrClosed = driver.ErrClosed

	// ErrDuplicate refuses a consumer or a producer whose name is registered already.
	ErrDuplicate = errors.New("name is registered already")

	// ErrUnknownConsumer is returned for a job name that is not registered.
	ErrUnknownConsumer = errors.New("no consumer of that job name is registered")

	// ErrNotEnabled is the answer to Send on a producer without sync sends and
	// to SendAsync on one without async sends.
	ErrNotEnabled = errors.New("not enabled for this producer")

	// ErrUnknownOutcome is wrapped by the error of a send whose message may be in
	// the log or not: it had been handed to the client, and no answer came. Any
	// other error of a send means that the message is not in the log. It is also wrapped
	// by the error of a Seek whose position may be durable.
	ErrUnknownOutcome = driver.ErrUnknownOutcome

	// ErrUnsupported is wrapped by the answer to a call that needs an ability which the
	// driver lacks.
	ErrUnsupported = errors.ErrUnsupported

	// ErrNotOwned is wrapped by the answer to Seek for a partition that this process does not
	// own. That may pass: during a rebalance, and with some drivers after another Seek, a
	// member owns no partition for a moment.
	ErrNotOwned = errors.New("this process does not own it")

	// ErrNotRunning is wrapped by the answer to Seek for a consumer that is neither running
	// nor off.
	ErrNotRunning = errors.New("consumer is neither running nor off")

	// ErrGroupHasMembers is wrapped by the answer to Seek for a consumer that is off, whose
	// group has members in other processes.
	ErrGroupHasMembers = driver.ErrGroupHasMembers

	// ErrClaimEnded is wrapped by the answer to Seek for a partition that was revoked or lost
	// before it could be moved.
	ErrClaimEnded = driver.ErrClaimEnded

	// ErrNotFailing is the answer to Resolve for a record that has not failed, or not in
	// this process, or that is done meanwhile.
	ErrNotFailing = errors.New("record is not failing")

	// ErrPermanent is wrapped by errors that no retry can cure.
	ErrPermanent = driver.ErrPermanent
)

// The causes for which a handler's context is cancelled: what context.Cause
// returns.
var (
	// ErrRevoked: the partition goes to another member of the group.
	ErrRevoked = errors.New("partition revoked")
	// ErrPartitionLost: the partition is gone, and another member may own it.
	ErrPartitionLost = errors.New("partition lost")
	// ErrSwitchedOff: the consumer has been switched off or disabled.
	ErrSwitchedOff = errors.New("consumer switched off")
	// ErrHandlerTimeout: the call has lasted for ConsumerConfig.HandlerTimeout. Unlike
	// the others it ends the context of one call, not of the partition.
	ErrHandlerTimeout = errors.New("handler timeout")
	// ErrShutdown: the deadline of the shutdown is near.
	ErrShutdown = errors.New("shutdown deadline is near")
)

// A PanicError is the failure of a handler, or of a callback of SendAsync, that
// panicked.
type PanicError struct {
	Value any    // what it panicked with
	Stack []byte // where
	What  string // what panicked: "callback", "TopicFor", or "" for a handler
}

// Error names what panicked, and the value, without the stack.
func (e *PanicError) Error() string {
	return cmp.Or(e.What, "handler") + " panicked: " + panicText(e.Value)
}

// ErrorType returns "panic".
func (e *PanicError) ErrorType() string { return "panic" }

// Unwrap returns the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// errGoexit is the failure of a handler that called runtime.Goexit, as the
// FailNow methods of package testing do.
var errGoexit = errors.New("handler ended its goroutine (runtime.Goexit)")

// A StopError says what was still running when a shutdown's time was up. The
// record of a handler that it names is delivered again, unless the handler ends
// at that very moment; OutcomeLate says so.
type StopError struct {
	// Running names what had not ended, such as
	// `consumer "orders": handler of orders/3 at offset 42`.
	Running []string
	// Handlers are the handlers among these.
	Handlers []RunningHandler
	// Err is the error of the context that ended.
	Err error
}

// A RunningHandler is a handler that has not returned.
type RunningHandler struct {
	JobName   string
	Partition TopicPartition
	Offset    int64 // of the record that it handles, the first one of a batch
}

// String returns text such as `consumer "orders": handler of orders/3 at offset 42`.
func (h RunningHandler) String() string {
	return fmt.Sprintf("consumer %q: handler of %v at offset %d", h.JobName, h.Partition, h.Offset)
}

// Error lists what was still running.
func (e *StopError) Error() string {
	return fmt.Sprintf("kafka: shutdown: %v; still running: %v", e.Err, firstOf(e.Running))
}

// Unwrap returns the context's error.
func (e *StopError) Unwrap() error { return e.Err }

package kafka

import "time"

// An Event is one of the event types of this package, such as StateChanged.
type Event interface{ event() }

// StateChanged is an [Event]: a consumer has gone from one state to another.
type StateChanged struct {
	JobName  string
	From, To State
	Reason   error // as in ConsumerStatus
}

// PartitionsAssigned is an [Event]: partitions are owned from now on. Hooks get it
// before the first of their records is handed out.
type PartitionsAssigned struct {
	JobName    string
	Group      string
	Partitions []TopicPartition
}

// PartitionsRevoked is an [Event]: partitions have been drained and let go.
type PartitionsRevoked struct {
	JobName    string
	Group      string
	Partitions []TopicPartition
	Stuck      []TopicPartition // those whose handler outlived the drain window
	Took       time.Duration    // the drain and the commit
}

// PartitionsLost is an [Event]: partitions are gone without having been drained.
type PartitionsLost struct {
	JobName    string
	Group      string
	Partitions []TopicPartition
	Err        error
}

// HandlerFailed is an [Event]: a handler has returned an error, panicked or
// ended its goroutine, and the error asks neither for a skip nor for a dead letter.
// Next says what happens to the record. A batch that fails as a whole is reported once,
// by its first record.
type HandlerFailed struct {
	JobName   string
	Group     string
	Topic     string
	Partition int32
	Offset    int64
	Source    Source        // as in RecordSkipped
	Failures  int           // of this record, in earlier claims and other topics too
	Next      Failure       // what happens to the record now
	Backoff   time.Duration // until NextRetry
	NextRetry time.Time     // when the handler is called again; zero if it is not, or not here
	Err       error
}

// RecordSkipped is an [Event]: a record is not handled, because its handler or the
// failure policy asked for that. Hooks get it before the record's position can be
// committed. If the claim has ended by then, the record comes again all the same.
type RecordSkipped struct {
	JobName, Group string
	TopicPartition
	Offset   int64
	Attempts int    // that failed
	Source   Source // where it first lay, if it lies in a retry topic; else the same place
	Err      error
}

// RecordForwarded is an [Event]: a broker has acknowledged the copy of a record in a
// dead-letter topic. If the claim has ended by then, the record comes again all the same.
type RecordForwarded struct {
	JobName, Group string
	TopicPartition
	Offset   int64
	Attempts int    // that failed
	Source   Source // as in RecordSkipped
	To       TopicPartition
	ToOffset int64  // -1 if the broker has not said it
	Reason   string // attempts, handler, classify, decode or operator
	Err      error
}

// RecordRetried is an [Event]: a broker has acknowledged the copy of a record in a retry
// topic, where it waits for Delay. If the claim has ended by then, the record comes again
// here, too.
type RecordRetried struct {
	JobName, Group string
	TopicPartition
	Offset   int64
	Attempts int    // that failed, in all topics
	Source   Source // as in RecordSkipped
	To       TopicPartition
	ToOffset int64 // -1 if the broker has not said it
	Delay    time.Duration
	Err      error
}

// RecordPassedOver is an [Event]: a record of a retry topic is not handled here, because
// its headers say that the consumer of another group has sent it there. That group has to
// read it. Hooks get it before the record's position can be committed.
type RecordPassedOver struct {
	JobName, Group string
	TopicPartition
	Offset int64
	Owner  string // that group
}

// ForwardFailed is an [Event]: no broker has acknowledged the copy of a record in a
// dead-letter topic or a retry topic. It is sent again after Backoff, without a call of
// the handler. Where that cannot help, the consumer is switched off; if the record has no
// topic to go to, it is kept; if it is too large for its retry topic, FailurePolicy.Then
// comes next.
type ForwardFailed struct {
	JobName, Group string
	TopicPartition
	Offset  int64
	ToTopic string
	Backoff time.Duration
	Err     error
}

// ConsumerHeld is an [Event]: a consumer hands out nothing until then, and then one
// record as a probe. If Until is zero the hold is over.
type ConsumerHeld struct {
	JobName string
	Until   time.Time
	Err     error
}

// PositionsMoved is an [Event]: Seek has moved a consumer. The new positions are durable.
type PositionsMoved struct {
	JobName, Group string
	To             Position // as asked for
	Partitions     []MovedPartition
}

// A MovedPartition is one of PositionsMoved.
type MovedPartition struct {
	TopicPartition
	Offset int64 // where the consumer goes on
}

// PauseChanged is an [Event]: an operator has paused a consumer, or partitions of it, or has
// resumed them. Partitions are those whose own pause has begun or ended; under a pause of the
// whole consumer their records still wait. Without Partitions it is the whole consumer; then
// Paused false says that no pause is left, of partitions either.
type PauseChanged struct {
	JobName    string
	Paused     bool
	Partitions []TopicPartition
}

// RateChanged is an [Event]: SetRate has changed how many records per second a consumer may
// hand out; 0 is no bound.
type RateChanged struct {
	JobName  string
	From, To float64
}

// RedriveBegan is an [Event]: a call of Redrive has found where its dead letters lie and go
// to, and reads them now.
type RedriveBegan struct {
	JobName, Group string
	Topics         []string // the dead-letter topics
	To             string   // where the dead letters go; empty for the retry topics of several topics
	DryRun         bool
	Commits        bool // the positions move
}

// RedriveEnded is an [Event]: the redrive of the RedriveBegan before has ended.
type RedriveEnded struct {
	JobName, Group string
	Report         RedriveReport
	DryRun         bool
	Took           time.Duration
	Err            error // why early; nil if it has come to the end or to its Limit
}

// CommitFailed is an [Event]: positions are not durable yet. They will be
// committed again.
type CommitFailed struct {
	JobName string
	Err     error
}

// DriverError is an [Event]: the driver has lived through an error. One of a single
// topic or partition names it; Partition is -1 for a whole topic, and for an error
// without a Topic.
type DriverError struct {
	JobName   string
	Topic     string
	Partition int32
	Err       error
	At        time.Time
}

// DataLoss is an [Event]: the group's position was no longer in the log, and was
// moved from From to To as ConsumerConfig.OutOfRange asks. The records between
// the two are skipped; if To is less than From, the log has become shorter.
//
// With Recreated the topic was deleted and created again: From is the position in
// the old topic, To the start of the new one, from which everything is delivered,
// and what the old topic held from From on is gone.
type DataLoss struct {
	JobName   string
	Topic     string
	Partition int32
	From, To  int64
	Recreated bool
}

// NoPosition is an [Event]: a partition starts without a committed position, at
// Start as ConsumerConfig.InitialOffset asks, while its log begins at Begin. The
// group is new to the partition, or its positions have expired; then the records
// from Begin up to Start may never have been handled.
type NoPosition struct {
	JobName   string
	Topic     string
	Partition int32
	Start     int64
	Begin     int64
}

// CallbackPanicked is an [Event]: a callback of SendAsync has panicked.
type CallbackPanicked struct {
	ProducerID string
	Err        *PanicError
}

// SendFailed is an [Event]: a message that SendAsync or SendMessageAsync got
// without a callback has failed, so that its sender does not hear of it. There is
// one for each such message. The errors of all other sends go to their callers,
// and every send, those included, is an OpSend.
type SendFailed struct {
	ProducerID string
	Topic      string
	Partition  int32 // the one that was asked for, or -1
	Err        error // as Send returns it
}

// ShutdownEnded is an [Event]: everything has stopped.
type ShutdownEnded struct {
	Took time.Duration

	// Err is what did not end in order. It wraps a [StopError] if the time of the
	// shutdown was up before everything had stopped: what it names ended later.
	Err error
}

func (StateChanged) event()       {}
func (PartitionsAssigned) event() {}
func (PartitionsRevoked) event()  {}
func (PartitionsLost) event()     {}
func (HandlerFailed) event()      {}

// What embeds a TopicPartition would print as one.

// String returns the event's name and its fields.
func (e RecordSkipped) String() string { return eventText("RecordSkipped", e) }

// String returns the event's name and its fields.
func (e RecordForwarded) String() string { return eventText("RecordForwarded", e) }

// String returns the event's name and its fields.
func (e RecordRetried) String() string { return eventText("RecordRetried", e) }

// String returns the event's name and its fields.
func (e RecordPassedOver) String() string { return eventText("RecordPassedOver", e) }

// String returns the event's name and its fields.
func (e ForwardFailed) String() string { return eventText("ForwardFailed", e) }

// MarshalText returns what String does.
func (e RecordSkipped) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// MarshalText returns what String does.
func (e RecordForwarded) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// MarshalText returns what String does.
func (e RecordRetried) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// MarshalText returns what String does.
func (e RecordPassedOver) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// MarshalText returns what String does.
func (e ForwardFailed) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

func (ConsumerHeld) event()     {}
func (PauseChanged) event()     {}
func (PositionsMoved) event()   {}
func (RateChanged) event()      {}
func (RecordSkipped) event()    {}
func (RecordForwarded) event()  {}
func (RecordRetried) event()    {}
func (RecordPassedOver) event() {}
func (ForwardFailed) event()    {}
func (RedriveBegan) event()     {}
func (RedriveEnded) event()     {}
func (CommitFailed) event()     {}
func (DriverError) event()      {}
func (DataLoss) event()         {}
func (NoPosition) event()       {}
func (CallbackPanicked) event() {}
func (SendFailed) event()       {}
func (ShutdownEnded) event()    {}

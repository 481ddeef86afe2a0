package fault

import (
	"errors"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// An Op is a kind of call.
type Op int

// The operations. The package comment describes the effect of a fault on each.
const (
	OpenConsumer Op = iota
	OpenProducer
	Run
	Commit
	Mark
	Pause
	Resume
	CloseConsumer
	Produce
	Ack
	Flush
	CloseProducer
	Deliver
	Heartbeat
	FindTopic
	OpenGroup
	ReadGroup
	CommitGroup
	FindOffsets
	Seek
)

var opNames = [...]string{
	"OpenConsumer", "OpenProducer", "Run", "Commit", "Mark", "Pause", "Resume",
	"CloseConsumer", "Produce", "Ack", "Flush", "CloseProducer", "Deliver", "Heartbeat", "FindTopic",
	"OpenGroup", "ReadGroup", "CommitGroup", "FindOffsets", "Seek",
}

// String returns the constant's name.
func (o Op) String() string {
	if o < 0 || int(o) >= len(opNames) {
		return fmt.Sprintf("Op(%d)", int(o))
	}
	return opNames[o]
}

// A Call describes a call to an injector.
type Call struct {
	Op       Op
	ClientID string
	Group    string // "" for a producer's calls

	// Topic and Partition are set for Mark, Pause, Resume, Deliver, Produce and Ack.
	// Otherwise they are "" and -1, but FindTopic has a Topic. Partition is also -1 for a
	// message whose key chooses the partition.
	Topic     string
	Partition int32
}

// A When is the point of a call at which a fault strikes.
type When int

// The points.
const (
	NoFailure   When = iota
	BeforeCall       // nothing has been done
	AfterCall        // everything has been done, but the answer is lost
	InsteadOfIt      // no answer comes
)

// A Fault is the fate of one call. The zero Fault leaves it alone.
type Fault struct {
	Delay time.Duration // before anything else
	When  When
	Err   error // of BeforeCall and AfterCall
}

func (f Fault) isNone() bool { return f.Delay == 0 && f.When == NoFailure }

// An Injector decides the fate of calls. It must be safe for concurrent use by several
// goroutines. Its String must be the Go code that creates it.
type Injector interface {
	Inject(c Call) Fault
	String() string
}

// ErrInjected is wrapped by the errors of [Error], [Permanent] and [MembershipLost].
var ErrInjected = errors.New("injected")

// Error returns a transient error with one of Kafka's codes.
func Error(code string) error { return &driver.Error{Code: code, Err: ErrInjected} }

// Permanent returns an error with one of Kafka's codes that no retry can cure.
func Permanent(code string) error {
	return &driver.Error{Code: code, Kind: driver.ErrPermanent, Err: ErrInjected}
}

// MembershipLost returns the error of a member that its group may have removed. It is
// meant for After on Run.
func MembershipLost() error {
	return &driver.Error{Code: "UNKNOWN_MEMBER_ID", Err: fmt.Errorf("%w: %w", driver.ErrMembershipLost, ErrInjected)}
}

// Before fails every call before anything is done.
func Before(err error) Injector { return always{Fault{When: BeforeCall, Err: proper(err)}} }

// After lets every call run and replaces its answer by err.
func After(err error) Injector { return always{Fault{When: AfterCall, Err: proper(err)}} }

// Never answers no call: a call with a context waits for the end of the context.
func Never() Injector { return always{Fault{When: InsteadOfIt}} }

// Delay makes every call wait first, at most until the end of its context.
func Delay(d time.Duration) Injector { return always{Fault{Delay: d}} }

type always struct{ fault Fault }

func (a always) Inject(Call) Fault { return a.fault }

func (a always) String() string {
	switch a.fault.When {
	case BeforeCall:
		return fmt.Sprintf("Before(%s)", errorName(a.fault.Err))
	case AfterCall:
		return fmt.Sprintf("After(%s)", errorName(a.fault.Err))
	case InsteadOfIt:
		return "Never()"
	}
	return fmt.Sprintf("Delay(%v)", a.fault.Delay)
}

// proper wraps an error in a driver.Error, unless it already wraps one.
func proper(err error) error {
	var e *driver.Error
	if errors.As(err, &e) {
		return err
	}
	return &driver.Error{Code: "INJECTED", Err: err}
}

func errorName(err error) string {
	var e *driver.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	if errors.Is(err, driver.ErrPermanent) {
		return fmt.Sprintf("Permanent(%q)", e.Code)
	}
	return fmt.Sprintf("Error(%q)", e.Code)
}

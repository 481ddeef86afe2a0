package fault

import (
	"errors"
	"fmt"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// An Op is a kind of call.
type Op int

// The operations. The package comment says what faults do to each.
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
)

var opNames = [...]string{
	"OpenConsumer", "OpenProducer", "Run", "Commit", "Mark", "Pause", "Resume",
	"CloseConsumer", "Produce", "Ack", "Flush", "CloseProducer", "Deliver", "Heartbeat",
}

// String returns the constant's name.
func (o Op) String() string {
	if o < 0 || int(o) >= len(opNames) {
		return fmt.Sprintf("Op(%d)", int(o))
	}
	return opNames[o]
}

// A Call is what an injector knows of a call.
type Call struct {
	Op       Op
	ClientID string
	Group    string // of a consumer's calls

	// Topic and Partition are set for Mark, Pause, Resume, Deliver, Produce and Ack.
	// Otherwise they are "" and -1, as Partition is when a key is to choose.
	Topic     string
	Partition int32
}

// A When says at which point of a call a fault strikes.
type When int

// The points.
const (
	NoFailure   When = iota
	BeforeCall       // nothing has been done
	AfterCall        // all has been done, and the answer is lost
	InsteadOfIt      // no answer comes at all
)

// A Fault is the fate of one call. The zero Fault leaves it alone.
type Fault struct {
	Delay time.Duration // before anything else
	When  When
	Err   error // of BeforeCall and AfterCall
}

func (f Fault) isNone() bool { return f.Delay == 0 && f.When == NoFailure }

// An Injector decides the fate of calls. It must be safe for use by several
// goroutines, and prints itself as it is written in Go.
type Injector interface {
	Inject(c Call) Fault
	String() string
}

// ErrInjected is wrapped by the errors that [Error] and [Permanent] make.
var ErrInjected = errors.New("injected")

// Error returns a transient error with one of Kafka's codes.
func Error(code string) error { return &driver.Error{Code: code, Err: ErrInjected} }

// Permanent returns an error with one of Kafka's codes that no retry can cure.
func Permanent(code string) error {
	return &driver.Error{Code: code, Kind: driver.ErrPermanent, Err: ErrInjected}
}

// MembershipLost returns the error of a member that its group may have removed, for
// After and Run.
func MembershipLost() error {
	return &driver.Error{Code: "UNKNOWN_MEMBER_ID", Err: fmt.Errorf("%w: %w", driver.ErrMembershipLost, ErrInjected)}
}

// Before fails every call before anything is done.
func Before(err error) Injector { return always{Fault{When: BeforeCall, Err: proper(err)}} }

// After lets every call be done and loses its answer.
func After(err error) Injector { return always{Fault{When: AfterCall, Err: proper(err)}} }

// Never does not answer: what has a context waits for its end.
func Never() Injector { return always{Fault{When: InsteadOfIt}} }

// Delay has every call wait first, no longer than its context.
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

// proper gives an error that is none of a driver's the shape of one.
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

package kafka

// A State is where a consumer is in its life:
//
//	off → starting → running → stopping → off, disabled, backing off or stopped
//	      starting ← running, while the group may have removed it
//	      starting → backing off → starting …
//
// A consumer is stopping while its handlers drain and it leaves the group, on
// purpose or because of a failure. It is switched off while starting or backing
// off without that. From disabled SetConsumerSwitch(name, true) leads on, and
// ConsumerConfig.DisabledRetry if that is set; stopped is the end.
type State int

// The states of a consumer.
const (
	StateOff        State = iota // its switch is off, or nothing has been started
	StateStarting                // connecting, or waiting to be let into the group
	StateRunning                 // a member of the group, with or without partitions
	StateBackingOff              // waiting to start again after a failure
	StateDisabled                // given up: its switch went off, the reason says why
	StateStopping                // draining and leaving the group
	StateStopped                 // shut down; it does not start again

	stateCount
)

// String returns the state's name, such as "backing off".
func (s State) String() string {
	switch s {
	case StateOff:
		return "off"
	case StateStarting:
		return "starting"
	case StateRunning:
		return "running"
	case StateBackingOff:
		return "backing off"
	case StateDisabled:
		return "disabled"
	case StateStopping:
		return "stopping"
	case StateStopped:
		return "stopped"
	}
	return "unknown"
}

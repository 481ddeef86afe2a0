package kafka

import "time"

// A HeldStatus is why a consumer hands out nothing for a while. The consumer is running
// meanwhile: it keeps its partitions.
type HeldStatus struct {
	Since, Until time.Time // Until is when a record is handed out as a probe
	Err          error     // what the handler, or else the library, has given as the reason
	Probe        TopicPartition
}

// MarshalJSON returns the status with its error as text.
func (s HeldStatus) MarshalJSON() ([]byte, error) { return fieldsJSON(s) }

// EndHold ends the hold of a consumer at once: all of its records are handed out again.
// It does nothing if the consumer is not held.
func (m *Manager) EndHold(jobName string) error {
	j, err := m.job(jobName)
	if err != nil {
		return err
	}
	j.hold.end()
	return nil
}

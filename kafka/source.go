package kafka

import (
	"strconv"
	"time"
)

// A Source is where a record first lay, and when it was made.
type Source struct {
	Topic     string
	Partition int32
	Offset    int64
	Timestamp time.Time
}

// Source returns where the record first lay. A dead letter, and a record that a handler
// gets from a retry topic, name the place of the record that they are a copy of. Any other
// record came directly, and the answer is its own place.
//
// These copies are recognized by their headers, HeaderErrorTopic and HeaderRetryTopic and
// those after them. A client that may write to the topic can write these, too. They are no
// proof.
func (m *Message) Source() Source {
	if s, ok := sourceOf(m.Headers); ok {
		return s
	}
	if m.source != nil {
		return *m.source
	}
	return Source{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Timestamp: m.Timestamp}
}

// readSource returns the Source that values of headers say. placed says that partition and
// offset can be read, and timed that the timestamp can. A negative timestamp is none.
func readSource(topic, partition, offset, timestamp []byte) (s Source, placed, timed bool) {
	p, perr := strconv.ParseInt(string(partition), 10, 32)
	o, oerr := strconv.ParseInt(string(offset), 10, 64)
	ms, terr := strconv.ParseInt(string(timestamp), 10, 64)
	s = Source{Topic: string(topic), Partition: int32(p), Offset: o}
	if timed = terr == nil; timed && ms >= 0 {
		s.Timestamp = time.UnixMilli(ms)
	}
	return s, perr == nil && oerr == nil && p >= 0 && o >= 0, timed
}

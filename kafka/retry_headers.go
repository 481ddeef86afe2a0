package kafka

import (
	"slices"
	"strconv"
	"strings"
)

// The headers that a record has in a retry topic after its own. All values are text.
// Handlers do not see them: Message.Source and Message.Attempt have what they say. In a
// topic that is no retry topic of the consumer they are data like any other header; a
// record that goes from there to a retry topic loses its own headers of these names.
const (
	// HeaderRetryTopic, HeaderRetryPartition and HeaderRetryOffset say where the record
	// first lay.
	HeaderRetryTopic     = "__retry.topic"
	HeaderRetryPartition = "__retry.partition"
	HeaderRetryOffset    = "__retry.offset"

	// HeaderRetryTimestamp is the timestamp that it had there in milliseconds since 1970,
	// or -1. A negative one is read as none.
	HeaderRetryTimestamp = "__retry.timestamp"

	// HeaderRetryGroup is the group whose consumer has sent it to the retry topic, and
	// handles it again.
	HeaderRetryGroup = "__retry.group"

	// HeaderRetryAttempts is how often the handler has failed it so far, as
	// FailurePolicy.MaxAttempts counts.
	HeaderRetryAttempts = "__retry.attempts"
)

const retryHeaders = 6

// isRetryHeader reports whether a header is one of those.
func isRetryHeader(key string) bool {
	if !strings.HasPrefix(key, "__retry.") {
		return false
	}
	switch key {
	case HeaderRetryTopic, HeaderRetryPartition, HeaderRetryOffset, HeaderRetryTimestamp, HeaderRetryGroup, HeaderRetryAttempts:
		return true
	}
	return false
}

// withoutRetry returns headers without those of a retry topic. Where these are the last
// ones, as this library writes them, it copies nothing.
func withoutRetry(hs []Header) []Header {
	first := slices.IndexFunc(hs, func(h Header) bool { return isRetryHeader(h.Key) })
	if first < 0 {
		return hs
	}
	if first > 0 && !slices.ContainsFunc(hs[first:], func(h Header) bool { return !isRetryHeader(h.Key) }) {
		return hs[:first:first]
	}
	var own []Header
	for _, h := range hs {
		if !isRetryHeader(h.Key) {
			own = append(own, h)
		}
	}
	return own
}

// An origin is where a record first lay, and how often its handler has failed it before
// it came where it lies.
type origin struct {
	source   Source
	attempts int
}

// topic returns where the record first lay.
func (o *origin) topic() string { return o.source.Topic }

// headers returns the headers of a record that goes to a retry topic: own, which are
// without ours, and ours.
func (o *origin) headers(own []Header, group string) []Header {
	w := headerWriter{headers: make([]Header, 0, len(own)+retryHeaders), buf: make([]byte, 0, 128)}
	w.headers = append(w.headers, own...)
	w.text(HeaderRetryTopic, o.source.Topic)
	w.number(HeaderRetryPartition, int64(o.source.Partition))
	w.number(HeaderRetryOffset, o.source.Offset)
	w.number(HeaderRetryTimestamp, millis(o.source.Timestamp))
	w.text(HeaderRetryGroup, group)
	w.number(HeaderRetryAttempts, int64(o.attempts))
	return w.headers
}

// A stamp is what the headers of a record in a retry topic say.
type stamp int

const (
	stamped  stamp = iota // where it first lay
	unmarked              // nothing that can be read, or a topic that is not the consumer's
	foreign               // that another group has sent it
)

// read reads the headers of a record in a retry topic. It returns the origin of one that
// is stamped, and the group that owns one that is foreign.
func (r *retries) read(hs []Header) (o origin, s stamp, owner string) {
	var topic, partition, offset, timestamp, group, attempts []byte
	for _, h := range hs {
		switch h.Key {
		case HeaderRetryTopic:
			topic = h.Value
		case HeaderRetryPartition:
			partition = h.Value
		case HeaderRetryOffset:
			offset = h.Value
		case HeaderRetryTimestamp:
			timestamp = h.Value
		case HeaderRetryGroup:
			group = h.Value
		case HeaderRetryAttempts:
			attempts = h.Value
		}
	}
	switch {
	case len(group) == 0:
		return origin{}, unmarked, ""
	case string(group) != r.group:
		return origin{}, foreign, string(group)
	}
	o, ok := parseOrigin(topic, partition, offset, timestamp, attempts)
	if !ok || !r.reads(o.source.Topic) {
		return origin{}, unmarked, ""
	}
	return o, stamped, ""
}

// mostRetryAttempts bounds what a header may say.
const mostRetryAttempts = 1_000_000

func parseOrigin(topic, partition, offset, timestamp, attempts []byte) (o origin, ok bool) {
	source, placed, timed := readSource(topic, partition, offset, timestamp)
	n, err := strconv.Atoi(string(attempts))
	if !placed || !timed || err != nil || n < 0 || n > mostRetryAttempts {
		return origin{}, false
	}
	return origin{source: source, attempts: n}, true
}

// originOf returns the origin of a record that lies in a retry topic or in another one.
// One that came directly, or whose headers say nothing, has its own place.
func (r *retries) originOf(topic string, partition int32, rec *Record) origin {
	if _, is := r.place(topic); is {
		if o, s, _ := r.read(rec.Headers); s == stamped {
			return o
		}
	}
	return origin{source: Source{Topic: topic, Partition: partition, Offset: rec.Offset, Timestamp: rec.Timestamp}}
}

// dress makes a message of a retry topic what the handler gets: without our headers, and
// with the attempts before it came there.
func (r *retries) dress(m *Message) {
	if _, is := r.place(m.Topic); !is {
		return
	}
	if o, s, _ := r.read(m.Headers); s == stamped {
		m.Attempt += o.attempts
		m.source = &o.source
	}
	m.Headers = withoutRetry(m.Headers)
}

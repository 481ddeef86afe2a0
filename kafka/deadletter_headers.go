package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/aarontianqx/gopkg/driver"
)

// The headers that a dead letter has after those of the record. All values are text.
// The first six names are those of KIP-1191. Together the headers take at most 2 KiB.
// They replace headers of the same names, so a record that dies twice does not grow.
const (
	// HeaderErrorTopic, HeaderErrorPartition and HeaderErrorOffset say where the record
	// lies, or where it first lay if it has come from a retry topic. With HeaderErrorGroup
	// they identify it: two dead letters that have these four in common are two copies of
	// one.
	HeaderErrorTopic     = "__dlq.errors.topic"
	HeaderErrorPartition = "__dlq.errors.partition"
	HeaderErrorOffset    = "__dlq.errors.offset"

	// HeaderErrorGroup is the group of the consumer that gave the record up.
	HeaderErrorGroup = "__dlq.errors.group"

	// HeaderErrorDeliveryCount is how often the handler has failed the record, as
	// FailurePolicy.MaxAttempts counts.
	HeaderErrorDeliveryCount = "__dlq.errors.delivery.count"

	// HeaderErrorMessage is the text of the error, at most 1 KiB, with control
	// characters escaped. DeadLetterConfig.NoErrorText leaves it out.
	HeaderErrorMessage = "__dlq.errors.message"

	// HeaderErrorException is the error's ErrorType or its Go type, such as "panic" or
	// "*json.SyntaxError".
	HeaderErrorException = "__dlq.errors.exception"

	// HeaderErrorTimestamp is the record's own timestamp in milliseconds since 1970, or
	// -1. The timestamp of the dead letter is when it was written.
	HeaderErrorTimestamp = "__dlq.errors.timestamp"

	// HeaderErrorReason is what sent the record to the dead letters: one of the
	// DeadLetterReason constants.
	HeaderErrorReason = "__dlq.errors.reason"

	// HeaderErrorFailed is when that was decided, in milliseconds since 1970.
	HeaderErrorFailed = "__dlq.errors.failed"

	// HeaderRedrives counts how often the record was put back from the dead letters.
	// A record that never was has no such header.
	HeaderRedrives = "__dlq.redrives"
)

// What sends a record to the dead letters: the values of HeaderErrorReason and of
// RecordForwarded.Reason.
const (
	DeadLetterReasonAttempts = "attempts" // it failed MaxAttempts times
	DeadLetterReasonHandler  = "handler"  // the handler's error is marked with DeadLetter
	DeadLetterReasonClassify = "classify" // FailurePolicy.Classify decided it
	DeadLetterReasonDecode   = "decode"   // it cannot be decoded
	DeadLetterReasonOperator = "operator" // Manager.Resolve
)

// Bounds that keep the headers of a dead letter below 2 KiB. Topic and group are
// bounded by Kafka.
const (
	mostDeathText      = 1024 // of an error's text
	mostExceptionBytes = 128
	mostRedrives       = 1_000_000
)

// A death is why a record goes to the dead letters.
type death struct {
	source   Source
	group    string
	attempts int
	err      error
	reason   string
	failed   time.Time
	noText   bool
}

// headers returns the headers of the dead letter of a record that has own: those, and
// ours. The slice is new, and the values of own are shared.
func (d *death) headers(own []Header) []Header {
	w, redrives := writeBehind(own, 11)
	d.identity(&w)
	if d.err != nil {
		if !d.noText {
			w.text(HeaderErrorMessage, deathText(d.err))
		}
		w.text(HeaderErrorException, exceptionOf(d.err))
	}
	w.number(HeaderErrorTimestamp, millis(d.source.Timestamp))
	w.text(HeaderErrorReason, d.reason)
	w.number(HeaderErrorFailed, millis(d.failed))
	w.redrives(redrives)
	return w.headers
}

// fewHeaders returns what headers does, without all that a dead letter can do without:
// for a record that is too large otherwise.
func (d *death) fewHeaders(own []Header) []Header {
	w, redrives := writeBehind(own, 6)
	d.identity(&w)
	w.redrives(redrives)
	return w.headers
}

// identity writes the first five headers.
func (d *death) identity(w *headerWriter) {
	w.text(HeaderErrorTopic, d.source.Topic)
	w.number(HeaderErrorPartition, int64(d.source.Partition))
	w.number(HeaderErrorOffset, d.source.Offset)
	w.text(HeaderErrorGroup, d.group)
	w.number(HeaderErrorDeliveryCount, int64(d.attempts))
}

// A headerWriter appends headers whose values share one buffer.
type headerWriter struct {
	headers []Header
	buf     []byte
}

// writeBehind returns a writer that has those of own that a dead letter keeps, in order,
// with room for n more. It also returns how often the record was put back, or 0.
func writeBehind(own []Header, n int) (w headerWriter, redrives int) {
	w.headers = make([]Header, 0, len(own)+n)
	w.buf = make([]byte, 0, 256)
	for _, h := range own {
		if !isOurs(h.Key) {
			w.headers = append(w.headers, h)
		} else if h.Key == HeaderRedrives {
			redrives = parseRedrives(h.Value)
		}
	}
	return w, redrives
}

// value returns what was appended to the buffer from at on. If the buffer has grown,
// values that were written before stay in the old one.
func (w *headerWriter) value(key string, at int) {
	end := len(w.buf)
	w.headers = append(w.headers, Header{Key: key, Value: w.buf[at:end:end]})
}

func (w *headerWriter) text(key, value string) {
	at := len(w.buf)
	w.buf = append(w.buf, value...)
	w.value(key, at)
}

func (w *headerWriter) number(key string, n int64) {
	at := len(w.buf)
	w.buf = strconv.AppendInt(w.buf, n, 10)
	w.value(key, at)
}

func (w *headerWriter) redrives(n int) {
	if n > 0 {
		w.number(HeaderRedrives, int64(n))
	}
}

// ourHeaders are the names that a dead letter replaces.
var ourHeaders = []string{
	HeaderErrorTopic, HeaderErrorPartition, HeaderErrorOffset, HeaderErrorGroup,
	HeaderErrorDeliveryCount, HeaderErrorMessage, HeaderErrorException,
	HeaderErrorTimestamp, HeaderErrorReason, HeaderErrorFailed, HeaderRedrives,
}

// isOurs reports whether a header is one that a dead letter replaces. Nearly all
// headers differ in their first byte.
func isOurs(key string) bool {
	return strings.HasPrefix(key, "__dlq.") && slices.Contains(ourHeaders, key)
}

func parseRedrives(value []byte) int {
	n, err := strconv.Atoi(string(value))
	if err != nil || n < 0 || n > mostRedrives {
		return 0
	}
	return n
}

// millis returns t as a record holds it, -1 for the zero time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return -1
	}
	return t.UnixMilli()
}

// deathText returns the text of a handler's error as a header has it.
func deathText(err error) string {
	const suffix = 64 // for the count of what is cut
	text := driver.Printable(textOf(err), mostDeathText-suffix)
	if len(text) <= mostDeathText { // else escapes made it longer
		return text
	}
	cut := mostDeathText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// textOf returns err's text. The method is a user's, and may panic.
func textOf(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("%T, whose Error panicked", err)
		}
	}()
	return err.Error()
}

// exceptionOf names the kind of a handler's error: what its ErrorType says, or else
// its Go type, below what only adds text to it.
func exceptionOf(err error) (name string) {
	defer func() {
		if recover() != nil { // in a method of the user's error
			name = "_OTHER"
		}
	}()
	if typed, ok := errors.AsType[interface {
		error
		ErrorType() string
	}](err); ok {
		name = typed.ErrorType()
	} else {
		name = fmt.Sprintf("%T", withoutWrapping(err))
	}
	if name = driver.Printable(name, mostExceptionBytes); len(name) > mostExceptionBytes {
		name = strings.ToValidUTF8(name[:mostExceptionBytes], "")
	}
	return name
}

// wrapping is the type of what fmt.Errorf makes of one %w.
var wrapping = fmt.Sprintf("%T", fmt.Errorf("%w", errors.ErrUnsupported))

func withoutWrapping(err error) error {
	for fmt.Sprintf("%T", err) == wrapping {
		err = errors.Unwrap(err)
	}
	return err
}

// sourceOf returns the place that the headers of a dead letter name. ok is false if
// they name none.
func sourceOf(hs []Header) (s Source, ok bool) {
	var topic, partition, offset, timestamp []byte
	for _, h := range hs {
		switch h.Key {
		case HeaderErrorTopic:
			topic = h.Value
		case HeaderErrorPartition:
			partition = h.Value
		case HeaderErrorOffset:
			offset = h.Value
		case HeaderErrorTimestamp:
			timestamp = h.Value
		}
	}
	if topic == nil { // nearly every record
		return Source{}, false
	}
	s, placed, _ := readSource(topic, partition, offset, timestamp)
	if !placed || validTopic(s.Topic) != nil {
		return Source{}, false
	}
	return s, true
}

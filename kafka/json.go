package kafka

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// What a machine reads of a consumer, its status and its events, is JSON by the
// names of the fields. An error is its text, and null if there is none; so is a
// time that is zero. An enumeration is its name.

// maxJSONError is the longest text of an error in JSON, in bytes.
const maxJSONError = 2048

// fieldsJSON returns the exported fields of a struct as a JSON object. Package
// json would print an error as its fields, of which most errors export none.
func fieldsJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	s := reflect.ValueOf(v)
	for i := range s.NumField() {
		f := s.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		value, err := json.Marshal(jsonValue(s.Field(i).Interface()))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", f.Name, value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// eventText returns an event for a line: its name and its fields as JSON.
func eventText(name string, e any) string {
	fields, err := fieldsJSON(e)
	if err != nil {
		return name
	}
	return name + string(fields)
}

// jsonValue returns what stands for a field's value. A nil error gives null, in
// whatever type it is.
func jsonValue(v any) any {
	switch v := v.(type) {
	case time.Time:
		if v.IsZero() {
			return nil
		}
		// A producer can date a record as it likes. Package json would refuse the year,
		// and with it everything that stands beside this record.
		if y := v.Year(); y < 0 || y > 9999 {
			return v.UTC().Format(time.RFC3339Nano)
		}
	case error:
		if r := reflect.ValueOf(v); r.Kind() == reflect.Pointer && r.IsNil() {
			return nil
		}
		return driver.Printable(fmt.Sprint(v), maxJSONError) // Sprint survives an Error that panics
	}
	return v
}

// MarshalJSON returns the status with errors as text.
func (s ConsumerStatus) MarshalJSON() ([]byte, error) { return fieldsJSON(s) }

// MarshalJSON returns the status with errors as text.
func (s PartitionStatus) MarshalJSON() ([]byte, error) { return fieldsJSON(s) }

// MarshalJSON returns the lag with its error as text.
func (l PartitionLag) MarshalJSON() ([]byte, error) { return fieldsJSON(l) }

// MarshalJSON returns the trouble with its error as text.
func (e TopicError) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the source, with null for a timestamp that is not known.
func (s Source) MarshalJSON() ([]byte, error) { return fieldsJSON(s) }

// MarshalJSON returns the event with its error as text.
func (e StateChanged) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e PartitionsLost) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e HandlerFailed) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e ConsumerHeld) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e RecordSkipped) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e RecordForwarded) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e RecordRetried) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event's fields. Otherwise it would be the text of what it embeds.
func (e RecordPassedOver) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e ForwardFailed) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e RedriveEnded) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e CommitFailed) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e DriverError) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e CallbackPanicked) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e SendFailed) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalJSON returns the event with its error as text.
func (e ShutdownEnded) MarshalJSON() ([]byte, error) { return fieldsJSON(e) }

// MarshalText returns the state's name, as String does; any other value is an
// error.
func (s State) MarshalText() ([]byte, error) { return marshalName("State", s, StateOff, stateCount) }

// UnmarshalText takes a state's name; any other text is an error.
func (s *State) UnmarshalText(text []byte) error {
	return unmarshalName("State", s, StateOff, stateCount, text)
}

// MarshalText returns the kind's name, as String does; any other value is an
// error.
func (k OpKind) MarshalText() ([]byte, error) { return marshalName("OpKind", k, OpSend, opKindCount) }

// UnmarshalText takes a kind's name; any other text is an error.
func (k *OpKind) UnmarshalText(text []byte) error {
	return unmarshalName("OpKind", k, OpSend, opKindCount, text)
}

// MarshalText returns the outcome's name, as String does; any other value is an
// error.
func (o Outcome) MarshalText() ([]byte, error) {
	return marshalName("Outcome", o, OutcomeDone, outcomeCount)
}

// UnmarshalText takes an outcome's name; any other text is an error.
func (o *Outcome) UnmarshalText(text []byte) error {
	return unmarshalName("Outcome", o, OutcomeDone, outcomeCount, text)
}

// MarshalText returns the order's name, as String does; any other value is an
// error.
func (o Order) MarshalText() ([]byte, error) {
	return marshalName("Order", o, OrderByPartition, orderCount)
}

// UnmarshalText takes an order's name; any other text is an error.
func (o *Order) UnmarshalText(text []byte) error {
	return unmarshalName("Order", o, OrderByPartition, orderCount, text)
}

// An enumeration is named by its String, from its first value up to its end.
type enumeration interface {
	~int | ~uint8
	fmt.Stringer
}

func marshalName[T enumeration](kind string, v, first, end T) ([]byte, error) {
	if v < first || v >= end {
		return nil, fmt.Errorf("%s %d is none of %d to %d", kind, int(v), int(first), int(end)-1)
	}
	return []byte(v.String()), nil
}

func unmarshalName[T enumeration](kind string, v *T, first, end T, text []byte) error {
	var names []string
	for c := first; c < end; c++ {
		if c.String() == string(text) {
			*v = c
			return nil
		}
		names = append(names, c.String())
	}
	return fmt.Errorf("%s \"%s\" is none of %s", kind, driver.Printable(string(text), 0), strings.Join(names, ", "))
}

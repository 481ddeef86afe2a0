package kafka

import (
	"context"
	"encoding/json"
	"errors"
	"reflect"
)

// A Decoder makes a value of a record. An error says that the record cannot be
// decoded, now or later, and becomes a [DecodeError]. A decoder that cannot decode
// for a reason that passes, such as a schema registry that does not answer, marks
// its error with Retry or Hold.
//
// A decoder may be called by several goroutines at once. It must not keep m's bytes in
// the value unless the value may be kept as [Message] says.
type Decoder[T any] func(ctx context.Context, m *Message) (T, error)

// Handle returns a consumer that decodes each record and hands the value to handle,
// together with the record. A nil decode or handle is rejected at registration.
//
//	kafka.Handle(cfg, kafka.JSON[Order], handleOrder)
//
// A record that cannot be decoded fails with a [*DecodeError] and does not reach
// handle. It goes to the dead letters at once, as it is, because a second attempt
// would fail too. Where no dead letters are configured it is kept and tried again
// like any failing record, visibly. FailurePolicy.Classify is asked first. An error of
// decode after ctx has ended, at HandlerTimeout say, is a failure like any other.
//
// Middleware wraps the decoding, so it sees the raw record.
func Handle[T any](cfg ConsumerConfig, decode Decoder[T], handle func(ctx context.Context, v T, m *Message) error) Consumer {
	if decode == nil || handle == nil {
		return NewConsumer(cfg, nil)
	}
	return NewConsumer(cfg, func(ctx context.Context, m *Message) error {
		v, err := decodeWith(ctx, decode, m)
		if err != nil {
			return err
		}
		return handle(ctx, v, m)
	})
}

// decodeWith decodes a record. Its error is a *DecodeError, unless the time of the call
// has run out: then it says nothing of the record.
func decodeWith[T any](ctx context.Context, decode Decoder[T], m *Message) (T, error) {
	v, err := decode(ctx, m)
	if err != nil && ctx.Err() == nil {
		err = &DecodeError{Err: err}
	}
	return v, err
}

// A DecodeError is the failure of a record that its [Decoder] could not decode.
type DecodeError struct {
	Err error // the decoder's
}

// Error returns the decoder's text after what was attempted.
func (e *DecodeError) Error() string {
	if e.Err == nil {
		return "decode"
	}
	return "decode: " + e.Err.Error()
}

// ErrorType returns "decode".
func (e *DecodeError) ErrorType() string { return "decode" }

// Unwrap returns the decoder's error, with its mark if it has one.
func (e *DecodeError) Unwrap() error { return e.Err }

// errTombstone is the error of JSON for a record without a value.
var errTombstone = errors.New("the record has no value (a tombstone)")

// JSON is a [Decoder] for values that are one JSON document. Anything but white
// space after the document is an error. A tombstone, which is a record without a
// value, decodes to nil where T is a pointer. It is an error for any other T.
func JSON[T any](_ context.Context, m *Message) (T, error) {
	var v T
	if m.Value == nil {
		if reflect.TypeFor[T]().Kind() == reflect.Pointer {
			return v, nil
		}
		return v, errTombstone
	}
	if err := json.Unmarshal(m.Value, &v); err != nil {
		var none T // a document that breaks off has filled in a part of v
		return none, err
	}
	return v, nil
}

package otelkafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/aarontianqx/gopkg/kafka"
)

const otherError = "_OTHER"

// errorTypes makes the values of error.type: names out of a small set, never
// a text. Kafka's names come from the driver; see the package comment for the
// others.
type errorTypes struct{ seen *names }

func newErrorTypes() *errorTypes { return &errorTypes{newNames(100)} }

// of returns the name of err, or "" without an error.
func (t *errorTypes) of(err error) string {
	if err == nil {
		return ""
	}
	return t.name(err)
}

// name returns the name of an error; no error is one without a name.
func (t *errorTypes) name(err error) string {
	name := nameOf(err)
	if name == "" || len(name) > 128 || strings.ContainsFunc(name, notInNames) || !t.seen.allow(name) {
		return otherError
	}
	return name
}

func notInNames(r rune) bool {
	return r <= ' ' || r > '~'
}

func nameOf(err error) (name string) {
	defer func() {
		if recover() != nil { // a method of a user's error
			name = otherError
		}
	}()
	if typed, ok := errors.AsType[interface {
		error
		ErrorType() string
	}](err); ok {
		return typed.ErrorType()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	case errors.Is(err, kafka.ErrClosed):
		return "client_closed"
	case errors.Is(err, kafka.ErrUnknownOutcome):
		return "unknown_outcome"
	case errors.Is(err, kafka.ErrNotEnabled):
		return "not_enabled"
	}
	return semconv.ErrorType(err).Value.AsString()
}

// descriptionLimit bounds the description of a status.
const descriptionLimit = 1024

// describe returns the text of err for a span's status.
func describe(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T, whose Error panicked", err)
		}
	}()
	text = strings.ToValidUTF8(err.Error(), "\uFFFD")
	if len(text) > descriptionLimit {
		cut := descriptionLimit
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut]
	}
	return text
}

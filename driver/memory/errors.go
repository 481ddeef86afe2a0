package memory

import (
	"errors"
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
)

// fail returns a transient error with Kafka's code.
func fail(code, format string, args ...any) *driver.Error {
	return &driver.Error{Code: code, Err: fmt.Errorf(format, args...)}
}

// failPermanently returns an error that no retry can cure.
func failPermanently(code, format string, args ...any) *driver.Error {
	err := fail(code, format, args...)
	err.Kind = driver.ErrPermanent
	return err
}

// code returns Kafka's name of an error, or "".
func code(err error) string {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func errUnreachable() *driver.Error {
	return fail("CONNECTION_FAILED", "the broker is unreachable")
}

func errForbidden(topic string) *driver.Error {
	return fail("TOPIC_AUTHORIZATION_FAILED", "topic %q", topic)
}

// errTopic returns an error of a whole topic.
func errTopic(topic string, err *driver.Error) *driver.PartitionError {
	return &driver.PartitionError{Topic: topic, Partition: -1, Offset: -1, Err: err}
}

func errUnknownPartition(topic string, partition int32) *driver.Error {
	return fail("UNKNOWN_TOPIC_OR_PARTITION", "%s/%d does not exist", topic, partition)
}

// errNoTopic returns the error of a topic that does not exist, or whose name is illegal.
func errNoTopic(topic string) *driver.Error {
	if err := checkTopicName(topic); err != nil {
		return err
	}
	return errUnknownTopic(topic)
}

func errUnknownTopic(topic string) *driver.Error {
	return fail("UNKNOWN_TOPIC_OR_PARTITION", "topic %q does not exist", topic)
}

package sarama

import (
	"errors"
	"fmt"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// outcome returns the error of the messages of a batch whose last attempt has failed with
// err. The failure is certain only if no attempt may have been appended.
func (b *outBatch) outcome(err error) error {
	if b.lane.topic.p.severed() {
		return abandoned(err, b.unknown)
	}
	known := wrap(err)
	if !b.unknown {
		return known
	}
	var e *driver.Error
	if !errors.As(known, &e) {
		return &driver.Error{Code: "CLIENT_ERROR", Kind: driver.ErrUnknownOutcome, Err: err}
	}
	return &driver.Error{Code: e.Code, Kind: driver.ErrUnknownOutcome, Err: e.Err}
}

// abandoned is the error of a message that Close could not wait for.
func abandoned(why error, sent bool) error {
	if !sent {
		return &driver.Error{
			Code: "PRODUCER_CLOSED",
			Err:  errors.Join(errors.New("closed before it was sent"), why),
		}
	}
	return &driver.Error{
		Code: "PRODUCER_CLOSED", Kind: driver.ErrUnknownOutcome,
		Err: errors.Join(errors.New("closed before an answer came"), why),
	}
}

// expiry is the error of a message that has expired. reason is the latest refusal, or nil.
func expiry(reason error, sent bool) error {
	switch {
	case sent:
		return &driver.Error{
			Code: "REQUEST_TIMED_OUT", Kind: driver.ErrUnknownOutcome,
			Err: errors.Join(errors.New("DeliveryTimeout has passed before an answer came"), reason),
		}
	case reason == nil:
		return &driver.Error{Code: "REQUEST_TIMED_OUT", Err: errors.New("DeliveryTimeout has passed before it could be sent")}
	}
	return wrap(reason)
}

// refusal returns a permanent refusal by the driver itself, under the broker's code.
func refusal(code ibm.KError, format string, args ...any) error {
	return &driver.Error{
		Code: codeName(code), Kind: driver.ErrPermanent,
		Err: fmt.Errorf("%w: %s", code, fmt.Sprintf(format, args...)),
	}
}

// refused reports whether err is an answer that a broker gives before it
// appends. NOT_LEADER_OR_FOLLOWER and UNKNOWN_TOPIC_OR_PARTITION are not: it
// also gives them when leadership is lost while it waits for replicas.
func refused(err error) bool {
	return isCode(err,
		ibm.ErrMessageSizeTooLarge, ibm.ErrMessageSetSizeTooLarge, ibm.ErrInvalidMessage, ibm.ErrInvalidRecord,
		ibm.ErrInvalidTimestamp, ibm.ErrInvalidTopic, ibm.ErrInvalidRequiredAcks, ibm.ErrNotEnoughReplicas,
		ibm.ErrTopicAuthorizationFailed, ibm.ErrClusterAuthorizationFailed, ibm.ErrPolicyViolation,
		ibm.ErrUnsupportedForMessageFormat, ibm.ErrUnsupportedCompressionType, ibm.ErrUnsupportedVersion,
		ibm.ErrInvalidProducerEpoch, ibm.ErrOutOfOrderSequenceNumber, ibm.ErrUnknownProducerID, ibm.ErrProducerFenced)
}

// spoiled reports whether a batch was refused because of one of its messages, or because of
// their number. A batch that cannot be encoded counts, too.
func spoiled(err error) bool {
	return unencodable(err) || isCode(err,
		ibm.ErrMessageSizeTooLarge, ibm.ErrMessageSetSizeTooLarge,
		ibm.ErrInvalidRecord, ibm.ErrInvalidTimestamp, ibm.ErrPolicyViolation)
}

func unencodable(err error) bool {
	var encoding ibm.PacketEncodingError
	return errors.As(err, &encoding)
}

// passing reports whether another attempt may succeed. Without an answer of the broker for
// the partition, the connection has failed.
func (a answer) passing() bool {
	if a.block == nil {
		return !unencodable(a.err) && !isCode(a.err, ibm.ErrUnsupportedVersion)
	}
	return isCode(a.err,
		ibm.ErrInvalidMessage, ibm.ErrUnknownTopicOrPartition, ibm.ErrLeaderNotAvailable, ibm.ErrNotLeaderForPartition,
		ibm.ErrRequestTimedOut, ibm.ErrNotEnoughReplicas, ibm.ErrNotEnoughReplicasAfterAppend, ibm.ErrKafkaStorageError,
		ibm.ErrBrokerNotAvailable, ibm.ErrReplicaNotAvailable, ibm.ErrNetworkException,
		ibm.ErrFencedLeaderEpoch, ibm.ErrUnknownLeaderEpoch, ibm.ErrThrottlingQuotaExceeded)
}

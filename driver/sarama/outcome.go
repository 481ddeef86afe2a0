package sarama

import (
	"errors"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// outcome judges why a message failed: whether it is certain that it is not in
// the log. Sarama reports the last attempt only, so that one proves something
// only if it was the first:
//
//   - A message that was never put into a batch was never sent. Nor was one since
//     whose acceptance nothing was: there is no connection.
//   - One that was put into a batch once, while no round of retries has begun
//     since it was accepted, has been sent at most once; then the broker's code
//     can prove that it was refused before it was appended.
//
// Everything else is unknown: an earlier attempt may have been appended and its
// answer lost.
func (p *producer) outcome(s *slot, err error) error {
	if p.line.ctx.Err() != nil {
		return abandoned(err)
	}
	known := wrap(p.data.blame(err))
	if size := s.message.ByteSize(2); s.batched == 0 && size > p.conf.Producer.MaxMessageBytes {
		return &driver.Error{Code: "MESSAGE_TOO_LARGE", Kind: driver.ErrPermanent, Err: err}
	}
	var encoding ibm.PacketEncodingError
	single := s.batched == 1 && p.retries.Load() == s.retries
	if s.batched == 0 || p.line.produces.Load() == s.produces || single && (errors.As(err, &encoding) || refused(err)) {
		return known
	}
	var e *driver.Error
	if !errors.As(known, &e) {
		return &driver.Error{Code: "CLIENT_ERROR", Kind: driver.ErrUnknownOutcome, Err: err}
	}
	return &driver.Error{Code: e.Code, Kind: driver.ErrUnknownOutcome, Err: e.Err}
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

package franz

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
)

// outcome returns the error of a message that kgo has given back with err. The failure is
// certain only if no attempt may have been appended.
func (p *producer) outcome(err error, reason error, unknown bool) error {
	if p.line.IsSevered() {
		return abandoned(unknown)
	}
	var known *driver.Error
	if !errors.As(credentials.Soften(wrap(p.blame(err, reason)), p.cfg.SASL), &known) {
		known = &driver.Error{Code: "CLIENT_ERROR", Err: err}
	}
	if !unknown {
		return known
	}
	return &driver.Error{Code: known.Code, Kind: driver.ErrUnknownOutcome, Err: known.Err}
}

// blame adds to err what has failed, if kgo says only that it will not try again.
func (p *producer) blame(err, reason error) error {
	if len(kafkaErrors(err)) > 0 || !errors.Is(err, kgo.ErrRecordRetries) {
		return err
	}
	if reason == nil {
		if trouble := p.trouble.Load(); trouble != nil {
			reason = *trouble
		}
	}
	return errors.Join(err, reason)
}

// abandoned is the error of a message that Close could not wait for.
func abandoned(sent bool) error {
	if sent {
		return abandonedUnknown
	}
	return abandonedUnsent
}

var (
	abandonedUnknown = &driver.Error{
		Code: "PRODUCER_CLOSED", Kind: driver.ErrUnknownOutcome,
		Err: errors.Join(errors.New("closed before an answer came"), kgo.ErrClientClosed),
	}
	abandonedUnsent = &driver.Error{
		Code: "PRODUCER_CLOSED",
		Err:  errors.Join(errors.New("closed before it was sent"), kgo.ErrClientClosed),
	}
)

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

// refused reports whether err is an answer that a broker gives before it appends.
// NOT_LEADER_OR_FOLLOWER and UNKNOWN_TOPIC_OR_PARTITION are not: it also gives them when
// leadership is lost while it waits for replicas.
func refused(err error) bool {
	return isCode(err,
		kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.CorruptMessage, kerr.InvalidRecord,
		kerr.InvalidTimestamp, kerr.InvalidTopicException, kerr.InvalidRequiredAcks, kerr.NotEnoughReplicas,
		kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.PolicyViolation,
		kerr.UnsupportedForMessageFormat, kerr.UnsupportedCompressionType, kerr.UnsupportedVersion,
		kerr.InvalidProducerEpoch, kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID, kerr.ProducerFenced)
}

// spoiled reports whether a batch was refused because of one of its messages, or because of
// their number.
func spoiled(err error) bool {
	return tooLarge(err) || isCode(err, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.PolicyViolation)
}

func tooLarge(err error) bool { return isCode(err, kerr.MessageTooLarge, kerr.RecordListTooLarge) }

// canceled reports whether kgo has given a message back because the driver asked for that.
func canceled(err error) bool {
	return errors.Is(err, context.Canceled) && len(kafkaErrors(err)) == 0
}

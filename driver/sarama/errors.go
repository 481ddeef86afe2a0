package sarama

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// codeNames returns Kafka's names of the error codes, from -1 on. Sarama has
// only a sentence for each, and knows fewer.
func codeNames() []string {
	return strings.Fields(kafkaCodes)
}

const kafkaCodes = `
UNKNOWN_SERVER_ERROR NONE OFFSET_OUT_OF_RANGE CORRUPT_MESSAGE UNKNOWN_TOPIC_OR_PARTITION
INVALID_FETCH_SIZE LEADER_NOT_AVAILABLE NOT_LEADER_OR_FOLLOWER REQUEST_TIMED_OUT
BROKER_NOT_AVAILABLE REPLICA_NOT_AVAILABLE MESSAGE_TOO_LARGE STALE_CONTROLLER_EPOCH
OFFSET_METADATA_TOO_LARGE NETWORK_EXCEPTION COORDINATOR_LOAD_IN_PROGRESS
COORDINATOR_NOT_AVAILABLE NOT_COORDINATOR INVALID_TOPIC_EXCEPTION RECORD_LIST_TOO_LARGE
NOT_ENOUGH_REPLICAS NOT_ENOUGH_REPLICAS_AFTER_APPEND INVALID_REQUIRED_ACKS ILLEGAL_GENERATION
INCONSISTENT_GROUP_PROTOCOL INVALID_GROUP_ID UNKNOWN_MEMBER_ID INVALID_SESSION_TIMEOUT
REBALANCE_IN_PROGRESS INVALID_COMMIT_OFFSET_SIZE TOPIC_AUTHORIZATION_FAILED
GROUP_AUTHORIZATION_FAILED CLUSTER_AUTHORIZATION_FAILED INVALID_TIMESTAMP
UNSUPPORTED_SASL_MECHANISM ILLEGAL_SASL_STATE UNSUPPORTED_VERSION TOPIC_ALREADY_EXISTS
INVALID_PARTITIONS INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT INVALID_CONFIG
NOT_CONTROLLER INVALID_REQUEST UNSUPPORTED_FOR_MESSAGE_FORMAT POLICY_VIOLATION
OUT_OF_ORDER_SEQUENCE_NUMBER DUPLICATE_SEQUENCE_NUMBER INVALID_PRODUCER_EPOCH INVALID_TXN_STATE
INVALID_PRODUCER_ID_MAPPING INVALID_TRANSACTION_TIMEOUT CONCURRENT_TRANSACTIONS
TRANSACTION_COORDINATOR_FENCED TRANSACTIONAL_ID_AUTHORIZATION_FAILED SECURITY_DISABLED
OPERATION_NOT_ATTEMPTED KAFKA_STORAGE_ERROR LOG_DIR_NOT_FOUND SASL_AUTHENTICATION_FAILED
UNKNOWN_PRODUCER_ID REASSIGNMENT_IN_PROGRESS DELEGATION_TOKEN_AUTH_DISABLED
DELEGATION_TOKEN_NOT_FOUND DELEGATION_TOKEN_OWNER_MISMATCH DELEGATION_TOKEN_REQUEST_NOT_ALLOWED
DELEGATION_TOKEN_AUTHORIZATION_FAILED DELEGATION_TOKEN_EXPIRED INVALID_PRINCIPAL_TYPE
NON_EMPTY_GROUP GROUP_ID_NOT_FOUND FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH
LISTENER_NOT_FOUND TOPIC_DELETION_DISABLED FENCED_LEADER_EPOCH UNKNOWN_LEADER_EPOCH
UNSUPPORTED_COMPRESSION_TYPE STALE_BROKER_EPOCH OFFSET_NOT_AVAILABLE MEMBER_ID_REQUIRED
PREFERRED_LEADER_NOT_AVAILABLE GROUP_MAX_SIZE_REACHED FENCED_INSTANCE_ID
ELIGIBLE_LEADERS_NOT_AVAILABLE ELECTION_NOT_NEEDED NO_REASSIGNMENT_IN_PROGRESS
GROUP_SUBSCRIBED_TO_TOPIC INVALID_RECORD UNSTABLE_OFFSET_COMMIT THROTTLING_QUOTA_EXCEEDED
PRODUCER_FENCED RESOURCE_NOT_FOUND DUPLICATE_RESOURCE UNACCEPTABLE_CREDENTIAL
INCONSISTENT_VOTER_SET INVALID_UPDATE_VERSION FEATURE_UPDATE_FAILED
PRINCIPAL_DESERIALIZATION_FAILURE SNAPSHOT_NOT_FOUND POSITION_OUT_OF_RANGE UNKNOWN_TOPIC_ID
DUPLICATE_BROKER_REGISTRATION BROKER_ID_NOT_REGISTERED INCONSISTENT_TOPIC_ID
INCONSISTENT_CLUSTER_ID TRANSACTIONAL_ID_NOT_FOUND FETCH_SESSION_TOPIC_ID_ERROR
INELIGIBLE_REPLICA NEW_LEADER_ELECTED OFFSET_MOVED_TO_TIERED_STORAGE FENCED_MEMBER_EPOCH
UNRELEASED_INSTANCE_ID UNSUPPORTED_ASSIGNOR STALE_MEMBER_EPOCH MISMATCHED_ENDPOINT_TYPE
UNSUPPORTED_ENDPOINT_TYPE UNKNOWN_CONTROLLER_ID UNKNOWN_SUBSCRIPTION_ID TELEMETRY_TOO_LARGE
INVALID_REGISTRATION TRANSACTION_ABORTABLE INVALID_RECORD_STATE SHARE_SESSION_NOT_FOUND
INVALID_SHARE_SESSION_EPOCH FENCED_STATE_EPOCH INVALID_VOTER_KEY DUPLICATE_VOTER VOTER_NOT_FOUND
INVALID_REGULAR_EXPRESSION REBOOTSTRAP_REQUIRED STREAMS_INVALID_TOPOLOGY
STREAMS_INVALID_TOPOLOGY_EPOCH STREAMS_TOPOLOGY_FENCED SHARE_SESSION_LIMIT_REACHED
GROUP_DELETION_FAILED STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED CONTROLLER_ID_NOT_REGISTERED`

func codeName(k ibm.KError) string {
	names := codeNames()
	if i := int(k) + 1; i >= 0 && i < len(names) {
		return names[i]
	}
	return fmt.Sprintf("ERROR_%d", int16(k)) // newer than this table
}

// permanent reports whether no retry cures k. What passes by itself, or when another
// member or broker does something, is not among these: members without a common
// balance strategy leave, for one.
func permanent(k ibm.KError) bool {
	switch k {
	case ibm.ErrTopicAuthorizationFailed, ibm.ErrGroupAuthorizationFailed, ibm.ErrClusterAuthorizationFailed,
		ibm.ErrTransactionalIDAuthorizationFailed, ibm.ErrDelegationTokenAuthorizationFailed,
		ibm.ErrSASLAuthenticationFailed, ibm.ErrUnsupportedSASLMechanism, ibm.ErrIllegalSASLState, ibm.ErrSecurityDisabled,
		ibm.ErrUnsupportedVersion, ibm.ErrUnsupportedForMessageFormat, ibm.ErrUnsupportedCompressionType,
		ibm.ErrFencedInstancedId, ibm.ErrProducerFenced,
		ibm.ErrInvalidGroupId, ibm.ErrInvalidSessionTimeout,
		ibm.ErrInvalidTopic, ibm.ErrInvalidRequiredAcks, ibm.ErrInvalidConfig, ibm.ErrPolicyViolation,
		ibm.ErrMessageSizeTooLarge, ibm.ErrMessageSetSizeTooLarge, ibm.ErrInvalidTimestamp, ibm.ErrInvalidRecord,
		ibm.ErrOffsetMetadataTooLarge, ibm.ErrInvalidCommitOffsetSize, ibm.ErrOffsetOutOfRange:
		return true
	}
	return false
}

// wrap makes err a [driver.Error]. What is one already, a sentinel of the
// contract, or a context's error, it leaves alone.
func wrap(err error) error {
	var known *driver.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case errors.Is(err, driver.ErrClosed), errors.Is(err, driver.ErrClaimEnded):
		return err
	case err == context.Canceled, err == context.DeadlineExceeded:
		return err
	}
	code, kind := classify(err)
	return &driver.Error{Code: code, Kind: kind, Err: err}
}

// wrap is wrap for what c has lived through. An OAUTHBEARER token that was refused is
// no reason to give up: its source has another one next time.
func (c *consumer) wrap(err error) error { return soften(wrap(err), c.cfg.SASL) }

// soften makes a refused token transient.
func soften(err error, sasl *driver.SASL) error {
	var known *driver.Error
	if sasl == nil || sasl.Mechanism != driver.SASLOAuthBearer || !errors.As(err, &known) {
		return err
	}
	if known.Code != "SASL_AUTHENTICATION_FAILED" || known.Kind == nil {
		return err
	}
	return &driver.Error{Code: known.Code, Err: known.Err}
}

// classify names err. One error can hold the answers of several brokers: what
// is permanent then goes before what is not, as it is the answer of a cluster
// that was reached.
func classify(err error) (code string, kind error) {
	codes := kafkaErrors(err)
	if i := slices.IndexFunc(codes, permanent); i >= 0 {
		return codeName(codes[i]), driver.ErrPermanent
	}
	var config ibm.ConfigurationError
	var handshake *tlsError
	var timeout net.Error
	var noAnswer *answerError
	switch {
	case errors.As(err, &noAnswer):
		return noAnswer.code, nil
	case errors.As(err, &handshake), remoteAlert(err):
		return "TLS_HANDSHAKE_FAILED", tlsKind(err)
	case errors.As(err, &config):
		return "INVALID_CONFIG", driver.ErrPermanent
	case errors.Is(err, errToken):
		return "TOKEN_UNAVAILABLE", nil
	case errors.Is(err, errSCRAM):
		return "SASL_AUTHENTICATION_FAILED", driver.ErrPermanent
	case len(codes) > 0:
		return codeName(codes[0]), nil
	case errors.As(err, &timeout) && timeout.Timeout():
		return "REQUEST_TIMED_OUT", nil
	case errors.As(err, &timeout), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ibm.ErrOutOfBrokers),
		errors.Is(err, ibm.ErrNotConnected), errors.Is(err, errSevered):
		return "CONNECTION_FAILED", nil
	}
	return "CLIENT_ERROR", nil
}

// tlsKind tells a peer that can not be trusted, or does not trust us, from one
// that did not answer.
func tlsKind(err error) error {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) || finalAlert(err) {
		return driver.ErrPermanent
	}
	return nil
}

// finalAlerts are the alerts with which a peer says that it wants another
// certificate, or another configuration. All others pass: a broker that starts, a
// load balancer that hiccups, and whoever stands on the path can send them, as they
// can send what is no TLS at all.
var finalAlerts = []string{
	"bad certificate", "unsupported certificate", "revoked certificate", "expired certificate", "unknown certificate",
	"unknown certificate authority", "access denied", "certificate required",
	"handshake failure", "protocol version not supported", "insufficient security level",
}

func finalAlert(err error) bool {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return false
	}
	alert := strings.TrimPrefix(op.Err.Error(), "tls: ")
	return slices.Contains(finalAlerts, alert)
}

// remoteAlert reports whether the peer has refused the TLS connection. With TLS
// 1.3 a client learns that its certificate is missing after the handshake only.
func remoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// kafkaErrors returns every code that a broker answered within err.
func kafkaErrors(err error) []ibm.KError {
	if k, ok := err.(ibm.KError); ok {
		return []ibm.KError{k}
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var codes []ibm.KError
		for _, err := range e.Unwrap() {
			codes = append(codes, kafkaErrors(err)...)
		}
		return codes
	case interface{ Unwrap() error }:
		return append(sentinelCodes(err), kafkaErrors(e.Unwrap())...)
	}
	return nil
}

// sentinelCodes finds the codes in an error of Sarama's Wrap, which keeps one
// beside what it unwraps to, and shows it to errors.Is alone.
func sentinelCodes(err error) (codes []ibm.KError) {
	if _, ok := err.(interface{ Is(error) bool }); !ok {
		return nil
	}
	for i := range codeNames() {
		if k := ibm.KError(i - 1); k != ibm.ErrNoError && errors.Is(err, k) {
			codes = append(codes, k)
		}
	}
	return codes
}

// isCode reports whether a broker answered err with one of codes.
func isCode(err error, codes ...ibm.KError) bool {
	return slices.ContainsFunc(kafkaErrors(err), func(k ibm.KError) bool { return slices.Contains(codes, k) })
}

func isPermanent(err error) bool { return errors.Is(err, driver.ErrPermanent) }

// invalid refuses a field of the configuration.
func invalid(err error) error {
	return &driver.Error{Code: "INVALID_CONFIG", Kind: driver.ErrPermanent, Err: err}
}

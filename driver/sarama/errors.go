package sarama

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/errorcode"
)

// wrap makes err a [driver.Error]: see [errorcode.Wrap].
func wrap(err error) error { return errorcode.Wrap(err, classify) }

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

func codeName(k ibm.KError) string { return errorcode.Code(k).String() }
func permanent(k ibm.KError) bool  { return errorcode.Code(k).Permanent() }

// invalid rejects a field of the configuration.
func invalid(err error) error { return errorcode.Invalid(err) }

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
	for _, code := range errorcode.Known() {
		if k := ibm.KError(code); k != ibm.ErrNoError && errors.Is(err, k) {
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

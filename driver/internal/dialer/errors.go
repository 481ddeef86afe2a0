package dialer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/response"
)

// A HandshakeError is a failed TLS handshake.
type HandshakeError struct{ Err error }

// Error returns the text of the failure that crypto/tls has reported.
func (e *HandshakeError) Error() string { return e.Err.Error() }

// Unwrap returns that failure.
func (e *HandshakeError) Unwrap() error { return e.Err }

// A lateError is returned for what is asked of a connection on which an answer has not come in
// time: it is closed. A client that goes on with it would report only that.
type lateError struct{ after time.Duration }

// Error says for how long the answer was awaited.
func (e lateError) Error() string {
	return fmt.Sprintf("no answer has come within %v, so the connection was closed", e.after.Round(time.Millisecond))
}

// Timeout returns true.
func (e lateError) Timeout() bool { return true }

// Temporary returns false: to read on from the connection would not help.
func (e lateError) Temporary() bool { return false }

// Is reports that the connection is closed.
func (e lateError) Is(target error) bool { return target == net.ErrClosed }

// ClassifyRefusal returns the code and the kind of an error that shows that the peer
// broke the protocol, or that there is no TLS connection with it. The code is empty for
// other errors.
func ClassifyRefusal(err error) (code string, kind error) {
	var handshake *HandshakeError
	var noAnswer *response.Error
	switch {
	case errors.As(err, &noAnswer):
		return noAnswer.Code, nil
	case errors.As(err, &handshake), remoteAlert(err):
		return "TLS_HANDSHAKE_FAILED", tlsKind(err)
	}
	return "", nil
}

// ClassifyLoss returns the code of an error that shows that a connection was lost or not
// made, or that an answer did not come in time. The code is empty for other errors.
func ClassifyLoss(err error) (code string) {
	var failed net.Error
	switch {
	case errors.As(err, &failed) && failed.Timeout():
		return "REQUEST_TIMED_OUT"
	case errors.As(err, &failed), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, ErrSevered):
		return "CONNECTION_FAILED"
	}
	return ""
}

// HungUp reports whether err shows that the peer has closed the connection.
func HungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// tlsKind distinguishes a peer that cannot be trusted, or does not trust this process,
// from a peer that did not answer.
func tlsKind(err error) error {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) || finalAlert(err) {
		return driver.ErrPermanent
	}
	return nil
}

// finalAlerts are the alerts by which a peer asks for another certificate or another
// configuration. All others are transient: a broker that starts, a load balancer with a
// hiccup, and anyone on the network path can send them, as they can send bytes that are
// no TLS at all.
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

// remoteAlert reports whether the peer has refused the TLS connection. With TLS 1.3 a
// client learns only after the handshake that its certificate is missing.
func remoteAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

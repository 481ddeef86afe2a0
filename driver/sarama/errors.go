package sarama

import (
	"errors"
	"slices"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/errorcode"
)

// wrap makes err a [driver.Error]: see [errorcode.Wrap].
func wrap(err error) error { return errorcode.Wrap(err, classify) }

// soften makes a refused token transient: see [credentials.Soften].
func soften(err error, sasl *driver.SASL) error { return credentials.Soften(err, sasl) }

// classify returns the code and the kind of err. One error can hold the answers of several
// brokers: a permanent one goes first, as it is the answer of a cluster that was reached.
func classify(err error) (code string, kind error) {
	codes := kafkaErrors(err)
	if i := slices.IndexFunc(codes, permanent); i >= 0 {
		return codeName(codes[i]), driver.ErrPermanent
	}
	if code, kind := dialer.ClassifyRefusal(err); code != "" {
		return code, kind
	}
	var config ibm.ConfigurationError
	switch {
	case errors.As(err, &config):
		return "INVALID_CONFIG", driver.ErrPermanent
	case errors.Is(err, credentials.ErrToken):
		return "TOKEN_UNAVAILABLE", nil
	case errors.Is(err, credentials.ErrSCRAM):
		return "SASL_AUTHENTICATION_FAILED", driver.ErrPermanent
	case errors.Is(err, credentials.ErrSCRAMServer):
		return "SASL_AUTHENTICATION_FAILED", nil
	case len(codes) > 0:
		return codeName(codes[0]), nil
	}
	if code := dialer.ClassifyLoss(err); code != "" {
		return code, nil
	}
	if errors.Is(err, ibm.ErrOutOfBrokers) || errors.Is(err, ibm.ErrNotConnected) {
		return "CONNECTION_FAILED", nil
	}
	return "CLIENT_ERROR", nil
}

func codeName(k ibm.KError) string { return errorcode.Code(k).String() }
func permanent(k ibm.KError) bool  { return errorcode.Code(k).Permanent() }

// invalid rejects a field of the configuration.
func invalid(err error) error { return errorcode.Invalid(err) }

// kafkaErrors returns every code of a broker in err.
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

// sentinelCodes returns the codes in an error of Sarama's Wrap, which keeps one beside the
// error that it unwraps to, and shows it only to errors.Is.
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

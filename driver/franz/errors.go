package franz

import (
	"context"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/errorcode"
)

// wrap makes err a [driver.Error]: see [errorcode.Wrap].
func wrap(err error) error { return errorcode.Wrap(err, classify) }

// classify returns the code and the kind of err. One error can hold the answers of several
// brokers: a permanent one goes first, as it is the answer of a cluster that was reached.
func classify(err error) (code string, kind error) {
	codes := kafkaErrors(err)
	if i := slices.IndexFunc(codes, errorcode.Code.Permanent); i >= 0 {
		return codes[i].String(), driver.ErrPermanent
	}
	if code, kind := dialer.ClassifyRefusal(err); code != "" {
		return code, kind
	}
	switch {
	case errors.Is(err, credentials.ErrToken):
		return "TOKEN_UNAVAILABLE", nil
	case errors.Is(err, credentials.ErrSCRAM):
		return "SASL_AUTHENTICATION_FAILED", driver.ErrPermanent
	case errors.Is(err, credentials.ErrSCRAMServer):
		return "SASL_AUTHENTICATION_FAILED", nil
	case len(codes) > 0:
		return codes[0].String(), nil
	case errors.Is(err, kgo.ErrClientClosed):
		return "CLIENT_CLOSED", nil
	}
	if code := dialer.ClassifyLoss(err); code != "" {
		return code, nil
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "REQUEST_TIMED_OUT", nil
	case kgo.IsRetryableBrokerErr(err):
		return "CONNECTION_FAILED", nil
	case strings.Contains(err.Error(), "broker is too old"): // kgo has no name for it
		return "UNSUPPORTED_VERSION", driver.ErrPermanent
	}
	return "CLIENT_ERROR", nil
}

// invalid rejects a field of the configuration.
func invalid(err error) error { return errorcode.Invalid(err) }

// kafkaErrors returns every code of a broker in err.
func kafkaErrors(err error) []errorcode.Code {
	if k, ok := err.(*kerr.Error); ok {
		return []errorcode.Code{errorcode.Code(k.Code)}
	}
	switch e := err.(type) {
	case interface{ Unwrap() []error }:
		var codes []errorcode.Code
		for _, err := range e.Unwrap() {
			codes = append(codes, kafkaErrors(err)...)
		}
		return codes
	case interface{ Unwrap() error }:
		return kafkaErrors(e.Unwrap())
	}
	return nil
}

// isCode reports whether a broker answered err with one of codes.
func isCode(err error, codes ...*kerr.Error) bool {
	return slices.ContainsFunc(codes, func(k *kerr.Error) bool { return errors.Is(err, k) })
}

func isPermanent(err error) bool { return errors.Is(err, driver.ErrPermanent) }

// name returns the name of one of kgo's options.
func name(option any) string {
	full := runtime.FuncForPC(reflect.ValueOf(option).Pointer()).Name()
	return full[strings.LastIndexByte(full, '.')+1:]
}

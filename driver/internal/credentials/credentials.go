// Package credentials checks and uses the SASL settings of a driver's configuration, the same
// way for every client of Kafka's protocol.
package credentials

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/errorcode"
)

// TokenTimeout bounds one call of a TokenSource: a client makes it while it sets up a
// connection, and other requests wait for that.
const TokenTimeout = 10 * time.Second

// ErrToken reports that a TokenSource returned no token. A later call may succeed.
var ErrToken = errors.New("token source")

// Check returns which of the settings cannot be honoured, as an invalid configuration.
func Check(s *driver.SASL) error {
	switch s.Mechanism {
	case driver.SASLPlain:
		return errors.Join(checkCredentials(s), checkPlain(s))
	case driver.SASLScramSHA256, driver.SASLScramSHA512:
		return errors.Join(checkCredentials(s), checkSCRAM(s))
	case driver.SASLOAuthBearer:
		if s.TokenSource == nil {
			return errorcode.Invalid(errors.New("SASL.TokenSource: is nil, and OAUTHBEARER needs one"))
		}
		return nil
	}
	return errorcode.Invalid(fmt.Errorf("SASL.Mechanism: %s is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER", quoted(string(s.Mechanism))))
}

func checkCredentials(s *driver.SASL) error {
	var errs []error
	if s.User == "" {
		errs = append(errs, errorcode.Invalid(fmt.Errorf("SASL.User: is empty, and %s needs one", s.Mechanism)))
	}
	if s.Password == "" {
		errs = append(errs, errorcode.Invalid(fmt.Errorf("SASL.Password: is empty, and %s needs one", s.Mechanism)))
	}
	return errors.Join(errs...)
}

// checkPlain rejects the separator of PLAIN's fields (RFC 4616) in a field.
func checkPlain(s *driver.SASL) error {
	if strings.ContainsRune(s.User, 0) || strings.ContainsRune(string(s.Password), 0) {
		return errorcode.Invalid(errors.New("SASL.User, SASL.Password: PLAIN cannot carry a NUL"))
	}
	return nil
}

// checkSCRAM rejects characters that SASLprep (RFC 4013) might change or forbid: without
// SASLprep, the hash of such a password would differ from the server's.
func checkSCRAM(s *driver.SASL) error {
	var errs []error
	if !printableASCII(s.User) {
		errs = append(errs, errorcode.Invalid(fmt.Errorf("SASL.User: %s is not printable ASCII, which SCRAM needs here", quoted(s.User))))
	}
	if !printableASCII(string(s.Password)) {
		errs = append(errs, errorcode.Invalid(errors.New("SASL.Password: is not printable ASCII, which SCRAM needs here")))
	}
	return errors.Join(errs...)
}

func printableASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// Token asks source for a token, within [TokenTimeout] and by the end of ctx. It returns an
// error that wraps ErrToken if the source fails, panics, or returns an empty token. The value
// of a panic is not part of the error: it may hold the token.
func Token(ctx context.Context, source driver.TokenSource) (token driver.Token, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic in the source: %s", ErrToken, panicText(p))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, TokenTimeout)
	defer cancel()
	token, err = source(ctx)
	if err != nil {
		return driver.Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if token.Value == "" {
		return driver.Token{}, fmt.Errorf("%w: the token is empty", ErrToken)
	}
	return token, nil
}

// panicText returns the text of a panic of the runtime, and the type of any other.
func panicText(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", p)
}

// Soften makes a refused token transient: the source may return another one next time.
func Soften(err error, sasl *driver.SASL) error {
	var known *driver.Error
	if sasl == nil || sasl.Mechanism != driver.SASLOAuthBearer || !errors.As(err, &known) {
		return err
	}
	if known.Code != "SASL_AUTHENTICATION_FAILED" || known.Kind == nil {
		return err
	}
	return &driver.Error{Code: known.Code, Err: known.Err}
}

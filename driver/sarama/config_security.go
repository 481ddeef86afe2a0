package sarama

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
)

// tokenTimeout bounds one call of a TokenSource: Sarama makes it while it sets up a
// connection, and other requests wait for that.
const tokenTimeout = 10 * time.Second

var errToken = errors.New("token source")

// secure puts SASL into conf, or returns which of its settings it does not support. It puts
// no TLS into conf: the dialer makes the handshake.
func secure(conf *ibm.Config, s *driver.SASL) error {
	if s == nil {
		return nil
	}
	if err := checkSASL(s); err != nil {
		return err
	}
	sasl := &conf.Net.SASL
	sasl.Enable = true
	sasl.Mechanism = ibm.SASLMechanism(s.Mechanism)
	sasl.Handshake = true
	sasl.Version = ibm.SASLHandshakeV1
	if s.Mechanism == driver.SASLOAuthBearer {
		sasl.TokenProvider = tokens{s.TokenSource}
		return nil
	}
	sasl.User, sasl.Password = s.User, string(s.Password)
	if s.Mechanism != driver.SASLPlain {
		sasl.SCRAMClientGeneratorFunc = func() ibm.SCRAMClient { return newSCRAM(s.Mechanism) }
	}
	return nil
}

func checkSASL(s *driver.SASL) error {
	switch s.Mechanism {
	case driver.SASLPlain:
		return errors.Join(checkCredentials(s), checkPlain(s))
	case driver.SASLScramSHA256, driver.SASLScramSHA512:
		return errors.Join(checkCredentials(s), checkSCRAM(s))
	case driver.SASLOAuthBearer:
		if s.TokenSource == nil {
			return invalid(errors.New("SASL.TokenSource: is nil, and OAUTHBEARER needs one"))
		}
		return nil
	}
	return invalid(fmt.Errorf("SASL.Mechanism: %q is none of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER", driver.Printable(string(s.Mechanism), 0)))
}

func checkCredentials(s *driver.SASL) error {
	var errs []error
	if s.User == "" {
		errs = append(errs, invalid(fmt.Errorf("SASL.User: is empty, and %s needs one", s.Mechanism)))
	}
	if s.Password == "" {
		errs = append(errs, invalid(fmt.Errorf("SASL.Password: is empty, and %s needs one", s.Mechanism)))
	}
	return errors.Join(errs...)
}

// checkPlain rejects the separator of PLAIN's fields (RFC 4616) in a field.
func checkPlain(s *driver.SASL) error {
	if strings.ContainsRune(s.User, 0) || strings.ContainsRune(string(s.Password), 0) {
		return invalid(errors.New("SASL.User, SASL.Password: PLAIN cannot carry a NUL"))
	}
	return nil
}

// checkSCRAM rejects characters that SASLprep (RFC 4013) might change or forbid: without
// SASLprep, the hash of such a password would differ from the server's.
func checkSCRAM(s *driver.SASL) error {
	var errs []error
	if !printableASCII(s.User) {
		errs = append(errs, invalid(fmt.Errorf("SASL.User: %q is not printable ASCII, which SCRAM needs here", driver.Printable(s.User, 0))))
	}
	if !printableASCII(string(s.Password)) {
		errs = append(errs, invalid(errors.New("SASL.Password: is not printable ASCII, which SCRAM needs here")))
	}
	return errors.Join(errs...)
}

func printableASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// tokens adapts a driver.TokenSource to Sarama.
type tokens struct{ source driver.TokenSource }

// Token implements Sarama's AccessTokenProvider.
func (t tokens) Token() (token *ibm.AccessToken, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: panic: %v", errToken, p)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), tokenTimeout)
	defer cancel()
	got, err := t.source(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errToken, err)
	}
	if got.Value == "" {
		return nil, fmt.Errorf("%w: the token is empty", errToken)
	}
	return &ibm.AccessToken{Token: string(got.Value), Extensions: got.Extensions}, nil
}

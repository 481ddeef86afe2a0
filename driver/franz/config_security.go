package franz

import (
	"context"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/oauth"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
)

// mechanism returns how a client authenticates, or nil without SASL. kgo asks it at each
// connection, and again before a session ends that a broker limits (KIP-368).
func mechanism(s *driver.SASL) (sasl.Mechanism, error) {
	if s == nil {
		return nil, nil
	}
	if err := credentials.Check(s); err != nil {
		return nil, err
	}
	switch s.Mechanism {
	case driver.SASLPlain:
		return &only{plain.Auth{User: s.User, Pass: string(s.Password)}.AsMechanism()}, nil
	case driver.SASLOAuthBearer:
		return &only{oauth.Oauth(func(ctx context.Context) (oauth.Auth, error) {
			token, err := credentials.Token(ctx, s.TokenSource)
			return oauth.Auth{Token: string(token.Value), Extensions: token.Extensions}, err
		})}, nil
	}
	return scram{s}, nil
}

// An only is a mechanism that is equal to itself alone. Kgo's own mechanisms are functions, which
// cannot be compared, so any option of the user would look like a change of the mechanism.
type only struct{ sasl.Mechanism }

// A scram authenticates by SCRAM. kgo's own would do more work for a hostile server than the
// drivers allow.
type scram struct{ sasl *driver.SASL }

// Name implements kgo's Mechanism.
func (s scram) Name() string { return string(s.sasl.Mechanism) }

// Authenticate implements kgo's Mechanism.
func (s scram) Authenticate(context.Context, string) (sasl.Session, []byte, error) {
	exchange := credentials.NewSCRAM(s.sasl.Mechanism)
	if err := exchange.Begin(s.sasl.User, string(s.sasl.Password), ""); err != nil {
		return nil, nil, err
	}
	first, err := exchange.Step("")
	return dialogue{exchange}, []byte(first), err
}

// A dialogue is one exchange of SCRAM.
type dialogue struct{ exchange *credentials.SCRAM }

// Challenge implements kgo's Session.
func (s dialogue) Challenge(sent []byte) (done bool, answer []byte, err error) {
	text, err := s.exchange.Step(string(sent))
	if err != nil {
		return false, nil, err
	}
	return s.exchange.Done(), []byte(text), nil
}

package sarama

import (
	"context"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
)

// secure puts SASL into conf, or returns which of its settings it does not support. It puts
// no TLS into conf: the dialer makes the handshake.
func secure(conf *ibm.Config, s *driver.SASL) error {
	if s == nil {
		return nil
	}
	if err := credentials.Check(s); err != nil {
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
		sasl.SCRAMClientGeneratorFunc = func() ibm.SCRAMClient { return credentials.NewSCRAM(s.Mechanism) }
	}
	return nil
}

// tokens adapts a driver.TokenSource to Sarama.
type tokens struct{ source driver.TokenSource }

// Token implements Sarama's AccessTokenProvider.
func (t tokens) Token() (*ibm.AccessToken, error) {
	token, err := credentials.Token(context.Background(), t.source)
	if err != nil {
		return nil, err
	}
	return &ibm.AccessToken{Token: string(token.Value), Extensions: token.Extensions}, nil
}

package kafka

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/aarontianqx/gopkg/driver"
)

// mechanisms are all that can be chosen. Their names are exact: one that is
// almost right is refused, since guessing could send a password in the clear.
func mechanisms() []SASLMechanism {
	return []SASLMechanism{SASLPlain, SASLScramSHA256, SASLScramSHA512, SASLOAuthBearer}
}

// mechanismNames lists them for a message.
func mechanismNames() string {
	var names []string
	for _, m := range mechanisms() {
		names = append(names, string(m))
	}
	return strings.Join(names, ", ")
}

// otherMechanism says how to do what was meant by a mechanism that is none of
// those, where there is a way.
func otherMechanism(m SASLMechanism) string {
	switch {
	case strings.EqualFold(string(m), "GSSAPI"), strings.EqualFold(string(m), "KERBEROS"):
		return "is Kerberos, which has no fields here; leave SASL nil, and set Net.SASL in sarama.Driver.Configure"
	case strings.EqualFold(string(m), "AWS_MSK_IAM"):
		return "is for Amazon's own Java client; want OAUTHBEARER, with a TokenSource that calls Amazon's signer, " +
			"github.com/aws/aws-msk-iam-sasl-signer-go"
	}
	for _, known := range mechanisms() {
		if strings.EqualFold(string(m), string(known)) {
			return "is written " + string(known)
		}
	}
	return "is none of " + mechanismNames()
}

// sasl returns a copy of s and what the driver has to know of it; both are nil
// only if s is.
func (p *problems) sasl(s *SASLConfig, encrypted bool) (*SASLConfig, *driver.SASL) {
	if s == nil {
		return nil, nil
	}
	kept := *s
	p.credentials(s)
	switch {
	case s.Mechanism == "":
		p.add("SASL.Mechanism", "is empty; want one of %s", mechanismNames())
	case !slices.Contains(mechanisms(), s.Mechanism):
		p.add("SASL.Mechanism", "%s %s", quote(string(s.Mechanism)), otherMechanism(s.Mechanism))
	case s.Mechanism == SASLOAuthBearer:
		p.bearer(s)
	default:
		p.password(s)
	}
	p.exposure(s, encrypted)
	return &kept, &driver.SASL{Mechanism: s.Mechanism, User: s.User, Password: s.Password, TokenSource: s.TokenSource}
}

// credentials refuses what an environment variable or a file adds to a user or
// a password. The password does not show.
func (p *problems) credentials(s *SASLConfig) {
	if err := validText(s.User); err != nil {
		p.add("SASL.User", "%s %v", quote(s.User), err)
	}
	if err := validText(string(s.Password)); err != nil {
		p.add("SASL.Password", "%v", err)
	}
}

// password asks for what PLAIN and SCRAM need.
func (p *problems) password(s *SASLConfig) {
	if s.User == "" {
		p.add("SASL.User", "is empty")
	}
	if s.Password == "" {
		p.add("SASL.Password", "is empty")
	}
	if s.TokenSource != nil {
		p.add("SASL.TokenSource", "has no effect with %s", s.Mechanism)
	}
}

// bearer asks for what OAUTHBEARER needs.
func (p *problems) bearer(s *SASLConfig) {
	if s.User != "" {
		p.add("SASL.User", "has no effect with %s", s.Mechanism)
	}
	if s.Password != "" {
		p.add("SASL.Password", "has no effect with %s", s.Mechanism)
	}
	if s.TokenSource == nil {
		p.add("SASL.TokenSource", "is nil, and %s needs it", s.Mechanism)
	}
}

// exposure refuses to send a secret itself, as SCRAM never does, where anyone on
// the network path can read it.
func (p *problems) exposure(s *SASLConfig, encrypted bool) {
	if encrypted || s.AllowPlaintext {
		return
	}
	if s.Mechanism == SASLPlain || s.Mechanism == SASLOAuthBearer {
		p.add("SASL.AllowPlaintext", "is false, and %s without TLS shows its secret to anyone on the network path", s.Mechanism)
	}
}

// Format hides the password from every verb. The password's own method is not
// enough: package fmt does not call it for a field behind a pointer when the
// verb does not suit pointers, as %s of a ConsumerConfig.
func (s SASLConfig) Format(f fmt.State, verb rune) {
	type plain SASLConfig
	fmt.Fprintf(f, "%+v", plain(s))
}

// MarshalJSON says whether there is a TokenSource, since a function has no JSON.
func (s SASLConfig) MarshalJSON() ([]byte, error) {
	type plain SASLConfig
	return json.Marshal(struct {
		plain
		TokenSource bool `json:",omitzero"` // in place of plain's
	}{plain(s), s.TokenSource != nil})
}

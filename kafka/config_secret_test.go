package kafka

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const testPassword = `hunter2 "/+ä%s`

// disguises are the forms in which the password must not show either. For
// base64 that is the password at each of the three positions of a group of
// bytes, without the characters that depend on its neighbours.
func disguises(secret string) []string {
	forms := []string{
		secret, fmt.Sprintf("%q", secret), url.QueryEscape(secret), url.PathEscape(secret),
		hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))),
		fmt.Sprintf("% x", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]"),
	}
	escaped, _ := json.Marshal(secret)
	forms = append(forms, strings.Trim(string(escaped), `"`))
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			s := enc.EncodeToString(append(make([]byte, shift), secret...))
			forms = append(forms, s[shift+1:len(s)-1])
		}
	}
	return forms
}

// shows returns the form in which out shows the secret, or "".
func shows(out, secret string) string {
	for _, form := range disguises(secret) {
		if strings.Contains(out, form) {
			return form
		}
	}
	return ""
}

// The search below finds what it looks for.
func TestDisguisesAreFound(t *testing.T) {
	plain := string(SASLConfig{Password: testPassword}.Password)
	for _, out := range []string{
		plain, "x" + fmt.Sprintf("%q", plain), fmt.Sprintf("%x", "ab"+plain+"c"), fmt.Sprintf("%X", plain),
		url.QueryEscape("a=" + plain), base64.StdEncoding.EncodeToString([]byte("\x00user\x00" + plain)),
		base64.StdEncoding.EncodeToString([]byte("ab" + plain + "c")), base64.URLEncoding.EncodeToString([]byte(plain)),
		fmt.Sprint([]byte("a" + plain)),
	} {
		assert.NotEmpty(t, shows(out, testPassword), "the password is not found in %q", out)
	}
}

// printings are the ways in which v becomes text. Two verbs are left out, %p and
// %w: package fmt gives them to no method of a value, and go vet refuses them.
func printings(t *testing.T, v any) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%U"} {
		out[verb] = fmt.Sprintf(verb, v)
	}
	js, err := json.Marshal(v)
	assert.NoError(t, err, "json.Marshal(%T)", v)
	out["json"] = string(js)
	xm, _ := xml.Marshal(v) // which may refuse functions
	out["xml"] = string(xm)
	var text, logged bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v, slog.Group("g", slog.Any("v", v)))
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("m", "v", v, slog.Group("g", slog.Any("v", v)))
	assert.NotContains(t, logged.String(), "!ERROR", "slog's JSON of %T", v)
	out["slog text"], out["slog json"] = text.String(), logged.String()
	return out
}

func TestSecretsDoNotShow(t *testing.T) {
	one := newTestPair(t, t.TempDir(), "one")
	pair, err := tls.X509KeyPair(one.certPEM, one.keyPEM)
	require.NoError(t, err)
	consumer := goodConsumer()
	consumer.TLS = &TLSConfig{Config: &tls.Config{Certificates: []tls.Certificate{pair}}}
	consumer.SASL = &SASLConfig{Mechanism: SASLPlain, User: "alice", Password: testPassword}
	producer := goodProducer()
	producer.TLS, producer.SASL = consumer.TLS, consumer.SASL
	secrets := []string{testPassword, string(pair.PrivateKey.(ed25519.PrivateKey).Seed())}
	resolvedC, _, err := resolveConsumer(&consumer, slog.New(slog.DiscardHandler), false)
	require.NoError(t, err)
	resolvedP, _, err := resolveProducer(producer, "p", slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	for _, v := range []any{
		consumer, &consumer, producer, &producer, resolvedC, resolvedP,
		*consumer.SASL, consumer.SASL, *consumer.TLS, consumer.TLS, consumer.SASL.Password,
		[]SASLConfig{*consumer.SASL}, map[string]any{"sasl": *consumer.SASL, "tls": *consumer.TLS},
		Token{Value: testPassword},
	} {
		for how, out := range printings(t, v) {
			noSecret(t, secrets, out, "%s of %T", how, v)
		}
	}
}

func TestConfigurationsArePrintedWithTheirSecurity(t *testing.T) {
	cfg := full()
	out := fmt.Sprintf("%v", cfg)
	for _, want := range []string{"{Mechanism:PLAIN User:u Password:[redacted] ", "{CAFile: CertFile: KeyFile: ServerName:kafka.example "} {
		assert.Contains(t, out, want)
	}
	assert.Regexp(t, `<nil> <nil>}$`, fmt.Sprintf("%v", goodConsumer()), "without security")
}

// The fields that are no secret do show, so that an operator can find a mistake.
func TestJSONShowsTheRest(t *testing.T) {
	token := func(context.Context) (Token, error) { return Token{}, nil }
	for _, row := range []struct {
		v    any
		want string
	}{
		{&SASLConfig{Mechanism: SASLPlain, User: "alice", Password: testPassword, AllowPlaintext: true},
			`{"Mechanism":"PLAIN","User":"alice","Password":"[redacted]","AllowPlaintext":true}`},
		{SASLConfig{Mechanism: SASLOAuthBearer, TokenSource: token},
			`{"Mechanism":"OAUTHBEARER","User":"","Password":"","AllowPlaintext":false,"TokenSource":true}`},
		{TLSConfig{CAFile: "ca", CertFile: "crt", KeyFile: "key", ServerName: "n", InsecureSkipVerify: true},
			`{"CAFile":"ca","CertFile":"crt","KeyFile":"key","ServerName":"n","InsecureSkipVerify":true}`},
		{&TLSConfig{Config: &tls.Config{}},
			`{"CAFile":"","CertFile":"","KeyFile":"","ServerName":"","InsecureSkipVerify":false,"Config":true}`},
	} {
		got, err := json.Marshal(row.v)
		assert.NoError(t, err)
		assert.Equal(t, row.want, string(got))
	}
}

// No error shows the password, whether the password is wrong or another field.
func TestErrorsDoNotShowSecrets(t *testing.T) {
	for _, s := range []SASLConfig{
		{Mechanism: "scram", Password: testPassword},
		{Mechanism: SASLPlain, Password: testPassword + "\n"},
		{Mechanism: SASLPlain, User: "u", Password: testPassword + "\x00"},
		{Mechanism: SASLOAuthBearer, User: "u", Password: testPassword + "\xff"},
	} {
		cfg := goodConsumer()
		cfg.SASL = &s
		_, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
		if !assert.Error(t, err, "%v is accepted", s) {
			continue
		}
		for how, out := range printings(t, err) {
			noSecret(t, []string{testPassword}, out, "%s of the error", how)
		}
		noSecret(t, []string{testPassword}, err.Error(), "the error")
	}
}

func noSecret(t *testing.T, secrets []string, out, format string, args ...any) {
	t.Helper()
	for _, secret := range secrets {
		assert.Empty(t, shows(out, secret), "%s shows a secret in this form: %s", fmt.Sprintf(format, args...), out)
	}
}

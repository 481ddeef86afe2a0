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
		if shows(out, testPassword) == "" {
			t.Errorf("the password is not found in %q", out)
		}
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
	if err != nil {
		t.Errorf("json.Marshal(%T): %v", v, err)
	}
	out["json"] = string(js)
	xm, _ := xml.Marshal(v) // which may refuse functions
	out["xml"] = string(xm)
	var text, logged bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v, slog.Group("g", slog.Any("v", v)))
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("m", "v", v, slog.Group("g", slog.Any("v", v)))
	if strings.Contains(logged.String(), "!ERROR") {
		t.Errorf("slog's JSON of %T: %s", v, &logged)
	}
	out["slog text"], out["slog json"] = text.String(), logged.String()
	return out
}

func TestSecretsDoNotShow(t *testing.T) {
	one := newTestPair(t, t.TempDir(), "one")
	pair, err := tls.X509KeyPair(one.certPEM, one.keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	consumer := goodConsumer()
	consumer.TLS = &TLSConfig{Config: &tls.Config{Certificates: []tls.Certificate{pair}}}
	consumer.SASL = &SASLConfig{Mechanism: SASLPlain, User: "alice", Password: testPassword}
	producer := goodProducer()
	producer.TLS, producer.SASL = consumer.TLS, consumer.SASL
	secrets := []string{testPassword, string(pair.PrivateKey.(ed25519.PrivateKey).Seed())}
	resolvedC, _, err := resolveConsumer(&consumer, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	resolvedP, _, err := resolveProducer(producer, "p", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{
		consumer, &consumer, producer, &producer, resolvedC, resolvedP,
		*consumer.SASL, consumer.SASL, *consumer.TLS, consumer.TLS, consumer.SASL.Password,
		[]SASLConfig{*consumer.SASL}, map[string]any{"sasl": *consumer.SASL, "tls": *consumer.TLS},
		Token{Value: testPassword},
	} {
		for how, out := range printings(t, v) {
			for _, secret := range secrets {
				if form := shows(out, secret); form != "" {
					t.Errorf("%s of %T shows %q as %s: %s", how, v, secret, form, out)
				}
			}
		}
	}
}

func TestConfigurationsArePrintedWithTheirSecurity(t *testing.T) {
	cfg := full()
	out := fmt.Sprintf("%v", cfg)
	for _, want := range []string{"{Mechanism:PLAIN User:u Password:[redacted] ", "{CAFile: CertFile: KeyFile: ServerName:kafka.example "} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in %s", want, out)
		}
	}
	if out := fmt.Sprintf("%v", goodConsumer()); !strings.HasSuffix(out, "<nil> <nil>}") {
		t.Errorf("without security: %s", out)
	}
}

// What is no secret does show, or nobody could find a mistake.
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
		if err != nil || string(got) != row.want {
			t.Errorf("got  %s, %v\nwant %s", got, err, row.want)
		}
	}
}

// No error shows the password, whatever is wrong with it or beside it.
func TestErrorsDoNotShowSecrets(t *testing.T) {
	for _, s := range []SASLConfig{
		{Mechanism: "scram", Password: testPassword},
		{Mechanism: SASLPlain, Password: testPassword + "\n"},
		{Mechanism: SASLPlain, User: "u", Password: testPassword + "\x00"},
		{Mechanism: SASLOAuthBearer, User: "u", Password: testPassword + "\xff"},
	} {
		cfg := goodConsumer()
		cfg.SASL = &s
		_, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler))
		if err == nil {
			t.Errorf("%v is accepted", s)
			continue
		}
		for how, out := range printings(t, err) {
			if form := shows(out, testPassword); form != "" {
				t.Errorf("%s of the error shows the password as %s: %s", how, form, out)
			}
		}
		if form := shows(err.Error(), testPassword); form != "" {
			t.Errorf("the error shows the password as %s: %v", form, err)
		}
	}
}

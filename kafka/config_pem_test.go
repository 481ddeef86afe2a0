package kafka

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// secretParts are parts of a key that betray it, in the forms in which it is pasted.
func secretParts(t *testing.T, keyPEM []byte) []string {
	t.Helper()
	block, _ := pem.Decode(keyPEM)
	require.NotNil(t, block)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	seed := key.(ed25519.PrivateKey).Seed()
	body := strings.Split(string(keyPEM), "\n")[1]
	return []string{string(seed), body, body[:40], body[20:]}
}

// A pasted is a text that was put into a field for a path.
type pasted struct{ name, text string }

// pastes are the ways in which a key is pasted.
func pastes(keyPEM []byte) []pasted {
	lines := strings.Split(strings.TrimSpace(string(keyPEM)), "\n")
	body := strings.Join(lines[1:len(lines)-1], "\n")
	der, _ := base64.StdEncoding.DecodeString(body)
	return []pasted{
		{"PEM", string(keyPEM)},
		{"PEM indented", "\n  " + string(keyPEM)},
		{"PEM on one line", strings.Join(lines, " ")},
		{"PEM with escaped line breaks", strings.Join(lines, `\n`)},
		{"PEM cut off", strings.Join(lines[:len(lines)-1], "\n")},
		{"PEM behind other text", "key: " + string(keyPEM)},
		{"body", body},
		{"body with a line break", body + "\n"},
		{"body in base64 of two lines", body[:30] + "\n" + body[30:]},
		{"DER", string(der)},
		{"JSON key", `{"kty":"OKP","crv":"Ed25519","d":"` + body + `"}`},
	}
}

func TestFault_F1_PastedKeysShowNowhere(t *testing.T) {
	dir := t.TempDir()
	one := newTestPair(t, dir, "one")
	secrets := secretParts(t, one.keyPEM)
	for _, paste := range pastes(one.keyPEM) {
		for field, c := range map[string]TLSConfig{
			"CAFile":   {CAFile: paste.text},
			"CertFile": {CertFile: paste.text, KeyFile: one.keyFile},
			"KeyFile":  {CertFile: one.certFile, KeyFile: paste.text},
			"both":     {CertFile: paste.text, KeyFile: paste.text},
		} {
			consumer, producer := goodConsumer(), goodProducer()
			consumer.TLS, producer.TLS = &c, &c
			var logged bytes.Buffer
			log := slog.New(slog.NewTextHandler(&logged, nil))
			_, _, errC := resolveConsumer(&consumer, log, false)
			_, _, errP := resolveProducer(producer, "p", log)
			if taken := field == "KeyFile" && strings.HasPrefix(paste.name, "PEM") && !strings.Contains(paste.name, " ") ||
				field == "KeyFile" && paste.name == "PEM indented"; taken {
				require.NoError(t, errC, "%s as %s", paste.name, field)
			} else {
				require.Error(t, errC, "%s as %s", paste.name, field)
				require.Error(t, errP, "%s as %s", paste.name, field)
			}
			for _, v := range []any{c, &c, consumer, &consumer, producer, &producer, errC, errP, []error{errC, errP}} {
				for how, out := range printings(t, v) {
					noSecret(t, secrets, out, "%s as %s: %s of %T", paste.name, field, how, v)
				}
			}
			noSecret(t, secrets, logged.String(), "%s as %s: the log", paste.name, field)
		}
	}
}

// PEM text in place of a path is taken, and is good for a mutual handshake.
func TestFault_F1_PEMTextIsTakenInPlaceOfAPath(t *testing.T) {
	dir := t.TempDir()
	broker, client := newTestPair(t, dir, "broker"), newTestPair(t, dir, "client")
	for name, c := range map[string]TLSConfig{
		"all text":    {CAFile: string(broker.certPEM), CertFile: string(client.certPEM), KeyFile: string(client.keyPEM)},
		"key a file":  {CAFile: string(broker.certPEM), CertFile: string(client.certPEM), KeyFile: client.keyFile},
		"cert a file": {CAFile: broker.certFile, CertFile: client.certFile, KeyFile: "\n" + string(client.keyPEM)},
	} {
		c.ServerName = "broker"
		cfg, logged := secure(t, &c)
		assert.Empty(t, logged, name)
		assert.NoError(t, shakeHands(t, broker, client, cfg), name)
	}
}

func TestFault_F4_KeysAndStoresAreNamedWithWhatToDo(t *testing.T) {
	dir := t.TempDir()
	one := newTestPair(t, dir, "one")
	block, _ := pem.Decode(one.keyPEM)
	cert, _ := pem.Decode(one.certPEM)
	file := func(name string, data []byte) string { return writeTestFile(t, dir, name, data) }
	pemOf := func(kind string, headers map[string]string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: der})
	}
	encrypted := pemOf("ENCRYPTED PRIVATE KEY", nil, []byte{0x30, 0x02, 0x30, 0x00})
	old := pemOf("RSA PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, []byte("x"))
	const decrypt = "holds an encrypted private key, and no field takes its password; decrypt it: " +
		"openssl pkey -in encrypted.key -out plain.key; or decrypt it in the program and set Config.Certificates"
	const jks = "is a Java keystore (JKS); want PEM: keytool -importkeystore -srckeystore store.jks " +
		"-destkeystore store.p12 -deststoretype PKCS12, and then openssl pkcs12 -in store.p12 -nodes -out store.pem"
	p12 := unhex(t, "30820a1c 020103 308209d2 06092a864886f70d010701")
	ber := unhex(t, "3080 020103 3080 06092a864886f70d010701")

	refuseSecurity(t, dir, []badSecurity{
		{"encrypted key", &TLSConfig{CertFile: one.certFile, KeyFile: file("enc.key", encrypted)}, nil,
			`TLS.KeyFile: "DIR/enc.key" ` + decrypt},
		{"encrypted key in the old form", &TLSConfig{CertFile: one.certFile, KeyFile: file("old.key", old)}, nil,
			`TLS.KeyFile: "DIR/old.key" ` + decrypt},
		{"encrypted key as text", &TLSConfig{CertFile: string(one.certPEM), KeyFile: string(encrypted)}, nil,
			`TLS.KeyFile: the PEM text ` + decrypt},
		{"PKCS #12", &TLSConfig{CertFile: file("store.p12", p12), KeyFile: one.keyFile}, nil,
			`TLS.CertFile: "DIR/store.p12" is a PKCS #12 store; want PEM: openssl pkcs12 -in store.p12 -nodes -out store.pem`},
		{"PKCS #12 in BER", &TLSConfig{CAFile: file("ber.p12", ber)}, nil,
			`TLS.CAFile: "DIR/ber.p12" is a PKCS #12 store; want PEM: openssl pkcs12 -in store.p12 -nodes -out store.pem`},
		{"JKS", &TLSConfig{CAFile: file("trust.jks", unhex(t, "feedfeed 00000002"))}, nil, `TLS.CAFile: "DIR/trust.jks" ` + jks},
		{"JCEKS", &TLSConfig{CAFile: file("trust.jceks", unhex(t, "cececece 00000002"))}, nil, `TLS.CAFile: "DIR/trust.jceks" ` + jks},
		{"certificate in DER", &TLSConfig{CAFile: file("ca.der", cert.Bytes)}, nil,
			`TLS.CAFile: "DIR/ca.der" is a certificate in DER; want PEM: openssl x509 -inform der -in cert.der -out cert.pem`},
		{"key in DER", &TLSConfig{CertFile: one.certFile, KeyFile: file("key.der", block.Bytes)}, nil,
			`TLS.KeyFile: "DIR/key.der" is a private key in DER; want PEM: openssl pkey -inform der -in key.der -out key.pem`},
		{"key of OpenSSH", &TLSConfig{CertFile: one.certFile, KeyFile: file("ssh", pemOf("OPENSSH PRIVATE KEY", nil, []byte("openssh-key-v1")))}, nil,
			`TLS.KeyFile: "DIR/ssh" holds a key of OpenSSH; want PKCS #8: ssh-keygen -p -m pkcs8 -f key`},
		{"certificates in PKCS #7", &TLSConfig{CAFile: file("ca.p7b", pemOf("PKCS7", nil, []byte("x")))}, nil,
			`TLS.CAFile: "DIR/ca.p7b" holds PKCS #7; want certificates: openssl pkcs7 -print_certs -in certs.p7b -out certs.pem`},
		{"certificate request", &TLSConfig{CertFile: file("csr", pemOf("CERTIFICATE REQUEST", nil, []byte("x"))), KeyFile: one.keyFile}, nil,
			`TLS.CertFile: "DIR/csr" holds a certificate request; want the certificate that an authority issued for it`},
		{"neither path nor PEM", &TLSConfig{CAFile: "a\nb"}, nil, `TLS.CAFile: is neither the path of a file nor PEM text ` +
			`that begins with -----BEGIN; its value is not shown, since it may be a secret`},
		{"Kerberos", nil, &SASLConfig{Mechanism: "GSSAPI", User: "u", Password: "p"},
			`SASL.Mechanism: "GSSAPI" is Kerberos, which has no fields here; leave SASL nil, and set Net.SASL in sarama.Driver.Configure`},
		{"Amazon", nil, &SASLConfig{Mechanism: "AWS_MSK_IAM"}, `SASL.Mechanism: "AWS_MSK_IAM" is for Amazon's own Java client; ` +
			`want OAUTHBEARER, with a TokenSource that calls Amazon's signer, github.com/aws/aws-msk-iam-sasl-signer-go`},
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	data, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	require.NoError(t, err)
	return data
}

// A file without end, such as a device, is refused before it fills the memory.
func TestEndlessFileIsRefused(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skipf("skipped: %v", err)
	}
	cfg := goodConsumer()
	cfg.TLS = &TLSConfig{CAFile: "/dev/zero"}
	_, _, err := resolveConsumer(&cfg, slog.New(slog.DiscardHandler), false)
	assert.ErrorContains(t, err, "read /dev/zero: larger than 16 MiB")
}

// renewals is a client's certificate in files, and a broker that says whose
// certificate it was shown.
type renewals struct {
	t      *testing.T
	dir    string
	broker testPair
	cfg    *tls.Config
	logged *bytes.Buffer
}

func newRenewals(t *testing.T) *renewals {
	r := &renewals{t: t, dir: t.TempDir(), logged: new(bytes.Buffer)}
	r.broker = newTestPair(t, r.dir, "broker")
	r.write(newTestPair(t, t.TempDir(), "first"))
	consumer := goodConsumer()
	consumer.TLS = &TLSConfig{CAFile: r.broker.certFile, ServerName: "broker",
		CertFile: r.dir + "/client.crt", KeyFile: r.dir + "/client.key"}
	_, forDriver, err := resolveConsumer(&consumer, slog.New(slog.NewTextHandler(r.logged, nil)), false)
	require.NoError(t, err)
	r.cfg = forDriver.TLS
	return r
}

func (r *renewals) write(p testPair) {
	writeTestFile(r.t, r.dir, "client.crt", p.certPEM)
	writeTestFile(r.t, r.dir, "client.key", p.keyPEM)
}

// shown returns the common name of the certificate that a broker is shown now.
func (r *renewals) shown() string {
	r.t.Helper()
	pair, err := tls.X509KeyPair(r.broker.certPEM, r.broker.keyPEM)
	require.NoError(r.t, err)
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	deadline := time.Now().Add(10 * time.Second)
	server.SetDeadline(deadline)
	client.SetDeadline(deadline)
	conn := tls.Server(server, &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert})
	failed := make(chan error, 1)
	go func() { failed <- tls.Client(client, r.cfg).Handshake() }()
	require.NoError(r.t, conn.Handshake())
	require.NoError(r.t, <-failed)
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestFault_E8_RenewedCertificateIsUsedAtTheNextHandshake(t *testing.T) {
	r := newRenewals(t)
	assert.Equal(t, "first", r.shown())
	assert.Empty(t, r.logged.String())

	r.write(newTestPair(t, t.TempDir(), "second"))
	assert.Equal(t, "second", r.shown())
	assert.Equal(t, "second", r.shown())
	assert.Equal(t, 1, strings.Count(r.logged.String(), "was renewed"), r.logged)
	assert.Contains(t, r.logged.String(), "consumer=orders")
}

func TestFault_E8_HalfWrittenFileKeepsTheEarlierCertificate(t *testing.T) {
	r := newRenewals(t)
	second := newTestPair(t, t.TempDir(), "second")
	secrets := secretParts(t, second.keyPEM)
	for _, half := range []struct {
		name      string
		cert, key []byte
	}{
		{"certificate cut off", second.certPEM[:len(second.certPEM)/2], second.keyPEM},
		{"chain cut off", append(bytes.Clone(second.certPEM), second.certPEM[:100]...), second.keyPEM},
		{"key cut off", second.certPEM, second.keyPEM[:60]},
		{"key empty", second.certPEM, nil},
		{"certificate without its key", second.certPEM, []byte("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")},
	} {
		r.logged.Reset()
		writeTestFile(t, r.dir, "client.crt", half.cert)
		writeTestFile(t, r.dir, "client.key", half.key)
		for range 3 {
			assert.Equal(t, "first", r.shown(), half.name)
		}
		assert.Equal(t, 1, strings.Count(r.logged.String(), "\n"), "%s: logged\n%s", half.name, r.logged)
		assert.Contains(t, r.logged.String(), "level=WARN", half.name)
		noSecret(t, secrets, r.logged.String(), "%s: the log", half.name)
		r.write(newTestPair(t, t.TempDir(), "first"))
		assert.Equal(t, "first", r.shown(), half.name)
	}
	require.NoError(t, os.Remove(r.dir+"/client.key"))
	assert.Equal(t, "first", r.shown())
	assert.Contains(t, r.logged.String(), "no such file")

	r.write(second)
	assert.Equal(t, "second", r.shown())
}

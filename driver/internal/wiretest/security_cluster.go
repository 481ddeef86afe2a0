package wiretest

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha512"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// loginLasts is how long the broker keeps a connection of SASL_PLAINTEXT with SCRAM-SHA-512
// open without another authentication (KIP-368). Tokens end by themselves.
const loginLasts = 2 * time.Second

// A secured cluster, each of whose listeners is behind a tap.
type secured struct {
	*kafkacluster.Cluster
	driver driver.Driver
	taps   map[string]*tap
	seen   *everything
	ca     []byte
	dir    string
}

func newSecured(t *testing.T, loud func(*testing.T, io.Writer) driver.Driver) *secured {
	s := &secured{taps: map[string]*tap{}, seen: &everything{}, dir: t.TempDir()}
	s.driver = loud(t, s.seen)
	s.Cluster = kafkacluster.ForTest(t, kafkacluster.Config{
		Security: &kafkacluster.Security{
			Users:      map[string]string{"alice": passwordOfAlice, "bob": passwordOfBob},
			SuperUsers: []string{"User:alice", "User:CN=alice", "User:" + tokenSubject},
		},
		Properties: map[string]string{
			"group.min.session.timeout.ms":                                         "1000",
			"sasl.enabled.mechanisms":                                              "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
			"listener.name.sasl_ssl.oauthbearer.sasl.jaas.config":                  oauthLogin,
			"listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config":            oauthLogin,
			"listener.name.sasl_plaintext.scram-sha-512.connections.max.reauth.ms": fmt.Sprint(loginLasts.Milliseconds()),
			"listener.name.sasl_plaintext.oauthbearer.connections.max.reauth.ms":   "60000", // or less, with the token
		},
		Advertise: func(_ int, listener, addr string) string {
			if listener == "BROKER" || listener == "CONTROLLER" {
				return addr
			}
			s.taps[listener] = newTap(t, addr)
			return s.taps[listener].addr()
		},
	})
	s.ca = s.Authority().PEM()
	require.NoError(t, s.CreateTopic(t.Context(), "t", 1, nil))
	return s
}

// file writes a file and returns its path.
func (s *secured) file(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

func (s *secured) clientPair(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	cert, key, err := s.Authority().Issue(kafkacluster.Certificate{CommonName: name})
	require.NoError(t, err)
	return s.file(t, name+".pem", cert), s.file(t, name+".key", key)
}

// bearer gives unsecured tokens (KIP-255), which the broker of this test accepts. Each is
// good for some time.
func bearer(subject string, good time.Duration) *kafka.SASLConfig {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return &kafka.SASLConfig{
		Mechanism: kafka.SASLOAuthBearer, AllowPlaintext: true,
		TokenSource: func(context.Context) (kafka.Token, error) {
			claims := fmt.Sprintf(`{"sub":%q,"iat":%d,"exp":%d}`, subject, time.Now().Add(-2*time.Hour).Unix(), time.Now().Add(good).Unix())
			return kafka.Token{Value: kafka.Secret(part(`{"alg":"none"}`) + "." + part(claims) + ".")}, nil
		},
	}
}

func login(m kafka.SASLMechanism, name, password string) *kafka.SASLConfig {
	return &kafka.SASLConfig{Mechanism: m, User: name, Password: kafka.Secret(password), AllowPlaintext: true}
}

// acl grants or withdraws an operation of bob, and returns when the broker applies it.
func (s *secured) acl(t *testing.T, grant bool, kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) {
	t.Helper()
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	if grant {
		req := kmsg.NewPtrCreateACLsRequest()
		c := kmsg.NewCreateACLsRequestCreation()
		c.ResourceType, c.ResourceName, c.ResourcePatternType = kind, name, kmsg.ACLResourcePatternTypeLiteral
		c.Principal, c.Host, c.Operation, c.PermissionType = "User:bob", "*", op, kmsg.ACLPermissionTypeAllow
		req.Creations = append(req.Creations, c)
		resp, err := req.RequestWith(t.Context(), cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.Results[0].ErrorCode)
		}
		require.NoError(t, err)
		s.awaitACL(t, true, kind, name, op)
		return
	}
	req := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	principal := "User:bob"
	f.ResourceType, f.ResourceName, f.ResourcePatternType = kind, &name, kmsg.ACLResourcePatternTypeLiteral
	f.Principal, f.Operation, f.PermissionType = &principal, op, kmsg.ACLPermissionTypeAny
	req.Filters = append(req.Filters, f)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Results[0].ErrorCode)
	}
	require.NoError(t, err)
	require.NotEmpty(t, resp.Results[0].MatchingACLs, "ACLs that were withdrawn")
	s.awaitACL(t, false, kind, name, op)
}

// password changes the SCRAM-SHA-512 password of a user, and returns when the broker
// asks for it.
func (s *secured) password(t *testing.T, name, password string) {
	t.Helper()
	const scramSHA512, iterations = 2, 4096
	salt := []byte("salt of a test")
	salted, err := pbkdf2.Key(sha512.New, password, salt, iterations, sha512.Size)
	require.NoError(t, err)
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrAlterUserSCRAMCredentialsRequest()
	u := kmsg.NewAlterUserSCRAMCredentialsRequestUpsertion()
	u.Name, u.Mechanism, u.Iterations, u.Salt, u.SaltedPassword = name, scramSHA512, iterations, salt, salted
	req.Upsertions = append(req.Upsertions, u)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.Results[0].ErrorCode)
	}
	require.NoError(t, err)
	s.awaitLogin(t, name, password)
}

// certify replaces the certificate of the broker's listeners while it runs.
func (s *secured) certify(t *testing.T, authority *kafkacluster.Authority, name string) {
	t.Helper()
	cert, key, err := authority.Issue(kafkacluster.Certificate{CommonName: "broker", Hosts: []string{"127.0.0.1", "localhost"}})
	require.NoError(t, err)
	path := s.file(t, name, slices.Concat(cert, key))
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kmsg.ConfigResourceTypeBroker, "1"
	for _, listener := range []string{"ssl", "sasl_ssl"} {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = "listener.name."+listener+".ssl.keystore.location", kmsg.IncrementalAlterConfigOpSet, &path
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		if err = kerr.ErrorForCode(resp.Resources[0].ErrorCode); err != nil && resp.Resources[0].ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *resp.Resources[0].ErrorMessage)
		}
	}
	require.NoError(t, err)
	s.awaitCertificate(t, cert)
}

// awaitCertificate returns when both listeners show the certificate: the broker
// answers before they do, and each gets it for itself.
func (s *secured) awaitCertificate(t *testing.T, want []byte) {
	t.Helper()
	block, _ := pem.Decode(want)
	const always = 10 // times in a row: each of a listener's threads learns of it for itself
	for _, listener := range []string{"SSL", "SASL_SSL"} {
		n := 0
		await(t, "the new certificate on "+listener, func() error {
			c, err := tls.Dial("tcp", s.taps[listener].addr(), &tls.Config{InsecureSkipVerify: true})
			if err != nil {
				return err
			}
			defer c.Close()
			if n++; !bytes.Equal(c.ConnectionState().PeerCertificates[0].Raw, block.Bytes) {
				n = 0
			}
			if n < always {
				return fmt.Errorf("shown %d times in a row", n)
			}
			return nil
		})
	}
}

// await returns when a broker has applied a change, that is, when try returns nil. The controller answers a change of a password, an ACL or a
// certificate before the broker that serves clients has heard of it.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		require.LessOrEqual(t, time.Since(began), userPatience, "waited for %s: %v", what, err)
	}
}

// awaitLogin returns when the broker accepts the password and with it, since
// there is only one, no earlier one.
func (s *secured) awaitLogin(t *testing.T, name, password string) {
	t.Helper()
	await(t, "the new password of "+name, func() error {
		cl, err := kgo.NewClient(kgo.SeedBrokers(s.taps["SASL_PLAINTEXT"].addr()), kgo.RequestRetries(0), kgo.DisableClientMetrics(),
			kgo.SASL(scram.Auth{User: name, Pass: password}.AsSha512Mechanism()))
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx, cancel := context.WithTimeout(t.Context(), userPatience)
		defer cancel()
		return cl.Ping(ctx)
	})
}

// awaitACL returns when the broker's authorizer knows the ACL, or no longer does.
func (s *secured) awaitACL(t *testing.T, granted bool, kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) {
	t.Helper()
	cl, err := s.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrDescribeACLsRequest()
	principal := "User:bob"
	req.ResourceType, req.ResourceName, req.ResourcePatternType = kind, &name, kmsg.ACLResourcePatternTypeLiteral
	req.Principal, req.Operation, req.PermissionType = &principal, op, kmsg.ACLPermissionTypeAny
	await(t, fmt.Sprintf("%v of %s, granted: %t", op, name, granted), func() error {
		resp, err := req.RequestWith(t.Context(), cl)
		if err == nil {
			err = kerr.ErrorForCode(resp.ErrorCode)
		}
		if err == nil && (len(resp.Resources) > 0) != granted {
			err = fmt.Errorf("the broker names %d", len(resp.Resources))
		}
		return err
	})
}

// cut closes all connections of clients.
func (s *secured) cut() {
	for _, p := range s.taps {
		p.cut()
	}
}

package wiretest

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// testRunning changes permissions, passwords and certificates while a consumer and a
// producer run.
func (s *secured) testRunning(t *testing.T) {
	ca := s.file(t, "ca.pem", s.ca)
	bob := login(kafka.SASLScramSHA512, "bob", passwordOfBob)
	trusted := &kafka.TLSConfig{CAFile: ca}
	addr := s.taps["SASL_SSL"].addr()
	u, _, producerErr := s.newUser(t, addr, "bobs", trusted, bob)
	s.line(t, "| changed | the consumer | after | the producer | after |")
	s.line(t, "|---|---|---|---|---|")
	refused := func(what, consumerCode, producerCode string) {
		seen, took := u.wantDisabled(t, consumerCode)
		u.send(t) // a message in flight when the connection was cut may have an unknown outcome
		sent, sendTook := u.wantRefused(t, producerCode)
		s.change(t, what, seen, took, sent, sendTook)
	}
	works := func(what string) {
		took := u.wantRunning(t)
		s.change(t, what, "runs", took, "sent", u.wantSent(t))
	}
	const topic, group = kmsg.ACLResourceTypeTopic, kmsg.ACLResourceTypeGroup
	const read, write = kmsg.ACLOperationRead, kmsg.ACLOperationWrite

	seen, took := u.wantDisabled(t, "_AUTHORIZATION_FAILED")
	assert.ErrorContains(t, producerErr, "CLUSTER_AUTHORIZATION_FAILED")
	s.change(t, "nothing is granted", seen, took, brief(producerErr), 0)
	s.acl(t, true, topic, "t", read)
	s.acl(t, true, topic, "t", write)
	u, _, producerErr = s.newUser(t, addr, "bobs", trusted, bob)
	require.NoError(t, producerErr)
	seen, took = u.wantDisabled(t, "GROUP_AUTHORIZATION_FAILED")
	s.change(t, "topic granted, group not", seen, took, "sent", u.wantSent(t))
	s.acl(t, true, group, "bobs", read)
	works("group granted, switched on")

	s.acl(t, false, topic, "t", write)
	seen, took = u.wantRefused(t, "TOPIC_AUTHORIZATION_FAILED")
	s.change(t, "write withdrawn", "runs", 0, seen, took)
	s.acl(t, true, topic, "t", write)
	works("write granted again")

	s.acl(t, false, topic, "t", read)
	seen, took = u.wantDisabled(t, "TOPIC_AUTHORIZATION_FAILED")
	s.change(t, "read withdrawn", seen, took, "sent", u.wantSent(t))
	s.acl(t, true, topic, "t", read)
	works("read granted again, switched on")

	s.acl(t, false, group, "bobs", read)
	seen, took = u.wantDisabled(t, "GROUP_AUTHORIZATION_FAILED")
	s.change(t, "group withdrawn", seen, took, "sent", u.wantSent(t))
	s.acl(t, true, group, "bobs", read)
	works("group granted again, switched on")

	s.password(t, "bob", passwordOfBob+"-new")
	works("password rotated, connections live on")
	s.cut()
	refused("connections cut after that", "SASL_AUTHENTICATION_FAILED", "SASL_AUTHENTICATION_FAILED")
	renewed, _, _ := s.newUser(t, addr, "bobs", trusted, login(kafka.SASLScramSHA512, "bob", passwordOfBob+"-new"))
	took = renewed.wantRunning(t)
	s.change(t, "another service with the new password", "runs", took, "sent", renewed.wantSent(t))
	require.NoError(t, renewed.manager.SetConsumerSwitch("job", false))
	s.password(t, "bob", passwordOfBob)
	works("password rotated back, switched on")

	foreign, err := kafkacluster.NewAuthority()
	require.NoError(t, err)
	s.certify(t, s.Authority(), "second.pem")
	s.cut()
	works("broker's certificate replaced, connections cut")
	s.certify(t, foreign, "foreign.pem")
	s.cut()
	refused("replaced by one of a foreign authority, connections cut", "TLS_HANDSHAKE_FAILED", "TLS_HANDSHAKE_FAILED")
	s.certify(t, s.Authority(), "third.pem")
	works("replaced by a good one, switched on")

	s.testClientCertificate(t, foreign, &u, works, refused)
}

// change writes a line of the table of changes.
func (s *secured) change(t *testing.T, what, consumer string, consumerTook time.Duration, producer string, producerTook time.Duration) {
	t.Helper()
	s.line(t, "| %s | %s | %s | %s | %s |", what, consumer, short(consumerTook), producer, short(producerTook))
}

// testClientCertificate replaces the certificate of a client that runs, as a
// service does whose certificates live for hours only. It makes that client *u.
func (s *secured) testClientCertificate(t *testing.T, foreign *kafkacluster.Authority, u **user, works func(string), refused func(what, consumer, producer string)) {
	t.Helper()
	conf := &kafka.TLSConfig{CAFile: filepath.Join(s.dir, "ca.pem")}
	issue := func(a *kafkacluster.Authority) {
		cert, key, err := a.Issue(kafkacluster.Certificate{CommonName: "alice"})
		require.NoError(t, err)
		conf.CertFile, conf.KeyFile = s.file(t, "renewed.pem", cert), s.file(t, "renewed.key", key)
	}
	issue(s.Authority())
	var err error
	*u, _, err = s.newUser(t, s.taps["SSL"].addr(), "certified", conf, nil)
	require.NoError(t, err)
	works("mutual TLS")
	issue(foreign)
	s.cut()
	refused("client's certificate replaced by one of a foreign authority, connections cut", "TLS_HANDSHAKE_FAILED", "TLS_HANDSHAKE_FAILED")
	issue(s.Authority())
	works("replaced by a good one, switched on")
}

package wiretest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// testReauthentication keeps a consumer and a producer running while the broker wants another
// authentication on each connection from time to time, at first with the right secret.
func (s *secured) testReauthentication(t *testing.T) {
	tokens := s.authenticatesAgain(t, "OAUTHBEARER, each token ends after 3 s, for 8 s", "tokens", bearer(tokenSubject, 3*time.Second), 3*time.Second)
	require.NoError(t, tokens.manager.SetConsumerSwitch("job", false))
	bob := login(kafka.SASLScramSHA512, "bob", passwordOfBob)
	u := s.authenticatesAgain(t, "SCRAM-SHA-512, the broker wants it again every 2 s, for 8 s", "bobs", bob, loginLasts)

	s.password(t, "bob", passwordOfBob+"-new")
	seen, took := u.wantDisabled(t, "SASL_AUTHENTICATION_FAILED")
	u.send(t) // a message in flight when the connection was closed may have an unknown outcome
	sent, sendTook := u.wantRefused(t, "SASL_AUTHENTICATION_FAILED")
	s.change(t, "password rotated, the next authentication is refused", seen, took, sent, sendTook)
	s.password(t, "bob", passwordOfBob)
	took = u.wantRunning(t)
	began := time.Now()
	await(t, "a send", func() error { // an authentication that was under way may still be refused
		_, err := u.send(t)
		return err
	})
	assert.Less(t, time.Since(began), 2*time.Second, "time until a message is sent")
	s.change(t, "password rotated back, switched on", "runs", took, "sent", time.Since(began))
}

// authenticatesAgain runs a consumer and a producer for 8 s. The broker closes a connection that
// has not authenticated again for a time.
func (s *secured) authenticatesAgain(t *testing.T, what, group string, sasl *kafka.SASLConfig, lasts time.Duration) *user {
	t.Helper()
	const runs = 8 * time.Second
	p := s.taps["SASL_PLAINTEXT"]
	p.reset()
	u, _, err := s.newUser(t, p.addr(), group, nil, sasl)
	require.NoError(t, err)
	took := u.wantRunning(t)
	slowest := u.steady(t, runs)
	assert.GreaterOrEqual(t, authentications(p.sent()), int(runs/lasts), "authentications of one connection")
	s.change(t, what, "runs", took, "sent", slowest)
	return u
}

// steady sends for so long, and checks that the consumer runs all the time, with its partition.
// It returns the time of the slowest send.
func (u *user) steady(t *testing.T, d time.Duration) (slowest time.Duration) {
	t.Helper()
	since := func() time.Time {
		status, err := u.manager.Consumer("job")
		require.NoError(t, err)
		require.Equal(t, kafka.StateRunning, status.State, "state of the consumer: %v", status.Reason)
		require.Len(t, status.Partitions, 1)
		return status.Since
	}
	began, first := time.Now(), since()
	for time.Since(began) < d {
		slowest = max(slowest, u.wantSent(t))
		require.Equal(t, first, since(), "the consumer has started again")
		time.Sleep(20 * time.Millisecond)
	}
	return slowest
}

package sarama

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// TestFault_C2_WhatPassesIsNotPermanent checks the codes that once ended a consumer.
func TestFault_C2_WhatPassesIsNotPermanent(t *testing.T) {
	oauth := &driver.SASL{Mechanism: driver.SASLOAuthBearer}
	password := &driver.SASL{Mechanism: driver.SASLPlain}
	for _, c := range []struct {
		err       error
		sasl      *driver.SASL
		permanent bool
	}{
		{ibm.ErrSASLAuthenticationFailed, oauth, false},
		{fmt.Errorf("connect: %w", ibm.ErrSASLAuthenticationFailed), oauth, false},
		{ibm.ErrSASLAuthenticationFailed, password, true},
		{ibm.ErrGroupAuthorizationFailed, oauth, true},
		{ibm.ErrTopicAuthorizationFailed, nil, true},
		{ibm.ErrUnsupportedSASLMechanism, password, true},
		{ibm.ErrInconsistentGroupProtocol, nil, false},
		{ibm.ErrUnknownTopicOrPartition, nil, false},
		{ibm.ErrOffsetsLoadInProgress, nil, false},
		{ibm.ErrFencedInstancedId, nil, true},
		{ibm.ErrUnsupportedVersion, nil, true},
	} {
		err := soften(wrap(c.err), c.sasl)
		var de *driver.Error
		assert.ErrorAs(t, err, &de)
		assert.ErrorIs(t, err, c.err)
		assert.Equal(t, c.permanent, isPermanent(err), "permanent: %v with %v", err, c.sasl)
	}
}

// TestFault_H9_AnswerThatIsNoTLSPasses: a port speaks TLS except for one answer,
// or sends an alert that does not concern certificates.
func TestFault_H9_AnswerThatIsNoTLSPasses(t *testing.T) {
	alert := func(code byte) string { return string([]byte{21, 3, 3, 0, 2, 2, code}) }
	for _, c := range []struct {
		name, answer string
		permanent    bool
	}{
		{"HTTP", "HTTP/1.1 503 Service Unavailable\r\n\r\n", false},
		{"nothing", "", false},
		{"zeros", string(make([]byte, 64)), false},
		{"internal error", alert(80), false},
		{"unexpected message", alert(10), false},
		{"access denied", alert(49), true},
		{"certificate required", alert(116), true},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		var served atomic.Bool
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				conn.SetReadDeadline(time.Now().Add(patienceTest))
				conn.Read(make([]byte, 4096)) // the beginning of its handshake
				conn.Write([]byte(c.answer))
				conn.Close()
				served.Store(true)
			}
		}()
		cfg := consumerConfig([]string{l.Addr().String()})
		cfg.TLS = &tls.Config{}
		_, err = Driver{}.OpenConsumer(within(t, patienceTest), cfg)
		l.Close()
		<-done
		var de *driver.Error
		assert.True(t, served.Load(), "%s: served", c.name)
		assert.ErrorAs(t, err, &de, c.name)
		assert.Equal(t, c.permanent, isPermanent(err), "%s: permanent: %v", c.name, err)
		assert.ErrorContains(t, err, "TLS", c.name)
	}
}

// TestFault_D4_OutOfRangeNamesThePlace: with the default policy, the error names the
// position and the log that does not hold it.
func TestFault_D4_OutOfRangeNamesThePlace(t *testing.T) {
	t.Parallel()
	h, _ := fakeHarness(t)
	seed(t, h.brokers, "t", 0, numbered(0, 20)...)
	cfg := consumerConfig(h.brokers)
	r := newRecorder()
	m := start(t, Driver{}, cfg, r)
	r.waitRecords(t, 20)
	require.NoError(t, m.Commit(t.Context(), []driver.Mark{{Claim: r.claim(0), Offset: 3}}))
	m.stop(t)
	require.NoError(t, h.Truncate(t.Context(), "t", 0, 10))

	again := start(t, Driver{}, cfg, newRecorder())
	err := again.ranOut(t)
	wantError(t, err, "OFFSET_OUT_OF_RANGE", true)
	assert.ErrorContains(t, err, "t/0: offset 3, the log holds [10, 20)")
}

// TestFault_E5_NewPartitionsAreNoticed: a consumer notices new partitions within a
// minute, with an eager and with a cooperative strategy.
func TestFault_E5_NewPartitionsAreNoticed(t *testing.T) {
	testkit.Slow(t, "waits for up to a minute")
	t.Parallel()
	for _, strategy := range []driver.BalanceStrategy{driver.RoundRobin, driver.CooperativeSticky} {
		t.Run(strategy.String(), func(t *testing.T) {
			t.Parallel()
			h, _ := fakeHarness(t)
			cfg := consumerConfig(h.brokers)
			cfg.BalanceStrategies = []driver.BalanceStrategy{strategy}
			r := newRecorder()
			start(t, Driver{}, cfg, r)
			r.wait(t, "the assignment", func() bool { return len(r.live) == 1 })
			time.Sleep(time.Second) // Sarama takes its first look
			began := time.Now()
			require.NoError(t, h.AddPartitions(t.Context(), "t", 3))
			r.waitFor(t, time.Minute, "the new partitions", func() bool { return len(r.live) == 3 })
			t.Logf("noticed after %v", time.Since(began))
		})
	}
}

package wiretest

import (
	"crypto/tls"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// A lateListener shows its earlier certificate for a number of connections more,
// as a broker does that was just asked to change it.
type lateListener struct {
	tls.Config
	served atomic.Int32
}

func newLateListener(t *testing.T, s *secured, name string, earlier, later tls.Certificate, late int32) *lateListener {
	t.Helper()
	l := &lateListener{}
	l.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if l.served.Add(1) <= late {
			return &earlier, nil
		}
		return &later, nil
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &l.Config)
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.(*tls.Conn).Handshake()
			c.Close()
		}
	})
	t.Cleanup(serving.Wait)
	t.Cleanup(func() { listener.Close() })
	s.taps[name] = newTap(t, listener.Addr().String())
	return l
}

// The security table goes on when the broker's listeners show the certificate that
// they were asked to, each of them, and not when the broker has answered.
func TestFault_G2_TheTableWaitsForWhatEachListenerServes(t *testing.T) {
	t.Parallel()
	a, err := kafkacluster.NewAuthority()
	require.NoError(t, err)
	issue := func() (tls.Certificate, []byte) {
		cert, key, err := a.Issue(kafkacluster.Certificate{CommonName: "broker", Hosts: []string{"127.0.0.1"}})
		require.NoError(t, err)
		pair, err := tls.X509KeyPair(cert, key)
		require.NoError(t, err)
		return pair, cert
	}
	earlier, _ := issue()
	later, laterPEM := issue()
	s := &secured{taps: map[string]*tap{}}
	const late, always = 7, 10
	listeners := map[string]*lateListener{}
	for _, name := range []string{"SSL", "SASL_SSL"} {
		listeners[name] = newLateListener(t, s, name, earlier, later, late)
	}
	s.awaitCertificate(t, laterPEM)
	for name, l := range listeners {
		assert.GreaterOrEqual(t, l.served.Load(), int32(late+always), name)
	}
}

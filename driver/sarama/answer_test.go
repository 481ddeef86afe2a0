package sarama

import (
	"bytes"
	"encoding/binary"
	"net"
	"runtime"
	"sync"
	"testing"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

// port listens, and serves every connection by serve until the test ends.
func port(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var mu sync.Mutex
	var open []net.Conn
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			served.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		served.Wait()
	})
	return l.Addr().String()
}

// saying is a server that answers the first request with b, and waits.
func saying(b []byte) func(net.Conn) {
	return func(c net.Conn) {
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		c.Write(b)
		for {
			if _, err := c.Read(buf); err != nil {
				return
			}
		}
	}
}

// openers opens a consumer or a producer, of which the tests want the error.
var openers = map[string]func(t *testing.T, brokers []string) error{
	"consumer": func(t *testing.T, brokers []string) error {
		c, err := Driver{}.OpenConsumer(within(t, patienceTest), consumerConfig(brokers))
		if err == nil {
			c.Close(within(t, patienceTest))
		}
		return err
	},
	"producer": func(t *testing.T, brokers []string) error {
		p, err := Driver{}.OpenProducer(within(t, patienceTest), producerConfig(brokers))
		if err == nil {
			p.Close(within(t, patienceTest))
		}
		return err
	},
}

// TestFault_H2_WrongPortCostsNoMemory holds that a peer that is no Kafka is
// refused by its first bytes, and that the reason names them.
func TestFault_H2_WrongPortCostsNoMemory(t *testing.T) {
	length := func(n uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), rest...)
	}
	for _, c := range []struct {
		name, want string
		answer     []byte
	}{
		{"minus one", "is this Kafka?", length(0xffffffff, 0, 0, 0, 0)},
		{"zero", "is this Kafka?", length(0, 0, 0, 0, 0)},
		{"three", "is this Kafka?", length(3, 0, 0, 0, 0)},
		{"largest", "is this Kafka?", length(0x7fffffff, 0, 0, 0, 0)},
		{"above MaxResponseSize", "is this Kafka?", length(uint32(ibm.MaxResponseSize)+1, 0, 0, 0, 0)},
		{"long answer to a short question", "at most", length(uint32(ibm.MaxResponseSize), 0, 0, 0, 0)},
		{"answer to no request", "is this Kafka?", length(30, 9, 9, 9, 9)},
		{"garbage", "is this Kafka?", bytes.Repeat([]byte{0xa5, 0x17}, 1000)},
		{"HTTP", "this is HTTP", []byte("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")},
		{"SSH", "this is SSH", []byte("SSH-2.0-OpenSSH_9.6\r\n")},
		{"TLS alert", "does this port want TLS?", []byte{0x15, 3, 3, 0, 2, 2, 70}},
	} {
		for what, open := range openers {
			t.Run(c.name+"/"+what, func(t *testing.T) {
				addr := port(t, saying(c.answer))
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := open(t, []string{addr})
				runtime.ReadMemStats(&after)
				require.ErrorContains(t, err, c.want)
				require.ErrorContains(t, err, addr)
				assert.NotContains(t, err.Error(), "use of closed")
				var de *driver.Error
				require.ErrorAs(t, err, &de)
				code := "INVALID_RESPONSE"
				if c.name == "TLS alert" { // a port that wants TLS may hang up as well
					code = "CONNECTION_FAILED"
				}
				assert.Equal(t, code, de.Code)
				assert.NotErrorIs(t, err, driver.ErrPermanent)
				assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20), "bytes allocated")
			})
		}
	}
}

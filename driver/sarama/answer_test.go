package sarama

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"runtime"
	"sync"
	"testing"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

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

// TestFault_H2_WrongPortCostsNoMemory holds that what is no Kafka is refused by
// its first bytes, and that the reason is what came.
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

// TestFault_H2_AfterAnswersItIsStillTheReason holds that an answer that is broken
// later on a connection is refused too, and what came whole before it is not.
func TestFault_H2_AfterAnswersItIsStillTheReason(t *testing.T) {
	a := newAnswers(false, 1)
	whole := binary.BigEndian.AppendUint32(nil, 6)
	whole = append(whole, 0, 0, 0, 7, 0, 0)
	a.ask(request{open: true, key: heartbeat, correlation: 7, bytes: 50})
	n, err := a.follow(append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff))
	require.ErrorContains(t, err, "-1 bytes")
	assert.NotContains(t, err.Error(), "is this Kafka?", "it was, a moment ago")
	assert.Equal(t, len(whole), n, "bytes passed on")
	assert.Equal(t, 1, a.complete)
}

// filled returns an answer of the other library to a request that it matches.
func filled(t *rapid.T, key, version int16, size func() int) kmsg.Response {
	resp := kmsg.ResponseForKey(key)
	resp.SetVersion(version)
	fill(t, reflect.ValueOf(resp).Elem(), size)
	reflect.ValueOf(resp).Elem().FieldByName("Version").SetInt(int64(version))
	return resp
}

func fill(t *rapid.T, v reflect.Value, size func() int) {
	switch v.Kind() {
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(size()))
	case reflect.Bool:
		v.SetBool(size()%2 == 0)
	case reflect.String:
		v.SetString(string(make([]byte, size())))
	case reflect.Pointer:
		if size() > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem(), size)
		}
	case reflect.Slice:
		s := reflect.MakeSlice(v.Type(), size(), 20)
		for i := range s.Len() {
			fill(t, s.Index(i), size)
		}
		v.Set(s)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() && v.Type().Field(i).Name != "UnknownTags" && v.Type().Field(i).Name != "Version" {
				fill(t, f, size)
			}
		}
	}
}

// framed returns an answer as it comes over the wire.
func framed(correlation int32, key int16, flexible bool, body []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(correlation))
	if flexible && key != apiVersions {
		head = append(head, 0)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(head)+len(body)))
	return append(append(b, head...), body...)
}

// TestLayouts holds every layout against the encoder of another library: with
// whatever is in an answer, and in whatever pieces it comes, its last field ends
// where the answer does, and only the throttle time is changed.
func TestLayouts(t *testing.T) {
	for key, formats := range layouts {
		for version := range formats {
			t.Run(fmt.Sprintf("%s/v%d", kmsg.NameForKey(key), version), func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) { checkLayout(t, key, int16(version)) })
			})
		}
	}
}

func checkLayout(t *rapid.T, key, version int16) {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	resp := filled(t, key, version, func() int { return rng.IntN(4) })
	body := resp.AppendTo(nil)
	wire := framed(5, key, resp.IsFlexible(), body)
	got := bytes.Clone(wire)
	var r reader
	r.start(request{key: key, version: version, bytes: 1 << 20}, len(wire)-headBytes)
	for from := headBytes; from < len(got); {
		to := min(len(got), from+1+rng.IntN(12))
		if err := r.read(got[from:to]); err != nil {
			t.Fatalf("read = %v\nanswer %+v\nwire %x", err, resp, wire)
		}
		from = to
	}
	if r.settle(); r.at != len(r.fields) || r.rest != 0 || r.skip != 0 || r.depth != 0 || r.digits != 0 {
		t.Fatalf("after the answer: %+v\nanswer %+v\nwire %x", r, resp, wire)
	}
	again := kmsg.ResponseForKey(key)
	again.SetVersion(version)
	if err := again.ReadFrom(got[len(wire)-len(body):]); err != nil {
		t.Fatalf("decode what was passed on: %v", err)
	}
	asked := int32(0)
	if f := reflect.ValueOf(resp).Elem().FieldByName("ThrottleMillis"); f.IsValid() {
		if first, _ := throttleSince(key); version >= first {
			asked = int32(f.Int())
		}
		f.SetInt(0)
	}
	if want := resp.AppendTo(nil); !bytes.Equal(want, again.AppendTo(nil)) {
		t.Fatalf("passed on\n%x, want\n%x", again.AppendTo(nil), want)
	}
	if r.pause != asked {
		t.Fatalf("pause = %d, want %d", r.pause, asked)
	}
}

// throttleSince returns the first version of an API with a throttle time.
func throttleSince(key int16) (int16, bool) {
	for v := range int16(12) {
		a, b := kmsg.ResponseForKey(key), kmsg.ResponseForKey(key)
		a.SetVersion(v)
		b.SetVersion(v)
		f := reflect.ValueOf(b).Elem().FieldByName("ThrottleMillis")
		if !f.IsValid() {
			return 0, false
		}
		f.SetInt(1)
		if !bytes.Equal(a.AppendTo(nil), b.AppendTo(nil)) {
			return v, true
		}
	}
	return 99, false
}

package response

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"
)

// longest is the limit of an answer in these tests: Sarama's.
const longest = 100 << 20

// TestFault_H2_AfterAnswersItIsStillTheReason holds that an answer that is broken
// later on a connection is refused too, and what came whole before it is not.
func TestFault_H2_AfterAnswersItIsStillTheReason(t *testing.T) {
	a := New(false, 1, longest)
	whole := binary.BigEndian.AppendUint32(nil, 6)
	whole = append(whole, 0, 0, 0, 7, 0, 0)
	a.Ask(Request{Key: Heartbeat, Correlation: 7, Bytes: 50})
	n, err := a.Follow(append(bytes.Clone(whole), 0xff, 0xff, 0xff, 0xff))
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
	if flexible && key != APIVersions {
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
	r.start(Request{Key: key, Version: version, Bytes: 1 << 20}, len(wire)-headBytes)
	for from := headBytes; from < len(got); {
		to := min(len(got), from+1+rng.IntN(12))
		require.NoError(t, r.read(got[from:to]), "read\nanswer %+v\nwire %x", resp, wire)
		from = to
	}
	r.settle()
	ended := r
	ended.at, ended.rest, ended.skip, ended.depth, ended.digits = len(r.fields), 0, 0, 0, 0
	require.Equal(t, ended, r, "after the answer\nanswer %+v\nwire %x", resp, wire)
	again := kmsg.ResponseForKey(key)
	again.SetVersion(version)
	require.NoError(t, again.ReadFrom(got[len(wire)-len(body):]), "decode what was passed on")
	asked := int32(0)
	if f := reflect.ValueOf(resp).Elem().FieldByName("ThrottleMillis"); f.IsValid() {
		if first, _ := throttleSince(key); version >= first {
			asked = int32(f.Int())
		}
		f.SetInt(0)
	}
	require.Equal(t, resp.AppendTo(nil), again.AppendTo(nil), "passed on")
	require.Equal(t, asked, r.pause, "pause")
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

// TestFault_H6_CountsAreBoundedByWhatWasAsked holds that counts which the request,
// or the bytes that follow, cannot bear never reach Sarama.
func TestFault_H6_CountsAreBoundedByWhatWasAsked(t *testing.T) {
	i32 := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	topic := []byte{0, 1, 't'}
	for _, c := range []struct {
		name         string
		key, version int16
		asked        int // bytes of the request
		body         [][]byte
		rest         int // bytes that the answer says are still to come
		want         string
	}{
		{"topics of a fetch", Fetch, 11, 100, [][]byte{i32(0), {0, 0}, i32(0), i32(99_600_000)}, 96 << 20, "elements in"},
		{"partitions of a fetch", Fetch, 11, 100, [][]byte{i32(0), {0, 0}, i32(0), i32(1), topic, i32(90_000)}, 96 << 20, "cannot have named"},
		{"aborted transactions", Fetch, 11, 100, [][]byte{i32(0), {0, 0}, i32(0), i32(1), topic, i32(1), make([]byte, 4+2+8+8+8), i32(90_000_000)}, 96 << 20, "elements in"},
		{"records", Fetch, 11, 100, [][]byte{i32(0), {0, 0}, i32(0), i32(1), topic, i32(1), make([]byte, 4+2+8+8+8), i32(0), i32(0), i32(90_000_000)}, 1 << 20, "a text of"},
		{"topics of a Fetch, some fewer", Fetch, 11, 100, [][]byte{i32(0), {0, 0}, i32(0), i32(10_000_000)}, 96 << 20, "cannot have named"},
		{"topics of a Fetch, flexible", Fetch, 12, 100, [][]byte{{0}, i32(0), {0, 0}, i32(0), {0xff, 0xff, 0xff, 0x1f}}, 96 << 20, "elements in"},
		{"tags", Fetch, 12, 100, [][]byte{{0}, i32(0), {0, 0}, i32(0), {0x01}, {0xff, 0xff, 0xff, 0x7f}}, 1 << 20, "tagged fields"},
		{"a varint without end", Fetch, 12, 100, [][]byte{{0}, i32(0), {0, 0}, i32(0), {0xff, 0xff, 0xff, 0xff, 0xff}}, 1 << 20, "32 bits"},
		{"brokers", Metadata, 8, 100, [][]byte{i32(0), i32(1_000_000)}, 20 << 20, "elements in"},
		{"topics of metadata", Metadata, 8, 100, [][]byte{i32(0), i32(0), {0xff, 0xff}, i32(1), i32(20 << 20)}, 20 << 20, "elements in"},
		{"members", JoinGroup, 5, 100, [][]byte{i32(0), {0, 0}, i32(1), topic, topic, topic, i32(20 << 20)}, 20 << 20, "elements in"},
		{"partitions of a produce", Produce, 7, 100, [][]byte{i32(1), topic, i32(1000)}, 20 << 20, "cannot have named"},
		{"positions", OffsetFetch, 5, 100, [][]byte{i32(0), i32(20 << 20)}, 20 << 20, "elements in"},
		{"a host name of 1 MB", FindCoordinator, 3, 100, [][]byte{{0}, i32(0), {0, 0}, {0}, i32(1), {0x80, 0x80, 0x20}}, 1000 << 10, "more than Kafka allows"},
		{"a fetch of more than MaxResponseSize", Fetch, 11, 100, nil, 100<<20 + 1, "bytes"},
		{"metadata as long as a fetch", Metadata, 8, 100, nil, 90 << 20, "at most"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := New(false, 1, longest)
			a.Ask(Request{Key: c.key, Version: c.version, Correlation: 3, Bytes: c.asked})
			body := []byte{}
			for _, part := range c.body {
				body = append(body, part...)
			}
			wire := append(i32(uint32(4+len(body)+c.rest)), i32(3)...)
			wire = append(wire, body...)
			var err error
			for _, b := range wire { // whatever pieces it comes in
				if _, err = a.Follow([]byte{b}); err != nil {
					break
				}
			}
			require.ErrorContains(t, err, c.want)
			var n net.Error
			require.ErrorAs(t, err, &n, "else Sarama keeps the connection")
			assert.False(t, n.Timeout())
		})
	}
}

package kafka_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/kafka"
)

// FuzzRecord sends any record, by a producer and as another client would, and fails
// its handler once: the record comes unchanged both times, what is nil stays nil, what
// is empty stays empty, and the record is committed. present says which of key, value
// and the headers' values are not nil.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), "h", []byte("x"), uint32(1), byte(7))
	f.Add([]byte(nil), []byte(nil), "", []byte(nil), uint32(0), byte(0))
	f.Add([]byte{}, []byte{}, "", []byte{}, uint32(2), byte(7))
	f.Add([]byte("\xff\xfe"), []byte("%s%n\x1b[31m\nline"), "\xc3\x28", []byte{0}, uint32(3), byte(7))
	f.Add([]byte("k"), []byte(nil), "traceparent", []byte("00-zz"), uint32(100_000), byte(5))
	f.Add([]byte("k"), bytes.Repeat([]byte("v"), 1<<20), "h", bytes.Repeat([]byte("x"), 1<<16), uint32(9), byte(7))
	f.Fuzz(func(t *testing.T, key, value []byte, name string, text []byte, headers uint32, present byte) {
		headers %= 100_001
		if int(headers)*(len(name)+len(text)) > 16<<20 {
			t.Skip("more than 16 MiB of headers")
		}
		want := driver.Record{Key: given(key, present&1), Value: given(value, present&2)}
		for range headers {
			want.Headers = append(want.Headers, driver.Header{Key: name, Value: given(text, present&4)})
		}
		synctest.Test(t, func(t *testing.T) { roundTrip(t, want) })
	})
}

func given(b []byte, present byte) []byte {
	if present == 0 {
		return nil
	}
	return slices.Concat([]byte{}, b)
}

func roundTrip(t *testing.T, want driver.Record) {
	b := newBroker(t, 1)
	const copies = 2
	require.NoError(t, b.Send("orders", want.Key, want.Value, memory.Headers(want.Headers...)))
	sendRecord(t, b, want)
	attempts := 0
	launch(t, b, orders(), func(_ context.Context, m *kafka.Message) error {
		attempts++
		assert.Equal(t, want.Key, m.Key, "offset %d, attempt %d", m.Offset, m.Attempt)
		assert.Equal(t, want.Value, m.Value, "offset %d, attempt %d", m.Offset, m.Attempt)
		assert.Equal(t, want.Headers, m.Headers, "offset %d, attempt %d", m.Offset, m.Attempt)
		if m.Attempt == 1 {
			return fmt.Errorf("bad record %s", m.Value)
		}
		return nil
	})
	time.Sleep(time.Minute)
	synctest.Wait()
	require.Equal(t, int64(copies), b.Committed("orders", "orders", 0))
	require.Equal(t, 2*copies, attempts)
}

// sendRecord sends the record, which a producer must take: also a header without
// a name, which Kafka allows.
func sendRecord(t *testing.T, b *memory.Broker, r driver.Record) {
	p, err := newManager(t, b).RegisterProducer(t.Context(), kafka.ProducerConfig{BootstrapServers: "localhost:9092", MaxMessageBytes: 100 << 20})
	require.NoError(t, err)
	err = p.SendMessage(t.Context(), &kafka.ProducerMessage{Topic: "orders", Key: r.Key, Value: r.Value, Headers: r.Headers})
	require.NoError(t, err)
}

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/proto"

	"github.com/aarontianqx/gopkg/examples/registry/shop"
	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
)

const (
	protobufID = 7
	oldAvroID  = 8
	unknownID  = 99
)

const oldAvro = `{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "int"}, {"name": "note", "type": "string"}]}`

// A fakeRegistry answers as a schema registry does, unless it is away.
type fakeRegistry struct {
	away  atomic.Bool
	asked atomic.Int64
}

func (f *fakeRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.asked.Add(1)
	schemas := map[string]map[string]string{
		"/schemas/ids/7": {"schemaType": "PROTOBUF", "schema": `syntax = "proto3"; package shop; message Order { int64 id = 1; int64 cents = 2; }`},
		"/schemas/ids/8": {"schemaType": "AVRO", "schema": oldAvro},
	}
	w.Header().Set("Content-Type", "application/vnd.schemaregistry.v1+json")
	schema, known := schemas[r.URL.Path]
	switch {
	case f.away.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case !known:
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(map[string]any{"error_code": 40403, "message": "Schema not found"})
	default:
		_ = json.NewEncoder(w).Encode(schema)
	}
}

func newRegistry(t *testing.T) (*Registry, *fakeRegistry) {
	fake := new(fakeRegistry)
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	r, err := New(server.URL)
	require.NoError(t, err)
	return r, fake
}

// protobufOrder is an order as Confluent's clients write it.
func protobufOrder(t *testing.T, id int, o *shop.Order) []byte {
	value, err := new(sr.ConfluentHeader).AppendEncode(nil, id, []int{0})
	require.NoError(t, err)
	value, err = proto.MarshalOptions{}.MarshalAppend(value, o)
	require.NoError(t, err)
	return value
}

func config() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", ConsumerGroup: "shop",
		BootstrapServers: "localhost:9092", InitialOffset: kafka.OffsetOldest,
		Backoff: kafka.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond},
		Failure: kafka.FailurePolicy{DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.dlq"}},
	}
}

// A record that cannot be decoded goes to the dead letters as it is, and the handler
// gets the others.
func TestProtobuf(t *testing.T) {
	r, fake := newRegistry(t)
	k := kafkatest.New(t)
	k.CreateTopic("orders.dlq", 1)
	var got []*shop.Order
	k.Start(kafka.Handle(config(), Protobuf[shop.Order](r), func(_ context.Context, o *shop.Order, _ *kafka.Message) error {
		got = append(got, o)
		return nil
	}))
	bad := [][]byte{
		nil,
		[]byte("{}"),
		protobufOrder(t, unknownID, &shop.Order{}),
		protobufOrder(t, oldAvroID, &shop.Order{}),
		append(protobufOrder(t, protobufID, &shop.Order{}), 0xff),
	}
	for _, value := range bad {
		k.WaitDead(k.SendMessage(&kafka.ProducerMessage{Topic: "orders", Value: value}))
	}
	k.WaitHandled(k.SendMessage(&kafka.ProducerMessage{Topic: "orders", Value: protobufOrder(t, protobufID, &shop.Order{Id: 1, Cents: 250})}))
	require.Len(t, got, 1)
	assert.True(t, proto.Equal(&shop.Order{Id: 1, Cents: 250}, got[0]), "%v", got[0])
	assert.EqualValues(t, 3, fake.asked.Load(), "each schema is asked for once")
}

// While the registry is away nothing is handed out, no record is blamed, and none goes
// to the dead letters.
func TestRegistryIsAway(t *testing.T) {
	r, fake := newRegistry(t)
	fake.away.Store(true)
	k := kafkatest.New(t)
	k.CreateTopic("orders.dlq", 1)
	handled := 0
	k.Start(kafka.Handle(config(), Protobuf[shop.Order](r), func(context.Context, *shop.Order, *kafka.Message) error {
		handled++
		return nil
	}))
	m := k.SendMessage(&kafka.ProducerMessage{Topic: "orders", Value: protobufOrder(t, protobufID, &shop.Order{Id: 1})})
	k.WaitAttempts(m, 2)
	status, err := k.Consumer("orders")
	require.NoError(t, err)
	assert.NotNil(t, status.Held)
	fake.away.Store(false)
	k.WaitHandled(m)
	assert.Equal(t, 1, handled)
	assert.Empty(t, k.Produced("orders.dlq"))
}

type avroOrder struct {
	ID    int64 `avro:"id"`
	Cents int64 `avro:"cents"`
}

var orderSchema = avro.MustParse(`{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}, {"name": "cents", "type": "long", "default": 100}]}`)

// A record of an older schema is read as the present one.
func TestAvro(t *testing.T) {
	r, _ := newRegistry(t)
	writer := avro.MustParse(oldAvro)
	value, err := new(sr.ConfluentHeader).AppendEncode(nil, oldAvroID, nil)
	require.NoError(t, err)
	body, err := writer.Encode(map[string]any{"id": 5, "note": "by courier"})
	require.NoError(t, err)
	value = append(value, body...)
	decode := Avro[avroOrder](r, orderSchema)

	got, err := decode(t.Context(), &kafka.Message{Value: value})
	require.NoError(t, err)
	assert.Equal(t, avroOrder{ID: 5, Cents: 100}, got)

	_, err = decode(t.Context(), &kafka.Message{Value: append(value, 0)})
	assert.ErrorContains(t, err, "1 bytes after the value")
	_, err = decode(t.Context(), &kafka.Message{})
	assert.True(t, errors.Is(err, sr.ErrBadHeader), "%v", err)
}

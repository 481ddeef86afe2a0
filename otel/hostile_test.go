package otelkafka

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// Topics, keys, headers and the texts of errors come from outside. They must not
// make the hook panic, multiply time series or keep telemetry from being
// exported. No record's value is ever shown. checkSpan and checkMetric also run
// in these tests; they check that every text is valid and of bounded length.

// secret is part of every value and of every error's text.
const secret = "\x01secret\x02"

// FuzzRecord sends one hostile record, handles it alone and in a batch, and lets
// it fail.
func FuzzRecord(f *testing.F) {
	parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	f.Add("orders", []byte("k"), []byte("v"), "traceparent", []byte(parent), "OUT_OF_STOCK")
	f.Add("orders", []byte(nil), []byte(nil), "tracestate", []byte("a=b,,=,\x00"), "")
	f.Add("\xff\xfe", []byte("\xff"), []byte(""), "baggage", []byte("a=b;c=\xff,%zz=%ff,=="), "\xff")
	f.Add(strings.Repeat("t", 2000), []byte(strings.Repeat("k", 2000)), []byte("v"), "c", []byte(strings.Repeat("c", 2000)), strings.Repeat("E", 2000))
	f.Add(strings.Repeat("t", 300), []byte(strings.Repeat("k", 129)), []byte("v"), "\xff", []byte("\xff"), strings.Repeat("E", 200))
	f.Add("a b\n", []byte("\n"), []byte("v"), "conversation", []byte(strings.Repeat("é", 200)), "two words")
	f.Add("", []byte{}, []byte("v"), "", []byte(parent+parent), "_OTHER")
	f.Fuzz(func(t *testing.T, topic string, key, value []byte, header string, content []byte, failure string) {
		if strings.Contains(topic+string(key)+header+string(content)+failure, secret) {
			return
		}
		shown := func(m *kafka.Message) (string, bool) { return string(m.Key), m.Key != nil }
		for _, opts := range [][]Option{
			{WithConversationID(header), WithMessageSizes(true), WithAttemptSpans(true), WithReceiveSpans(true)},
			{WithDestinationTemplate(func(topic string) string { return topic + "?" }), WithMessageKey(shown), WithExistingContext(ReplaceContext)},
		} {
			c := newTelemetry(t, opts...)
			r := hostile{topic, kafka.Record{
				Key: key, Value: append([]byte(secret), value...), Timestamp: time.Unix(0, int64(len(topic))),
				Headers: []kafka.Header{{Key: header, Value: content}, {Key: header, Value: content}},
			}, nil}
			if failure != "" {
				r.err = fmt.Errorf("%s: %w", secret, typed(failure))
			}
			r.send(t, c)
			if topic != "" {
				r.handle(c, kafka.OpProcess, r.record)
				r.handle(c, kafka.OpProcessBatch, r.record, r.record)
			}
			c.balanced()
			c.showsNo(secret)
		}
	})
}

// A hostile is a record with its topic and the error that it ends with, or nil.
type hostile struct {
	topic  string
	record kafka.Record
	err    error
}

func (r hostile) send(t *testing.T, c *telemetry) {
	d := &cluster{produce: func(_ context.Context, m *driver.Message) error {
		m.Acker.Ack(r.err)
		return nil
	}}
	m := &kafka.ProducerMessage{Topic: r.topic, Key: r.record.Key, Value: r.record.Value, Headers: r.record.Headers}
	_ = d.sender(t, c.hook).SendMessage(t.Context(), m)
}

// handle calls the hook for records as a worker does, and as a user's loop does.
func (r hostile) handle(c *telemetry, kind kafka.OpKind, records ...kafka.Record) {
	client := &kafka.Client{ID: "c", Group: "g", Bootstrap: []string{"[::1]:9092"}}
	receive := &kafka.Op{Kind: kafka.OpReceive, Client: client, Topic: r.topic, Start: time.Now()}
	_, token := c.hook.Start(context.Background(), receive)
	if receive.Records = records; token != nil {
		c.hook.End(token, receive)
	}
	process := &kafka.Op{Kind: kind, Client: client, Topic: r.topic, Records: records, Start: time.Now(), Attempt: 1}
	attempt := *process
	attempt.Kind = kafka.OpAttempt
	ctx, outer := c.hook.Start(context.Background(), process)
	_, inner := c.hook.Start(ctx, &attempt)
	process.Err, attempt.Err = r.err, r.err
	if inner != nil {
		c.hook.End(inner, &attempt)
	}
	if outer != nil {
		c.hook.End(outer, process)
	}
	var messages []*kafka.Message
	for _, one := range records {
		messages = append(messages, &kafka.Message{Topic: r.topic, Key: one.Key, Value: one.Value, Headers: one.Headers})
	}
	_, end := c.hook.StartProcess(context.Background(), messages...)
	end(r.err)
	c.hook.Event(kafka.HandlerFailed{Group: "g", Topic: r.topic, Backoff: 1, Err: r.err})
}

// showsNo fails the test if a name or an attribute contains a text.
func (c *telemetry) showsNo(piece string) {
	c.t.Helper()
	search := func(where string, attrs []attribute.KeyValue) {
		for _, a := range attrs {
			require.NotContains(c.t, a.Value.String(), piece, "%s of %q", a.Key, where)
		}
	}
	for _, s := range c.recorder.Ended() {
		search(s.Name(), s.Attributes())
		for _, l := range s.Links() {
			search(s.Name(), l.Attributes)
		}
		require.NotContains(c.t, s.Name(), piece, "name of a span")
	}
	for _, m := range c.collect() {
		_, _, sets := pointsOf(m)
		for _, set := range sets {
			search(m.Name, set.ToSlice())
		}
	}
}

// A stream of new topics and new types of errors grows neither the hook's memory
// nor the time series. An invalid topic takes no valid topic's place.
func TestHostileStream(t *testing.T) {
	c := newSampled(t, sdktrace.NeverSample())
	d := &cluster{}
	p := d.sender(t, c.hook)
	n := 0
	d.produce = func(_ context.Context, m *driver.Message) error {
		m.Acker.Ack(&driver.Error{Code: fmt.Sprintf("CODE_%d", n), Err: errors.New(strings.Repeat(secret, 1000))})
		return nil
	}
	send := func(topic string) {
		require.Error(t, p.Send(t.Context(), topic, []byte("\x00\xff"), []byte(secret)))
	}
	for ; n < 2000; n++ {
		send(fmt.Sprintf("no topic %d", n))
	}
	send("orders")
	sent := c.total("messaging.client.sent.messages", attribute.String("messaging.destination.name", "orders"))
	assert.Equal(t, 1.0, sent, "sent to a valid topic after the invalid ones")
	for ; n < 5000; n++ {
		send(fmt.Sprintf("topic-%d", n))
		r := hostile{fmt.Sprintf("topic-%d", n), kafka.Record{Offset: int64(n), Value: []byte(secret)}, typed(fmt.Sprintf("TYPE_%d", n))}
		r.handle(c, kafka.OpProcess, r.record)
	}
	c.showsNo(secret)
	for _, m := range c.collect() {
		values := map[attribute.Key]map[string]bool{}
		_, _, sets := pointsOf(m)
		for _, set := range sets {
			for _, a := range set.ToSlice() {
				if values[a.Key] == nil {
					values[a.Key] = map[string]bool{}
				}
				values[a.Key][a.Value.String()] = true
			}
		}
		assert.LessOrEqual(t, len(values["messaging.destination.name"]), 1000, "topics of %s", m.Name)
		assert.LessOrEqual(t, len(values["error.type"]), 101, "types of error of %s", m.Name)
	}
	assert.LessOrEqual(t, len(c.hook.events.lines.made.all), 4096, "lines that the hook keeps")
	assert.LessOrEqual(t, len(c.hook.events.topics.shown.in), 1000, "topics that the hook keeps")
	assert.LessOrEqual(t, len(c.hook.events.errors.seen.in), 100, "types of error that the hook keeps")
}

// A caller that sends to partitions that do not exist makes one time series, not
// one per partition.
func TestFailedSendsNameNoPartition(t *testing.T) {
	c := newSampled(t, sdktrace.NeverSample())
	d := &cluster{produce: func(_ context.Context, m *driver.Message) error {
		m.Acker.Ack(&driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION"})
		return nil
	}}
	p := d.sender(t, c.hook)
	for n := range int32(100) {
		_ = p.SendMessage(t.Context(), &kafka.ProducerMessage{Topic: "orders", ToPartition: &n, Value: []byte("v")})
	}
	for _, m := range c.collect() {
		_, _, sets := pointsOf(m)
		assert.LessOrEqual(t, len(sets), 1, "time series of %s", m.Name)
	}
}

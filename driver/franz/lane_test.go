package franz

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/driver"
)

// slowLog makes cluster append no batch of a produce request until appended is called. began is
// closed when such a request has come.
func slowLog(cluster *kfake.Cluster) (began <-chan struct{}, appended func()) {
	came, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.SleepControl(func() {
			once.Do(func() { close(came) })
			<-goOn
		})
		return nil, nil, false
	})
	return came, func() { close(goOn) }
}

// TestBatchWithoutAnswerIsUnknown: a broker has a batch and does not answer; the metadata say
// that the topic may not be written to, so kgo gives everything back. The broker may append the
// batch later.
func TestBatchWithoutAnswerIsUnknown(t *testing.T) {
	for _, c := range []struct {
		name       string
		idempotent bool
		inFlight   int // of two messages
	}{{"idempotent", true, 2}, {"not idempotent", false, 1}} {
		t.Run(c.name, func(t *testing.T) {
			h, cluster := fakeHarness(t)
			cfg := producerConfig(h.brokers)
			cfg.Idempotent = c.idempotent
			p := openProducer(t, cfg)
			require.NoError(t, send(t, p, sized("t", 1, 1)[0]))
			began, appended := slowLog(cluster)
			first := hand(t, p, sized("t", 1, 1)...)
			<-began
			second := hand(t, p, sized("t", 1, 1)...)
			require.Eventually(t, func() bool { return p.line.Produces(h.brokers[0]) == 1+int64(c.inFlight) }, patienceTest, time.Millisecond)
			denied := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t", Err: kerr.TopicAuthorizationFailed, Count: -1})
			p.cl.ForceMetadataRefresh()
			require.NoError(t, p.Flush(within(t, patienceTest)))
			var got []bool
			for _, answers := range []*acks{first, second} {
				var de *driver.Error
				require.ErrorAs(t, answers.of(0)[0], &de)
				assert.Equal(t, "TOPIC_AUTHORIZATION_FAILED", de.Code)
				got = append(got, errors.Is(de, driver.ErrUnknownOutcome))
			}
			assert.Equal(t, []bool{true, c.inFlight == 2}, got, "outcomes that are unknown")
			denied.Remove()
			appended()
			require.Eventually(t, func() bool {
				records, err := h.Read(context.Background(), "t", 0)
				return err == nil && len(records) == 1+c.inFlight
			}, patienceTest, 10*time.Millisecond, "the batches without an answer come into the log")
		})
	}
}

// TestBatchesBehindAFailedOneAreUnknown: of three batches in flight the first may have been
// appended, and so may those behind it, whatever their answers are.
func TestBatchesBehindAFailedOneAreUnknown(t *testing.T) {
	for _, c := range []struct {
		name   string
		second error // the answer to the second and the third batch
	}{{"stored", nil}, {"refused", kerr.NotEnoughReplicas}} {
		t.Run(c.name, func(t *testing.T) {
			l := newProducer(driver.ProducerConfig{}).topic("t").lane(0)
			l.entered.Add(7)
			for _, n := range []int64{1, 2, 3} {
				l.wrote(n)
			}
			l.answered(1, 0, kerr.RequestTimedOut, false)
			l.answered(2, 0, c.second, false)
			l.answered(3, 0, c.second, false)
			for range 3 { // kgo sends all of them again
				for _, n := range []int64{1, 2, 3} {
					l.wrote(n)
					l.answered(n, 0, kerr.NotEnoughReplicas, false)
				}
			}
			var got []bool
			for range 7 {
				got = append(got, l.leave())
			}
			assert.Equal(t, []bool{true, true, true, true, true, true, false}, got, "messages that may be in the log")
		})
	}
	t.Run("the first refused, the others stored", func(t *testing.T) {
		l := newProducer(driver.ProducerConfig{}).topic("t").lane(0)
		l.entered.Add(4)
		for range 3 {
			l.wrote(1)
		}
		l.answered(1, 0, kerr.NotEnoughReplicas, false)
		l.answered(1, 0, nil, false)
		l.answered(1, 0, kerr.NotEnoughReplicas, false)
		assert.True(t, l.held.Load(), "later messages wait")
		assert.Equal(t, []bool{true, true, false, false}, []bool{l.leave(), l.leave(), l.leave(), l.leave()})
	})
}

// TestMessagesGivenUpAreNotWritten: kgo gives the messages of a batch back after it has built the
// request, and before it writes it; or before it builds it, and then the partition is in the request
// without a batch. What else is in the request is written.
func TestMessagesGivenUpAreNotWritten(t *testing.T) {
	p := newProducer(driver.ProducerConfig{RequiredAcks: driver.WaitForAll})
	for i := range int32(3) {
		p.topic("t").lane(i).entered.Add(1)
	}
	wire := new(written)
	w := &produceConn{Conn: wire, p: p}
	b := produceRequest(parts{"t": {0: 2, 1: 0, 2: 1}, "u": {0: 0}})
	n, err := w.Write(b)
	assert.NoError(t, err)
	assert.Equal(t, len(b), n)
	assert.Equal(t, produceRequest(parts{"t": {2: 1}}), wire.bytes)
	for i, want := range []int{0, 0, 1} {
		assert.Len(t, p.topic("t").lane(int32(i)).flight, want, "batches of partition %d that have no answer", i)
	}

	b = produceRequest(parts{"u": {0: 0}})
	_, err = w.Write(b)
	assert.NoError(t, err)
	assert.Equal(t, produceRequest(nil), wire.bytes, "nothing is left, and kgo waits for an answer")
}

// TestAnswerToWhatWasLeftOfARequest: the answer names what was written, and an answer to a request
// with nothing left takes its place, too.
func TestAnswerToWhatWasLeftOfARequest(t *testing.T) {
	p := newProducer(driver.ProducerConfig{RequiredAcks: driver.WaitForAll})
	for i := range int32(3) {
		p.topic("t").lane(i).entered.Add(1)
	}
	w := &produceConn{Conn: new(written), p: p}
	for i, all := range []parts{{"t": {0: 2, 1: 0, 2: 1}}, {"u": {0: 0}}, {"t": {0: 1}}} {
		_, err := w.Write(produceRequestAs("", int32(i+1), all))
		require.NoError(t, err)
	}
	flight := func() (batches []int) {
		for i := range int32(3) {
			batches = append(batches, len(p.topic("t").lane(i).flight))
		}
		return append(batches, len(w.waiting))
	}
	assert.Equal(t, []int{1, 0, 1, 3}, flight(), "batches without an answer, and requests without one")
	for i, c := range []struct {
		answered parts
		want     []int
	}{
		{parts{"t": {2: 1}}, []int{1, 0, 0, 2}},
		{nil, []int{1, 0, 0, 1}},
		{parts{"t": {0: 1}}, []int{0, 0, 0, 0}},
	} {
		w.follow(produceAnswer(int32(i+1), c.answered))
		assert.Equal(t, c.want, flight(), "after answer %d", i+1)
	}
}

// TestMessagesGivenUpAreNotWrittenWithoutAnAnswer: with acks=0 no batch waits for an answer, and
// none that was left out counts as stored.
func TestMessagesGivenUpAreNotWrittenWithoutAnAnswer(t *testing.T) {
	p := newProducer(driver.ProducerConfig{RequiredAcks: driver.NoResponse})
	given, kept := p.topic("t").lane(0), p.topic("t").lane(1)
	given.entered.Add(1)
	kept.entered.Add(1)
	wire := new(written)
	w := &produceConn{Conn: wire, p: p}
	_, err := w.Write(produceRequest(parts{"t": {0: 2, 1: 1}}))
	require.NoError(t, err)
	assert.Equal(t, produceRequest(parts{"t": {1: 1}}), wire.bytes)
	assert.Empty(t, w.waiting, "requests without an answer")
	assert.Empty(t, given.flight)
	assert.Empty(t, kept.flight, "batches without an answer")
	assert.True(t, kept.leave(), "the message that was written may be in the log")
	assert.False(t, given.leave(), "the message that was left out may be in the log")
}

// TestMessagesGivenUpOfANamedClient: the name of the client is before the batches.
func TestMessagesGivenUpOfANamedClient(t *testing.T) {
	p := newProducer(driver.ProducerConfig{RequiredAcks: driver.WaitForAll})
	p.topic("t").lane(0).entered.Add(1)
	wire := new(written)
	w := &produceConn{Conn: wire, p: p}
	for _, client := range []string{"c", "a client with a name"} {
		_, err := w.Write(produceRequestAs(client, 7, parts{"t": {0: 1, 1: 1}}))
		require.NoError(t, err)
		assert.Equal(t, produceRequestAs(client, 7, parts{"t": {0: 1}}), wire.bytes, client)
	}
}

// TestRealEmptyProduceRequestIsAnswered: a broker answers a request of which nothing was left.
func TestRealEmptyProduceRequestIsAnswered(t *testing.T) {
	cluster := shared.ForTest(t)
	cl, err := cluster.Client()
	require.NoError(t, err)
	defer cl.Close()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 1000
	ctx := within(t, patienceTest)
	brokers := cl.DiscoveredBrokers()
	if len(brokers) == 0 {
		require.NoError(t, cl.Ping(ctx))
		brokers = cl.DiscoveredBrokers()
	}
	resp, err := brokers[0].Request(ctx, req)
	require.NoError(t, err)
	assert.Empty(t, resp.(*kmsg.ProduceResponse).Topics)
}

// TestWrittenWhileGivenBackIsUnknown: a batch is written while kgo gives back its messages.
func TestWrittenWhileGivenBackIsUnknown(t *testing.T) {
	p := newProducer(driver.ProducerConfig{})
	topic := p.topic("t")
	l := topic.lane(0)
	l.entered.Add(3)
	assert.Empty(t, topic.giveBack(l, new(slot), kerr.TopicAuthorizationFailed))
	require.True(t, l.has(2))
	l.wrote(2)
	assert.Empty(t, topic.giveBack(l, new(slot), kerr.TopicAuthorizationFailed))
	over := topic.giveBack(l, new(slot), kerr.TopicAuthorizationFailed)
	require.Len(t, over, 3)
	for _, e := range over {
		assert.ErrorIs(t, e.err, driver.ErrUnknownOutcome)
	}
}

// A written notes what was written last.
type written struct {
	net.Conn
	bytes []byte
}

func (w *written) Write(b []byte) (int, error) {
	w.bytes = b
	return len(b), nil
}

// parts are the records of the batch of each topic and partition. 0 is a partition without a batch.
type parts map[string]map[int32]int

// produceAnswer is an answer that each of them was stored.
func produceAnswer(correlation int32, all parts) []byte {
	resp := kmsg.NewProduceResponse()
	resp.Version = 9
	for topic, partitions := range all {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic = topic
		for partition := range partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition = partition
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	body := resp.AppendTo(nil)
	b := binary.BigEndian.AppendUint32(nil, uint32(4+1+len(body)))
	b = binary.BigEndian.AppendUint32(b, uint32(correlation))
	return append(append(b, 0), body...) // 0 tagged fields
}

// produceRequest is a request with a batch for each of them, in order.
func produceRequest(all parts) []byte { return produceRequestAs("", 1, all) }

func produceRequestAs(client string, correlation int32, all parts) []byte {
	req := kmsg.NewProduceRequest()
	req.Version = 9
	for _, topic := range slices.Sorted(maps.Keys(all)) {
		rt := kmsg.NewProduceRequestTopic()
		rt.Topic = topic
		for _, partition := range slices.Sorted(maps.Keys(all[topic])) {
			part := kmsg.NewProduceRequestTopicPartition()
			part.Partition = partition
			if n := int32(all[topic][partition]); n > 0 {
				batch := kmsg.RecordBatch{Magic: 2, LastOffsetDelta: n - 1, NumRecords: n}
				part.Records = batch.AppendTo(nil)
			}
			rt.Partitions = append(rt.Partitions, part)
		}
		req.Topics = append(req.Topics, rt)
	}
	var opts []kmsg.RequestFormatterOpt
	if client != "" {
		opts = append(opts, kmsg.FormatterClientID(client))
	}
	return kmsg.NewRequestFormatter(opts...).AppendRequest(nil, &req, correlation)
}

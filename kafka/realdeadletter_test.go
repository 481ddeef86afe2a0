package kafka_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/outside"
	"github.com/aarontianqx/gopkg/kafka"
)

// TestRealDeadLetters sends records to eight partitions for as long as it runs, with one
// in each that its handler always fails.
func TestRealDeadLetters(t *testing.T) {
	p := new(forgetful)
	t.Cleanup(p.close)
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{Private: true, Advertise: p.advertise})
	t.Run("TopicIsAway", func(t *testing.T) { realTopicIsAway(t, cluster) })
	t.Run("AnswersAreLost", func(t *testing.T) { realAnswersAreLost(t, cluster, p) })
}

const poisonPartitions, poisonAttempts = 8, 3

// A poisoned is a consumer of a topic whose records of the value "poison/…" always fail.
type poisoned struct {
	cluster *kafkacluster.Cluster
	outside outside.Client
	m       *kafka.Manager
	topic   string
	dlq     string
	sent    atomic.Int64 // records, the poison among them

	mu    sync.Mutex
	calls map[string]int // of the handler, by value
}

func newPoisoned(t *testing.T, cluster *kafkacluster.Cluster, letters int) *poisoned {
	t.Helper()
	name := fmt.Sprintf("orders-%d", time.Now().UnixNano())
	p := &poisoned{
		cluster: cluster, outside: outside.Of(strings.Split(cluster.Bootstrap(), ",")...),
		topic: name, dlq: name + ".dlq", calls: map[string]int{},
	}
	require.NoError(t, cluster.CreateTopic(t.Context(), p.topic, poisonPartitions, nil))
	require.NoError(t, cluster.CreateTopic(t.Context(), p.dlq, letters, nil))
	p.m = newManager(t, realDriver())
	cfg := kafka.ConsumerConfig{
		JobName: "orders", Topic: p.topic, ConsumerGroup: p.topic, BootstrapServers: cluster.Bootstrap(),
		InitialOffset: kafka.OffsetOldest,
		Backoff:       kafka.Backoff{Min: 50 * time.Millisecond, Max: time.Second},
		Failure: kafka.FailurePolicy{
			Then: kafka.FailureDeadLetter, MaxAttempts: poisonAttempts,
			DeadLetter: kafka.DeadLetterConfig{Topic: "{topic}.dlq"},
		},
	}
	require.NoError(t, p.m.RegisterConsumer(t.Context(), kafka.NewConsumer(cfg, p.handle)))
	require.NoError(t, p.m.SetConsumerSwitch("orders", true))
	require.NoError(t, p.m.StartAllConsumers(context.Background()))
	return p
}

func (p *poisoned) handle(_ context.Context, m *kafka.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls[string(m.Value)]++
	if strings.HasPrefix(string(m.Value), "poison") {
		return errors.New("it never succeeds")
	}
	return nil
}

func (p *poisoned) called(value string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[value]
}

// load sends records to all partitions until the function that it returns is called.
func (p *poisoned) load(t *testing.T) (stop func()) {
	t.Helper()
	client, err := p.cluster.Client(kgo.DefaultProduceTopic(p.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			for part := range int32(poisonPartitions) {
				r := &kgo.Record{Partition: part, Key: fmt.Append(nil, i), Value: fmt.Appendf(nil, "good/%d/%d", part, i)}
				client.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) { assert.NoError(t, err) })
				p.sent.Add(1)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		cancel()
		<-done
		assert.NoError(t, client.Flush(context.Background()))
		client.Close()
	}
}

// poison sends a bad record to partitions. Two have headers that a copy could lose.
func (p *poisoned) poison(t *testing.T, partitions ...int32) {
	t.Helper()
	client, err := p.cluster.Client(kgo.DefaultProduceTopic(p.topic), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	require.NoError(t, err)
	defer client.Close()
	for _, part := range partitions {
		r := &kgo.Record{
			Partition: part, Key: fmt.Append(nil, part), Value: fmt.Appendf(nil, "poison/%d", part),
			Headers: []kgo.RecordHeader{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "a", Value: []byte{}}},
		}
		require.NoError(t, client.ProduceSync(t.Context(), r).FirstErr())
		p.sent.Add(1)
	}
}

// letters returns the copies that lie in the dead-letter topic, by value, with the
// places of their records.
func (p *poisoned) letters(t *testing.T) map[string][]kafka.Source {
	t.Helper()
	all := map[string][]kafka.Source{}
	ends, err := p.cluster.EndOffsets(t.Context(), p.dlq)
	require.NoError(t, err)
	for part := range ends {
		records, err := p.outside.Read(t.Context(), p.dlq, part)
		require.NoError(t, err)
		for _, r := range records {
			m := kafka.Message{Topic: p.dlq, Headers: r.Headers}
			all[string(r.Value)] = append(all[string(r.Value)], m.Source())
			assert.Equal(t, []kafka.Header{{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "a", Value: []byte{}}}, r.Headers[:3])
			assert.Equal(t, fmt.Sprint(poisonAttempts), string(m.Header(kafka.HeaderErrorDeliveryCount)))
			assert.Equal(t, kafka.DeadLetterReasonAttempts, string(m.Header(kafka.HeaderErrorReason)))
		}
	}
	return all
}

// await waits until the consumer is as wanted.
func (p *poisoned) await(t *testing.T, what string, ok func(kafka.ConsumerStatus) bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		s, err := p.m.Consumer("orders")
		require.NoError(t, err)
		if ok(s) {
			return
		}
		require.True(t, time.Now().Before(deadline), "not within two minutes: %s; %+v", what, s)
	}
}

// finished waits until the group has committed everything, and holds what must be true
// then: every good record was handled, every bad one as often as MaxAttempts says.
func (p *poisoned) finished(t *testing.T) {
	t.Helper()
	p.await(t, "everything is committed", func(kafka.ConsumerStatus) bool {
		offsets, err := p.cluster.CommittedOffsets(t.Context(), p.topic)
		if err != nil {
			return false
		}
		var sum int64
		for _, o := range offsets[p.topic] {
			sum += max(o, 0)
		}
		return sum == p.sent.Load()
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	assert.Len(t, p.calls, int(p.sent.Load()), "nothing is lost")
	for part := range poisonPartitions {
		assert.Equal(t, poisonAttempts, p.calls[fmt.Sprintf("poison/%d", part)], "calls of the handler for poison/%d", part)
	}
}

// The dead-letter topic, which has fewer partitions than the source, is deleted and away
// for 20 seconds. Partitions without a bad record go on meanwhile, and the bad records
// wait for the topic without another call of their handler.
func realTopicIsAway(t *testing.T, cluster *kafkacluster.Cluster) {
	p := newPoisoned(t, cluster, 3)
	stop := p.load(t)
	p.poison(t, 0, 1, 2, 3)
	p.await(t, "the first bad records are dead letters", func(kafka.ConsumerStatus) bool { return len(p.letters(t)) == 4 })
	before := p.letters(t)
	printed, err := cluster.Tool(t.Context(), "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", cluster.Bootstrap(),
		"--topic", p.dlq, "--from-beginning", "--max-messages", "4", "--timeout-ms", "30000",
		"--property", "print.headers=true", "--property", "print.key=true")
	require.NoError(t, err, printed)
	t.Logf("the console consumer shows\n%s", printed)
	for part := range 4 {
		assert.Contains(t, printed, fmt.Sprintf("poison/%d", part))
	}
	for _, header := range []string{"__dlq.errors.topic:" + p.topic, "__dlq.errors.group:" + p.topic, "__dlq.errors.delivery.count:3", "__dlq.errors.message:it never succeeds"} {
		assert.Contains(t, printed, header)
	}

	require.NoError(t, p.outside.DeleteTopic(t.Context(), p.dlq))
	away := time.Now()
	p.poison(t, 4, 5, 6, 7)
	p.await(t, "the other bad records wait for the topic", func(kafka.ConsumerStatus) bool {
		n := 0
		for part := 4; part < poisonPartitions; part++ {
			n += p.called(fmt.Sprintf("poison/%d", part))
		}
		return n == 4*poisonAttempts
	})
	handled := p.handledOf(0)
	time.Sleep(time.Until(away.Add(20 * time.Second)))
	assert.Greater(t, p.handledOf(0), handled+200, "partitions without a bad record go on")
	require.NoError(t, p.outside.CreateTopic(t.Context(), p.dlq, 3))
	p.await(t, "the other bad records are dead letters", func(kafka.ConsumerStatus) bool { return len(p.letters(t)) == 4 })
	stop()
	p.finished(t)
	for part := range poisonPartitions {
		value := fmt.Sprintf("poison/%d", part)
		letters := before
		if part >= 4 {
			letters = p.letters(t)
		}
		if assert.Len(t, letters[value], 1, value) {
			assert.Equal(t, p.topic, letters[value][0].Topic)
			assert.EqualValues(t, part, letters[value][0].Partition)
		}
	}
}

// handledOf returns how many good records of a partition have been handled.
func (p *poisoned) handledOf(part int) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for value := range p.calls {
		if strings.HasPrefix(value, fmt.Sprintf("good/%d/", part)) {
			n++
		}
	}
	return n
}

// For a minute no answer to a send arrives, while the records are stored. The driver
// sends again, and the broker drops what it has.
func realAnswersAreLost(t *testing.T, cluster *kafkacluster.Cluster, f *forgetful) {
	p := newPoisoned(t, cluster, 8)
	stop := p.load(t)
	p.await(t, "all partitions are read", func(s kafka.ConsumerStatus) bool { return len(s.Partitions) == poisonPartitions })
	f.forget.Store(true)
	began := time.Now()
	p.poison(t, 0, 1, 2, 3, 4, 5, 6, 7)
	time.Sleep(time.Until(began.Add(time.Minute)))
	assert.NotZero(t, f.forgotten.Load(), "answers were lost")
	f.forget.Store(false)
	p.await(t, "the answers arrive", func(s kafka.ConsumerStatus) bool {
		for _, ps := range s.Partitions {
			if ps.Errors > 0 {
				return false
			}
		}
		return true
	})
	stop()
	p.finished(t)
	letters := p.letters(t)
	twice := 0
	for part := range poisonPartitions {
		sources := letters[fmt.Sprintf("poison/%d", part)]
		if !assert.NotEmpty(t, sources) {
			continue
		}
		assert.LessOrEqual(t, len(sources), 2)
		for _, s := range sources {
			assert.Equal(t, sources[0], s, "copies say where their record lies")
		}
		twice += len(sources) - 1
	}
	t.Logf("%d answers lost, %d of %d dead letters lie twice", f.forgotten.Load(), twice, poisonPartitions)
}

// A forgetful is a proxy before a broker that can lose the answers to sends.
type forgetful struct {
	forget    atomic.Bool
	forgotten atomic.Int64

	mu        sync.Mutex
	listeners []net.Listener
	conns     sync.WaitGroup
	open      map[net.Conn]bool
}

func (f *forgetful) advertise(_ int, listener, addr string) string {
	if listener != "PLAINTEXT" {
		return addr
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return addr // and the test fails because nothing is forgotten
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listeners = append(f.listeners, l)
	f.conns.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Go(func() { f.serve(client, addr) })
		}
	})
	return l.Addr().String()
}

func (f *forgetful) serve(client net.Conn, addr string) {
	broker, err := net.Dial("tcp", addr)
	if err != nil {
		client.Close()
		return
	}
	f.mu.Lock()
	if f.open == nil {
		f.open = map[net.Conn]bool{}
	}
	f.open[client], f.open[broker] = true, true
	f.mu.Unlock()
	defer client.Close()
	defer broker.Close()
	var sends sync.Map // correlation IDs
	go func() {
		defer broker.Close()
		defer client.Close()
		frames(client, broker, func(frame []byte) bool {
			const produce = 0
			if len(frame) >= 8 && binary.BigEndian.Uint16(frame) == produce {
				sends.Store(binary.BigEndian.Uint32(frame[4:]), true)
			}
			return true
		})
	}()
	frames(broker, client, func(frame []byte) bool {
		if len(frame) < 4 {
			return true
		}
		if _, send := sends.LoadAndDelete(binary.BigEndian.Uint32(frame)); send && f.forget.Load() {
			f.forgotten.Add(1)
			return false
		}
		return true
	})
}

// frames copies frames from one side to the other, but for those that pass drops.
func frames(from io.Reader, to io.Writer, pass func(frame []byte) bool) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(from, size[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(from, frame); err != nil {
			return
		}
		if !pass(frame) {
			continue
		}
		if _, err := to.Write(append(size[:], frame...)); err != nil {
			return
		}
	}
}

func (f *forgetful) close() {
	f.mu.Lock()
	for _, l := range f.listeners {
		l.Close()
	}
	for c := range f.open {
		c.Close()
	}
	f.mu.Unlock()
	f.conns.Wait()
}

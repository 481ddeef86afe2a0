package benchmarks

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/kafka"
)

// A meter counts records and closes all when there were enough.
type meter struct {
	want int64
	n    atomic.Int64
	all  chan struct{}
}

func newMeter(b *testing.B) *meter { return &meter{want: int64(b.N), all: make(chan struct{})} }

func (m *meter) add() {
	if m.n.Add(1) == m.want {
		close(m.all)
	}
}

// cpu returns the time that this process has used on all cores.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs f between two readings of the clocks.
func measure(b *testing.B, f func()) {
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	f()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// A library is what this one can run on.
type library struct {
	name           string
	driver         driver.Driver
	consumeRaw     func(b *testing.B, addr string)
	produceRaw     func(b *testing.B, addr string)
	produceRawSync func(b *testing.B, addr string, senders int)
}

var libraries = []library{
	{"sarama", sarama.Driver{}, consumeRaw, produceRaw, produceRawSync},
	{"franz-go", franz.Driver{}, consumeFranz, produceFranz, produceFranzSync},
}

func BenchmarkConsume(b *testing.B) {
	for _, partitions := range []int{1, 8} {
		for _, on := range libraries {
			b.Run(fmt.Sprintf("partitions=%d/on=%s/client=raw", partitions, on.name), func(b *testing.B) {
				on.consumeRaw(b, startBroker(b, partitions))
			})
			b.Run(fmt.Sprintf("partitions=%d/on=%s/client=ours", partitions, on.name), func(b *testing.B) {
				consumeOurs(b, on.driver, startBroker(b, partitions))
			})
		}
	}
}

// rawConfig returns the settings of the driver, so that the two fetch alike.
func rawConfig() *ibm.Config {
	cfg := ibm.NewConfig()
	cfg.Consumer.Offsets.Initial = ibm.OffsetOldest
	cfg.Consumer.Fetch.Default = 1 << 20
	cfg.Consumer.IsolationLevel = ibm.ReadCommitted
	cfg.Consumer.Group.Rebalance.GroupStrategies = []ibm.BalanceStrategy{ibm.NewBalanceStrategyRoundRobin()}
	return cfg
}

type rawHandler struct{ m *meter }

func (rawHandler) Setup(ibm.ConsumerGroupSession) error   { return nil }
func (rawHandler) Cleanup(ibm.ConsumerGroupSession) error { return nil }

func (h rawHandler) ConsumeClaim(s ibm.ConsumerGroupSession, c ibm.ConsumerGroupClaim) error {
	for {
		select {
		case msg, ok := <-c.Messages():
			if !ok {
				return nil
			}
			h.m.add()
			s.MarkMessage(msg, "")
		case <-s.Context().Done():
			return nil
		}
	}
}

func consumeRaw(b *testing.B, addr string) {
	group, err := ibm.NewConsumerGroup([]string{addr}, "bench", rawConfig())
	require.NoError(b, err)
	m := newMeter(b)
	ctx, cancel := context.WithCancel(b.Context())
	var running sync.WaitGroup
	measure(b, func() {
		running.Go(func() {
			for ctx.Err() == nil {
				assert.NoError(b, group.Consume(ctx, []string{topic}, rawHandler{m}))
			}
		})
		<-m.all
	})
	cancel()
	running.Wait()
	require.NoError(b, group.Close())
}

type ourHandler struct {
	cfg kafka.ConsumerConfig
	m   *meter
}

func (h *ourHandler) GetConfig() *kafka.ConsumerConfig { return &h.cfg }

func (h *ourHandler) Handle(context.Context, []byte) error {
	h.m.add()
	return nil
}

func newManager(d driver.Driver) *kafka.Manager {
	return kafka.New(d, kafka.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
}

func consumeOurs(b *testing.B, d driver.Driver, addr string) {
	manager := newManager(d)
	m := newMeter(b)
	require.NoError(b, manager.RegisterConsumer(b.Context(), &ourHandler{m: m, cfg: kafka.ConsumerConfig{
		JobName: "bench", Topic: topic, ConsumerGroup: "bench", BootstrapServers: addr, InitialOffset: kafka.OffsetOldest,
	}}))
	require.NoError(b, manager.SetConsumerSwitch("bench", true))
	measure(b, func() {
		require.NoError(b, manager.StartAllConsumers(context.Background()))
		<-m.all
	})
	require.NoError(b, manager.Shutdown(context.Background()))
}

var value = make([]byte, 100)

func rawProducerConfig() *ibm.Config {
	cfg := ibm.NewConfig()
	cfg.Producer.RequiredAcks = ibm.WaitForAll
	cfg.Producer.Idempotent = true
	cfg.Net.MaxOpenRequests = 1
	cfg.Producer.Partitioner = ibm.NewMurmur2Partitioner
	cfg.Producer.Return.Successes = true
	cfg.Producer.Return.Errors = true
	return cfg
}

func BenchmarkProduceAsync(b *testing.B) {
	for _, on := range libraries {
		b.Run(fmt.Sprintf("on=%s/client=raw", on.name), func(b *testing.B) {
			on.produceRaw(b, startBroker(b, 8))
		})
		b.Run(fmt.Sprintf("on=%s/client=ours", on.name), func(b *testing.B) {
			produceOurs(b, on.driver, startBroker(b, 8))
		})
	}
}

func produceRaw(b *testing.B, addr string) {
	p, err := ibm.NewAsyncProducer([]string{addr}, rawProducerConfig())
	require.NoError(b, err)
	var answered sync.WaitGroup
	measure(b, func() {
		answered.Go(func() {
			for range p.Successes() {
			}
		})
		answered.Go(func() {
			for err := range p.Errors() {
				assert.NoError(b, err)
			}
		})
		for range b.N {
			p.Input() <- &ibm.ProducerMessage{Topic: topic, Value: ibm.ByteEncoder(value)}
		}
		p.AsyncClose()
		answered.Wait()
	})
}

func produceOurs(b *testing.B, d driver.Driver, addr string) {
	m := newManager(d)
	p, err := m.RegisterProducer(b.Context(), kafka.ProducerConfig{
		BootstrapServers: addr, EnableAsyncProducer: kafka.BoolPtr(true)})
	require.NoError(b, err)
	answered := func(_ *kafka.ProducerMessage, err error) {
		if err != nil { // measured: assert costs time in each call
			assert.NoError(b, err)
		}
	}
	measure(b, func() {
		for range b.N {
			p.SendAsync(b.Context(), topic, nil, value, answered)
		}
		require.NoError(b, p.Close())
	})
	require.NoError(b, m.Shutdown(context.Background()))
}

func BenchmarkProduceSync(b *testing.B) {
	for _, senders := range []int{1, 64} {
		for _, on := range libraries {
			b.Run(fmt.Sprintf("senders=%d/on=%s/client=raw", senders, on.name), func(b *testing.B) {
				on.produceRawSync(b, startBroker(b, 8), senders)
			})
			b.Run(fmt.Sprintf("senders=%d/on=%s/client=ours", senders, on.name), func(b *testing.B) {
				m := newManager(on.driver)
				p, err := m.RegisterProducer(b.Context(), kafka.ProducerConfig{BootstrapServers: startBroker(b, 8)})
				require.NoError(b, err)
				measure(b, func() {
					share(b, senders, func() error { return p.Send(b.Context(), topic, nil, value) })
				})
				require.NoError(b, m.Shutdown(context.Background()))
			})
		}
	}
}

func produceRawSync(b *testing.B, addr string, senders int) {
	p, err := ibm.NewSyncProducer([]string{addr}, rawProducerConfig())
	require.NoError(b, err)
	measure(b, func() {
		share(b, senders, func() error {
			_, _, err := p.SendMessage(&ibm.ProducerMessage{Topic: topic, Value: ibm.ByteEncoder(value)})
			return err
		})
	})
	require.NoError(b, p.Close())
}

// share splits the sending of b.N messages among so many goroutines.
func share(b *testing.B, senders int, send func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	var sending sync.WaitGroup
	for range senders {
		sending.Go(func() {
			for left.Add(-1) >= 0 {
				if err := send(); err != nil { // measured: assert costs time in each call
					assert.NoError(b, err)
					return
				}
			}
		})
	}
	sending.Wait()
}

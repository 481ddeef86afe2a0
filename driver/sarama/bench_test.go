package sarama

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ibm "github.com/IBM/sarama"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// The benchmarks come in pairs, raw Sarama and the driver, over a broker that
// invents records for fetches and drops produced ones. They share two cores with
// it: compare the two of a pair, and of several runs.

func synthetic(b *testing.B, partitions int32) *kfake.Cluster {
	return fake(b, kfake.SeedTopics(partitions, "bench"), kfake.BlackholeProduce(),
		kfake.SyntheticFetch(kfake.SyntheticBatch{RecordBytes: 100}))
}

// cpu reports the CPU time that an operation takes, the broker's included: other
// programs on the machine disturb it less than the time on the wall.
func cpu(b *testing.B) (report func()) {
	began := testkit.CPUTime(b)
	return func() { b.ReportMetric(float64(testkit.CPUTime(b)-began)/float64(b.N), "cpu-ns/op") }
}

// A counter is a handler that counts, and can take its time.
type counter struct {
	testkit.Idle
	n     atomic.Int64
	want  int64
	done  chan struct{}
	once  sync.Once
	Claim chan *driver.Claim
}

func newCounter(want int) *counter {
	return &counter{want: int64(want), done: make(chan struct{}), Claim: make(chan *driver.Claim, 100)}
}

func (c *counter) add(n int) {
	if c.n.Add(int64(n)) >= c.want {
		c.once.Do(func() { close(c.done) })
	}
}

func (c *counter) Deliver(_ *driver.Claim, b driver.Batch) { c.add(len(b.Records)) }
func (c *counter) Setup(ibm.ConsumerGroupSession) error    { return nil }
func (c *counter) Cleanup(ibm.ConsumerGroupSession) error  { return nil }
func (c *counter) ConsumeClaim(s ibm.ConsumerGroupSession, claim ibm.ConsumerGroupClaim) error {
	for {
		select {
		case m, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			_ = m
			c.add(1)
		case <-s.Context().Done():
			return nil
		}
	}
}

func BenchmarkConsume(b *testing.B) {
	for _, partitions := range []int32{1, 8} {
		b.Run(fmt.Sprintf("%dpartitions/raw", partitions), func(b *testing.B) {
			cluster := synthetic(b, partitions)
			c := newCounter(b.N)
			runRaw(b, cluster, c, c.done, nil)
		})
		b.Run(fmt.Sprintf("%dpartitions/driver", partitions), func(b *testing.B) {
			cluster := synthetic(b, partitions)
			c := newCounter(b.N)
			runDriver(b, cluster, c, c.done)
		})
	}
}

// runRaw consumes as the documentation of Sarama shows it, with the settings
// that the driver has.
func runRaw(b *testing.B, cluster *kfake.Cluster, h ibm.ConsumerGroupHandler, done <-chan struct{}, adapt func(*ibm.Config)) {
	cfg := consumerConfig(cluster.ListenAddrs())
	conf, err := Driver{}.consumerConfig(cfg)
	require.NoError(b, err)
	if adapt != nil {
		adapt(conf)
	}
	group, err := ibm.NewConsumerGroup(cfg.Brokers, "g", conf)
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	consumed := make(chan error, 1)
	go func() { consumed <- group.Consume(ctx, []string{"bench"}, h) }()
	<-done
	b.StopTimer()
	cancel()
	<-consumed
	group.Close()
}

func runDriver(b *testing.B, cluster *kfake.Cluster, h driver.Handler, done <-chan struct{}) {
	cfg := consumerConfig(cluster.ListenAddrs())
	cfg.Topics = []string{"bench"}
	c, err := Driver{}.OpenConsumer(context.Background(), cfg)
	require.NoError(b, err)
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	ran := make(chan error, 1)
	go func() { ran <- c.Run(h) }()
	<-done
	b.StopTimer()
	assert.NoError(b, c.Close(within(b, patienceTest)))
	<-ran
}

func BenchmarkProduce(b *testing.B) {
	for _, partitions := range []int32{1, 8} {
		b.Run(fmt.Sprintf("%dpartitions/raw", partitions), func(b *testing.B) { produceRaw(b, partitions) })
		b.Run(fmt.Sprintf("%dpartitions/driver", partitions), func(b *testing.B) { produceDriver(b, partitions) })
	}
}

var payload = make([]byte, 100)

func produceRaw(b *testing.B, partitions int32) {
	cluster := synthetic(b, partitions)
	conf, err := Driver{}.producerConfig(producerConfig(cluster.ListenAddrs()))
	require.NoError(b, err)
	p, err := ibm.NewAsyncProducer(cluster.ListenAddrs(), conf)
	require.NoError(b, err)
	var drains sync.WaitGroup
	drains.Go(func() {
		for range p.Successes() {
		}
	})
	drains.Go(func() {
		for err := range p.Errors() {
			b.Error(err)
		}
	})
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	for i := range b.N {
		p.Input() <- &ibm.ProducerMessage{Topic: "bench", Partition: int32(i) % partitions, Value: ibm.ByteEncoder(payload)}
	}
	p.AsyncClose()
	drains.Wait()
}

type countAck struct {
	b  *testing.B
	wg *sync.WaitGroup
}

func (a *countAck) Ack(err error) {
	if err != nil {
		a.b.Error(err)
	}
	a.wg.Done()
}

func produceDriver(b *testing.B, partitions int32) {
	cluster := synthetic(b, partitions)
	p, err := Driver{}.OpenProducer(context.Background(), producerConfig(cluster.ListenAddrs()))
	require.NoError(b, err)
	var wg sync.WaitGroup
	acker := &countAck{b, &wg}
	wg.Add(b.N)
	ctx := context.Background()
	b.ReportAllocs()
	b.ResetTimer()
	defer cpu(b)()
	for i := range b.N {
		if err := p.Produce(ctx, &driver.Message{Topic: "bench", Partition: int32(i) % partitions, Value: payload, Acker: acker}); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, p.Close(ctx))
	wg.Wait()
}

// A slowHandler is a core in small: a queue that pauses its claim at a high mark
// and resumes it at half, and a worker that takes its time for each record.
type slowHandler struct {
	*counter
	consumer driver.Consumer
	work     time.Duration

	mu     sync.Mutex
	queued int
	paused bool
	claim  *driver.Claim
	filled chan struct{}
}

const highMark = 10_000

func (h *slowHandler) Deliver(c *driver.Claim, b driver.Batch) {
	h.mu.Lock()
	h.queued += len(b.Records)
	pause := h.queued >= highMark && !h.paused
	h.paused = h.paused || pause
	h.claim = c
	h.mu.Unlock()
	if pause {
		h.consumer.Pause(c)
	}
	select {
	case h.filled <- struct{}{}:
	default:
	}
}

func (h *slowHandler) workOff(stop <-chan struct{}) {
	for {
		h.mu.Lock()
		n := h.queued
		h.mu.Unlock()
		if n == 0 {
			select {
			case <-h.filled:
				continue
			case <-stop:
				return
			}
		}
		spin(h.work)
		h.add(1)
		h.mu.Lock()
		h.queued--
		resume := h.paused && h.queued <= highMark/2
		h.paused = h.paused && !resume
		h.mu.Unlock()
		if resume {
			h.consumer.Resume(h.claim)
		}
	}
}

func spin(d time.Duration) {
	for began := time.Now(); time.Since(began) < d; {
	}
}

// A slowRaw does the same work inside ConsumeClaim.
type slowRaw struct {
	*counter
	work time.Duration
}

func (h slowRaw) ConsumeClaim(s ibm.ConsumerGroupSession, claim ibm.ConsumerGroupClaim) error {
	for {
		select {
		case _, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			spin(h.work)
			h.add(1)
		case <-s.Context().Done():
			return nil
		}
	}
}

// BenchmarkSlowHandler measures back-pressure: how much pausing and resuming starves a
// handler that is somewhat slower than the broker.
func BenchmarkSlowHandler(b *testing.B) {
	for _, work := range []time.Duration{2, 3, 5, 8, 12, 20, 30} {
		work *= time.Microsecond
		b.Run(fmt.Sprintf("%v/raw", work), func(b *testing.B) {
			c := newCounter(b.N)
			runRaw(b, synthetic(b, 1), slowRaw{c, work}, c.done, nil)
		})
		b.Run(fmt.Sprintf("%v/driver", work), func(b *testing.B) {
			cluster := synthetic(b, 1)
			cfg := consumerConfig(cluster.ListenAddrs())
			cfg.Topics = []string{"bench"}
			c, err := Driver{}.OpenConsumer(context.Background(), cfg)
			require.NoError(b, err)
			h := &slowHandler{counter: newCounter(b.N), consumer: c, work: work, filled: make(chan struct{}, 1)}
			stop := make(chan struct{})
			var worker sync.WaitGroup
			worker.Go(func() { h.workOff(stop) })
			b.ResetTimer()
			ran := make(chan error, 1)
			go func() { ran <- c.Run(h) }()
			<-h.done
			b.StopTimer()
			assert.NoError(b, c.Close(within(b, patienceTest)))
			<-ran
			close(stop)
			worker.Wait()
		})
	}
}

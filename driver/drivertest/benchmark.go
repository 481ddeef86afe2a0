package drivertest

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/aarontianqx/gopkg/driver"
)

// Benchmark measures how many records a driver delivers, how many messages it gets
// acknowledged, and their allocations. The time includes joining the group, but
// neither sending the records nor opening the consumer.
func Benchmark(b *testing.B, newHarness func(b *testing.B) Harness) {
	for _, size := range []int{100, 1000} {
		for _, partitions := range []int32{1, 8} {
			name := fmt.Sprintf("size=%d/partitions=%d", size, partitions)
			b.Run("Consume/"+name, func(b *testing.B) { benchmarkConsume(newEnv(b, newHarness(b), "Consume"), b, size, partitions) })
			b.Run("Produce/"+name, func(b *testing.B) { benchmarkProduce(newEnv(b, newHarness(b), "Produce"), b, size, partitions) })
		}
	}
}

func benchmarkConsume(e *env, b *testing.B, size int, partitions int32) {
	topic := e.topic(partitions)
	e.fill(topic, partitions, size, b.N)
	consumer, err := e.h.Driver().OpenConsumer(e.context(), e.consumerConfig(e.unique("group"), topic))
	if err != nil {
		b.Fatal(err)
	}
	counter := &counter{left: int64(b.N), done: make(chan struct{})}
	ran := make(chan error, 1)
	e.measure(b, size, func() {
		go func() { ran <- consumer.Run(counter) }()
		select {
		case <-counter.done:
		case err := <-ran:
			b.Fatalf("Run returned %v before all records were delivered", err)
		}
	})
	if err := consumer.Close(e.context()); err != nil {
		b.Fatal(err)
	}
	if err := <-ran; err != nil {
		b.Fatal(err)
	}
}

// fill sends n records through the harness, about as many to each partition.
func (e *env) fill(topic string, partitions int32, size, n int) {
	const atOnce = 1000
	records := make([]driver.Record, atOnce)
	for i := range records {
		records[i].Value = bytes.Repeat([]byte("v"), size)
	}
	for part := int32(0); n > 0; part = (part + 1) % partitions {
		chunk := min(n, atOnce)
		e.sendRecords(topic, part, records[:chunk]...)
		n -= chunk
	}
}

// measure runs f while the timer runs.
func (e *env) measure(b *testing.B, size int, f func()) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	f()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

// A counter is a Handler that counts records.
type counter struct {
	left int64 // atomic
	done chan struct{}
}

func (c *counter) Deliver(_ *driver.Claim, b driver.Batch) {
	n := int64(len(b.Records))
	if left := atomic.AddInt64(&c.left, -n); left <= 0 && left+n > 0 {
		close(c.done)
	}
}

func (c *counter) Assign([]*driver.Claim)                  {}
func (c *counter) Revoke(context.Context, []*driver.Claim) {}
func (c *counter) Lost([]*driver.Claim, error)             {}
func (c *counter) Error(error)                             {}

func benchmarkProduce(e *env, b *testing.B, size int, partitions int32) {
	topic := e.topic(partitions)
	p, err := e.h.Driver().OpenProducer(e.context(), e.producerConfig())
	if err != nil {
		b.Fatal(err)
	}
	free := newFreeList(topic, size)
	e.measure(b, size, func() {
		for i := range b.N {
			m := <-free.messages
			m.m.Partition = int32(i) % partitions
			if err := p.Produce(context.Background(), &m.m); err != nil {
				b.Fatal(err)
			}
		}
		if err := p.Flush(context.Background()); err != nil {
			b.Fatal(err)
		}
	})
	if err := p.Close(e.context()); err != nil {
		b.Fatal(err)
	}
	if n := free.failed.Load(); n > 0 {
		b.Fatalf("%d of %d messages failed", n, b.N)
	}
}

// A freeList holds the messages that are not in flight, so that the benchmark itself
// allocates nothing.
type freeList struct {
	messages chan *freeMessage
	failed   atomic.Int64
}

type freeMessage struct {
	m    driver.Message
	list *freeList
}

func newFreeList(topic string, size int) *freeList {
	const inFlight = 4096
	l := &freeList{messages: make(chan *freeMessage, inFlight)}
	value := bytes.Repeat([]byte("v"), size)
	for range inFlight {
		m := &freeMessage{list: l, m: driver.Message{Topic: topic, Value: value}}
		m.m.Acker = m
		l.messages <- m
	}
	return l
}

// Ack implements driver.Acker.
func (m *freeMessage) Ack(err error) {
	if err != nil {
		m.list.failed.Add(1)
	}
	m.list.messages <- m
}

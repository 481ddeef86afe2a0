package kafka_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// BenchmarkCore is the core alone: from a driver that delivers batches that were
// prepared before to a trivial handler and to the commit. The records, of 100 bytes,
// lie in memory one after the other, and there are too many of them for a cache. It
// reports the processor time per record, of all goroutines.
func BenchmarkCore(b *testing.B) {
	for _, kind := range handlerKinds {
		b.Run(kind.name, func(b *testing.B) {
			d := &prepared{batches: prepare(b.N, 500), done: make(chan struct{})}
			m := newManager(b, d)
			n := &counter{cfg: consumerConfig(), want: int64(b.N), all: make(chan struct{})}
			check(b, m.RegisterConsumer(b.Context(), kind.of(n)))
			check(b, m.SetConsumerSwitch("bench", true))
			warm(b.N)
			b.ReportAllocs()
			b.ResetTimer()
			began := processorTime(b)
			check(b, m.StartAllConsumers(context.Background()))
			<-n.all
			b.StopTimer()
			b.ReportMetric(float64(processorTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// handlerKinds are the three ways to handle records.
var handlerKinds = []struct {
	name string
	of   func(*counter) kafka.Consumer
}{
	{"value", func(c *counter) kafka.Consumer { return c }},
	{"message", func(c *counter) kafka.Consumer { return messageCounter{c} }},
	{"batch", func(c *counter) kafka.Consumer { return batchCounter{c} }},
}

// processorTime returns what the process has used.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	check(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var sink []*[4096]byte

// warm leaves the heap with room for the messages of n records, that the kernel has
// given already: a benchmark that asks it for memory measures the kernel.
func warm(n int) {
	for range n * 320 / 4096 {
		sink = append(sink, new([4096]byte))
	}
	sink = nil
	runtime.GC()
}

// prepare makes n records in batches of size.
func prepare(n, size int) (batches []driver.Batch) {
	const length = 100
	values := make([]byte, n*length)
	for from := 0; from < n; from += size {
		b := driver.Batch{Records: make([]driver.Record, min(size, n-from))}
		for i := range b.Records {
			at := (from + i) * length
			b.Records[i] = driver.Record{Offset: int64(from + i), Timestamp: time.UnixMilli(int64(at)), Value: values[at : at+length : at+length]}
		}
		batches = append(batches, b)
	}
	return batches
}

// A prepared is a driver whose one consumer owns one partition and delivers batches
// that were made before.
type prepared struct {
	batches []driver.Batch
	done    chan struct{}

	mu      sync.Mutex
	paused  bool
	resumed chan struct{} // closed by Resume; nil unless Run waits for it
}

func (d *prepared) OpenConsumer(context.Context, driver.ConsumerConfig) (driver.Consumer, error) {
	return d, nil
}

func (d *prepared) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return nil, errors.ErrUnsupported
}

func (d *prepared) Run(h driver.Handler) error {
	c := &driver.Claim{Topic: "bench"}
	h.Assign([]*driver.Claim{c})
	for _, b := range d.batches {
		if wait := d.await(); wait != nil {
			<-wait
		}
		h.Deliver(c, b)
	}
	<-d.done
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	h.Revoke(ctx, []*driver.Claim{c})
	return nil
}

// await returns what is closed when the pause ends, or nil while there is none.
func (d *prepared) await() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.paused {
		return nil
	}
	d.resumed = make(chan struct{})
	return d.resumed
}

func (d *prepared) Pause(...*driver.Claim) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = true
}

func (d *prepared) Resume(...*driver.Claim) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.paused = false
	if d.resumed != nil {
		close(d.resumed)
		d.resumed = nil
	}
}

func (d *prepared) Commit(context.Context, []driver.Mark) error { return nil }

func (d *prepared) Close(context.Context) error {
	close(d.done)
	return nil
}

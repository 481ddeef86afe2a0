package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

// BenchmarkCore is the core alone: from a driver that delivers batches that were
// prepared before to a trivial handler and to the commit. The records, of 100 bytes,
// are too many for a cache. When all have been handled the claim is revoked, and a new
// one brings the same records. It reports the processor time per record, of all
// goroutines.
func BenchmarkCore(b *testing.B) {
	for _, kind := range handlerKinds {
		b.Run(kind.name, func(b *testing.B) {
			d := prepare(b.N, 200_000, 500)
			m := newManager(b, d)
			n := &counter{cfg: consumerConfig(), want: int64(b.N), all: make(chan struct{})}
			check(b, m.RegisterConsumer(b.Context(), kind.of(n)))
			check(b, m.SetConsumerSwitch("bench", true))
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			began := testkit.CPUTime(b)
			check(b, m.StartAllConsumers(context.Background()))
			<-n.all
			b.StopTimer()
			b.ReportMetric(float64(testkit.CPUTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// BenchmarkCrew is BenchmarkCore for records that are handled many at once, of a thousand
// keys.
func BenchmarkCrew(b *testing.B) {
	for _, bench := range []struct {
		name  string
		order kafka.Order
		most  int
		spin  time.Duration
	}{
		{"by key, 1", kafka.OrderByKey, 1, 0},
		{"by key, 64", kafka.OrderByKey, 64, 0},
		{"none, 64", kafka.OrderNone, 64, 0},
		{"by key, 64, 1 µs", kafka.OrderByKey, 64, time.Microsecond},
		{"by partition, 1 µs", kafka.OrderByPartition, 1, time.Microsecond},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := prepare(b.N, 200_000, 500)
			for _, batch := range d.batches {
				for i := range batch.Records {
					r := &batch.Records[i]
					r.Key = fmt.Appendf(nil, "customer-%d", r.Offset*7919%1000)
				}
			}
			m := newManager(b, d)
			n := &crewCounter{spin: bench.spin, counter: counter{cfg: consumerConfig(), want: int64(b.N), all: make(chan struct{})}}
			n.cfg.Order, n.cfg.Parallelism = bench.order, bench.most
			check(b, m.RegisterConsumer(b.Context(), n))
			check(b, m.SetConsumerSwitch("bench", true))
			runtime.GC()
			b.ReportAllocs()
			b.ResetTimer()
			began := testkit.CPUTime(b)
			check(b, m.StartAllConsumers(context.Background()))
			<-n.all
			b.StopTimer()
			b.ReportMetric(float64(testkit.CPUTime(b)-began)/float64(b.N), "cpu-ns/op")
		})
	}
}

// A crewCounter counts what several goroutines handle at once.
type crewCounter struct {
	counter
	spin time.Duration
}

func (c *crewCounter) Handle(ctx context.Context, value []byte) error {
	if c.spin > 0 {
		for began := time.Now(); time.Since(began) < c.spin; {
		}
	}
	return c.counter.Handle(ctx, value)
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

// A prepared is a driver whose one consumer owns one partition and delivers batches
// that were made before, again and again.
type prepared struct {
	n       int            // how many records to deliver in all
	batches []driver.Batch // of one round
	done    chan struct{}  // closed by Close
	durable chan int64     // the latest position that was committed

	mu      sync.Mutex
	paused  bool
	resumed chan struct{} // closed by Resume; nil unless Run waits for it
}

// prepare makes a driver that delivers n records: in rounds of so many, and batches of
// size.
func prepare(n, round, size int) *prepared {
	const length = 100
	d := &prepared{n: n, done: make(chan struct{}), durable: make(chan int64, 1)}
	round = min(n, round)
	values := make([]byte, round*length)
	for from := 0; from < round; from += size {
		b := driver.Batch{Records: make([]driver.Record, min(size, round-from))}
		for i := range b.Records {
			at := (from + i) * length
			b.Records[i] = driver.Record{Offset: int64(from + i), Timestamp: time.UnixMilli(int64(at)), Value: values[at : at+length : at+length]}
		}
		d.batches = append(d.batches, b)
	}
	return d
}

func (d *prepared) OpenConsumer(context.Context, driver.ConsumerConfig) (driver.Consumer, error) {
	return d, nil
}

func (d *prepared) OpenProducer(context.Context, driver.ProducerConfig) (driver.Producer, error) {
	return nil, errors.ErrUnsupported
}

func (d *prepared) Run(h driver.Handler) error {
	for left := d.n; left > 0; {
		left -= d.round(h, left)
	}
	<-d.done
	return nil
}

// round delivers up to n records under a claim of their own, and waits until they are
// committed. It returns how many.
func (d *prepared) round(h driver.Handler, n int) (sent int) {
	c := &driver.Claim{Topic: "bench"}
	h.Assign([]*driver.Claim{c})
	for i := 0; i < len(d.batches) && sent < n; i++ {
		if wait := d.await(); wait != nil {
			<-wait
		}
		b := d.batches[i]
		b.Records = b.Records[:min(len(b.Records), n-sent)]
		h.Deliver(c, b)
		sent += len(b.Records)
	}
	for position := int64(0); position < int64(sent); {
		select {
		case position = <-d.durable:
		case <-d.done:
			position = int64(sent)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	h.Revoke(ctx, []*driver.Claim{c})
	return sent
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

// Commit is called by one goroutine at a time, so there is room after the old position
// is gone.
func (d *prepared) Commit(_ context.Context, marks []driver.Mark) error {
	select {
	case <-d.durable:
	default:
	}
	d.durable <- marks[0].Offset
	return nil
}

func (d *prepared) Close(context.Context) error {
	close(d.done)
	return nil
}

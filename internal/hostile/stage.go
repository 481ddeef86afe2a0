//go:build unix

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/aarontianqx/gopkg/internal/hostile/wire"
)

const setUpWithin = time.Minute

// A stage is what one row is played on: the brokers, hostile and healthy, and what
// the victim has to do.
type stage struct {
	duty
	asked   func() int64 // requests and connections at the hostile side
	closers []func()
}

func (s *stage) atEnd(f func()) { s.closers = append(s.closers, f) }

func (s *stage) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		s.closers[i]()
	}
}

// cluster starts a fake cluster of one broker with topic t.
func (s *stage) cluster(partitions int32, opts ...kfake.Opt) (*kfake.Cluster, error) {
	c, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}, opts...)...)
	if err == nil {
		s.atEnd(c.Close)
	}
	return c, err
}

// healthy starts the broker of the innocent.
func (s *stage) healthy() error {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(2, innocentTopic),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}))
	if err != nil {
		return err
	}
	s.atEnd(c.Close)
	s.Healthy = c.ListenAddrs()[0]
	return nil
}

// before puts a proxy before a broker, which the victims take for it.
func (s *stage) before(broker string, meddle func(*wire.Exchange)) error {
	p, err := wire.Listen(broker, meddle)
	if err != nil {
		return err
	}
	s.atEnd(p.Close)
	s.Hostile, s.asked = p.Addr(), func() int64 { return p.Total() + p.Dials() }
	return nil
}

// meddled is a fake cluster behind a proxy.
func (s *stage) meddled(meddle func(*wire.Exchange)) error {
	c, err := s.cluster(3)
	if err != nil {
		return err
	}
	return s.before(c.ListenAddrs()[0], meddle)
}

// fetched is a cluster whose answers to fetches are made by records: of partition
// 0, or of more. Partition 2 is harmless, and holds 100 records.
func (s *stage) fetched(records func(partition int32, offset int64) []byte) error {
	c, err := s.cluster(3)
	if err != nil {
		return err
	}
	for partition, n := range map[int32]int{0: 5, 1: 5, 2: 100} {
		if err := seed(c.ListenAddrs()[0], "t", partition, n); err != nil {
			return err
		}
	}
	return s.before(c.ListenAddrs()[0], func(x *wire.Exchange) {
		a, ok := x.Answer.(*kmsg.FetchResponse)
		if !ok {
			return
		}
		offsets := map[int32]int64{}
		for _, t := range x.Request.(*kmsg.FetchRequest).Topics {
			for _, p := range t.Partitions {
				offsets[p.Partition] = p.FetchOffset
			}
		}
		for i := range a.Topics {
			for j := range a.Topics[i].Partitions {
				p := &a.Topics[i].Partitions[j]
				if b := records(p.Partition, offsets[p.Partition]); b != nil && p.ErrorCode == 0 {
					p.RecordBatches = b
				}
			}
		}
	})
}

// seed writes n records to a partition.
func seed(broker, topic string, partition int32, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), setUpWithin)
	defer cancel()
	var records []*kgo.Record
	for i := range n {
		records = append(records, &kgo.Record{Topic: topic, Partition: partition, Value: fmt.Append(nil, i)})
	}
	return cl.ProduceSync(ctx, records...).FirstErr()
}

// port is a listener that is no broker. It serves each connection by serve.
func (s *stage) port(serve func(n int64, c net.Conn)) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var asked atomic.Int64
	var served sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = true
			mu.Unlock()
			served.Go(func() {
				serve(asked.Add(1), c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	s.atEnd(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		served.Wait()
	})
	s.Hostile, s.asked = l.Addr().String(), asked.Load
	return nil
}

// says answers whatever comes first with b, and listens on.
func says(b []byte) func(int64, net.Conn) {
	return func(_ int64, c net.Conn) {
		buf := make([]byte, 4096)
		if _, err := c.Read(buf); err != nil {
			return
		}
		c.Write(b)
		io.Copy(io.Discard, c)
	}
}

// relay connects c with a broker.
func relay(c net.Conn, broker string) {
	b, err := net.Dial("tcp", broker)
	if err != nil {
		return
	}
	defer b.Close()
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(c, b)
		c.Close()
	})
	io.Copy(b, c)
	b.Close()
	back.Wait()
}

// throttle sets the throttle time of an answer, if it has one.
func throttle(x *wire.Exchange) {
	if f := reflect.ValueOf(x.Answer).Elem().FieldByName("ThrottleMillis"); f.IsValid() {
		f.SetInt(math.MaxInt32)
	}
}

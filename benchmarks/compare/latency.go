package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func milliseconds(d time.Duration) reading {
	return reading{"ms": float64(d) / float64(time.Millisecond)}
}

// awaitNextFetch lets a client come to rest in its next fetch, as it does on a
// quiet topic.
func awaitNextFetch() { time.Sleep(50 * time.Millisecond) }

// commitLatency sends a message a time, and takes the median of the commits.
func commitLatency(ctx context.Context, c client, t turn) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout/2)
	defer cancel()
	send, err := newSender(t)
	if err != nil {
		return nil, err
	}
	defer send.Close()
	commits := make(chan time.Duration)
	ended := make(chan error, 1)
	go func() {
		ended <- c.commits(ctx, t.subscription(), func(d time.Duration) {
			select {
			case commits <- d:
			case <-ctx.Done():
			}
		})
	}()
	var all []time.Duration
	for len(all) < t.Messages {
		if err := send.ProduceSync(ctx, &kgo.Record{Topic: t.Topic}).FirstErr(); err != nil {
			return nil, err
		}
		select {
		case d := <-commits:
			all = append(all, d)
		case err := <-ended:
			return nil, fmt.Errorf("ended after %d commits: %w", len(all), err)
		case <-ctx.Done():
			return nil, fmt.Errorf("after %d commits: %w", len(all), ctx.Err())
		}
	}
	cancel()
	slices.Sort(all)
	return milliseconds(all[len(all)/2]), <-ended
}

func newSender(t turn) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(t.Brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
}

// cooperativeJoin finds the longest time between two messages of a partition
// that its member keeps while another one joins. Each partition gets a message
// every 5 ms.
func cooperativeJoin(ctx context.Context, c client, t turn) (reading, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	send, err := newSender(t)
	if err != nil {
		return nil, err
	}
	defer send.Close()
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	sending.Go(func() { trickle(ctx, send, t.Topic) })

	s := t.subscription()
	s.cooperative, s.partitions = true, true
	var g gaps
	stopFirst, err := c.consume(s, g.note)
	if err != nil {
		return nil, err
	}
	time.Sleep(3 * time.Second)
	g.reset()
	stopSecond, err := c.consume(s, func(int32) {})
	if err != nil {
		return nil, errors.Join(err, stopFirst())
	}
	time.Sleep(6 * time.Second)
	longest, kept := g.longest()
	err = errors.Join(stopSecond(), stopFirst())
	if kept == 0 || kept == 8 {
		err = errors.Join(err, fmt.Errorf("the first member kept %d of 8 partitions", kept))
	}
	return milliseconds(longest), err
}

func trickle(ctx context.Context, send *kgo.Client, topic string) {
	for tick := time.NewTicker(5 * time.Millisecond); ; {
		for p := range int32(8) {
			send.Produce(ctx, &kgo.Record{Topic: topic, Partition: p}, nil)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// gaps are the longest times between two messages, by partition.
type gaps struct {
	mu   sync.Mutex
	last [8]time.Time
	gap  [8]time.Duration
}

func (g *gaps) note(partition int32) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := g.last[partition]; !last.IsZero() {
		g.gap[partition] = max(g.gap[partition], now.Sub(last))
	}
	g.last[partition] = now
}

func (g *gaps) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gap = [8]time.Duration{}
}

// longest looks at the partitions that are still read, and counts them.
func (g *gaps) longest() (longest time.Duration, kept int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, last := range g.last {
		if time.Since(last) < time.Second {
			longest, kept = max(longest, g.gap[p]), kept+1
		}
	}
	return longest, kept
}

// startLatency is the time from opening a client to its first message.
func startLatency(_ context.Context, c client, t turn) (reading, error) {
	began := time.Now()
	stop, took, err := untilFirst(c, t.subscription(), began)
	if err != nil {
		return nil, err
	}
	return milliseconds(took), stop()
}

// stopLatency is the time that the end of an idle member takes.
func stopLatency(_ context.Context, c client, t turn) (reading, error) {
	stop, _, err := untilFirst(c, t.subscription(), time.Now())
	if err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second) // everything is read and committed
	began := time.Now()
	err = stop()
	return milliseconds(time.Since(began)), err
}

func untilFirst(c client, s subscription, began time.Time) (stop func() error, took time.Duration, err error) {
	first := make(chan time.Time, 1)
	stop, err = c.consume(s, func(int32) {
		select {
		case first <- time.Now():
		default:
		}
	})
	if err != nil {
		return nil, 0, err
	}
	select {
	case at := <-first:
		return stop, at.Sub(began), nil
	case <-time.After(turnTimeout / 2):
		return nil, 0, errors.Join(errors.New("no message"), stop())
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// consume reads the messages of a topic that holds them.
func consume(_ context.Context, c client, t turn) (reading, error) {
	m := newMeter(t.Messages)
	stop, err := c.consume(t.subscription(), func(int32) { m.add() })
	if err != nil {
		return nil, err
	}
	r, err := m.read()
	return r, errors.Join(err, stop())
}

// produceSync sends from so many goroutines, each of which waits for the answer.
func produceSync(senders int) func(context.Context, client, turn) (reading, error) {
	return func(ctx context.Context, c client, t turn) (reading, error) {
		p, value, err := openProducer(c, t)
		if err != nil {
			return nil, err
		}
		m := newMeter(t.Messages)
		var left atomic.Int64
		left.Store(int64(t.Messages))
		errs := make([]error, senders)
		var sending sync.WaitGroup
		for i := range senders {
			sending.Go(func() {
				for left.Add(-1) >= 0 && errs[i] == nil {
					errs[i] = p.send(ctx, t.Topic, value)
					m.add()
				}
			})
		}
		sending.Wait()
		if err := errors.Join(errs...); err != nil {
			return nil, errors.Join(err, p.close())
		}
		r, err := m.read()
		return r, errors.Join(err, p.close())
	}
}

// produceAsync sends without waiting, and then waits for every answer.
func produceAsync(ctx context.Context, c client, t turn) (reading, error) {
	p, value, err := openProducer(c, t)
	if err != nil {
		return nil, err
	}
	m := newMeter(t.Messages)
	var failed atomic.Pointer[error]
	done := func(err error) {
		if err != nil {
			failed.Store(&err)
		}
		m.add()
	}
	for range t.Messages {
		p.sendAsync(ctx, t.Topic, value, done)
	}
	r, err := m.read()
	if failed := failed.Load(); failed != nil {
		err = errors.Join(err, *failed)
	}
	return r, errors.Join(err, p.close())
}

func openProducer(c client, t turn) (producer, []byte, error) {
	s, err := scenarioNamed(t.Scenario)
	if err != nil {
		return nil, nil, err
	}
	p, err := c.produce(t.Brokers)
	return p, make([]byte, s.bytes), err
}

// slowNeighbour compares the speed of seven partitions with and without an
// eighth beside them whose handler takes 20 ms per message.
func slowNeighbour(_ context.Context, c client, t turn) (reading, error) {
	alone, err := fastPartitions(c, t, unique("alone"), 0)
	if err != nil {
		return nil, fmt.Errorf("alone: %w", err)
	}
	beside, err := fastPartitions(c, t, unique("beside"), 20*time.Millisecond)
	if err != nil {
		return nil, fmt.Errorf("beside: %w", err)
	}
	return reading{"msg/s": beside, "alone-msg/s": alone, "kept": beside / alone}, nil
}

// fastPartitions returns how many messages per second partitions 1 to 7 handle,
// from the first one to the last, or for five seconds.
func fastPartitions(c client, t turn, group string, slow time.Duration) (rate float64, err error) {
	s := t.subscription()
	s.group, s.partitions, s.parallel = group, true, true
	want := int64(t.Messages) * 7 / 8
	var (
		n     atomic.Int64
		first = make(chan struct{})
		last  = make(chan struct{})
	)
	stop, err := c.consume(s, func(partition int32) {
		if partition == 0 {
			time.Sleep(slow)
			return
		}
		switch n.Add(1) {
		case 1:
			close(first)
		case want:
			close(last)
		}
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-first:
	case <-time.After(turnTimeout / 4):
		return 0, errors.Join(errors.New("no message"), stop())
	}
	began := time.Now()
	select {
	case <-last:
	case <-time.After(5 * time.Second):
	}
	rate = float64(n.Load()) / time.Since(began).Seconds()
	return rate, stop()
}

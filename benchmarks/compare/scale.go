package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// scale starts so many members, each in a group of its own, waits until each
// has been given every message, and looks at what they use while nothing
// happens.
func scale(members int) func(context.Context, client, turn) (reading, error) {
	return func(_ context.Context, c client, t turn) (reading, error) {
		began := time.Now()
		var (
			ready sync.WaitGroup
			stops []func() error
		)
		ready.Add(members)
		for i := range members {
			s := t.subscription()
			s.group = fmt.Sprintf("%s-%d", t.Group, i)
			left := t.Messages
			var counting sync.Mutex
			stop, err := c.consume(s, func(int32) {
				counting.Lock()
				defer counting.Unlock()
				if left--; left == 0 {
					ready.Done()
				}
			})
			if err != nil {
				return nil, errors.Join(err, stopAll(stops))
			}
			stops = append(stops, stop)
		}
		all := make(chan struct{})
		go func() { ready.Wait(); close(all) }()
		select {
		case <-all:
		case <-time.After(turnTimeout * 3 / 4):
			return nil, errors.New("not every member has been given everything")
		}
		r := milliseconds(time.Since(began))
		time.Sleep(2 * time.Second)
		runtime.GC()
		before, from := cpuTime(), time.Now()
		time.Sleep(5 * time.Second)
		r["cpu-%"] = 100 * float64(cpuTime()-before) / float64(time.Since(from))
		r["goroutines"] = float64(runtime.NumGoroutine())
		r["rss-MiB"] = rss()
		return r, stopAll(stops)
	}
}

// stopAll stops all members side by side.
func stopAll(stops []func() error) error {
	errs := make([]error, len(stops))
	var stopping sync.WaitGroup
	for i, stop := range stops {
		stopping.Go(func() { errs[i] = stop() })
	}
	stopping.Wait()
	return errors.Join(errs...)
}

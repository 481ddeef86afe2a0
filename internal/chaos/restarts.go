//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// Restarts: one consumer in a process of its own is switched on and off again,
// at whatever moment that may be, while its broker comes and goes. Whatever a
// life of a consumer leaves behind adds up.

// restEvery is after how many restarts the restarter reports what it holds.
const restEvery = 50

// runOneIn is how many restarts there are to one that waits until the consumer
// runs. The broker has to give up members that could not say goodbye first.
const runOneIn = 10

// restart switches a consumer on and off, as often as d says.
func restart(ctx context.Context, d duty, events *eventLog, log *slog.Logger) error {
	m := kafka.New(driverOf(d.Driver), kafka.WithLogger(log), kafka.WithHook(stateHook{events: events}), kafka.WithShutdownTimeout(stopTimeout))
	cfg := kafka.ConsumerConfig{
		JobName: "chaos", ClientID: d.Name, BootstrapServers: d.Brokers, Topic: d.Topic, ConsumerGroup: d.Group,
		SessionTimeout: d.Session, HeartbeatInterval: time.Second, RebalanceTimeout: 2 * d.Session,
		Backoff: kafka.Backoff{Min: 20 * time.Millisecond, Max: 100 * time.Millisecond}, MaxConsecutiveErrors: 1e6,
	}
	handle := func(context.Context, *kafka.Message) error { return nil }
	if err := m.RegisterConsumer(ctx, kafka.NewConsumer(cfg, handle)); err != nil {
		return err
	}
	if err := m.StartAllConsumers(ctx); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(d.Seed, 1))
	for n := 0; n <= d.Restarts && ctx.Err() == nil; n++ {
		if n%restEvery == 0 {
			tellRest(events, uint64(n))
		}
		if err := m.SetConsumerSwitch("chaos", true); err != nil {
			return err
		}
		// From before it has dialed on; sometimes it is let come to run.
		pause(ctx, time.Duration(random.IntN(200))*time.Millisecond)
		if random.IntN(runOneIn) == 0 {
			await(ctx, m, kafka.StateRunning, 2*d.Session)
		}
		if err := m.SetConsumerSwitch("chaos", false); err != nil {
			return err
		}
		if !await(ctx, m, kafka.StateOff, stopTimeout) && ctx.Err() == nil {
			return errors.New("a consumer that was switched off did not come to rest")
		}
	}
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return m.Shutdown(stopping)
}

func await(ctx context.Context, m *kafka.Manager, state kafka.State, limit time.Duration) bool {
	for began := time.Now(); time.Since(began) < limit && ctx.Err() == nil; pause(ctx, time.Millisecond) {
		if s, err := m.Consumer("chaos"); err == nil && s.State == state {
			return true
		}
	}
	return false
}

// tellRest reports what is held when nothing should be: garbage is no leak, and a
// connection that was closed a moment ago is gone after another one.
func tellRest(events *eventLog, n uint64) {
	time.Sleep(100 * time.Millisecond)
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	events.tell(event{
		Kind: isAtRest, ID: n, RSS: residentBytes("self"), Heap: int64(m.HeapAlloc),
		Goroutines: runtime.NumGoroutine(), Files: openFiles("self"),
	})
}

// A rest is what the restarter held after so many restarts.
type rest struct {
	Restarts   int     `json:"restarts"`
	RSS        float64 `json:"rss"`
	Heap       float64 `json:"heap"`
	Goroutines int     `json:"goroutines"`
	Files      int     `json:"files"`
}

// A restartReport is the line of JSON that restarts end with.
type restartReport struct {
	Trial   string         `json:"trial"`
	Passed  bool           `json:"passed"`
	Why     []string       `json:"why,omitempty"`
	Seed    uint64         `json:"seed"`
	Command string         `json:"command"`
	Kafka   string         `json:"kafka"`
	Took    float64        `json:"took"`
	Absent  int            `json:"broker_absent"` // how often the broker went
	States  map[string]int `json:"states"`
	Rests   []rest         `json:"rests"`
}

// runRestarts lets a restarter run on a broker that comes and goes.
func (o options) runRestarts(ctx context.Context, out io.Writer, log *slog.Logger) (passed bool, err error) {
	b, err := newBench(ctx, o.version, 1, nil)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if err := b.CreateTopic(ctx, "restarts", o.Partitions, nil); err != nil {
		return false, err
	}
	r := &restartReport{Trial: "restarts", Seed: o.Seed, Command: commandLine(), Kafka: o.version, States: map[string]int{}}
	began := time.Now()
	h := newHistory()
	p, err := startProcess(duty{
		Name: "r1", Role: "restarter", Driver: o.Driver, Brokers: b.Bootstrap(), Topic: "restarts", Group: "restarts",
		Session: o.Session, Restarts: o.restarts, Seed: o.Seed,
	}, 1, io.Discard, h.tell)
	if err != nil {
		return false, err
	}
	defer p.kill()
	r.Absent = b.comeAndGo(ctx, p.done, rand.New(rand.NewPCG(o.Seed, 0)))
	if p.err != nil {
		return false, fmt.Errorf("%s: %w", p.Name, p.err)
	}
	r.Took = seconds(time.Since(began))
	r.decide(h.sorted(), o.restarts)
	return r.Passed, json.NewEncoder(out).Encode(r)
}

// comeAndGo lets the broker be there, refuse connections, and be silent, until
// done is closed. It returns how often the broker went.
func (b *bench) comeAndGo(ctx context.Context, done <-chan struct{}, random *rand.Rand) (absent int) {
	bad := []weather{{cut: true}, {black: [2]bool{true, true}}, {black: [2]bool{toClient: true}}}
	pass := func(w weather, least, spread int) bool {
		b.clientWeather(1, w)
		select {
		case <-time.After(time.Duration(least+random.IntN(spread)) * time.Millisecond):
			return true
		case <-done:
		case <-ctx.Done():
		}
		return false
	}
	for pass(weather{}, 100, 2000) && pass(bad[random.IntN(len(bad))], 50, 400) {
		absent++
	}
	return absent
}

// decide passes what is flat: in the second half no more goroutines and files
// than in the first, and no more than a fifth more memory.
func (r *restartReport) decide(events []event, restarts int) {
	for _, e := range events {
		switch e.Kind {
		case isState:
			r.States[e.Text]++
		case isAtRest:
			r.Rests = append(r.Rests, rest{
				Restarts: int(e.ID & (1<<40 - 1)), RSS: mebibytes(e.RSS), Heap: mebibytes(e.Heap),
				Goroutines: e.Goroutines, Files: e.Files,
			})
		}
	}
	must := func(ok bool, format string, args ...any) {
		if !ok {
			r.Why = append(r.Why, fmt.Sprintf(format, args...))
		}
	}
	must(r.States["running"] > restarts/20, "ran only %d times", r.States["running"])
	must(r.Absent > 0, "the broker was there all the time")
	half := len(r.Rests) / 2
	must(half > 0, "nothing was measured")
	var before, after rest
	for i, x := range r.Rests {
		most := &before
		if i >= half {
			most = &after
		}
		most.RSS, most.Goroutines, most.Files = max(most.RSS, x.RSS), max(most.Goroutines, x.Goroutines), max(most.Files, x.Files)
	}
	must(after.Goroutines <= before.Goroutines, "goroutines grew from %d to %d", before.Goroutines, after.Goroutines)
	must(after.Files <= before.Files, "open files grew from %d to %d", before.Files, after.Files)
	must(after.RSS <= 1.2*before.RSS, "resident memory grew from %.0f to %.0f MiB", before.RSS, after.RSS)
	r.Passed = len(r.Why) == 0
}

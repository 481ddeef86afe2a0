//go:build unix

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// A fault is one thing that goes wrong.
type fault struct {
	name string
	// hold is how long it lasts before it is healed.
	hold time.Duration
	// deafens says that members may not hear of their losses meanwhile.
	deafens bool
	// begin lets it happen, and returns what heals it.
	begin func(ctx context.Context, t *trial) (heal func(context.Context) error, err error)
}

// faults is the time table, before it is shuffled. A hold of 15 s is longer than
// a session, and than the answer to a send is waited for.
func faults() []fault {
	return []fault{
		{"kill -9 the leader of most partitions", 15 * time.Second, true, killLeader},
		{"freeze the group's coordinator", 15 * time.Second, true, freezeCoordinator},
		{"black hole before one broker, then its answers only", 8 * time.Second, true, blackHole},
		{"isolate one leader from its peers, not from clients", 15 * time.Second, true, isolateLeader},
		{"restart all brokers, one by one", 0, true, restartBrokers},
		{"kill -9 a consumer, start another", 3 * time.Second, false, killConsumer},
		{"freeze a consumer: a zombie", 15 * time.Second, false, freezeConsumer},
		{"black hole before one consumer", 15 * time.Second, false, cutOffConsumer},
		{"replace all consumers, one by one", 0, false, replaceConsumers},
		{"kill -9 a producer, start another", time.Second, false, killProducer},
		{"cut all brokers off", 8 * time.Second, true, cutAll},
		{"lose all answers, then the connections", 4 * time.Second, true, loseAnswers},
		{"slow down all brokers by 0.6 s", 10 * time.Second, true, slowDown},
	}
}

// pickFaults returns those whose names contain one of words, in that order; all
// without words.
func pickFaults(words []string) ([]fault, error) {
	if len(words) == 0 {
		return faults(), nil
	}
	var picked []fault
	for _, w := range words {
		i := slices.IndexFunc(faults(), func(f fault) bool { return contains(f.name, w) })
		if i < 0 {
			return nil, fmt.Errorf("no fault has %q in its name", w)
		}
		picked = append(picked, faults()[i])
	}
	return picked, nil
}

func nothing(context.Context) error { return nil }

// mostLed returns the broker that leads most partitions of the topic.
func (t *trial) mostLed(ctx context.Context) (int, error) {
	led := make([]int, brokerCount+1)
	for p := range int32(t.Partitions) {
		leader, err := t.bench.Leader(ctx, t.topic, p)
		if err != nil {
			return 0, err
		}
		led[leader.ID()]++
	}
	return slices.Index(led, slices.Max(led)), nil
}

func killLeader(ctx context.Context, t *trial) (func(context.Context) error, error) {
	id, err := t.mostLed(ctx)
	if err != nil {
		return nil, err
	}
	return t.bench.Broker(id).Restart, t.bench.Broker(id).Kill()
}

func freezeCoordinator(ctx context.Context, t *trial) (func(context.Context) error, error) {
	b, err := t.bench.Coordinator(ctx, t.group)
	if err != nil {
		return nil, err
	}
	return func(context.Context) error { return b.Continue() }, b.Pause()
}

// blackHole holds back everything, and then for as long again what the broker
// says. When it heals, the connections may have been forgotten.
func blackHole(_ context.Context, t *trial) (func(context.Context) error, error) {
	id := 1 + t.random.IntN(brokerCount)
	forget := t.random.IntN(2) == 0
	t.bench.clientWeather(id, weather{black: [2]bool{true, true}})
	return func(ctx context.Context) error {
		t.bench.clientWeather(id, weather{black: [2]bool{toClient: true}})
		pause(ctx, 8*time.Second)
		if forget {
			t.bench.clients[id].drop()
		}
		t.bench.heal()
		return nil
	}, nil
}

func isolateLeader(ctx context.Context, t *trial) (func(context.Context) error, error) {
	id, err := t.mostLed(ctx)
	if err != nil {
		return nil, err
	}
	t.bench.isolate(id)
	return t.healNetwork, nil
}

func (t *trial) healNetwork(context.Context) error {
	t.bench.heal()
	return nil
}

func restartBrokers(ctx context.Context, t *trial) (func(context.Context) error, error) {
	for _, b := range t.bench.Brokers() {
		if err := b.Restart(ctx); err != nil {
			return nil, err
		}
		if err := t.bench.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return nothing, nil
}

func killConsumer(_ context.Context, t *trial) (func(context.Context) error, error) {
	t.killOne(&t.consumers)
	return func(context.Context) error { return t.startConsumer() }, nil
}

func killProducer(_ context.Context, t *trial) (func(context.Context) error, error) {
	t.killOne(&t.producers)
	return func(context.Context) error { return t.startProducer() }, nil
}

// killOne kills one of processes and takes it out.
func (t *trial) killOne(processes *[]*process) {
	i := t.random.IntN(len(*processes))
	p := (*processes)[i]
	*processes = slices.Delete(*processes, i, i+1)
	p.killed = true
	p.kill()
	t.note(isKilled, p)
}

func freezeConsumer(_ context.Context, t *trial) (func(context.Context) error, error) {
	p := t.consumers[t.random.IntN(len(t.consumers))]
	t.note(isSevered, p)
	t.note(isFrozen, p)
	return func(context.Context) error { return p.signal(syscall.SIGCONT) }, p.signal(syscall.SIGSTOP)
}

// cutOffConsumer holds back everything between one consumer and the brokers, new
// connections included, for longer than its session. It cannot hear that its
// partitions are another's, and has to let go of them by the clock.
func cutOffConsumer(_ context.Context, t *trial) (func(context.Context) error, error) {
	p := t.consumers[t.random.IntN(len(t.consumers))]
	t.note(isSevered, p)
	t.bench.consumerWeather(consumerOf(p.Name), weather{black: [2]bool{true, true}})
	return t.healNetwork, nil
}

func replaceConsumers(ctx context.Context, t *trial) (func(context.Context) error, error) {
	for range len(t.consumers) {
		if err := t.replaceConsumer(ctx); err != nil {
			return nil, err
		}
	}
	return nothing, nil
}

// replaceConsumer starts a consumer and stops the one that is there for longest.
func (t *trial) replaceConsumer(ctx context.Context) error {
	if err := t.startConsumer(); err != nil {
		return err
	}
	pause(ctx, 2*time.Second)
	old := t.consumers[0]
	t.consumers = t.consumers[1:]
	return old.stop(2 * stopTimeout)
}

func cutAll(_ context.Context, t *trial) (func(context.Context) error, error) {
	t.allClients(weather{cut: true})
	return t.healNetwork, nil
}

func loseAnswers(_ context.Context, t *trial) (func(context.Context) error, error) {
	t.allClients(weather{black: [2]bool{toClient: true}})
	return func(ctx context.Context) error {
		t.allClients(weather{cut: true}) // so that what was held back is lost
		return t.healNetwork(ctx)
	}, nil
}

func slowDown(_ context.Context, t *trial) (func(context.Context) error, error) {
	t.allClients(weather{delay: [2]time.Duration{300 * time.Millisecond, 300 * time.Millisecond}})
	return t.healNetwork, nil
}

func (t *trial) allClients(w weather) {
	for id := range t.bench.clients {
		t.bench.clientWeather(id, w)
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// shuffled returns faults in an order that random decides.
func shuffled(fs []fault, random *rand.Rand) []fault {
	fs = slices.Clone(fs)
	random.Shuffle(len(fs), func(i, j int) { fs[i], fs[j] = fs[j], fs[i] })
	return fs
}

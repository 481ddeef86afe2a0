package simulation

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// A node is one process: a manager, a consumer of each group at most, and
// perhaps a producer.
type node struct {
	w        *world
	name     string
	number   int
	manager  *kafka.Manager
	groups   []string
	opened   atomic.Pointer[kafka.Producer] // a handler may send while it is opened
	stopping bool

	operating sync.Mutex         // one operator at a time
	rates     map[string]float64 // of the consumers

	start  context.Context // of StartAllConsumers
	cancel context.CancelFunc

	view      kafka.View
	mayRefuse atomic.Bool // the producer has been closed, or the time of a shutdown is nearly up
}

func (w *world) newNode() *node {
	n := &node{w: w, number: len(w.nodes), rates: make(map[string]float64), name: fmt.Sprintf("p%d", len(w.nodes)+1)}
	options := []kafka.Option{
		kafka.WithLogger(slog.New(slog.DiscardHandler)), kafka.WithHook(hook{n: n}), kafka.WithShutdownTimeout(shutdownTimeout),
	}
	if w.drawn.middleware {
		options = append(options, kafka.WithMiddleware(func(next kafka.HandlerFunc) kafka.HandlerFunc { return next }))
	}
	n.manager = kafka.New(w.faults.wrap(w.broker), options...)
	n.start, n.cancel = context.WithCancel(context.Background())
	w.nodes = append(w.nodes, n)
	return n
}

func (n *node) has(group string) bool {
	for _, g := range n.groups {
		if g == group {
			return true
		}
	}
	return false
}

// launch registers a consumer, starts the manager and switches the consumer on.
func (n *node) launch(group string) error {
	if err := n.register(group); err != nil {
		return err
	}
	n.switchGroup(group, true)
	return n.manager.StartAllConsumers(n.start)
}

func (n *node) register(group string) error {
	n.w.judge.Tell(n.ordering(group).judged(n.member(group), n.w.drawn.kind))
	if err := n.manager.RegisterConsumer(context.Background(), n.consumer(n.config(group))); err != nil {
		return err
	}
	n.groups = append(n.groups, group)
	n.rated(group, n.w.drawn.rate)
	return nil
}

func (n *node) config(group string) kafka.ConsumerConfig {
	cfg := n.classic(group)
	if cfg.GroupProtocol = n.w.drawn.protocols[group]; cfg.GroupProtocol == kafka.ConsumerProtocol {
		cfg.BalanceStrategies, cfg.HeartbeatInterval = nil, 0
	}
	return cfg
}

// classic returns the configuration of a group's member if the group has the
// ClassicProtocol.
func (n *node) classic(group string) kafka.ConsumerConfig {
	d := n.w.drawn
	cfg := kafka.ConsumerConfig{
		JobName: group, Topics: n.w.topics(group), BootstrapServers: "localhost:9092", ConsumerGroup: group,
		ClientID: n.name + "." + group, InitialOffset: kafka.OffsetOldest, OutOfRange: d.outOfRange,
		IsolationLevel: d.isolation, AutoCommit: d.autoCommit, BalanceStrategies: d.strategies,
		SessionTimeout: d.session, HeartbeatInterval: time.Second, RebalanceTimeout: d.rebalance, DrainTimeout: d.drain,
		CommitInterval: d.interval, MaxBufferedMessages: d.buffered, MaxMessageBytes: d.fetch, MaxBatchSize: 3,
		MaxRate:              d.rate,
		MaxConsecutiveErrors: d.maxErrors, Backoff: kafka.Backoff{Jitter: kafka.NoJitter},
	}
	if d.newest {
		cfg.InitialOffset = kafka.OffsetNewest
	}
	if d.static {
		cfg.InstanceID = n.name + "-" + group
	}
	if d.secured {
		cfg.TLS, cfg.SASL = security()
	}
	d.failing.configure(&cfg)
	n.ordering(group).configure(&cfg)
	return cfg
}

// security draws settings that the broker in memory ignores.
func security() (*kafka.TLSConfig, *kafka.SASLConfig) {
	return &kafka.TLSConfig{ServerName: "kafka", InsecureSkipVerify: true, Config: &tls.Config{NextProtos: []string{"kafka"}}},
		&kafka.SASLConfig{Mechanism: kafka.SASLScramSHA512, User: "user", Password: "secret"}
}

func (n *node) member(group string) judge.Member {
	return judge.Member{Process: n.name, Group: group, Name: group}
}

func (n *node) switchAll(on bool) {
	for _, g := range n.groups {
		n.switchGroup(g, on)
	}
}

// switchGroup turns the consumer of a group on or off. The judge records on
// before it happens and off after it.
func (n *node) switchGroup(group string, on bool) {
	if !n.has(group) {
		return
	}
	if on {
		n.w.judge.Tell(judge.Switched{Member: n.member(group), On: true})
	}
	n.manager.SetConsumerSwitch(group, on) // known, as it is registered
	if !on {
		n.w.judge.Tell(judge.Switched{Member: n.member(group), On: false})
	}
}

// open opens the producer.
// producer returns the one that is open, or nil.
func (n *node) producer() *kafka.Producer { return n.opened.Load() }

func (n *node) open(ctx context.Context) error {
	cfg := kafka.ProducerConfig{BootstrapServers: "localhost:9092", EnableAsyncProducer: kafka.BoolPtr(true)}
	if n.w.drawn.secured {
		cfg.TLS, cfg.SASL = security()
	}
	p, err := n.manager.RegisterProducer(ctx, cfg)
	if err == nil {
		n.opened.Store(p)
	}
	return err
}

// shutdownTimeout bounds shutdowns that have no deadline of their own.
const shutdownTimeout = 20 * time.Second

// A stop is one of the ways in which a process is asked to stop.
type stop struct {
	limit     time.Duration
	unlimited bool // no limit; otherwise 0 is over as it begins
	byContext bool // the context of the start ends, and WaitStop waits
}

// shutdown asks the process to stop within limit, in the background.
func (n *node) shutdown(w *world, limit time.Duration) { n.stop(w, stop{limit: limit}) }

func (n *node) stop(w *world, s stop) {
	n.stopping = true
	if s.byContext {
		s.limit = shutdownTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.limit)
	if s.unlimited {
		cancel()
		ctx, cancel = context.WithCancel(context.Background())
		w.impatient = append(w.impatient, func() { // a call that never answers has to end some time
			n.mayRefuse.Store(true)
			cancel()
		})
	}
	refuse := func() {}
	if !s.unlimited {
		late := time.AfterFunc(s.limit/2, func() { n.mayRefuse.Store(true) })
		refuse = func() { late.Stop() }
	}
	w.judge.Tell(judge.StopCall{Process: n.name, Limit: s.limit, Idle: (s.limit > 0 || s.unlimited) && !w.drawn.failing.on && w.quiet() && w.judge.Idle(n.name)})
	w.background.Go(func() {
		defer refuse()
		defer cancel()
		defer n.cancel()
		if s.byContext {
			n.cancel()
			n.manager.WaitStop()
			cancel() // Shutdown then only says how that ended
		}
		err := n.manager.Shutdown(ctx)
		var stop *kafka.StopError
		w.judge.Tell(judge.StopReturn{Process: n.name, Clean: !errors.As(err, &stop)})
	})
}

// pin records with the judge where a group that begins at the newest offset begins.
func (w *world) pin(group string, ps []judge.Partition) {
	if !w.drawn.newest {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range ps {
		key := judge.Subscription{Group: group, Topic: fmt.Sprint(p)}
		if w.pinned[key] || isRetry(p.Topic) { // which are read from their beginning
			continue
		}
		w.pinned[key] = true
		at := w.broker.Committed(group, p.Topic, p.Number)
		if at > 0 && slices.Contains(w.whole, judge.Subscription{Group: group, Topic: p.Topic}) {
			w.broken = "new-incarnation-skipped"
		}
		if at >= 0 {
			w.judge.Tell(judge.Positioned{Group: group, Partition: p, Offset: at})
		}
	}
}

//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// recoveryLimit is what a recovery may take beyond the session timeout.
const recoveryLimit = time.Minute

// drainLimit is how long the consumers may take, when all is healed and nothing
// more is sent, to handle and commit what is left.
const drainLimit = time.Minute

// Settings say how a trial goes.
type settings struct {
	Driver      string // sarama or franz
	Seed        uint64
	Partitions  int
	Consumers   int
	Producers   int
	Rate        int // messages per second, of all producers together
	Keys        int // of one producer
	Session     time.Duration
	Work        time.Duration
	Cooperative bool
	Protocol    kafka.GroupProtocol
	WarmUp      time.Duration // before the first fault
	Calm        time.Duration // between recovery and next fault
	Skip        bool          // a control: see duty
	Careless    bool          // a control: see duty
}

// brokerProperties gives the brokers the session timeout of the trial. With the
// ConsumerProtocol it is theirs.
func (s settings) brokerProperties() map[string]string {
	if s.Protocol != kafka.ConsumerProtocol {
		return nil
	}
	session := strconv.FormatInt(s.Session.Milliseconds(), 10)
	return map[string]string{
		"group.consumer.session.timeout.ms": session, "group.consumer.min.session.timeout.ms": session,
		"group.consumer.heartbeat.interval.ms": "1000", "group.consumer.min.heartbeat.interval.ms": "1000",
	}
}

// A trial is one run on one topic.
type trial struct {
	settings
	name    string
	bench   *bench
	topic   string
	group   string
	random  *rand.Rand
	history *history
	log     *slog.Logger
	stderr  io.Writer // of the processes

	started   uint64
	consumers []*process // that run
	producers []*process
	faults    []hit
	begun     time.Time
}

// A hit is a fault as it happened.
type hit struct {
	name             string
	began, healed    time.Time
	recovered        time.Time // zero if that was not seen in time
	longestWithoutOK time.Duration
}

func newTrial(b *bench, name string, s settings, log *slog.Logger, stderr io.Writer) *trial {
	return &trial{
		settings: s, name: name, bench: b, topic: "chaos-" + name, group: "chaos-" + name,
		random: rand.New(rand.NewPCG(s.Seed, 0)), history: newHistory(),
		log: log.With("trial", name), stderr: stderr, begun: time.Now(),
	}
}

// run goes through faults, at least for as long as atLeast, and brings everything
// to rest.
func (t *trial) run(ctx context.Context, fs []fault, atLeast time.Duration) error {
	defer t.killAll()
	if err := t.start(ctx); err != nil {
		return err
	}
	t.log.Info("warm")
	for {
		for _, f := range shuffled(fs, t.random) {
			pause(ctx, t.Calm)
			if err := t.suffer(ctx, f); err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		if time.Since(t.begun) >= atLeast {
			break
		}
		if len(fs) == 0 {
			pause(ctx, atLeast-time.Since(t.begun))
		}
	}
	return t.settle(ctx)
}

// start creates the topic, starts the processes, and returns when all partitions
// are handled.
func (t *trial) start(ctx context.Context) error {
	if err := t.bench.CreateTopic(ctx, t.topic, t.Partitions, nil); err != nil {
		return err
	}
	for range t.Consumers {
		if err := t.startConsumer(); err != nil {
			return err
		}
	}
	for range t.Producers {
		if err := t.startProducer(); err != nil {
			return err
		}
	}
	if err := t.awaitRecovery(ctx, t.begun); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	pause(ctx, t.WarmUp)
	t.history.takeSlowest()
	return ctx.Err()
}

// suffer lets one fault happen, heals it, and waits for the recovery.
func (t *trial) suffer(ctx context.Context, f fault) error {
	h := hit{name: f.name, began: time.Now()}
	if f.deafens {
		t.noteAll(isSevered)
	}
	t.log.Info("fault", "name", f.name)
	heal, err := f.begin(ctx, t)
	if err != nil {
		return err
	}
	pause(ctx, f.hold)
	if err := heal(ctx); err != nil {
		return err
	}
	h.healed = time.Now()
	switch err := t.awaitRecovery(ctx, h.healed); {
	case err == nil:
		h.recovered = time.Now()
		t.log.Info("recovered", "after", h.recovered.Sub(h.healed).Round(time.Millisecond))
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		t.log.Error("not recovered", "error", err)
	}
	h.longestWithoutOK = t.history.takeSlowest()
	t.noteAll(isReconnected)
	t.faults = append(t.faults, h)
	return nil
}

// awaitRecovery returns when all senders get answers and all partitions are
// handled, of messages sent after since, and the cluster is whole.
func (t *trial) awaitRecovery(ctx context.Context, since time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, t.Session+recoveryLimit)
	defer cancel()
	for {
		missing := t.history.recovered(since, t.Partitions, t.producers)
		if missing == "" {
			return t.bench.Ready(ctx)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("no %s: %w", missing, ctx.Err())
		}
	}
}

// settle stops the producers, waits until all is handled and committed, and
// stops the consumers.
func (t *trial) settle(ctx context.Context) error {
	var errs []error
	for _, p := range t.producers {
		errs = append(errs, p.stop(2*stopTimeout))
	}
	t.producers = nil
	began := time.Now()
	errs = append(errs, t.awaitCommitted(ctx))
	t.log.Info("drained", "after", time.Since(began).Round(time.Millisecond))
	for _, p := range t.consumers {
		errs = append(errs, p.stop(2*stopTimeout))
	}
	t.consumers = nil
	return errors.Join(errs...)
}

// awaitCommitted returns when the group has committed the end of every partition.
// It gives up in silence, because the verdict names what is missing.
func (t *trial) awaitCommitted(ctx context.Context) error {
	deadline := time.After(drainLimit)
	for {
		behind, err := t.behind(ctx)
		if err != nil || behind == 0 {
			return err
		}
		select {
		case <-deadline:
			t.log.Error("not drained", "behind", behind)
			return nil
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (t *trial) behind(ctx context.Context) (behind int64, err error) {
	ends, err := t.bench.EndOffsets(ctx, t.topic)
	if err != nil {
		return 0, err
	}
	committed, err := t.bench.CommittedOffsets(ctx, t.group)
	if err != nil {
		return 0, err
	}
	for p, end := range ends {
		behind += end - committed[t.topic][p]
	}
	return behind, nil
}

func (t *trial) startConsumer() error {
	p, err := t.startProcess(duty{
		Driver: t.Driver,
		Name:   fmt.Sprintf("c%d", t.started+1), Role: "consumer",
		Group: t.group, Session: t.Session, Cooperative: t.Cooperative, Protocol: t.Protocol, Work: t.Work, Skip: t.Skip,
	})
	if err == nil {
		t.consumers = append(t.consumers, p)
	}
	return err
}

func (t *trial) startProducer() error {
	p, err := t.startProcess(duty{
		Driver: t.Driver,
		Name:   fmt.Sprintf("p%d", t.started+1), Role: "producer",
		Rate: t.Rate / t.Producers, Senders: 3, Keys: t.Keys, Careless: t.Careless, SyncSender: true,
	})
	if err == nil {
		t.producers = append(t.producers, p)
	}
	return err
}

func (t *trial) startProcess(d duty) (*process, error) {
	d.Topic, d.Brokers = t.topic, t.bench.Bootstrap()
	t.started++
	return startProcess(d, t.started, t.stderr, t.history.tell)
}

// note writes down what was done to a process.
func (t *trial) note(kind string, p *process) {
	t.history.tell(event{At: time.Now().UnixNano(), Kind: kind, process: p})
}

func (t *trial) noteAll(kind string) {
	for _, p := range t.consumers {
		t.note(kind, p)
	}
}

func (t *trial) killAll() {
	for _, p := range append(t.consumers, t.producers...) {
		p.kill()
	}
}

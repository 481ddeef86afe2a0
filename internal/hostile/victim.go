//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

const (
	innocentTopic = "innocent"
	innocentEvery = 10 * time.Millisecond
	look          = 10 * time.Millisecond
	warmUp        = 10 * time.Second // at most
	stopWithin    = 10 * time.Second
	catchUp       = 10 * time.Second
	settleWithin  = 3 * time.Second
	maxReason     = 5000 // bytes of one that are kept
)

// A process is a victim and the innocent beside it.
type process struct {
	duty
	manager *kafka.Manager
	log     countingWriter

	handled atomic.Int64 // by the innocent consumer
	latest  atomic.Int64 // when, in nanoseconds since 1970
	silence atomic.Int64 // the longest

	mu      sync.Mutex // guards what follows
	out     report
	victims sync.WaitGroup
}

type countingWriter struct{ n atomic.Int64 }

func (w *countingWriter) Write(b []byte) (int, error) {
	w.n.Add(int64(len(b)))
	return len(b), nil
}

// perform bears the attack and reports how that was.
func (d duty) perform() (*report, error) {
	p := &process{duty: d}
	p.out.Victim.Handled = map[string]int64{}
	p.manager = kafka.New(drivers[d.Driver], kafka.WithLogger(slog.New(slog.NewTextHandler(&p.log, nil))))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stopInnocent, err := p.innocent(ctx)
	if err != nil {
		return nil, fmt.Errorf("the innocent: %w", err)
	}
	if err := p.attack(ctx); err != nil {
		return nil, err
	}
	stopInnocent()
	p.waitInnocent()
	p.finish(cancel)
	return &p.out, nil
}

// innocent starts the consumer and producer that share the process, and waits until messages flow.
func (p *process) innocent(ctx context.Context) (stop func(), err error) {
	err = p.manager.RegisterConsumer(ctx, kafka.NewConsumer(kafka.ConsumerConfig{
		JobName: "innocent", Topic: innocentTopic, BootstrapServers: p.Healthy, ConsumerGroup: "innocent",
		InitialOffset: kafka.OffsetOldest,
	}, func(context.Context, *kafka.Message) error {
		p.handled.Add(1)
		now := time.Now().UnixNano()
		if before := p.latest.Swap(now); before > 0 {
			p.silence.Store(max(p.silence.Load(), now-before))
		}
		return nil
	}))
	if err != nil {
		return nil, err
	}
	producer, err := p.manager.RegisterProducer(ctx, kafka.ProducerConfig{BootstrapServers: p.Healthy})
	if err != nil {
		return nil, err
	}
	if err := p.manager.SetConsumerSwitch("innocent", true); err != nil {
		return nil, err
	}
	if err := p.manager.StartAllConsumers(ctx); err != nil {
		return nil, err
	}
	sending, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { p.send(sending, producer) })
	for began := time.Now(); p.handled.Load() < 20; time.Sleep(look) {
		if time.Since(began) > warmUp {
			cancel()
			return nil, fmt.Errorf("handled %d messages in %v", p.handled.Load(), warmUp)
		}
	}
	p.silence.Store(0)
	return func() {
		cancel()
		done.Wait()
	}, nil
}

func (p *process) send(ctx context.Context, producer *kafka.Producer) {
	tick := time.NewTicker(innocentEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		one, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := producer.Send(one, innocentTopic, nil, []byte("v"))
		cancel()
		p.mu.Lock()
		if err == nil {
			p.out.Innocent.Sent++
		} else {
			p.out.Innocent.Failed++
			p.out.Innocent.Troubles = cut(err.Error())
		}
		p.mu.Unlock()
	}
}

// attack starts the victims and watches them.
func (p *process) attack(ctx context.Context) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, p.For)
	defer cancel()
	for _, name := range p.Lists {
		list := map[string]string{"zone": "[::1%a\nb]:9092", "commas": "a:9092" + strings.Repeat(",", 1_000_000)}[name]
		p.refused(ctx, list)
	}
	if p.Producer {
		p.victims.Go(func() { p.produce(ctx) })
	}
	if p.Consumer {
		if err := p.consume(ctx); err != nil {
			return err
		}
	}
	for ctx.Err() == nil {
		p.watch(began)
		if p.Running && p.out.Victim.Runs > 0 {
			break
		}
		time.Sleep(look)
	}
	cancel()
	p.victims.Wait()
	return nil
}

func (p *process) config(job string) kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: job, Topics: p.Topics, BootstrapServers: p.Hostile, ConsumerGroup: "victim",
		InitialOffset: kafka.OffsetOldest, SessionTimeout: p.Session, HeartbeatInterval: p.Session / 4,
		TLS: p.tls(), SASL: p.sasl(),
		Backoff: kafka.Backoff{Min: 200 * time.Millisecond, Max: time.Second},
	}
}

func (p *process) consume(ctx context.Context) error {
	err := p.manager.RegisterConsumer(ctx, kafka.NewConsumer(p.config("victim"), func(_ context.Context, m *kafka.Message) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.out.Victim.Handled[fmt.Sprintf("t/%d", m.Partition)]++ // a real Kafka's topic has a name of its own
		return nil
	}))
	if err != nil {
		return err
	}
	return p.manager.SetConsumerSwitch("victim", true)
}

// produce sends one message after the other, by a producer that it opens until it
// has one.
func (p *process) produce(ctx context.Context) {
	var producer *kafka.Producer
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		var err error
		if producer == nil {
			producer, err = p.manager.RegisterProducer(one, kafka.ProducerConfig{
				BootstrapServers: p.Hostile, TLS: p.tls(), SASL: p.sasl(),
			})
		} else {
			err = producer.Send(one, p.Topics[0], nil, []byte("v"))
		}
		cancel()
		p.mu.Lock()
		if err != nil && ctx.Err() == nil {
			p.out.Victim.Sends = note(p.out.Victim.Sends, err)
		} else if producer != nil && err == nil {
			p.out.Victim.Acked++
		}
		p.mu.Unlock()
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// refused registers a consumer with a list of brokers that no user means.
func (p *process) refused(ctx context.Context, list string) {
	cfg := p.config("refused")
	cfg.BootstrapServers = list
	began := time.Now()
	err := p.manager.RegisterConsumer(ctx, kafka.NewConsumer(cfg, func(context.Context, *kafka.Message) error { return nil }))
	took := time.Since(began).Round(time.Millisecond)
	text := "accepted"
	if err != nil {
		text = fmt.Sprintf("%d bytes, %d lines: %s", len(err.Error()), 1+strings.Count(err.Error(), "\n"), cut(err.Error()))
	}
	p.out.Victim.Lists = append(p.out.Victim.Lists, fmt.Sprintf("%v, %s", took, text))
}

// watch notes what the victim's status says.
func (p *process) watch(began time.Time) {
	s, err := p.manager.Consumer("victim")
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	v := &p.out.Victim
	v.State = s.State.String()
	if s.State == kafka.StateRunning && v.Runs == 0 {
		v.Runs, v.Routines = time.Since(began), runtime.NumGoroutine()
	}
	for _, err := range []error{s.Reason, s.DriverError, s.CommitError} {
		v.Reasons = note(v.Reasons, err)
	}
	for _, part := range s.Partitions {
		v.Reasons = note(v.Reasons, part.LastError)
	}
}

func note(seen []string, err error) []string {
	var first *driver.NoPositionError
	if err == nil || len(seen) > 30 || errors.As(err, &first) {
		return seen // a new group has no position
	}
	if text := cut(err.Error()); !slices.Contains(seen, text) {
		seen = append(seen, text)
	}
	return seen
}

func cut(s string) string { return s[:min(len(s), maxReason)] }

// waitInnocent waits until all that the innocent producer has sent is handled.
func (p *process) waitInnocent() {
	in := &p.out.Innocent
	for began := time.Now(); p.handled.Load() < in.Sent && time.Since(began) < catchUp; time.Sleep(look) {
	}
	in.Handled = p.handled.Load()
	in.Missing = max(0, in.Sent-in.Handled)
	in.LongestSilence = time.Duration(p.silence.Load())
	if s, err := p.manager.Consumer("innocent"); err == nil {
		in.State = s.State.String()
		for _, err := range []error{s.Reason, s.DriverError, s.CommitError} {
			if text := note(nil, err); text != nil {
				in.Troubles = text[0]
			}
		}
	}
}

// finish shuts down and looks at what is left.
func (p *process) finish(cancel context.CancelFunc) {
	began := time.Now()
	ctx, stop := context.WithTimeout(context.Background(), stopWithin)
	defer stop()
	if err := p.manager.Shutdown(ctx); err != nil {
		p.out.StopErr = cut(err.Error())
	}
	cancel()
	p.out.Stop = time.Since(began)
	for began := time.Now(); ; time.Sleep(look) {
		if p.out.Left = left(); len(p.out.Left) == 0 || time.Since(began) > settleWithin {
			break
		}
	}
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		p.out.CPU = time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	p.out.LogBytes = p.log.n.Load()
	p.out.Resident = highWater("self")
}

// left returns what goroutines run that a program would not have without the
// library: the functions that began them.
func left() (functions []string) {
	var b strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
		return []string{err.Error()}
	}
	for block := range strings.SplitSeq(b.String(), "\n\n") {
		if strings.Contains(block, "main.(*process).finish") || // this one
			strings.Contains(block, "go-metrics.(*meterArbiter)") || // lives as long as the process, see driver/sarama/metrics.go
			strings.Contains(block, "os/signal.") {
			continue
		}
		lines := strings.Split(strings.TrimSpace(block), "\n")
		if len(lines) > 1 {
			functions = append(functions, lines[1])
		}
	}
	return functions
}

// highWater returns the most resident memory that a process has had, in bytes.
func highWater(pid string) int64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10
		}
	}
	return 0
}

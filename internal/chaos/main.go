//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

// options are what the command line says.
type options struct {
	settings
	duration time.Duration
	version  string
	faults   string
	controls bool
	soak     time.Duration
	restarts int
	logFile  string
}

func main() {
	runChild()
	var o options
	flag.Uint64Var(&o.Seed, "seed", uint64(time.Now().UnixNano()%1e6), "decides the order of the faults, and whom they hit")
	flag.StringVar(&o.Driver, "driver", "sarama", "sarama or franz")
	flag.DurationVar(&o.duration, "duration", 0, "go through the faults again until so much time has passed")
	flag.StringVar(&o.version, "kafka", kafkacluster.DefaultVersion, "version of Apache Kafka")
	flag.StringVar(&o.faults, "faults", "", "comma-separated parts of the names of the faults wanted; all if empty")
	flag.BoolVar(&o.controls, "controls", true, "also run the two controls that must fail")
	flag.DurationVar(&o.soak, "soak", 0, "instead of faults, go on for so long with a rebalance every 20 s")
	flag.IntVar(&o.restarts, "restarts", 0, "instead of all else, restart one consumer so often while its broker comes and goes")
	flag.StringVar(&o.logFile, "log", "", "file for the logs of the processes")
	flag.IntVar(&o.Partitions, "partitions", 6, "")
	flag.IntVar(&o.Consumers, "consumers", 3, "processes that consume")
	flag.IntVar(&o.Producers, "producers", 2, "processes that send")
	flag.IntVar(&o.Rate, "rate", 300, "messages per second")
	flag.IntVar(&o.Keys, "keys", 40, "of one producer")
	flag.DurationVar(&o.Session, "session", 6*time.Second, "session timeout")
	flag.DurationVar(&o.Work, "work", time.Millisecond, "what handling takes on average")
	flag.DurationVar(&o.WarmUp, "warmup", 10*time.Second, "")
	flag.DurationVar(&o.Calm, "calm", 3*time.Second, "between a recovery and the next fault")
	flag.BoolVar(&o.Cooperative, "cooperative", false, "rebalance cooperatively")
	flag.TextVar(&o.Protocol, "protocol", kafka.ClassicProtocol, "group protocol: classic, or consumer with -driver franz")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := o.run
	if o.restarts > 0 {
		run = o.runRestarts
	}
	passed, err := run(ctx, os.Stdout, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if err != nil || !passed {
		os.Exit(1)
	}
}

// run runs the trial and its controls, and writes a line for each.
func (o options) run(ctx context.Context, out io.Writer, log *slog.Logger) (passed bool, err error) {
	fs, err := pickFaults(words(o.faults))
	if err != nil {
		return false, err
	}
	stderr := io.Discard
	if o.logFile != "" {
		f, err := os.Create(o.logFile)
		if err != nil {
			return false, err
		}
		defer f.Close()
		stderr = f
	}
	log.Info("boot", "kafka", o.version, "seed", o.Seed)
	b, err := newBench(ctx, o.version, brokerCount, o.brokerProperties())
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()

	passed = true
	for _, p := range o.plans(fs) {
		t := newTrial(b, p.name, p.settings, log, stderr)
		if err := t.run(ctx, p.faults, p.atLeast); err != nil {
			return false, fmt.Errorf("%s: %w", p.name, err)
		}
		r, err := t.judged(ctx, commandLine(), o.version)
		if err != nil {
			return false, fmt.Errorf("%s: %w", p.name, err)
		}
		if p.mustFail != nil && p.mustFail(r) == 0 {
			return false, fmt.Errorf("control %s found nothing: the judge is blind", p.name)
		}
		passed = passed && (r.Passed || p.mustFail != nil)
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return false, err
		}
	}
	return passed, nil
}

// A plan is one trial.
type plan struct {
	name     string
	settings settings
	faults   []fault
	atLeast  time.Duration
	mustFail func(*report) int // of a control: what must not be 0
}

func (o options) plans(fs []fault) []plan {
	if o.soak > 0 {
		return []plan{{"soak", o.soaking(), []fault{comeAndGo()}, o.soak, nil}}
	}
	plans := []plan{{"main", o.settings, fs, o.duration, nil}}
	if !o.controls {
		return plans
	}
	careless, skip := o.settings, o.settings
	careless.Careless, careless.WarmUp = true, 0
	skip.Skip, skip.WarmUp = true, 0
	lose, _ := pickFaults([]string{"lose all answers"})
	return append(plans,
		plan{"without-idempotence", careless, lose, 0, func(r *report) int { return r.Duplicated }},
		plan{"skip-on-error", skip, nil, 10 * time.Second, func(r *report) int { return r.Lost }})
}

func words(list string) (words []string) {
	for w := range strings.SplitSeq(list, ",") {
		if w = strings.TrimSpace(w); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// Command compare measures this library on Sarama and on franz-go beside the clients that a
// team would use instead, on a real Apache Kafka:
//
//	go run ./compare -o ../BENCHMARKS.md
//
// It starts a broker of one node, fills topics, and then goes through its
// scenarios in rounds: in each round every client has one turn, in a process of
// its own, one after the other, so that whatever else the machine does falls on
// all of them. CPU time and allocations are the client process's alone. A ratio
// is the median of the ratios within a round.
//
// It takes about twenty minutes. -only and -rounds make it shorter, and
// -brokers names a Kafka that runs already.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// options are the command line's.
type options struct {
	out     string
	rounds  int
	scale   float64
	only    *regexp.Regexp
	brokers string
	profile string
}

func run(ctx context.Context, args []string) error {
	if len(args) == 2 && args[0] == turnArg {
		return serveTurn(ctx, args[1])
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	cluster, err := open(ctx, o.brokers)
	if err != nil {
		return err
	}
	defer cluster.Close()
	c := &comparison{options: o, cluster: cluster, brokers: strings.Split(cluster.Bootstrap(), ",")}
	began := time.Now()
	var failed []error
	for _, s := range scenarios() {
		if !o.only.MatchString(s.name) || ctx.Err() != nil {
			continue
		}
		if err := c.measure(ctx, s); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	// What has been measured is reported whatever else went wrong.
	return errors.Join(append(failed, o.write(c.report(time.Since(began))))...)
}

func (o options) write(report string) error {
	if o.out == "" {
		_, err := os.Stdout.WriteString(report)
		return err
	}
	return os.WriteFile(o.out, []byte(report), 0o644)
}

func parse(args []string) (options, error) {
	var o options
	only := ""
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.StringVar(&o.out, "o", "", "write the report to this `file` rather than to standard output")
	f.IntVar(&o.rounds, "rounds", 5, "turns of each client")
	f.Float64Var(&o.scale, "scale", 1, "multiply the number of messages by this")
	f.StringVar(&only, "only", "", "scenarios whose name matches this `regexp`")
	f.StringVar(&o.brokers, "brokers", "", "comma-separated `addresses` of a Kafka that runs already")
	f.StringVar(&o.profile, "profiles", "", "write a CPU profile of each turn into this `directory`")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.rounds < 1 || o.scale <= 0 {
		return o, fmt.Errorf("-rounds %d and -scale %v must be positive", o.rounds, o.scale)
	}
	var err error
	o.only, err = regexp.Compile(only)
	return o, err
}

func open(ctx context.Context, brokers string) (*kafkacluster.Cluster, error) {
	if brokers != "" {
		return kafkacluster.Connect(brokers), nil
	}
	return kafkacluster.Start(ctx, kafkacluster.Config{})
}

// A comparison is one run of the command.
type comparison struct {
	options
	cluster *kafkacluster.Cluster
	brokers []string
	results []result
}

// A result is what one scenario gave: for each client, a reading a round.
type result struct {
	scenario
	readings map[string][]reading
}

// measure lets every client have its turns in s.
func (c *comparison) measure(ctx context.Context, s scenario) error {
	s.messages = max(1, int(float64(s.messages)*c.scale))
	base := turn{Scenario: s.name, Brokers: c.brokers, Messages: s.messages, Topic: unique("bench")}
	if s.partitions > 0 {
		if err := c.cluster.CreateTopic(ctx, base.Topic, s.partitions, nil); err != nil {
			return err
		}
	}
	if s.fill {
		if err := fill(ctx, c.cluster, base.Topic, s); err != nil {
			return err
		}
	}
	r := result{s, map[string][]reading{}}
	for round := range c.rounds {
		for _, name := range s.clients {
			t := base
			t.Client, t.Group = name, unique("group")
			if c.profile != "" {
				file := fmt.Sprintf("%s %s %d.prof", s.name, name, round+1)
				t.Profile = filepath.Join(c.profile, strings.Map(fileNameRune, file))
			}
			got, err := takeTurn(ctx, t)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			r.readings[name] = append(r.readings[name], got)
			fmt.Fprintf(os.Stderr, "%s %d/%d %s: %v\n", s.name, round+1, c.rounds, name, got)
		}
	}
	c.results = append(c.results, r)
	return nil
}

// turnArg makes the command one client's turn, which its second argument describes.
const turnArg = "-turn"

// turnTimeout bounds one turn.
const turnTimeout = 2 * time.Minute

// A turn is what one process is to do.
type turn struct {
	Scenario, Client string
	Brokers          []string
	Topic, Group     string
	Messages         int
	Profile          string // the file of its CPU profile, if any
}

// A reading is what a turn has measured, by the name of the figure.
type reading map[string]float64

// takeTurn runs t in a process of its own.
func takeTurn(ctx context.Context, t turn) (reading, error) {
	ctx, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	arg, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, turnArg, string(arg))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	var r reading
	return r, json.Unmarshal(out, &r)
}

// serveTurn is that process.
func serveTurn(ctx context.Context, arg string) error {
	var t turn
	if err := json.Unmarshal([]byte(arg), &t); err != nil {
		return err
	}
	s, err := scenarioNamed(t.Scenario)
	if err != nil {
		return err
	}
	c, err := clientNamed(t.Client)
	if err != nil {
		return err
	}
	if c.prepare != nil {
		if err := c.prepare(t.Topic, s, t.Messages); err != nil {
			return err
		}
	}
	stop, err := startProfile(t.Profile)
	if err != nil {
		return err
	}
	r, err := s.run(ctx, c, t)
	if err := errors.Join(err, stop()); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// startProfile writes a CPU profile into file until stop is called. It does nothing
// without a file.
func startProfile(file string) (stop func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// fileNameRune replaces what does not belong in a file's name.
func fileNameRune(r rune) rune {
	if r == ' ' || r == '/' {
		return '-'
	}
	return r
}

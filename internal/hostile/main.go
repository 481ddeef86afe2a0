//go:build unix

package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// options are what the command line says.
type options struct {
	driver   string
	short    bool
	rows     string
	real     bool
	parallel int
	verbose  bool
}

func main() {
	runChild()
	var o options
	flag.StringVar(&o.driver, "driver", cmp.Or(os.Getenv("GOPKG_DRIVER"), "sarama"), "sarama or franz; GOPKG_DRIVER if that is set") // CI gives the drivers turns
	flag.BoolVar(&o.short, "short", false, "only the rows that CI runs")
	flag.StringVar(&o.rows, "row", "", "comma-separated rows, as H2,H6; all if empty")
	flag.BoolVar(&o.real, "real", false, "also the rows on a real Kafka")
	flag.IntVar(&o.parallel, "parallel", 1, "rows at a time")
	flag.BoolVar(&o.verbose, "v", false, "print the whole report of each row")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	passed, err := o.run(ctx, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hostile:", err)
	}
	if err != nil || !passed {
		stop()
		os.Exit(1)
	}
}

// run runs the rows that are wanted, and prints each as it ends.
func (o options) run(ctx context.Context, out io.Writer) (passed bool, err error) {
	if drivers[o.driver] == nil {
		return false, fmt.Errorf("no driver is %q: sarama and franz are", o.driver)
	}
	rows := o.pick(table())
	if len(rows) == 0 {
		return false, fmt.Errorf("no row is %q", o.rows)
	}
	real, err := o.cluster(ctx, rows)
	if err != nil {
		return false, err
	}
	if real != nil {
		defer real.Close()
	}
	fmt.Fprintln(out, heading)
	var mu sync.Mutex // guards out and failed
	var failed int
	var running sync.WaitGroup
	free := make(chan struct{}, max(1, o.parallel))
	for _, r := range rows {
		free <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		running.Go(func() {
			defer func() { <-free }()
			got := r.play(ctx, o.driver, real)
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintln(out, got.line())
			if o.verbose && got.report != nil {
				text, _ := json.MarshalIndent(got.report, "", "  ")
				fmt.Fprintf(os.Stderr, "%s %s: %s\n%s\n", r.id, r.what, strings.Join(got.wrong(), "; "), text)
			}
			if len(got.wrong()) > 0 {
				failed++
			}
		})
	}
	running.Wait()
	fmt.Fprintf(out, "\n%d rows, %d failed\n", len(rows), failed)
	return failed == 0 && ctx.Err() == nil, ctx.Err()
}

// pick returns the rows that the command line asks for.
func (o options) pick(all []row) (rows []row) {
	for _, r := range all {
		wanted := o.rows == "" || slices.Contains(strings.Split(o.rows, ","), r.id)
		if wanted && (!o.short || r.short) && (o.real || !r.real) {
			rows = append(rows, r)
		}
	}
	return rows
}

// cluster starts a real Kafka if a row needs one.
func (o options) cluster(ctx context.Context, rows []row) (*kafkacluster.Cluster, error) {
	if !slices.ContainsFunc(rows, func(r row) bool { return r.real }) {
		return nil, nil
	}
	return kafkacluster.Start(ctx, kafkacluster.Config{Brokers: 1})
}

// play sets the stage for a row, lets a victim loose on it, and judges.
func (r row) play(ctx context.Context, driver string, real *kafkacluster.Cluster) outcome {
	began := time.Now()
	o := outcome{row: r}
	s := &stage{}
	defer s.close()
	s.Driver = driver
	s.Topics, s.Consumer, s.Session = []string{"t"}, true, 6*time.Second
	if s.For = r.bears; s.For == 0 {
		s.For = 6 * time.Second
	}
	err := s.healthy()
	if err == nil && r.setReal != nil {
		err = r.setReal(s, real)
	} else if err == nil {
		err = r.set(s)
	}
	if err != nil {
		o.died = "setting the stage: " + err.Error()
		return o
	}
	before := int64(0)
	if s.asked != nil {
		before = s.asked()
	}
	o.report, o.peak, err = s.duty.run(ctx)
	if err != nil {
		o.died = err.Error()
	}
	if o.took = time.Since(began); s.asked != nil {
		o.asked = float64(s.asked()-before) / s.For.Seconds()
	}
	return o
}

// killAfter is how long a victim's process may live beyond its duty.
const killAfter = warmUp + catchUp + stopWithin + 20*time.Second

// run does the duty in a process of its own, and returns what it says and the most
// resident memory that it has had.
func (d duty) run(ctx context.Context) (*report, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, d.For+killAfter)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return nil, 0, err
	}
	text, err := json.Marshal(d)
	if err != nil {
		return nil, 0, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), childVariable+"="+string(text), "GOMEMLIMIT=off")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	var peak int64
	done := make(chan struct{})
	var watch sync.WaitGroup
	watch.Go(func() {
		for tick := time.NewTicker(20 * time.Millisecond); ; {
			select {
			case <-tick.C:
				peak = max(peak, highWater(strconv.Itoa(cmd.Process.Pid)))
			case <-done:
				tick.Stop()
				return
			}
		}
	})
	err = cmd.Wait()
	close(done)
	watch.Wait()
	if err != nil {
		return nil, peak, fmt.Errorf("%w: %s", err, firstLine(stderr.String()))
	}
	var r report
	if err := json.Unmarshal(stdout.Bytes(), &r); err != nil {
		return nil, peak, err
	}
	return &r, max(peak, r.Resident), nil
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return cut(line)
}

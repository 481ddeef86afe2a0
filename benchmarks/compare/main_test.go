package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// A turn runs in a process of its own, which is the test binary here.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == turnArg {
		if err := run(context.Background(), os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// TestReport runs every client once, with few messages, on an in-process broker.
func TestReport(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	out := filepath.Join(t.TempDir(), "report.md")
	err = run(t.Context(), []string{
		"-brokers", strings.Join(cluster.ListenAddrs(), ","), "-rounds", "1", "-scale", "0.002",
		"-only", "^consume/8 partitions/100 B$|^produce sync/64|^produce async/100|^commit$", "-o", out,
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## In short\n\n| medians |", "| Consume, 8 partitions, 100 B, msg/s | ",
		"## Consume, 8 partitions, 100 B\n\n| client | msg/s | ratio | CPU ns/msg | ratio |",
		"## Produce, 64 goroutines", "## Produce without waiting, 100 B", "## Commit on a quiet topic",
		"| sarama |", "| franz-go |", "| watermill |", "| ours |", "| ours on memory |", "| github.com/IBM/sarama | v",
	} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-scale", "0"}, {"-only", "("}, {"-nonsense"}, {turnArg, "{}"}, {turnArg, "no json"}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}

func TestRatioIsTheMedianWithinRounds(t *testing.T) {
	f := figure{name: "x"}
	r := result{readings: map[string][]reading{
		baseline: {{"x": 1}, {"x": 10}, {"x": 100}},
		"ours":   {{"x": 2}, {"x": 10}, {"x": 300}},
	}}
	if got := r.ratio("ours", f); got != "2.00" {
		t.Errorf("ratio %s, want 2.00", got)
	}
	if got := spread(r.values("ours", f)); got != "10.0 (2.00–300)" {
		t.Errorf("spread %s, want 10.0 (2.00–300)", got)
	}
	for v, want := range map[float64]string{0.5: "0.50", 12.34: "12.3", 123.4: "123", 12_345: "12 k", 2_345_678: "2.35 M"} {
		if got := short(v); got != want {
			t.Errorf("short(%v) = %s, want %s", v, got, want)
		}
	}
}

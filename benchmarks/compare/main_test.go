package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
)

// A turn runs in its own process. In the test that is the test binary.
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
	require.NoError(t, err)
	defer cluster.Close()
	out := filepath.Join(t.TempDir(), "report.md")
	err = run(t.Context(), []string{
		"-brokers", strings.Join(cluster.ListenAddrs(), ","), "-rounds", "1", "-scale", "0.002",
		"-only", "^consume/8 partitions/100 B$|^produce sync/64|^produce async/100|^commit$", "-o", out,
	})
	require.NoError(t, err)
	report, err := os.ReadFile(out)
	require.NoError(t, err)
	for _, want := range []string{
		"## In short\n\n| medians |", "| Consume, 8 partitions, 100 B, msg/s | ",
		"## Consume, 8 partitions, 100 B\n\n| client | msg/s | ratio | CPU ns/msg | ratio |",
		"## Produce, 64 goroutines", "## Produce without waiting, 100 B", "## Commit on a quiet topic",
		"| raw Sarama |", "| raw franz-go |", "| watermill |", "| ours on Sarama |", "| ours on franz-go |", "| ours on memory |", "| github.com/IBM/sarama | v",
	} {
		assert.Contains(t, string(report), want)
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-scale", "0"}, {"-only", "("}, {"-nonsense"}, {turnArg, "{}"}, {turnArg, "no json"}} {
		assert.Error(t, run(t.Context(), args), "%q", args)
	}
}

func TestRatioIsTheMedianWithinRounds(t *testing.T) {
	f := figure{name: "x"}
	r := result{readings: map[string][]reading{
		baseline:   {{"x": 1}, {"x": 10}, {"x": 100}},
		oursSarama: {{"x": 2}, {"x": 10}, {"x": 300}},
		rawFranzGo: {{"x": 4}, {"x": 5}, {"x": 600}},
		oursFranz:  {{"x": 2}, {"x": 10}, {"x": 300}},
	}}
	assert.Equal(t, "2.00", r.ratio(oursSarama, f))
	assert.Equal(t, "0.50", r.ratio(oursFranz, f), "to raw franz-go")
	assert.Equal(t, "4.00", r.ratio(rawFranzGo, f), "to raw Sarama")
	assert.Equal(t, "10.0 (2.00–300)", spread(r.values(oursSarama, f)))
	for v, want := range map[float64]string{0.5: "0.50", 12.34: "12.3", 123.4: "123", 12_345: "12 k", 2_345_678: "2.35 M"} {
		assert.Equal(t, want, short(v), "short(%v)", v)
	}
}

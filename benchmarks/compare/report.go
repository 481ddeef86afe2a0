package main

import (
	"bufio"
	_ "embed"
	"fmt"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// notes say what lies behind some of the numbers.
//
//go:embed notes.md
var notes string

// report renders everything that was measured as Markdown.
func (c *comparison) report(took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Benchmarks\n\n%s\n\n", c.conditions(took))
	c.summary(&b)
	for _, r := range c.results {
		r.table(&b)
	}
	b.WriteString(notes)
	return b.String()
}

// headlines are the rows of the summary: the first figure of each scenario.
var headlines = []string{
	"consume/8 partitions/100 B", "produce sync/64 goroutines", "produce async/1 KiB",
	"slow neighbour", "cooperative join", "start",
}

// summary writes the rows that matter most, of the scenarios that were run.
func (c *comparison) summary(b *strings.Builder) {
	b.WriteString("## In short\n\n| medians | raw Sarama | ours on Sarama | ratio | raw franz-go | ours on franz-go | ratio |\n|---|---|---|---|---|---|---|\n")
	for _, name := range headlines {
		i := slices.IndexFunc(c.results, func(r result) bool { return r.name == name })
		if i < 0 {
			continue
		}
		r := c.results[i]
		f := r.figures[0]
		fmt.Fprintf(b, "| %s, %s |", r.title, f.title)
		for _, client := range []string{oursSarama, oursFranz} {
			raw, own := r.values(baselineOf(client), f), r.values(client, f)
			fmt.Fprintf(b, " %s | %s | %s |", short(median(raw)), short(median(own)), r.ratio(client, f))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nThe full tables follow.\n\n")
}

// conditions says what was measured, where, and how to repeat it.
func (c *comparison) conditions(took time.Duration) string {
	broker := "a Kafka that ran already"
	if !c.cluster.External() {
		broker = "Apache Kafka " + kafkacluster.DefaultVersion + ", one broker on the same machine"
	}
	return fmt.Sprintf(`This library on Sarama and on franz-go, compared with raw Sarama, raw franz-go and watermill-kafka on %s. Each client has %d turns, one per round, each in its own process; CPU time and allocations are that process's. A number is the median of a client's turns, with the least and the greatest in parentheses. A ratio is the median of the ratios within a round: of this library on franz-go to raw franz-go, of every other client to raw Sarama. The broker and the client share the cores, so compare the ratios, not the numbers, with other machines.

| | |
|---|---|
| machine | %s, %d cores, %s/%s |
| Go | %s |
%s| measured | %s, in %v |

To repeat it, in the directory benchmarks:

    go run ./compare -o ../BENCHMARKS.md`,
		broker, c.rounds, processor(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(),
		versions(), time.Now().Format(time.DateOnly), took.Round(time.Second))
}

// versions lists the modules that are compared.
func versions() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var b strings.Builder
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/IBM/sarama", "github.com/twmb/franz-go", "github.com/ThreeDotsLabs/watermill-kafka/v3":
			fmt.Fprintf(&b, "| %s | %s |\n", m.Path, m.Version)
		}
	}
	return b.String()
}

// processor returns the name of the machine's processor, where the system has it.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "unknown processor"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func (r result) table(b *strings.Builder) {
	fmt.Fprintf(b, "## %s\n\n| client |", r.title)
	for _, f := range r.figures {
		fmt.Fprintf(b, " %s | ratio |", f.title)
	}
	fmt.Fprintf(b, "\n|---|%s\n", strings.Repeat("---|---|", len(r.figures)))
	for _, name := range r.clients {
		fmt.Fprintf(b, "| %s |", name)
		for _, f := range r.figures {
			fmt.Fprintf(b, " %s | %s |", spread(r.values(name, f)), r.ratio(name, f))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n")
}

// values returns a figure of a client, a round each.
func (r result) values(client string, f figure) []float64 {
	var vs []float64
	for _, got := range r.readings[client] {
		vs = append(vs, got[f.name])
	}
	return vs
}

// ratio is the median of the ratios within a round.
func (r result) ratio(client string, f figure) string {
	base := r.values(baselineOf(client), f)
	if client == baseline {
		return "1"
	}
	var ratios []float64
	for i, v := range r.values(client, f) {
		if base[i] > 0 {
			ratios = append(ratios, v/base[i])
		}
	}
	if len(ratios) == 0 {
		return "–"
	}
	return strconv.FormatFloat(median(ratios), 'f', 2, 64)
}

func spread(vs []float64) string {
	return fmt.Sprintf("%s (%s–%s)", short(median(vs)), short(slices.Min(vs)), short(slices.Max(vs)))
}

func median(vs []float64) float64 {
	vs = slices.Sorted(slices.Values(vs))
	if n := len(vs); n%2 == 0 {
		return (vs[n/2-1] + vs[n/2]) / 2
	}
	return vs[len(vs)/2]
}

// short writes a number with three digits that count.
func short(v float64) string {
	switch {
	case math.Abs(v) >= 1e6:
		return strconv.FormatFloat(v/1e6, 'f', 2, 64) + " M"
	case math.Abs(v) >= 1e4:
		return strconv.FormatFloat(v/1e3, 'f', 0, 64) + " k"
	case math.Abs(v) >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case math.Abs(v) >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

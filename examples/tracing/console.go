package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// A tree is an exporter that prints traces as trees, one line per span. The SDK's
// own, stdouttrace, prints all of a span in a hundred lines.
type tree struct {
	mu    sync.Mutex
	spans []sdktrace.ReadOnlySpan
}

// ExportSpans keeps spans until print.
func (t *tree) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.spans = append(t.spans, spans...)
	return nil
}

// Shutdown does nothing.
func (t *tree) Shutdown(context.Context) error { return nil }

func (t *tree) print(out io.Writer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.spans, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, s := range t.spans {
		if s.Parent().IsValid() && t.find(s.Parent().SpanID()) != nil {
			continue
		}
		fmt.Fprintf(w, "trace %s\n", s.SpanContext().TraceID())
		if s.Parent().IsValid() {
			fmt.Fprintf(w, "(its span %s is another process's)\n", s.Parent().SpanID())
		}
		t.printBelow(w, s, "", "")
		fmt.Fprintln(w)
	}
	_ = w.Flush() // to the console
}

// printBelow prints s, and what is below it, where first stands before the line
// of s and then before those of its children.
func (t *tree) printBelow(w io.Writer, s sdktrace.ReadOnlySpan, first, then string) {
	fmt.Fprintf(w, "%s%s\t%s\t%v\t%s\n", first, s.Name(), strings.ToUpper(s.SpanKind().String()),
		s.EndTime().Sub(s.StartTime()).Round(time.Microsecond), t.notes(s))
	children := slices.DeleteFunc(slices.Clone(t.spans), func(c sdktrace.ReadOnlySpan) bool {
		return c.Parent().SpanID() != s.SpanContext().SpanID()
	})
	for i, c := range children {
		branch, under := "├─ ", "│  "
		if i == len(children)-1 {
			branch, under = "└─ ", "   "
		}
		t.printBelow(w, c, then+branch, then+under)
	}
}

func (t *tree) find(id trace.SpanID) sdktrace.ReadOnlySpan {
	for _, s := range t.spans {
		if s.SpanContext().SpanID() == id {
			return s
		}
	}
	return nil
}

// notes returns as much of a span as a line has room for.
func (t *tree) notes(s sdktrace.ReadOnlySpan) string {
	var notes []string
	for _, l := range s.Links() {
		name := l.SpanContext.SpanID().String()
		if linked := t.find(l.SpanContext.SpanID()); linked != nil {
			name = linked.Name()
		}
		notes = append(notes, "⇢ "+name)
	}
	for _, a := range s.Attributes() {
		switch a.Key {
		case "messaging.destination.partition.id", "messaging.kafka.offset", "messaging.kafka.message.key",
			"kafka.consumer.attempts", "kafka.consumer.outcome", "error.type":
			notes = append(notes, short(a))
		}
	}
	if s.Status().Code == codes.Error {
		notes = append(notes, fmt.Sprintf("%q", s.Status().Description))
	}
	return strings.Join(notes, ", ")
}

// short is an attribute by the last part of its name.
func short(a attribute.KeyValue) string {
	name := strings.TrimSuffix(string(a.Key), ".id")
	name = strings.TrimSuffix(name, ".name")
	if a.Key != "error.type" {
		name = name[strings.LastIndexByte(name, '.')+1:]
	}
	return name + "=" + a.Value.String()
}

// printMetrics prints one line per time series.
func printMetrics(out io.Writer, m *metricdata.ResourceMetrics) {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, scope := range m.ScopeMetrics {
		slices.SortFunc(scope.Metrics, func(a, b metricdata.Metrics) int { return cmp.Compare(a.Name, b.Name) })
		for _, metric := range scope.Metrics {
			for _, line := range linesOf(metric) {
				fmt.Fprintf(w, "%s\t%s\n", metric.Name, line)
			}
		}
	}
	_ = w.Flush() // to the console
}

func linesOf(m metricdata.Metrics) (lines []string) {
	switch d := m.Data.(type) {
	case metricdata.Histogram[float64]:
		for _, p := range d.DataPoints {
			lines = append(lines, fmt.Sprintf("%d, together %.3f s\t%s", p.Count, p.Sum, labels(p.Attributes)))
		}
	case metricdata.Sum[int64]:
		lines = points(d.DataPoints)
	case metricdata.Gauge[int64]:
		lines = points(d.DataPoints)
	case metricdata.Gauge[float64]:
		lines = points(d.DataPoints)
	}
	slices.Sort(lines)
	return lines
}

func points[N int64 | float64](all []metricdata.DataPoint[N]) (lines []string) {
	for _, p := range all {
		lines = append(lines, fmt.Sprintf("%v\t%s", p.Value, labels(p.Attributes)))
	}
	return lines
}

// labels returns the attributes that distinguish the series of this program.
func labels(s attribute.Set) string {
	var all []string
	for _, a := range s.ToSlice() {
		if a.Key != "messaging.system" && !strings.HasPrefix(string(a.Key), "server.") {
			all = append(all, short(a))
		}
	}
	return strings.Join(all, ", ")
}

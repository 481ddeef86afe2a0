package grafana

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

func TestMain(m *testing.M) { testkit.NoLeaks(m) }

// A dashboard is the part of Grafana's format that the test reads.
type dashboard struct {
	Title      string
	UID        string
	Templating struct {
		List []struct {
			Name, Type, Definition string
			AllValue               string
		}
	}
	Panels []panel
}

type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct{ RefID, Expr, LegendFormat string }
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	text, err := os.ReadFile("kafka.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(text, &d))
	return d
}

// concrete returns an expression as Grafana sends it, with all groups and topics selected.
func concrete(expr string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$group", ".*", "$topic", ".*").Replace(expr)
}

func orders() kafka.ConsumerConfig {
	return kafka.ConsumerConfig{
		JobName: "orders", Topic: "orders", BootstrapServers: "localhost:9092", ConsumerGroup: "shop",
		InitialOffset: kafka.OffsetOldest,
	}
}

// tooLarge is a value that every send refuses.
var tooLarge = make([]byte, 2<<20)

// well is a quarter of an hour in which orders are handled and results sent.
func well(p *program) {
	sender := p.Producer()
	p.Start(kafka.NewConsumer(orders(), func(ctx context.Context, m *kafka.Message) error {
		time.Sleep(20 * time.Millisecond)
		return sender.Send(ctx, "results", m.Key, m.Value)
	}))
	p.each(time.Second, 20*time.Minute, func() { p.Send("orders", "key", "value") })
}

// paused is a consumer that an operator pauses while records are fetched and not handled.
func paused(p *program) {
	p.Start(kafka.NewConsumer(orders(), func(context.Context, *kafka.Message) error {
		time.Sleep(time.Second)
		return nil
	}))
	for range 100 {
		p.Send("orders", "key", "value")
	}
	p.run(interval)
	require.NoError(p.t, p.Manager.Pause("orders"))
	p.run(20 * time.Minute)
}

// each calls f at intervals while d passes.
func (p *program) each(every, d time.Duration, f func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-time.After(every):
				f()
			case <-stop:
				return
			}
		}
	}()
	p.run(d)
	close(stop)
	<-stopped
}

// troubled is a time with every kind of trouble.
func troubled(p *program) {
	sender := p.Producer()
	p.Start(kafka.NewConsumer(orders(), func(ctx context.Context, m *kafka.Message) error {
		if m.Offset%10 == 0 && m.Attempt == 1 {
			return errors.New("not yet")
		}
		if m.Offset >= 100 {
			return errors.New("never")
		}
		return sender.Send(ctx, "results", m.Key, m.Value)
	}))
	p.each(time.Second, time.Minute, func() {
		p.Send("orders", "key", "value")
		_ = sender.Send(context.Background(), "results", nil, tooLarge)
	})
	p.FailCommits(1000, nil)
	p.each(time.Second, time.Minute, func() { p.Send("orders", "key", "value") })
	p.FailCommits(0, nil)
	for range 2 { // the first of a kind is no increase yet
		p.Rebalance("orders")
		p.run(time.Minute)
	}
	p.Crash("orders")
	p.run(16 * time.Minute) // the record at offset 100 fails again and again
}

// Each query of the dashboard shows something, and the hook emits each of its
// metrics.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	db := recorded(t, troubled)
	ids := map[int]bool{}
	queries := 0
	for _, p := range d.Panels {
		assert.NotContains(t, ids, p.ID, "panel %q: a second panel with its id", p.Title)
		assert.NotEmpty(t, p.Title, "panel %d", p.ID)
		assert.NotZero(t, p.GridPos.W, "panel %q", p.Title)
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, "panel %q: right edge", p.Title)
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		assert.NotEmpty(t, p.Targets, "panel %q", p.Title)
		assert.NotEmpty(t, p.Description, "panel %q", p.Title)
		for _, q := range p.Targets {
			queries++
			db.checkNames(q.Expr)
			assert.True(t, db.shows(concrete(q.Expr)), "panel %q shows nothing for %s", p.Title, q.Expr)
		}
	}
	assert.GreaterOrEqual(t, queries, 20)
	assert.NotEmpty(t, d.Title)
	assert.NotEmpty(t, d.UID)
	noOverlap(t, d.Panels)
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			db.checkVariable(v.Definition)
		}
	}
}

// noOverlap fails the test if two panels share a place.
func noOverlap(t *testing.T, panels []panel) {
	t.Helper()
	taken := map[[2]int]string{}
	for _, p := range panels {
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "overlaps panel %q", p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
	}
}

// checkNames fails the test unless the hook emits each metric of an expression
// with each label that the expression names.
func (d *database) checkNames(expr string) {
	d.t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(concrete(expr))
	if !assert.NoError(d.t, err, expr) {
		return
	}
	var metrics, named []string
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		switch n := n.(type) {
		case *parser.VectorSelector:
			metrics = append(metrics, n.Name)
			for _, m := range n.LabelMatchers {
				named = append(named, m.Name)
			}
		case *parser.AggregateExpr:
			named = append(named, n.Grouping...)
		}
		return nil
	})
	for _, m := range metrics {
		if !assert.True(d.t, d.names[m], "%s asks for %s, which the hook does not emit", expr, m) {
			continue
		}
		for _, l := range named {
			if l != model.MetricNameLabel {
				assert.True(d.t, d.shows(m+`{`+l+`!=""}`), "%s: %s has no label %s", expr, m, l)
			}
		}
	}
}

// checkVariable does the same for label_values(metric, label).
func (d *database) checkVariable(definition string) {
	d.t.Helper()
	metric, label, ok := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(definition, "label_values("), ")"), ", ")
	if assert.True(d.t, ok, "%s has no label", definition) {
		query := "count by (" + label + ") (" + metric + ") and on (" + label + ") count by (" + label + ") ({" + label + `!=""})`
		assert.True(d.t, d.shows(query), "%s has no values", definition)
	}
}

// Each alert fires after its cause has lasted long enough. None fires when all is
// well.
func TestAlerts(t *testing.T) {
	groups, errs := rulefmt.ParseFile("alerts.yaml", false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	require.Empty(t, errs)
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	fine, planned := recorded(t, well), recorded(t, paused)
	require.True(t, planned.shows("kafka_consumer_lag_time_seconds > 900"), "records wait for the end of the pause")
	for _, rule := range groups.Groups[0].Rules {
		cause := causes[rule.Alert]
		if !assert.NotNil(t, cause, "%s has no test", rule.Alert) {
			continue
		}
		assert.True(t, strings.Contains(string(readme), "| `"+rule.Alert+"` |"), "README.md does not explain %s", rule.Alert)
		hold := time.Duration(rule.For)
		assert.False(t, fine.shows(rule.Expr), "%s fires when all is well", rule.Alert)
		assert.False(t, planned.shows(rule.Expr), "%s fires while an operator has paused the consumer", rule.Alert)
		bad := recorded(t, cause)
		bad.checkNames(rule.Expr)
		assert.True(t, bad.fires(rule.Expr, hold), "%s does not fire", rule.Alert)
	}
}

// causes bring about what each alert is for.
var causes = map[string]func(*program){
	"KafkaLagAge":             hang,
	"KafkaPartitionStuck":     hang,
	"KafkaConsumerDisabled":   unreachable(15 * time.Minute),
	"KafkaConsumerBackingOff": unreachable(4 * time.Minute),
	"KafkaGroupGone": func(p *program) {
		p.Start(kafka.NewConsumer(orders(), func(context.Context, *kafka.Message) error { return nil }))
		p.run(20 * time.Minute)
		require.NoError(p.t, p.Shutdown(context.Background()))
		p.run(12 * time.Minute)
	},
	"KafkaRetries": func(p *program) {
		p.Start(kafka.NewConsumer(orders(), func(_ context.Context, m *kafka.Message) error {
			if m.Attempt == 1 {
				return errors.New("at the second attempt")
			}
			return nil
		}))
		p.each(10*time.Second, 25*time.Minute, func() { p.Send("orders", "key", "value") })
	},
	"KafkaCommitsFail": func(p *program) {
		p.Start(kafka.NewConsumer(orders(), func(context.Context, *kafka.Message) error { return nil }))
		p.FailCommits(1000, nil)
		p.each(10*time.Second, 12*time.Minute, func() { p.Send("orders", "key", "value") })
	},
	"KafkaSendsFail": func(p *program) {
		sender := p.Producer()
		p.each(10*time.Second, 12*time.Minute, func() { _ = sender.Send(context.Background(), "results", nil, tooLarge) })
	},
}

// unreachable is a consumer whose broker cannot be reached from its first start
// until d has passed. It backs off and is disabled after ten failed starts.
func unreachable(d time.Duration) func(*program) {
	return func(p *program) {
		p.CreateTopic("orders", 1)
		p.Broker.Stop()
		ctx := context.Background()
		require.NoError(p.t, p.RegisterConsumer(ctx, kafka.NewConsumer(orders(), func(context.Context, *kafka.Message) error { return nil })))
		require.NoError(p.t, p.SetConsumerSwitch("orders", true))
		require.NoError(p.t, p.StartAllConsumers(ctx))
		p.run(d)
	}
}

// hang is a handler that does not return from the first record.
func hang(p *program) {
	p.Start(kafka.NewConsumer(orders(), func(ctx context.Context, m *kafka.Message) error {
		<-ctx.Done()
		return ctx.Err()
	}))
	p.Send("orders", "key", "value")
	p.run(17 * time.Minute)
}

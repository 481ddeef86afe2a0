package grafana

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/aarontianqx/gopkg/kafka"
	"github.com/aarontianqx/gopkg/kafkatest"
	otelkafka "github.com/aarontianqx/gopkg/otel"
)

// interval is that of the scrapes.
const interval = 15 * time.Second

// A program is scraped by Prometheus. It is a manager on a broker in memory.
type program struct {
	*kafkatest.Kafka
	t        *testing.T
	registry *prometheus.Registry
	scraped  []model.Vector
}

// recorded runs f in virtual time on a program and returns the database that its
// scrapes have filled.
func recorded(t *testing.T, f func(*program)) *database {
	t.Helper()
	var p program
	var end time.Time
	synctest.Test(t, func(t *testing.T) {
		p = program{t: t, registry: prometheus.NewRegistry()}
		reader, err := exporter.New(exporter.WithRegisterer(p.registry))
		require.NoError(t, err)
		meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
		p.Kafka = kafkatest.New(t, kafka.WithHook(otelkafka.New(otelkafka.WithMeterProvider(meters))))
		f(&p)
		end = time.Now()
	})
	return store(t, p.scraped, end)
}

// run lets d pass.
func (p *program) run(d time.Duration) {
	for ; d > 0; d -= interval {
		time.Sleep(interval)
		families, err := p.registry.Gather()
		require.NoError(p.t, err)
		samples, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.TimeFromUnixNano(time.Now().UnixNano())}, families...)
		require.NoError(p.t, err)
		p.scraped = append(p.scraped, samples)
	}
}

// A database is Prometheus's, with the scrapes of one program until end.
type database struct {
	t       *testing.T
	storage storage.Queryable
	engine  *promql.Engine
	names   map[string]bool
	end     time.Time
}

func store(t *testing.T, scraped []model.Vector, end time.Time) *database {
	t.Helper()
	s := teststorage.New(t)
	d := &database{t: t, storage: s, names: map[string]bool{}, end: end}
	d.engine = promql.NewEngine(promql.EngineOpts{
		MaxSamples: 1e7, Timeout: time.Minute, LookbackDelta: 5 * time.Minute, Parser: parser.NewParser(parser.Options{})})
	t.Cleanup(func() { assert.NoError(t, d.engine.Close()) })
	app := s.Appender(context.Background())
	for _, samples := range scraped {
		for _, sample := range samples {
			b := labels.NewBuilder(labels.FromStrings("instance", "a:9464", "job", "shop"))
			for name, value := range sample.Metric {
				b.Set(string(name), string(value))
			}
			d.names[string(sample.Metric[model.MetricNameLabel])] = true
			_, err := app.Append(0, b.Labels(), int64(sample.Timestamp), float64(sample.Value))
			require.NoError(t, err)
		}
	}
	require.NoError(t, app.Commit())
	return d
}

// ask returns how many series an expression has at a time.
func (d *database) ask(expr string, at time.Time) int {
	d.t.Helper()
	q, err := d.engine.NewInstantQuery(context.Background(), d.storage, nil, expr, at)
	require.NoError(d.t, err)
	defer q.Close()
	v, err := q.Exec(context.Background()).Vector()
	require.NoError(d.t, err, expr)
	return len(v)
}

// shows reports whether an expression has had a number at any time.
func (d *database) shows(expr string) bool {
	d.t.Helper()
	q, err := d.engine.NewRangeQuery(context.Background(), d.storage, nil, expr, d.end.Add(-time.Hour), d.end, interval)
	require.NoError(d.t, err)
	defer q.Close()
	m, err := q.Exec(context.Background()).Matrix()
	require.NoError(d.t, err, expr)
	for _, series := range m {
		for _, p := range series.Floats {
			if !math.IsNaN(p.F) { // a quantile of no values is NaN
				return true
			}
		}
	}
	return false
}

// fires reports whether an alert is on at the end: its condition has held for
// as long as it asks.
func (d *database) fires(expr string, hold time.Duration) bool {
	d.t.Helper()
	for at := d.end.Add(-hold); !at.After(d.end); at = at.Add(interval) {
		if d.ask(expr, at) == 0 {
			return false
		}
	}
	return true
}

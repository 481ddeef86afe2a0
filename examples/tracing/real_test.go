package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// On a real Kafka, one process produces and another one consumes: one trace,
// with the parents and the link that it has within one.
func TestOneTraceAcrossProcesses(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	topic := fmt.Sprintf("tracing-%d", time.Now().UnixNano())
	for _, name := range []string{topic, topic + "-results"} {
		require.NoError(t, cluster.CreateTopic(ctx, name, 1, nil))
	}
	r := listen(t)
	for _, role := range []string{"produce", "consume"} {
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+r.URL, fmt.Sprintf(
			"TRACING_ARGS=-role %s -brokers %s -topic %s -results %s-results -group %s", role, cluster.Bootstrap(), topic, topic, topic))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s:\n%s", role, out)
		t.Logf("%s:\n%s", role, out)
	}
	spans := map[string][]received{}
	for name, all := range r.all() {
		switch name {
		case "send " + topic:
			name = "send orders"
		case "process " + topic:
			name = "process orders"
		case "attempt " + topic:
			name = "attempt orders"
		case "send " + topic + "-results":
			name = "send results"
		}
		spans[name] = all
	}
	checkTrace(t, spans, "shop-produce", "shop-consume")
}

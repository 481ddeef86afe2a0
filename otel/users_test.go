package otelkafka

import (
	"errors"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/kafka"
)

// A mistake in a user's own code harms only that user's telemetry.

func TestSecondEndDoesNothing(t *testing.T) {
	c := newTelemetry(t)
	m := &kafka.Message{Topic: "orders"}
	_, end := c.hook.StartProcess(t.Context(), m)
	end(errors.New("failed"))
	end(nil)
	_, endOther := c.hook.StartProcess(t.Context(), m) // may reuse the first one's memory
	end(nil)
	assert.Len(t, c.ended("process orders"), 1, "only the first span has ended")
	endOther(nil)
	assert.Len(t, c.ended("process orders"), 2)
}

// A44: a program that does not import this package does not link OpenTelemetry.
// internal/layout checks more than that.
func TestA44_NoOtherPackageImportsOpenTelemetry(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../kafka", "../driver/...", "../kafkatest").Output()
	require.NoError(t, err)
	require.Contains(t, string(out), "gopkg/kafka\n")
	assert.NotContains(t, string(out), "opentelemetry")
}

func TestPanickingTemplateGivesNoTemplate(t *testing.T) {
	c := newTelemetry(t, WithDestinationTemplate(func(string) string { panic("template") }))
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders"})
	end(nil)
	c.one("process orders")
	assert.Empty(t, c.hook.events.topics.template("orders"))
}

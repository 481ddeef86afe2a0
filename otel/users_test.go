package otelkafka

import (
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/aarontianqx/gopkg/kafka"
)

// What a user's own code does wrong stays with the user.

func TestSecondEndDoesNothing(t *testing.T) {
	c := newTelemetry(t)
	m := &kafka.Message{Topic: "orders"}
	_, end := c.hook.StartProcess(t.Context(), m)
	end(errors.New("failed"))
	end(nil)
	_, endOther := c.hook.StartProcess(t.Context(), m) // may get what the first one used
	end(nil)
	if n := len(c.ended("process orders")); n != 1 {
		t.Errorf("%d spans have ended, want the first one only", n)
	}
	endOther(nil)
	if n := len(c.ended("process orders")); n != 2 {
		t.Errorf("%d spans have ended, want 2", n)
	}
}

// A44: who does not import this package gets nothing of OpenTelemetry.
// internal/layout holds more than that.
func TestA44_NobodyElseKnowsOpenTelemetry(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "../kafka", "../driver/...", "../kafkatest").Output()
	must(t, err)
	if !strings.Contains(string(out), "gopkg/kafka\n") {
		t.Fatalf("go list says\n%s", out)
	}
	for pkg := range strings.Lines(string(out)) {
		if strings.Contains(pkg, "opentelemetry") {
			t.Errorf("there is %s", pkg)
		}
	}
}

func TestPanickingTemplateIsNone(t *testing.T) {
	c := newTelemetry(t, WithDestinationTemplate(func(string) string { panic("template") }))
	_, end := c.hook.StartProcess(t.Context(), &kafka.Message{Topic: "orders"})
	end(nil)
	c.one("process orders")
	if got := c.hook.template("orders"); got != "" {
		t.Errorf("template %q, want none", got)
	}
}

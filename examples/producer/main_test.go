package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/kafka"
)

func TestMain(m *testing.M) {
	// Sarama marks fetches in the global registry of go-metrics, whose one
	// goroutine lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

func TestEmbedded(t *testing.T) {
	broker := memory.NewBroker()
	if err := broker.CreateTopic("orders", 2); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(t.Context(), kafka.New(broker), "localhost:9092", "orders", 8, &out); err != nil {
		t.Fatal(err)
	}
	if s, a := strings.Count(out.String(), "sync:  orders/"), strings.Count(out.String(), "async: orders/"); s != 8 || a != 8 {
		t.Errorf("%d sync and %d async lines, want 8 each:\n%s", s, a, out.String())
	}
}

func TestUnknownTopicIsTold(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), kafka.New(memory.NewBroker()), "localhost:9092", "nowhere", 1, &out)
	if err == nil || !strings.Contains(err.Error(), "not in the log") {
		t.Errorf("got %v, want an error that says that nothing was sent", err)
	}
}

func TestRealKafka(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topic := fmt.Sprintf("orders-%d", time.Now().UnixNano())
	if err := cluster.CreateTopic(ctx, topic, 2, nil); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(ctx, kafka.New(sarama.Driver{}), cluster.Bootstrap(), topic, 50, &out); err != nil {
		t.Fatal(err)
	}
	ends, err := cluster.EndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	if total := ends[0] + ends[1]; total != 100 {
		t.Errorf("%d records in the log, want 100", total)
	}
}

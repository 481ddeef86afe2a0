package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/driver/sarama"
	"github.com/aarontianqx/gopkg/internal/kafkacluster"
	"github.com/aarontianqx/gopkg/internal/testkit"
	"github.com/aarontianqx/gopkg/kafka"
)

func TestMain(m *testing.M) { testkit.NoLeaksBesideSarama(m) }

func TestEmbedded(t *testing.T) {
	broker := memory.NewBroker()
	require.NoError(t, broker.CreateTopic("orders", 2))
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), kafka.New(broker), "localhost:9092", "orders", 8, &out))
	require.Equal(t, 8, strings.Count(out.String(), "sync:  orders/"), "lines of synchronous sends:\n%s", &out)
	require.Equal(t, 8, strings.Count(out.String(), "async: orders/"), "lines of asynchronous sends:\n%s", &out)
}

func TestUnknownTopicIsReported(t *testing.T) {
	var out bytes.Buffer
	err := run(t.Context(), kafka.New(memory.NewBroker()), "localhost:9092", "nowhere", 1, &out)
	require.ErrorContains(t, err, "not in the log")
}

func TestRealKafka(t *testing.T) {
	cluster := kafkacluster.ForTest(t, kafkacluster.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	topic := fmt.Sprintf("orders-%d", time.Now().UnixNano())
	require.NoError(t, cluster.CreateTopic(ctx, topic, 2, nil))
	var out bytes.Buffer
	require.NoError(t, run(ctx, kafka.New(sarama.Driver{}), cluster.Bootstrap(), topic, 50, &out))
	ends, err := cluster.EndOffsets(ctx, topic)
	require.NoError(t, err)
	require.Equal(t, int64(100), ends[0]+ends[1], "records in the log")
}

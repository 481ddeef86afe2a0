package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/internal/kafkacluster"
)

// A scenario is one thing to measure, with the clients that take part.
type scenario struct {
	name    string
	title   string
	figures []figure // what the report shows, the first one with a ratio to its baseline

	partitions int  // of its topic; 0 for none
	messages   int  // to send or to read
	bytes      int  // of a message's value
	fill       bool // the topic holds the messages before anybody's turn

	clients []string
	run     func(ctx context.Context, c client, t turn) (reading, error)
}

// A figure is one number of a reading.
type figure struct {
	name  string // in the reading
	title string
	less  bool // less is better
}

var (
	rateFigures = []figure{
		{"msg/s", "msg/s", false}, {"cpu-ns/msg", "CPU ns/msg", true}, {"allocs/msg", "allocs/msg", true}, {"B/msg", "B/msg", true},
	}
	timeFigures  = []figure{{"ms", "ms", true}}
	scaleFigures = []figure{
		{"cpu-%", "idle CPU %", true}, {"goroutines", "goroutines", true}, {"rss-MiB", "RSS MiB", true}, {"ms", "ms to start", true},
	}
)

// The clients that take part in the scenarios.
var (
	pairs       = []string{baseline, rawFranzGo, oursSarama, oursFranz}
	all         = append(pairs[:4:4], watermillName)
	noWatermill = append(pairs[:4:4], oursMemory)
	everybody   = append(all[:5:5], oursMemory)
)

func scenarios() []scenario {
	return []scenario{
		consumption(1, 100, 3_000_000), consumption(8, 100, 4_000_000),
		consumption(1, 1024, 600_000), consumption(8, 1024, 800_000),
		{name: "produce sync/1 goroutine", title: "Produce, one goroutine that waits for each answer", figures: rateFigures,
			partitions: 8, messages: 5_000, bytes: 100, clients: everybody, run: produceSync(1)},
		{name: "produce sync/64 goroutines", title: "Produce, 64 goroutines that wait for each answer", figures: rateFigures,
			partitions: 8, messages: 60_000, bytes: 100, clients: everybody, run: produceSync(64)},
		{name: "produce async/100 B", title: "Produce without waiting, 100 B", figures: rateFigures,
			partitions: 8, messages: 600_000, bytes: 100, clients: noWatermill, run: produceAsync},
		{name: "produce async/1 KiB", title: "Produce without waiting, 1 KiB", figures: rateFigures,
			partitions: 8, messages: 300_000, bytes: 1024, clients: pairs, run: produceAsync},
		{name: "commit", title: "Commit on a quiet topic, median", figures: timeFigures,
			partitions: 1, messages: 10, clients: pairs, run: commitLatency},
		{name: "slow neighbour", title: "Seven partitions beside one whose handler takes 20 ms per message",
			figures:    []figure{{"kept", "share of the speed without it", false}, {"msg/s", "msg/s", false}, {"alone-msg/s", "msg/s without", false}},
			partitions: 8, messages: 4_000_000, bytes: 100, fill: true, clients: all, run: slowNeighbour},
		{name: "cooperative join", title: "Longest stop of a partition that stays while another member joins cooperatively", figures: timeFigures,
			partitions: 8, messages: 1, clients: pairs, run: cooperativeJoin},
		{name: "start", title: "From nothing to the first record", figures: timeFigures,
			partitions: 1, messages: 100, bytes: 100, fill: true, clients: all, run: startLatency},
		{name: "stop", title: "From the signal to having left the group, idle", figures: timeFigures,
			partitions: 8, messages: 100, bytes: 100, fill: true, clients: append(all[:5:5], oursSarama+off, oursFranz+off), run: stopLatency},
		{name: "1000 partitions", title: "One consumer of 1,000 partitions", figures: scaleFigures,
			partitions: 1000, messages: 1000, bytes: 100, fill: true, clients: pairs, run: scale(1)},
		{name: "200 consumers", title: "200 consumers in one process", figures: scaleFigures,
			partitions: 1, messages: 1, bytes: 100, fill: true, clients: pairs, run: scale(200)},
	}
}

func consumption(partitions, bytes, messages int) scenario {
	s := "s"
	if partitions == 1 {
		s = ""
	}
	return scenario{
		name:    fmt.Sprintf("consume/%d partition%s/%d B", partitions, s, bytes),
		title:   fmt.Sprintf("Consume, %d partition%s, %d B", partitions, s, bytes),
		figures: rateFigures, partitions: partitions, messages: messages, bytes: bytes, fill: true,
		clients: everybody, run: consume,
	}
}

func scenarioNamed(name string) (scenario, error) {
	for _, s := range scenarios() {
		if s.name == name {
			return s, nil
		}
	}
	return scenario{}, fmt.Errorf("no scenario %q", name)
}

func unique(kind string) string { return kind + "-" + strings.ToLower(rand.Text()[:10]) }

// fill sends the messages of s, the same number to each partition.
func fill(ctx context.Context, cluster *kafkacluster.Cluster, topic string, s scenario) error {
	client, err := cluster.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer client.Close()
	failed := make(chan error, 1)
	for i := range s.messages {
		r := &kgo.Record{Topic: topic, Partition: int32(i % s.partitions), Value: make([]byte, s.bytes)}
		client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

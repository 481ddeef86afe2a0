package sarama

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/kafka"
)

// victimEnv makes the test program a victim, which consumes "t" from the brokers that
// it names until its standard input ends.
const victimEnv = "GOPKG_SARAMA_VICTIM"

const (
	victimSession   = 3 * time.Second
	victimHeartbeat = 300 * time.Millisecond
)

// A victim is a process with one consumer that prints what it handles and what happens
// to its partitions, in the order in which it happens.
type victim struct {
	kafka.NopHook
	mu sync.Mutex
}

func (v *victim) say(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Printf(format+"\n", args...)
}

// Event implements [kafka.Hook].
func (v *victim) Event(e kafka.Event) {
	switch e := e.(type) {
	case kafka.PartitionsAssigned:
		if len(e.Partitions) > 0 {
			v.say("assigned")
		}
	case kafka.PartitionsRevoked:
		v.say("revoked")
	case kafka.PartitionsLost:
		v.say("lost")
	}
}

func (v *victim) live(brokers string) {
	m := kafka.New(Driver{}, kafka.WithLogger(slog.New(slog.DiscardHandler)), kafka.WithHook(v))
	err := m.RegisterConsumer(context.Background(), kafka.NewConsumer(kafka.ConsumerConfig{
		JobName: "victim", Topic: "t", ConsumerGroup: "g", BootstrapServers: brokers, InitialOffset: kafka.OffsetOldest,
		SessionTimeout: victimSession, HeartbeatInterval: victimHeartbeat,
	}, func(_ context.Context, r *kafka.Message) error {
		v.say("handled %s", r.Value)
		return nil
	}))
	if err == nil {
		err = m.SetConsumerSwitch("victim", true)
	}
	if err == nil {
		err = m.StartAllConsumers(context.Background())
	}
	if err != nil {
		v.say("failed: %s", strings.ReplaceAll(err.Error(), "\n", " "))
		os.Exit(1)
	}
	io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

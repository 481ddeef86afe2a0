package wiretest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/kafka"
)

// The variables that make the test program a victim, which consumes "t" from the brokers
// that the first one names, with the group protocol of the second one, until its standard
// input ends.
const (
	victimEnv   = "GOPKG_VICTIM"
	protocolEnv = "GOPKG_VICTIM_PROTOCOL"
)

// Victim does not return if the process is a victim. TestMain calls it first.
func Victim(d driver.Driver) {
	brokers := os.Getenv(victimEnv)
	if brokers == "" {
		return
	}
	var p kafka.GroupProtocol
	if err := p.UnmarshalText([]byte(os.Getenv(protocolEnv))); err != nil {
		panic(err)
	}
	new(victim).live(d, brokers, p)
}

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

func (v *victim) live(d driver.Driver, brokers string, p kafka.GroupProtocol) {
	heartbeat := victimHeartbeat
	if p == kafka.ConsumerProtocol {
		heartbeat = 0
	}
	m := kafka.New(d, kafka.WithLogger(slog.New(slog.DiscardHandler)), kafka.WithHook(v))
	err := m.RegisterConsumer(context.Background(), kafka.NewConsumer(kafka.ConsumerConfig{
		JobName: "victim", Topic: "t", ConsumerGroup: "g", BootstrapServers: brokers, InitialOffset: kafka.OffsetOldest,
		SessionTimeout: victimSession, HeartbeatInterval: heartbeat, GroupProtocol: p,
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

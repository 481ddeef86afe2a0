package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver/franz"
	"github.com/aarontianqx/gopkg/driver/sarama"
)

// The names of the clients in the report. A ratio refers to baseline, or, for this
// library on franz-go, to franz-go itself.
const (
	baseline      = "raw Sarama"
	rawFranzGo    = "raw franz-go"
	watermillName = "watermill"
	oursSarama    = "ours on Sarama"
	oursFranz     = "ours on franz-go"
	oursMemory    = "ours on memory"
	off           = ", switched off"
)

// baselineOf returns the client that the ratios of client refer to.
func baselineOf(client string) string {
	if strings.HasPrefix(client, oursFranz) {
		return rawFranzGo
	}
	return baseline
}

// A client is one way to talk to Kafka, as its documentation shows it.
type client struct {
	name string

	// consume starts a member of a group and has handle called with the partition
	// of each record, by several goroutines if the client has several. stop ends
	// the member and returns when it has left the group.
	consume func(s subscription, handle func(partition int32)) (stop func() error, err error)

	// produce opens a producer.
	produce func(brokers []string) (producer, error)

	// commits consumes as consume does, and commits after each record, when the
	// client has nothing else to do and waits for the next one. It reports how
	// long each commit took, until ctx ends.
	commits func(ctx context.Context, s subscription, took func(time.Duration)) error

	// prepare, if it is not nil, makes the topic, of a client with a broker of its
	// own, and what it holds.
	prepare func(topic string, s scenario, messages int) error
}

// A subscription is what to consume.
type subscription struct {
	brokers      []string
	topic, group string
	cooperative  bool
	partitions   bool // handle needs to know the partition
	parallel     bool // a partition's handler must not stop another partition's
	switched     bool // stop by the consumer's switch, where there is one
}

// A producer sends to any partition, idempotently and to all in-sync replicas.
type producer interface {
	send(ctx context.Context, topic string, value []byte) error
	sendAsync(ctx context.Context, topic string, value []byte, done func(error))
	close() error
}

func clients() []client {
	return []client{
		rawSarama(), rawFranz(), watermillKafka(),
		ours("Sarama", sarama.Driver{}), ours("franz-go", franz.Driver{}), oursOnMemory(),
		switchedOff(ours("Sarama", sarama.Driver{})), switchedOff(ours("franz-go", franz.Driver{})),
	}
}

func clientNamed(name string) (client, error) {
	for _, c := range clients() {
		if c.name == name {
			return c, nil
		}
	}
	return client{}, fmt.Errorf("no client %q", name)
}

func (t turn) subscription() subscription {
	return subscription{brokers: t.Brokers, topic: t.Topic, group: t.Group}
}

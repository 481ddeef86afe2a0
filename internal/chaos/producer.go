//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// retries and their distance are what a service sets that wants no outage of
// less than a minute and a half to fail a send.
const (
	sendRetries = 1000
	retryWait   = 100 * time.Millisecond
)

// produce sends until ctx ends, and then waits for every answer.
func produce(ctx context.Context, d duty, events *eventLog, log *slog.Logger) error {
	m := kafka.New(observedDriver{driverOf(d.Driver), events}, kafka.WithLogger(log), kafka.WithShutdownTimeout(stopTimeout))
	p, err := m.RegisterProducer(ctx, kafka.ProducerConfig{
		BootstrapServers: d.Brokers, ClientID: d.Name, MaxRetries: sendRetries, RetryBackoff: retryWait,
		EnableAsyncProducer: kafka.BoolPtr(true), EnableIdempotent: kafka.BoolPtr(!d.Careless),
	})
	if err != nil {
		return err
	}
	var senders sync.WaitGroup
	for i := range d.Senders {
		s := &sender{duty: d, producer: p, events: events, name: fmt.Sprintf("s%d", i), sync: d.SyncSender && i == 0}
		senders.Go(func() { s.run(ctx) })
	}
	senders.Wait()
	events.tell(event{Kind: isStop})
	stopping, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err = m.Shutdown(stopping)
	var stuck *kafka.StopError
	events.tell(event{Kind: isStopped, OK: !errors.As(err, &stuck)})
	return err
}

// A sender is one goroutine that sends: its messages have an order.
type sender struct {
	duty
	producer *kafka.Producer
	events   *eventLog
	name     string
	sync     bool
}

func (s *sender) run(ctx context.Context) {
	tick := time.NewTicker(time.Second * time.Duration(s.Senders) / time.Duration(s.Rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.send(ctx, n)
	}
}

// send sends one message. Some have no key.
func (s *sender) send(ctx context.Context, n int) {
	m := &kafka.ProducerMessage{Topic: s.Topic, Value: []byte(newValue(s.Name, s.name, n))}
	if k := rand.IntN(s.Keys + s.Keys/4); k < s.Keys {
		m.Key = fmt.Appendf(nil, "key-%d", k)
	}
	s.events.tell(event{Kind: isSend, Sender: s.Name + "/" + s.name, Value: string(m.Value)})
	// A send under way is not given up: it would be answered by "unknown" for no
	// fault of the cluster.
	sending := context.WithoutCancel(ctx)
	if s.sync {
		s.answer(m, s.producer.SendMessage(sending, m))
		return
	}
	s.producer.SendMessageAsync(sending, m, s.answer)
}

func (s *sender) answer(m *kafka.ProducerMessage, err error) {
	e := event{Kind: isAnswer, Value: string(m.Value), Partition: m.Partition, Offset: m.Offset, Outcome: int(judge.OK)}
	switch {
	case errors.Is(err, kafka.ErrUnknownOutcome):
		e.Outcome, e.Text = int(judge.Unknown), err.Error()
	case err != nil:
		e.Outcome, e.Text = int(judge.Failed), err.Error()
	}
	s.events.tell(e)
}

package simulation

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// sendResult sends to the topic of results and waits.
func (n *node) sendResult(ctx context.Context) error {
	if n.producer() == nil {
		return nil
	}
	return n.sendSync(ctx, n.handlerOf(ctx), results)
}

// handlerOf names the sender of all calls under one claim.
func (n *node) handlerOf(ctx context.Context) string {
	return fmt.Sprintf("handler %p of %s", ctx, n.name)
}

// sendLate sends when its process may have begun to drain: producers are open
// until the handlers are done.
func (n *node) sendLate(ctx context.Context) error {
	time.Sleep(2 * time.Second)
	if n.producer() == nil {
		return nil
	}
	err := n.sendSync(context.WithoutCancel(ctx), n.handlerOf(ctx), results)
	if errors.Is(err, kafka.ErrClosed) && !n.mayRefuse.Load() {
		n.w.breaks("send-while-draining-refused")
	}
	return err
}

func (n *node) sendSync(ctx context.Context, sender, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	value := n.w.value("s")
	m := &kafka.ProducerMessage{Topic: topic, Key: n.w.key(value), Value: value, Headers: headers(value)}
	n.w.judge.Tell(judge.Send{Process: n.name, Sender: sender, Value: string(value)})
	err := n.producer().SendMessage(ctx, m)
	n.w.judge.Tell(n.w.answer(m, err))
	return err
}

// answer returns a producer's answer as the judge's event.
func (w *world) answer(m *kafka.ProducerMessage, err error) judge.Answer {
	a := judge.Answer{Value: string(m.Value)}
	switch {
	case err == nil:
		a.Partition, a.Offset = judge.Partition{Topic: m.Topic, Number: m.Partition}, m.Offset
		w.stats.count("sent")
	case errors.Is(err, kafka.ErrUnknownOutcome):
		a.Outcome = judge.Unknown
		w.stats.count("sent, unknown outcome")
	default:
		a.Outcome = judge.Failed
		w.stats.count("not sent")
	}
	return a
}

// sendOne sends without waiting; the callback may send once more.
func (n *node) sendOne(ctx context.Context, sender, topic string, again bool) {
	if n.producer() == nil {
		return
	}
	n.sendAsync(ctx, sender, topic, func() {
		if again {
			n.sendOne(context.Background(), "callback of "+n.name, topic, false)
		}
	})
}

// patience bounds sends from handlers and callbacks: a fault that never finds
// buffer space lets go only when the context ends.
const patience = 30 * time.Second

func (n *node) sendAsync(ctx context.Context, sender, topic string, then func()) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	value := n.w.value("a")
	n.w.judge.Tell(judge.Send{Process: n.name, Sender: sender + " " + string(value), Value: string(value), Async: true})
	n.producer().SendAsync(ctx, topic, n.w.key(value), value, func(m *kafka.ProducerMessage, err error) {
		n.w.judge.Tell(n.w.answer(m, err))
		then()
	})
}

// A burst is the messages that one goroutine sends, one after the other.
type burst struct {
	n        int
	first    bool // all to partition 0
	flush    bool // at the end
	sync     int  // every which send waits; 0 is none
	topic    string
	patience time.Duration
	callback string
}

func drawBurst(t *rapid.T) burst {
	return burst{
		n:        rapid.IntRange(1, 10).Draw(t, "sends"),
		first:    rarely(t, "to the first partition"),
		flush:    rarely(t, "flush"),
		sync:     rapid.IntRange(0, 3).Draw(t, "sync"),
		topic:    rapid.SampledFrom([]string{orders, orders, results}).Draw(t, "topic"),
		patience: time.Duration(rapid.SampledFrom([]int{1, 1000, 60_000}).Draw(t, "patience ms")) * time.Millisecond,
		callback: rapid.SampledFrom([]string{"", "", "sends", "panics", "exits", "closes"}).Draw(t, "callback"),
	}
}

// send runs a burst in the background.
func (n *node) send(b burst) {
	n.w.sent++
	sender := fmt.Sprintf("sender %d", n.w.sent)
	var closed atomic.Bool
	n.w.background.Go(func() {
		for i := range b.n {
			ctx, cancel := context.WithTimeout(context.Background(), b.patience)
			if b.sync > 0 && i%b.sync == 0 {
				n.sendSync(ctx, sender, b.topic) // the judge has the answer
			} else {
				n.sendInOrder(ctx, sender, b, &closed)
			}
			cancel()
		}
		if b.flush {
			ctx, cancel := context.WithTimeout(context.Background(), b.patience)
			defer cancel()
			if n.producer().Flush(ctx) == nil {
				n.w.stats.count("flushed")
			}
		}
	})
}

func (n *node) sendInOrder(ctx context.Context, sender string, b burst, closed *atomic.Bool) {
	value := n.w.value("b")
	n.w.judge.Tell(judge.Send{Process: n.name, Sender: sender, Value: string(value), Async: true})
	message := &kafka.ProducerMessage{Topic: b.topic, Key: n.w.key(value), Value: value, Headers: headers(value)}
	if b.first {
		message.ToPartition = new(int32)
	}
	n.producer().SendMessageAsync(ctx, message, func(m *kafka.ProducerMessage, err error) {
		n.w.judge.Tell(n.w.answer(m, err))
		if len(m.Headers) != len(headers(value)) {
			n.w.breaks("user-headers-changed")
		}
		switch b.callback {
		case "sends":
			n.sendOne(context.Background(), "callback of "+n.name, b.topic, false)
		case "panics":
			panic("callback panics")
		case "exits":
			runtime.Goexit()
		case "closes":
			if closed.CompareAndSwap(false, true) {
				n.mayRefuse.Store(true)
				n.producer().Close() // inside a callback it does not wait
			}
		}
	})
}

// headers returns some for some values: repeated, empty and nil ones.
func headers(value []byte) []kafka.Header {
	if value[len(value)-1]%2 == 0 {
		return nil
	}
	return []kafka.Header{{Key: "trace", Value: value}, {Key: "unwanted"}, {Key: "trace", Value: []byte{}}, {Key: "none"}}
}

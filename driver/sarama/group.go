package sarama

import (
	"context"
	"fmt"
	"sync"

	ibm "github.com/IBM/sarama"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/groupview"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

var _ driver.GroupReader = Driver{}

// OpenGroup implements [driver.GroupReader].
func (d Driver) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	conf, err := d.consumerConfig(cfg)
	if err != nil {
		return nil, err
	}
	uncommitted := *conf
	uncommitted.Consumer.IsolationLevel = ibm.ReadUncommitted
	w := &groupWire{cfg: cfg, conf: &uncommitted, line: newLine(cfg.TLS, requestTimeout)}
	view := groupview.New(cfg.Topics, w)
	if err := open(ctx, view, w.open, w.Sever); err != nil {
		return nil, fmt.Errorf("sarama: open group: %w", err)
	}
	return view, nil
}

// A groupWire asks for a group by a client that belongs to none.
type groupWire struct {
	cfg         driver.ConsumerConfig
	conf        *ibm.Config
	line        *dialer.Dialer
	client      ibm.Client
	coordinator *coordinator
	leaders     *leaders
	asking      sync.WaitGroup // goroutines that ask leaders
}

// open reaches the cluster.
func (w *groupWire) open() error {
	conf := on(w.line, w.conf, requestTimeout)
	conf.Metadata.Retry.Max = 0 // the view retries
	if err := reach(w.line, w.cfg.Brokers, conf); err != nil {
		return w.Wrap(err)
	}
	client, err := ibm.NewClient(w.cfg.Brokers, conf)
	if err != nil {
		return w.Wrap(err)
	}
	// So the client knows all brokers: see consumer.open.
	_ = client.RefreshMetadata(w.cfg.Topics...)
	w.client = client
	w.coordinator = newCoordinator(w.cfg, w.conf, client, w.line)
	w.leaders = &leaders{client: client, conf: w.conf}
	return nil
}

// Survey implements groupview.Wire.
func (w *groupWire) Survey(ctx context.Context) (map[string]groupview.Topic, error) {
	seen, err := w.coordinator.survey(ctx)
	topics := map[string]groupview.Topic{}
	for name, t := range seen.topics {
		topics[name] = groupview.Topic{Err: t.err, Partitions: t.partitions}
	}
	return topics, err
}

// Committed implements groupview.Wire.
func (w *groupWire) Committed(ctx context.Context, ps []partition) (position.Committed, error) {
	return w.coordinator.committed(ctx, ps)
}

// Logs implements groupview.Wire.
func (w *groupWire) Logs(ctx context.Context, ps []partition) groupview.Logs {
	offsets, failed := w.ask(ctx, ps, ibm.OffsetOldest, ibm.OffsetNewest)
	return groupview.Join(offsets[0], offsets[1], failed)
}

// Find implements groupview.Wire.
func (w *groupWire) Find(ctx context.Context, ps []partition, from int64) (at map[partition]int64, failed map[partition]error) {
	offsets, failed := w.ask(ctx, ps, from)
	return offsets[0], failed
}

// A leaderAnswer is what the leader of some partitions has answered to each question.
type leaderAnswer struct {
	led     []partition
	offsets []map[partition]int64
	failed  map[partition]error
}

// ask puts questions about partitions to their leaders: see leaders.ask. It returns the answers
// to each that have come by the end of ctx, without the partitions that have failed. No leader
// waits for another one: Sarama's requests cannot be cancelled.
func (w *groupWire) ask(ctx context.Context, ps []partition, which ...int64) (offsets []map[partition]int64, failed map[partition]error) {
	for range which {
		offsets = append(offsets, map[partition]int64{})
	}
	failed = map[partition]error{}
	answers := make(chan leaderAnswer, len(ps))
	w.asking.Go(func() { w.askLeaders(ps, which, answers) })
	heard := map[partition]bool{}
	for len(heard) < len(ps) {
		select {
		case a := <-answers:
			for _, p := range a.led {
				heard[p] = true
				if err := a.failed[p]; err != nil {
					failed[p] = err
					continue
				}
				for i := range which {
					offsets[i][p] = a.offsets[i][p]
				}
			}
		case <-ctx.Done():
			for _, p := range ps {
				if !heard[p] {
					failed[p] = ctx.Err()
				}
			}
			return offsets, failed
		}
	}
	return offsets, failed
}

// askLeaders asks the leaders of partitions side by side. Each partition is in one answer.
func (w *groupWire) askLeaders(ps []partition, which []int64, answers chan<- leaderAnswer) {
	_ = w.client.RefreshMetadata(w.cfg.Topics...) // a leader may be another by now
	byLeader := map[*ibm.Broker][]partition{}
	for _, p := range ps {
		leader, err := w.client.Leader(p.Topic, p.ID)
		if err != nil {
			answers <- leaderAnswer{led: []partition{p}, failed: map[partition]error{p: err}}
			continue
		}
		byLeader[leader] = append(byLeader[leader], p)
	}
	for leader, led := range byLeader {
		w.asking.Go(func() {
			a := leaderAnswer{led: led, failed: map[partition]error{}}
			for _, question := range which {
				offsets := map[partition]int64{}
				w.leaders.ask(leader, led, question, offsets, a.failed)
				a.offsets = append(a.offsets, offsets)
			}
			answers <- a
		})
	}
}

// Commit implements groupview.Wire.
func (w *groupWire) Commit(ctx context.Context, marks []driver.GroupMark) (map[partition]error, error) {
	return exchange(ctx, w.coordinator, func(broker *ibm.Broker) (map[partition]error, error) {
		req := w.coordinator.commitRequest(noMember)
		for _, m := range marks {
			req.AddBlockWithLeaderEpoch(m.Topic, m.Partition, m.Offset, -1, 0, m.Metadata)
		}
		resp, err := broker.CommitOffset(req)
		if err != nil {
			return nil, err
		}
		failed := map[partition]error{}
		for _, m := range marks {
			p := partition{Topic: m.Topic, ID: m.Partition}
			k := answered(resp, p)
			if isCode(k, ibm.ErrNotCoordinatorForConsumer, ibm.ErrConsumerCoordinatorNotAvailable) {
				w.coordinator.stale = true
			}
			if k != ibm.ErrNoError {
				failed[p] = k
			}
		}
		return failed, nil
	})
}

// OfTheGroup implements groupview.Wire.
func (w *groupWire) OfTheGroup(err error) bool { return ofTheGroup(err) }

// HasMembers implements groupview.Wire.
func (w *groupWire) HasMembers(err error) bool { return otherMembers(err) }

// Wrap implements groupview.Wire.
func (w *groupWire) Wrap(err error) error { return soften(wrap(err), w.cfg.SASL) }

// Sever implements groupview.Wire.
func (w *groupWire) Sever() { w.line.Sever() }

// Close implements groupview.Wire.
func (w *groupWire) Close() {
	w.coordinator.close()
	w.asking.Wait()
	w.client.Close()
}

package franz

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/credentials"
	"github.com/aarontianqx/gopkg/driver/internal/dialer"
	"github.com/aarontianqx/gopkg/driver/internal/groupview"
	"github.com/aarontianqx/gopkg/driver/internal/position"
)

var _ driver.GroupReader = Driver{}

// OpenGroup implements [driver.GroupReader].
func (d Driver) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	w := &groupWire{cfg: cfg, line: newLine(cfg.TLS, requestTimeout)}
	w.base, w.cut = context.WithCancel(context.Background())
	opts, err := clusterOf(cfg).options(w.line)
	if err == nil {
		w.client, err = open(ctx, clusterOf(cfg), w.line, append(opts, kgo.WithContext(w.base),
			kgo.RequestRetries(2), kgo.RetryTimeout(requestTimeout)))
	}
	if err != nil {
		w.cut()
		return nil, fmt.Errorf("franz: open group: %w", err)
	}
	w.coordinator = newCoordinator(w.base, cfg, w.client)
	w.coordinator.unstable = true
	w.leaders = newLeaders(cfg, w.client)
	return groupview.New(cfg.Topics, w), nil
}

// A groupWire asks for a group by a client that belongs to none.
type groupWire struct {
	cfg    driver.ConsumerConfig
	line   *dialer.Dialer
	client *kgo.Client
	base   context.Context // of client; its end severs it
	cut    context.CancelFunc

	coordinator *coordinator
	leaders     *leaders
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
	var begins map[partition]int64
	var noBegin map[partition]error
	var asking sync.WaitGroup
	asking.Go(func() { begins, noBegin = w.leaders.ask(ctx, ps, logBegin, readUncommitted) })
	ends, noEnd := w.leaders.ask(ctx, ps, logEnd, readUncommitted)
	asking.Wait()
	return groupview.Join(begins, ends, noBegin, noEnd)
}

// Find implements groupview.Wire.
func (w *groupWire) Find(ctx context.Context, ps []partition, from int64) (at map[partition]int64, failed map[partition]error) {
	return w.leaders.ask(ctx, ps, from, readUncommitted)
}

// Commit implements groupview.Wire.
func (w *groupWire) Commit(ctx context.Context, marks []driver.GroupMark) (map[partition]error, error) {
	return alone(ctx, w.coordinator, func(ctx context.Context) (map[partition]error, error) {
		req := w.coordinator.commitRequest(noMember)
		for _, m := range marks {
			addOffset(req, partition{Topic: m.Topic, ID: m.Partition}, m.Offset, -1, m.Metadata)
		}
		verdicts, err := w.coordinator.commit(ctx, req)
		if err != nil {
			return nil, err
		}
		failed := map[partition]error{}
		for _, m := range marks {
			p := partition{Topic: m.Topic, ID: m.Partition}
			failed[p] = answered(verdicts, p)
		}
		return failed, nil
	})
}

// OfTheGroup implements groupview.Wire.
func (w *groupWire) OfTheGroup(err error) bool { return ofTheGroup(err) }

// HasMembers implements groupview.Wire.
func (w *groupWire) HasMembers(err error) bool { return otherMembers(err) }

// Wrap implements groupview.Wire.
func (w *groupWire) Wrap(err error) error { return credentials.Soften(wrap(err), w.cfg.SASL) }

// Sever implements groupview.Wire.
func (w *groupWire) Sever() {
	w.line.Sever()
	w.cut()
}

// Close implements groupview.Wire.
func (w *groupWire) Close() {
	w.client.Close()
	w.coordinator.close()
}

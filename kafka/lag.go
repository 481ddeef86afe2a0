package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
)

// A PartitionLag is what is known of one partition of a group. Offsets other than Committed
// are -1 while they are not known.
type PartitionLag struct {
	Topic     string
	Partition int32 // -1 is the whole topic, which cannot be read because of Err

	Committed int64 // the durable position of the group; -1 if it has none, -2 if that is not known

	// Start is where the group continues: Committed, or where ConsumerConfig.InitialOffset
	// lets it begin on a partition for which it has no position. With OffsetNewest that is
	// the end, or the beginning if the group has a position in another partition of the
	// topic, which is not known while the position of one is not. If Committed is no longer in the log, Start is where ConsumerConfig.OutOfRange
	// moves the group; with OutOfRangeStop it is -1, and Err has the code OFFSET_OUT_OF_RANGE.
	Start int64

	Begin, End int64 // the first offset of the log, and the one after its last record
	Lag        int64 // End - Start

	Err error // why some of this is not known
}

// Lag returns how far the group of a consumer is behind in each partition of its topics,
// in the order of the topics, then of the partitions. It asks the brokers, from outside
// the group: so it works while the consumer is off, disabled or backing off, counts the
// partitions that other members own, and makes no group rebalance. It opens connections
// for each call, so it is for an operator's question and not for a loop.
//
// A topic or a partition that cannot be read has an error of its own, which does not keep
// Lag from the others. Positions are those that are committed: what has been handled since
// counts as lag.
//
// Lag ends with ctx, after 30s if ctx has no deadline, and when a shutdown begins. What is
// known by then it returns; that of other partitions is then not known. If that is the end of
// ctx, their Err says so; during a shutdown the error wraps ErrClosed, also beside what is
// known. Other errors wrap ErrUnknownConsumer, ErrNoDriver, ErrUnsupported if the driver
// cannot read groups from outside, the error of ctx if the group's coordinator has not
// answered by then, or the driver's error. Then nothing is known.
//
// Lag may be called by several goroutines at once, also inside handlers and hooks.
func (m *Manager) Lag(ctx context.Context, jobName string) ([]PartitionLag, error) {
	j, err := m.job(jobName)
	if err != nil {
		return nil, err
	}
	if ctx == nil {
		return nil, errors.New("kafka: lag: ctx is nil")
	}
	all, err := m.readGroup(ctx, j)
	if isClosed(m.stopping) && !errors.Is(err, ErrClosed) {
		err = errors.Join(ErrClosed, err)
	}
	if err != nil {
		err = fmt.Errorf("kafka: lag of consumer %q: %w", j.name(), err)
	}
	return lags(&j.dcfg, all), err
}

// readGroup asks for the group of j. A shutdown ends it, and waits for it.
func (m *Manager) readGroup(ctx context.Context, j *job) ([]driver.GroupPartition, error) {
	if err := m.beginAsk(); err != nil {
		return nil, err
	}
	defer m.endAsk()
	ctx, cancel := m.openContext(ctx)
	defer cancel()
	g, err := openGroup(ctx, m.driver, j.dcfg)
	if err != nil {
		return nil, err
	}
	defer j.closeGroup(ctx, g)
	var all []driver.GroupPartition
	err = guard(func() (err error) {
		all, err = g.Read(ctx)
		return err
	})
	return all, err
}

// closeGroup closes g. It severs connections and waits for no broker.
func (j *job) closeGroup(ctx context.Context, g driver.Group) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
	defer cancel()
	if err := guard(func() error { return g.Close(ctx) }); err != nil {
		j.log.Warn("kafka: closing the view of the group failed", "error", loggable(err))
	}
}

// beginAsk counts a call that asks the brokers, so that a shutdown waits for it.
func (m *Manager) beginAsk() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return ErrClosed
	case m.driver == nil:
		return ErrNoDriver
	}
	m.asking.Add(1)
	m.askingCount++
	return nil
}

func (m *Manager) endAsk() {
	m.mu.Lock()
	m.askingCount--
	m.mu.Unlock()
	m.asking.Done()
}

// lags returns the lag of each partition of a group with the configuration cfg.
func lags(cfg *driver.ConsumerConfig, all []driver.GroupPartition) []PartitionLag {
	known := map[string]bool{}   // topics in which the group has a position
	unknown := map[string]bool{} // topics in which it may have one
	for _, p := range all {
		switch {
		case p.Committed >= 0:
			known[p.Topic] = true
		case p.Committed == driver.UnknownPosition:
			unknown[p.Topic] = true
		}
	}
	var ls []PartitionLag
	for _, p := range all {
		l := PartitionLag{Topic: p.Topic, Partition: p.Partition, Committed: p.Committed, Begin: p.Begin, End: p.End, Lag: -1, Err: p.Err}
		switch {
		case p.Committed >= 0 && p.Begin >= 0 && p.End >= 0 && (p.Committed < p.Begin || p.Committed > p.End):
			l.Start, l.Err = outOfLog(cfg.OutOfRange, p)
		case p.Committed >= 0:
			l.Start = p.Committed
		case p.Committed == driver.UnknownPosition:
			l.Start = -1
		case cfg.Initial(p.Topic) == driver.OffsetOldest, known[p.Topic]:
			l.Start = p.Begin
		case unknown[p.Topic]:
			l.Start = -1
		default:
			l.Start = p.End
		}
		if l.Start >= 0 && l.End >= 0 {
			l.Lag = l.End - l.Start
		}
		ls = append(ls, l)
	}
	return ls
}

// outOfLog returns where the group of p continues, whose position is not in the log.
func outOfLog(policy OutOfRange, p driver.GroupPartition) (start int64, err error) {
	switch policy {
	case OutOfRangeOldest:
		return p.Begin, p.Err
	case OutOfRangeNewest:
		return p.End, p.Err
	}
	return -1, &driver.Error{Code: "OFFSET_OUT_OF_RANGE", Err: fmt.Errorf("the position is %d, and the log holds [%d, %d)", p.Committed, p.Begin, p.End)}
}

package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/aarontianqx/gopkg/driver"
)

// A SeekPreview says where Seek would move one partition. Its numbers are differences of
// offsets, which are upper bounds of records: offsets of compacted records and of the markers
// of transactions count, too.
type SeekPreview struct {
	TopicPartition

	// From is where the consumer goes on without a seek: the lowest offset that is not done,
	// with AutoCommit that is not handed out, or PartitionLag.Start of a consumer that does
	// not run. It is -1 if that is not known.
	From int64

	To int64 // where Seek would move it
}

// Again returns how many records would be handled again at most, or -1 if that is not known.
func (p SeekPreview) Again() int64 {
	if p.From < 0 {
		return -1
	}
	return max(p.From-p.To, 0)
}

// Skipped returns how many records would not be handled at most, or -1 if that is not known.
func (p SeekPreview) Skipped() int64 {
	if p.From < 0 {
		return -1
	}
	return max(p.To-p.From, 0)
}

// PreviewSeek says what Seek with the same arguments would do, as of now, and moves nothing.
// The order is that of the topics, then of the partitions. A partition in which Seek would
// change nothing is among them.
//
// It refuses what Seek refuses, with the same errors, but for two: it does not find out
// whether the group of a consumer that is off has members, and it may be called inside
// handlers and hooks. It waits for no other call, ends with ctx, after 30s if ctx has no
// deadline, and when a shutdown begins.
func (m *Manager) PreviewSeek(ctx context.Context, jobName string, to Position, ps ...TopicPartition) ([]SeekPreview, error) {
	j, err := m.job(jobName)
	if err != nil {
		return nil, err
	}
	all, err := j.previewSeek(ctx, to, ps)
	if err != nil {
		if isClosed(m.stopping) && !errors.Is(err, ErrClosed) {
			err = errors.Join(ErrClosed, err)
		}
		return nil, fmt.Errorf("kafka: preview of a seek of consumer %q to %v: %w", j.name(), to, err)
	}
	return all, nil
}

func (j *job) previewSeek(ctx context.Context, to Position, ps []TopicPartition) ([]SeekPreview, error) {
	ps, err := j.sought(ctx, to, ps)
	if err != nil {
		return nil, err
	}
	if err := j.m.beginAsk(); err != nil {
		return nil, err
	}
	defer j.m.endAsk()
	ctx, cancel := j.m.openContext(ctx)
	defer cancel()
	s := seek{job: j, to: to}
	if err := s.choose(ps); err != nil {
		return nil, err
	}
	g, err := openGroup(ctx, j.m.driver, j.dcfg)
	if err != nil {
		return nil, err
	}
	defer j.closeGroup(ctx, g)
	if err := s.find(ctx, g); err != nil {
		return nil, err
	}
	from, err := s.from(ctx, g)
	if err != nil {
		return nil, err
	}
	all := make([]SeekPreview, len(s.moves))
	for i, m := range s.moves {
		all[i] = SeekPreview{TopicPartition: m.TopicPartition, From: -1, To: m.offset}
		if at, known := from[m.TopicPartition]; known {
			all[i].From = at
		}
	}
	return all, nil
}

// from returns where the consumer goes on without the seek.
func (s *seek) from(ctx context.Context, g driver.Group) (map[TopicPartition]int64, error) {
	from := make(map[TopicPartition]int64)
	if s.driver != nil {
		for tp, p := range s.parts {
			from[tp] = p.intake.position()
		}
		return from, nil
	}
	var all []driver.GroupPartition
	if err := guard(func() (err error) { all, err = g.Read(ctx); return err }); err != nil {
		return nil, err
	}
	for _, l := range lags(&s.job.dcfg, all) {
		from[TopicPartition{l.Topic, l.Partition}] = l.Start
	}
	return from, nil
}

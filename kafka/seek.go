package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// A Position is where Seek moves a consumer: AtOffset, AtTime, AtBeginning or AtEnd.
type Position struct {
	kind   positionKind
	offset int64
	at     time.Time
}

type positionKind int

const (
	noPosition positionKind = iota
	atOffset
	atTime
	atBeginning
	atEnd
)

// AtOffset is the record with that offset, of one partition.
func AtOffset(offset int64) Position { return Position{kind: atOffset, offset: offset} }

// AtTime is, per partition, the first record with a timestamp of t or later, and the end of
// the log if there is none. Brokers compare milliseconds: t is rounded up to them.
func AtTime(t time.Time) Position { return Position{kind: atTime, at: t} }

// AtBeginning is, per partition, the first record of the log.
func AtBeginning() Position { return Position{kind: atBeginning} }

// AtEnd is, per partition, the end of the log as it is now: what is there is skipped.
func AtEnd() Position { return Position{kind: atEnd} }

// String returns text such as "offset 42", "2026-11-30T02:00:00Z", "beginning" or "end".
func (p Position) String() string {
	switch p.kind {
	case atOffset:
		return fmt.Sprintf("offset %d", p.offset)
	case atTime:
		return p.at.Format(time.RFC3339Nano)
	case atBeginning:
		return "beginning"
	case atEnd:
		return "end"
	}
	return "nowhere"
}

// MarshalText returns what String does.
func (p Position) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// check refuses what cannot be asked for, of n named partitions.
func (p Position) check(n int) error {
	switch {
	case p.kind == noPosition:
		return errors.New("the position is none of AtOffset, AtTime, AtBeginning, AtEnd")
	case p.kind == atOffset && n != 1:
		return fmt.Errorf("an offset is one of one partition, and %d are named", n)
	case p.kind == atOffset && p.offset < 0:
		return fmt.Errorf("offset %d is negative", p.offset)
	}
	return nil
}

// in returns the offset of p in a partition.
func (p Position) in(found driver.FoundOffsets) (int64, error) {
	tp := TopicPartition{found.Topic, found.Partition}
	switch {
	case found.Err != nil && found.Partition < 0:
		return 0, fmt.Errorf("topic %s: %w", printable(found.Topic), found.Err)
	case found.Err != nil:
		return 0, fmt.Errorf("%v: %w", tp, found.Err)
	case p.kind == atBeginning:
		return found.Begin, nil
	case p.kind == atEnd:
		return found.End, nil
	case p.kind == atTime:
		return found.At, nil
	case p.offset < found.Begin || p.offset > found.End:
		return 0, &driver.Error{Code: "OFFSET_OUT_OF_RANGE", Err: fmt.Errorf("the log of %v begins at %d and ends at %d", tp, found.Begin, found.End)}
	}
	return p.offset, nil
}

// Seek moves a consumer, forwards or back: its records are handled from there on, again if
// they have been handled before. The failures and attempts of records are forgotten.
//
// A running consumer is moved in the partitions that this process owns: in those that are
// named, or in all but those of retry topics. What runs is drained, as in a rebalance, but
// with the time of the drain window for itself, and what is done is committed. Then the new
// position is made durable, and handing out goes on from there. Pauses and holds stay. With
// some drivers the member joins its group once more for that, and owns no partition until it
// has.
//
// The group of a consumer that is off or disabled is moved without joining it: in the
// partitions that are named, or in all but those of retry topics. The brokers refuse that,
// with an error that wraps ErrGroupHasMembers, while the group has members in other
// processes, and with an InstanceID until the session of the last one has timed out.
//
// PreviewSeek says beforehand how many records would be handled again or skipped.
//
// nil says that the position of every partition is durable. Otherwise a *SeekError says for
// which it is not, or is not known to be, and where the group is there now; the others have
// been moved. Its errors wrap ErrUnknownOutcome if no answer came, and ErrClaimEnded if the
// partition has gone to another member first. A seek that has ended moves nothing later.
//
// Seek moves nothing, and returns an error, for a topic that is not the consumer's; for an
// offset and other than one partition; for an offset outside the log, naming both ends; if a
// partition cannot be looked up; and with ErrUnknownConsumer, ErrNotOwned, ErrNotRunning,
// ErrUnsupported, ErrNoDriver or ErrClosed. It ends with ctx, after 30s if ctx has no
// deadline, and when a shutdown begins; up to 5s more go into the question where the group
// is. One Seek of a consumer waits for the other. Inside a handler, a callback or a hook its
// error wraps ErrInside.
func (m *Manager) Seek(ctx context.Context, jobName string, to Position, ps ...TopicPartition) error {
	if err := m.ready(); err != nil {
		return err
	}
	if caller := m.caller(); caller != "" {
		return fmt.Errorf("kafka: seek of consumer %q inside %s: %w", jobName, caller, ErrInside)
	}
	j, err := m.job(jobName)
	if err != nil {
		return err
	}
	if err := j.seek(ctx, to, ps); err != nil {
		if isClosed(m.stopping) && !errors.Is(err, ErrClosed) {
			err = errors.Join(ErrClosed, err)
		}
		return fmt.Errorf("kafka: seek of consumer %q to %v: %w", j.name(), to, err)
	}
	return nil
}

func (j *job) seek(ctx context.Context, to Position, ps []TopicPartition) error {
	ps, err := j.sought(ctx, to, ps)
	if err != nil {
		return err
	}
	if err := j.m.beginAsk(); err != nil {
		return err
	}
	defer j.m.endAsk()
	ctx, cancel := j.m.openContext(ctx)
	defer cancel()
	select {
	case j.seeking <- struct{}{}:
		defer func() { <-j.seeking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s := seek{job: j, to: to}
	if err := s.choose(ps); err != nil {
		return err
	}
	g, err := openGroup(ctx, j.m.driver, j.dcfg)
	if err != nil {
		return err
	}
	defer j.closeGroup(ctx, g)
	if err := s.find(ctx, g); err != nil {
		return err
	}
	if s.driver != nil {
		err = s.move(ctx)
	} else {
		err = s.commit(ctx, g)
	}
	return s.report(ctx, g, err)
}

// sought checks the arguments of a seek, and returns the partitions in order, each once.
func (j *job) sought(ctx context.Context, to Position, ps []TopicPartition) ([]TopicPartition, error) {
	if ctx == nil {
		return nil, errors.New("ctx is nil")
	}
	ps = slices.Clone(ps)
	slices.SortFunc(ps, TopicPartition.compare)
	ps = slices.Compact(ps)
	if err := to.check(len(ps)); err != nil {
		return nil, err
	}
	for _, p := range ps {
		if err := j.reads(p); err != nil {
			return nil, err
		}
	}
	return ps, nil
}

// A seek is one call of Seek or PreviewSeek.
type seek struct {
	job    *job
	to     Position
	driver driver.Seeker                 // nil if the consumer is off
	parts  map[TopicPartition]*partition // of a running consumer

	of    map[string][]int32 // what is to be moved
	moves []move
}

// A move is what becomes of one partition.
type move struct {
	TopicPartition
	offset int64
	err    error // why the position is not known to be durable
}

// choose decides which partitions are moved, and how.
func (s *seek) choose(ps []TopicPartition) error {
	j := s.job
	j.mu.Lock()
	session, state := j.session, j.status.state
	j.mu.Unlock()
	s.of = map[string][]int32{}
	switch {
	case state == StateRunning && session != nil:
		return s.chooseOwned(session, ps)
	case state != StateOff && state != StateDisabled:
		return fmt.Errorf("it is %v: %w", state, ErrNotRunning)
	}
	for _, p := range ps {
		s.of[p.Topic] = append(s.of[p.Topic], p.Partition)
	}
	if len(ps) == 0 {
		for _, topic := range j.dcfg.Topics {
			if _, retry := j.retries.place(topic); !retry {
				s.of[topic] = nil
			}
		}
	}
	return nil
}

// chooseOwned is choose for a consumer that runs.
func (s *seek) chooseOwned(session *session, ps []TopicPartition) error {
	seeker, ok := seekerOf(session.driver)
	if !ok {
		return fmt.Errorf("the driver's %T cannot move positions: %w", session.driver, ErrUnsupported)
	}
	s.driver, s.parts = seeker, map[TopicPartition]*partition{}
	for _, p := range session.claims.live() {
		_, retry := s.job.retries.place(p.claim.Topic)
		if named := slices.Contains(ps, keyOf(p.claim)); named || len(ps) == 0 && !retry {
			s.parts[keyOf(p.claim)] = p
			s.of[p.claim.Topic] = append(s.of[p.claim.Topic], p.claim.Partition)
		}
	}
	for _, p := range ps {
		if s.parts[p] == nil {
			return fmt.Errorf("%v: %w", p, ErrNotOwned)
		}
	}
	if len(s.parts) == 0 {
		return fmt.Errorf("no partition: %w", ErrNotOwned)
	}
	return nil
}

// find looks up the offsets. An error says that nothing is to be moved.
func (s *seek) find(ctx context.Context, g driver.Group) error {
	found, err := findOffsets(ctx, g, s.of, s.to.at)
	if err != nil {
		return err
	}
	var failed []error
	for _, f := range found {
		offset, err := s.to.in(f)
		if err != nil {
			failed = append(failed, err)
		}
		s.moves = append(s.moves, move{TopicPartition: TopicPartition{f.Topic, f.Partition}, offset: offset})
	}
	return errors.Join(failed...)
}

// move moves the claims of a running consumer.
func (s *seek) move(ctx context.Context) error {
	ledger := s.job.ledger
	var marks []driver.Mark
	for _, m := range s.moves {
		p := s.parts[m.TopicPartition]
		p.sought.Store(true)
		ledger.expect(m.TopicPartition, m.offset)
		marks = append(marks, driver.Mark{Claim: p.claim, Offset: m.offset})
	}
	err := guard(func() error { return s.driver.Seek(ctx, marks) })
	ce, each := errors.AsType[*driver.CommitError](err)
	if err != nil && !each {
		for _, m := range s.moves {
			ledger.unexpect(m.TopicPartition)
		}
		return err
	}
	for i, m := range s.moves {
		p := s.parts[m.TopicPartition]
		if ce != nil {
			for _, f := range ce.Failed {
				if f.Mark.Claim == p.claim {
					s.moves[i].err = f.Err
				}
			}
		}
		if err := s.moves[i].err; err != nil && !errors.Is(err, ErrUnknownOutcome) {
			p.sought.Store(false)
			ledger.unexpect(m.TopicPartition)
		}
	}
	return nil
}

// commit moves the group of a consumer that is off.
func (s *seek) commit(ctx context.Context, g driver.Group) error {
	var marks []driver.GroupMark
	for _, m := range s.moves {
		marks = append(marks, driver.GroupMark{Topic: m.Topic, Partition: m.Partition, Offset: m.offset})
	}
	err := guard(func() error { return g.Commit(ctx, marks) })
	switch {
	case errors.Is(err, ErrGroupHasMembers):
		return err
	case err != nil && ctx.Err() != nil: // a mark may have been sent
		err = fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	failed := partitionErrors(err)
	for i, m := range s.moves {
		of := slices.IndexFunc(failed, func(e *driver.PartitionError) bool { return e.Topic == m.Topic && e.Partition == m.Partition })
		switch {
		case of >= 0 && ctx.Err() != nil:
			s.moves[i].err = fmt.Errorf("%w: %w", ErrUnknownOutcome, failed[of].Err)
		case of >= 0:
			s.moves[i].err = failed[of].Err
		case len(failed) == 0:
			s.moves[i].err = err
		}
		if s.moves[i].err == nil {
			s.job.ledger.forget(m.TopicPartition, 0)
		}
	}
	return nil
}

// partitionErrors returns every PartitionError in the tree of err.
func partitionErrors(err error) (all []*driver.PartitionError) {
	if p, ok := err.(*driver.PartitionError); ok {
		return []*driver.PartitionError{p}
	}
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		return partitionErrors(u.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range u.Unwrap() {
			all = append(all, partitionErrors(err)...)
		}
	}
	return all
}

// report says what was moved, to the log and to hooks, and returns a SeekError for what was
// not. err is why nothing was.
func (s *seek) report(ctx context.Context, g driver.Group, err error) error {
	if err != nil {
		return err
	}
	j := s.job
	e := PositionsMoved{JobName: j.name(), Group: j.cfg.ConsumerGroup, To: s.to}
	failed := &SeekError{}
	for _, m := range s.moves {
		if m.err == nil {
			e.Partitions = append(e.Partitions, MovedPartition{m.TopicPartition, m.offset})
		} else {
			failed.Failed = append(failed.Failed, SeekFailure{Partition: m.TopicPartition, To: m.offset, Position: driver.UnknownPosition, Err: m.err})
		}
	}
	if len(e.Partitions) > 0 {
		j.log.Info("kafka: positions moved by an operator", "to", s.to.String(), "partitions", e.listed())
		j.event(e)
	}
	if len(failed.Failed) == 0 {
		return nil
	}
	s.askAgain(ctx, g, failed)
	return failed
}

// askAgainTimeout bounds the question where the group is.
const askAgainTimeout = 5 * time.Second

// askAgain finds out where the group is in what has failed. The context of the seek may have
// ended.
func (s *seek) askAgain(ctx context.Context, g driver.Group, failed *SeekError) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askAgainTimeout)
	defer cancel()
	ctx, end := s.job.m.openContext(ctx)
	defer end()
	var all []driver.GroupPartition
	if err := guard(func() (err error) { all, err = g.Read(ctx); return err }); err != nil {
		return
	}
	for i, f := range failed.Failed {
		for _, p := range all {
			if p.Topic == f.Partition.Topic && p.Partition == f.Partition.Partition {
				failed.Failed[i].Position = p.Committed
			}
		}
	}
}

// A SeekError says in which partitions Seek has not moved a consumer, or may not have.
type SeekError struct {
	Failed []SeekFailure
}

// A SeekFailure is one partition of a SeekError.
type SeekFailure struct {
	Partition TopicPartition
	To        int64 // the offset that was asked for

	// Position is where the group is, as asked after the failure: what is committed, -1 if
	// nothing is, -2 if that is not known.
	Position int64

	Err error
}

// Error names the first partition, where the group is there, and the number of others.
func (e *SeekError) Error() string {
	if len(e.Failed) == 0 {
		return "no partition has failed"
	}
	f := e.Failed[0]
	s := fmt.Sprintf("%v to %d: %v; ", f.Partition, f.To, f.Err)
	switch f.Position {
	case driver.UnknownPosition:
		s += "the position is not known"
	case driver.NoPosition:
		s += "the group has no position now"
	default:
		s += fmt.Sprintf("the position is %d now", f.Position)
	}
	if n := len(e.Failed) - 1; n > 0 {
		s += fmt.Sprintf(" (and %d more)", n)
	}
	return s
}

// Unwrap returns the errors of all partitions.
func (e *SeekError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}

// listed names the partitions with their offsets for a log line.
func (e PositionsMoved) listed() string {
	var list []string
	for _, p := range e.Partitions[:min(len(e.Partitions), maxListed)] {
		list = append(list, fmt.Sprintf("%v:%d", p.TopicPartition, p.Offset))
	}
	if more := len(e.Partitions) - maxListed; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, " ")
}

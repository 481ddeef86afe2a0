package franz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/internal/recordbatch"
)

const (
	// firstLook and lastLook are the distances of the looks at a claim that cannot be
	// read on.
	firstLook = time.Second
	lastLook  = 30 * time.Second

	mendTick = time.Second
)

// A standing is the state of a claim that cannot be read on.
type standing struct {
	next   time.Time     // of the next look
	wait   time.Duration // from that to the one after it
	damage *recordbatch.Damage
}

// damaged stops a claim in front of what cannot be read, and reports that. It does both
// again with each look that finds it.
func (s *session) damaged(cl *claim, d *recordbatch.Damage) {
	s.standAt(cl, d)
	s.c.core.Report(&driver.PartitionError{Topic: cl.where.Topic, Partition: cl.where.ID, Offset: d.Offset, Err: d.Err})
}

// unreadable is called by a goroutine of kgo that reads an answer in which d is hidden. What
// is before d may still be on its way to the core; then the next answer shows d again.
func (s *session) unreadable(p partition, d *recordbatch.Damage) {
	cl := s.claims.at(p)
	if cl == nil {
		return
	}
	if next := cl.next.Load(); next < 0 || next == d.Offset {
		s.damaged(cl, d)
	}
}

func (s *session) standAt(cl *claim, d *recordbatch.Damage) {
	cl.stand()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.standings[cl]
	if st == nil {
		st = &standing{wait: firstLook}
		s.standings[cl] = st
	} else {
		st.wait = min(2*st.wait, lastLook)
	}
	st.damage, st.next = d, time.Now().Add(st.wait)
}

// readOn notes that records of a claim have come. A claim that stands keeps its next look.
// Otherwise this would happen: the poll loop moves the position to a damaged batch; kgo reads
// that batch, and the claim stands; the poll loop calls readOn; the claim stands forever.
func (s *session) readOn(cl *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.standings) > 0 && !cl.isStanding() {
		delete(s.standings, cl)
	}
}

// mend looks again at claims that cannot be read on, until the session ends.
func (s *session) mend() {
	tick := time.NewTicker(mendTick)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.lookAt(s.due(now))
		case <-s.running.Done():
			return
		}
	}
}

// due returns the claims that are to be looked at.
func (s *session) due(now time.Time) (claims []*claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cl, st := range s.standings {
		if now.After(st.next) {
			st.next = now.Add(st.wait)
			claims = append(claims, cl)
		}
	}
	return claims
}

// lookAt lets kgo read claims once more. Kgo stops forever in front of a batch that is too
// large, unless the position is set. A claim that began before its leader could be asked, and
// of which nothing has come, has no position: it begins where the log begins now.
func (s *session) lookAt(claims []*claim) {
	var unknown []partition
	for _, cl := range claims {
		if cl.next.Load() < 0 {
			unknown = append(unknown, cl.where)
		}
	}
	ctx, cancel := context.WithTimeout(s.running, surveyTimeout)
	defer cancel()
	begins, _ := s.c.leaders.some(ctx, unknown, logBegin) // the next look asks the others again
	for _, cl := range claims {
		s.turn.quiet(func() {
			next := cl.next.Load()
			if begin, ok := begins[cl.where]; next < 0 && ok {
				next = begin
			}
			if next >= 0 && s.claims.at(cl.where) == cl && cl.readAgain() {
				s.setOffset(cl.where, next)
			}
		})
	}
}

// setOffset has kgo go on at an offset. It is called with the turn.
func (s *session) setOffset(p partition, offset int64) {
	s.setOffsets(map[partition]startAt{p: startingAt(offset)})
}

// setOffsets is setOffset for several partitions.
func (s *session) setOffsets(starts map[partition]startAt) {
	at := map[string]map[int32]kgo.EpochOffset{}
	for p, start := range starts {
		if at[p.Topic] == nil {
			at[p.Topic] = map[int32]kgo.EpochOffset{}
		}
		at[p.Topic][p.ID] = kgo.EpochOffset{Epoch: -1, Offset: start.at}
	}
	s.client.SetOffsets(at)
}

// cutBackAt returns the error of a log that was cut back below a position.
func cutBackAt(p partition, at int64) error {
	return fmt.Errorf("%w: the log of %s/%d was cut back to %d", kerr.OffsetOutOfRange, driver.Printable(p.Topic, 0), p.ID, at)
}

// astray ends a claim whose position is not in the log, and moves the position, as the
// configuration asks. Other claims go on. It is called with the turn.
func (s *session) astray(cl *claim, st *stray) {
	taken := s.claims.take(func(other *claim) bool { return other == cl })
	if len(taken) == 0 {
		return
	}
	s.client.PauseFetchPartitions(byTopic(cl.where))
	h := s.newHolding(cl.where)
	st.from = cl.position()
	s.jobs.Go(func() { s.repair(taken, h, st) })
}

// repair ends a claim whose position is not in the log, and begins another one. The group
// counts on the member meanwhile: the claim's last commit must not come after the position
// is moved.
func (s *session) repair(taken []*claim, h *holding, st *stray) {
	p := taken[0].where
	asking, cancel := taken[0].unhurried(s.running)
	defer cancel()
	if s.c.topics.isAnother(asking, p.Topic) { // the position is not of this topic
		s.yield(taken)
		return
	}
	stops := s.c.cfg.OutOfRange == driver.OutOfRangeStop
	if stops && !s.isOver() {
		if err := s.c.positions.outside(asking, p, st); err != nil {
			taken[0].setLost(err)
			s.yield(taken)
			s.c.fail(err)
			return
		}
	}
	s.yield(taken)
	s.begin(p, h, nil, func(ctx context.Context, by member) (startAt, error) {
		at, err := s.c.positions.moveIntoLog(ctx, s, by, p, st)
		if stops && isPermanent(err) && codeOf(err) == "OFFSET_OUT_OF_RANGE" {
			s.c.fail(err)
		}
		return at, err
	})
}

// rereadWait is how long the partition of a claim rests whose Deliver has panicked. The next
// one may panic as well.
const rereadWait = time.Second

// reread ends a claim as lost, and begins another one at the group's position. It is called
// with the turn.
func (s *session) reread(cl *claim, cause error) {
	taken := s.claims.take(func(other *claim) bool { return other == cl })
	if len(taken) == 0 {
		return
	}
	s.client.PauseFetchPartitions(byTopic(cl.where))
	h := s.newHolding(cl.where)
	cl.setLost(cause)
	s.jobs.Go(func() {
		s.yield(taken)
		select {
		case <-time.After(rereadWait):
		case <-s.running.Done():
		}
		s.begin(cl.where, h, nil, func(ctx context.Context, by member) (startAt, error) { return s.startOf(ctx, by, cl.where) })
	})
}

// startLater begins the claim of p when its start can be decided. It reports why it could not
// be before. It is called with the turn: outside of it the session might be waiting for its
// jobs, and no other must begin then.
func (s *session) startLater(p partition, why error) {
	h := s.holdingOf(p)
	s.jobs.Go(func() {
		s.reportAt(p, why)
		s.begin(p, h, why, func(ctx context.Context, by member) (startAt, error) { return s.startOf(ctx, by, p) })
	})
}

func (s *session) reportAt(p partition, err error) {
	if err != nil {
		s.c.core.Report(&driver.PartitionError{Topic: p.Topic, Partition: p.ID, Offset: -1, Err: wrap(err)})
	}
}

// startOf returns where the claim of p begins.
func (s *session) startOf(ctx context.Context, by member, p partition) (startAt, error) {
	all, err := s.c.coordinator.committed(ctx, []partition{p})
	if err == nil {
		err = all.Failed[p]
	}
	if err != nil {
		return startAt{}, err
	}
	fetched := place{kgo.EpochOffset{Epoch: -1, Offset: -1}, all.Beside[p]} // the fetch shows a log that was cut back
	if at, ok := all.At[p]; ok {
		fetched.Offset = at
	}
	starts, failed, err := s.c.positions.starts(ctx, s.c.leaders, s, by, map[partition]place{p: fetched})
	if err != nil {
		return startAt{}, err
	}
	found, ok := starts[p]
	if !ok {
		return startAt{}, fmt.Errorf("start of the claim: %w", errors.Join(failed[p], errIncomplete))
	}
	return found, nil
}

const (
	firstRetry     = 20 * time.Millisecond
	lastRetry      = time.Second
	attemptTimeout = 10 * time.Second
)

// begin begins the claim of p, which kgo holds and does not fetch, when find has found its
// start. It reports why that takes time, unless it is for the reason that was reported.
func (s *session) begin(p partition, h *holding, reported error, find func(ctx context.Context, by member) (startAt, error)) {
	code := codeOf(reported)
	for retry := firstRetry; !s.isOver(); retry = min(2*retry, lastRetry) {
		by, ok := s.member()
		if !s.holds(p, h) { // asked after the identity was read: under a later one p may be another member's
			return
		}
		err := error(errSuperseded)
		if ok {
			err = s.tryBegin(p, h, by, find)
		}
		if err == nil {
			return
		}
		if now := codeOf(err); now != code && err != error(errSuperseded) && !s.isOver() {
			code = now
			s.reportAt(p, err)
		}
		select {
		case <-time.After(retry):
		case <-s.running.Done():
		}
	}
}

func (s *session) tryBegin(p partition, h *holding, by member, find func(ctx context.Context, by member) (startAt, error)) error {
	ctx, cancel := context.WithTimeout(s.running, attemptTimeout)
	defer cancel()
	at, err := find(ctx, by)
	if err != nil {
		return err
	}
	if at.at < 0 {
		begins, err := s.c.leaders.all(ctx, []partition{p}, logBegin)
		if err != nil {
			return err
		}
		at.at = begins[p]
	}
	s.turn.quiet(func() {
		if now, ok := s.member(); !s.holds(p, h) || s.isOver() || !ok || now.id != by.id {
			err = errSuperseded
			return
		}
		s.setOffset(p, at.at)
		s.assign([]*claim{s.newClaim(p, at, by)})
		s.client.ResumeFetchPartitions(byTopic(p))
	})
	return err
}

package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/fault"
	"github.com/aarontianqx/gopkg/driver/memory"
	"github.com/aarontianqx/gopkg/internal/judge"
	"github.com/aarontianqx/gopkg/kafka"
)

// seeks are what the harness knows of seeks, and of the positions that they move.
type seeks struct {
	mu        sync.Mutex
	calls     uint64
	committed map[committedAt]int64
	moved     []moved // in order, those that no call has claimed
}

type committedAt struct {
	group     string
	partition judge.Partition
}

// A moved is what a consumer has reported of a call of Seek.
type moved struct {
	n  *node
	by kafka.PositionsMoved
}

// A wish is one call of Seek, as it was drawn.
type wish struct {
	n      *node
	group  string
	to     kafka.Position
	offset int64     // if to is one, else -1
	at     time.Time // if to is one
	ps     []kafka.TopicPartition
	limit  time.Duration // 0 is none
	delay  time.Duration
	rule   *rule // of a fault, or nil
}

// seek is an operator's word on where a consumer goes on, or two such words at once.
func (w *world) seek(t *rapid.T) {
	n := w.one(t)
	g := rapid.SampledFrom(n.groups).Draw(t, "consumer")
	for range rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "at once") {
		w.background.Go(w.drawSeek(t, n, g).make)
	}
}

// seekOff moves a group whose consumers are off, and perhaps switches them on again.
func (w *world) seekOff(t *rapid.T) {
	n := w.one(t)
	g := rapid.SampledFrom(n.groups).Draw(t, "consumer")
	for _, n := range w.live() {
		n.switchGroup(g, false)
	}
	time.Sleep(seconds(t, "off for s", 0, 1, 5, 20))
	s := w.drawSeek(t, n, g)
	if rapid.Bool().Draw(t, "and on") {
		w.background.Go(s.make)
		time.Sleep(s.delay + time.Duration(rapid.SampledFrom([]int{0, 10, 2_000}).Draw(t, "on after ms"))*time.Millisecond)
		for _, n := range w.live() {
			n.switchGroup(g, true)
		}
		return
	}
	w.background.Go(s.make)
}

func (w *world) drawSeek(t *rapid.T, n *node, group string) *wish {
	ms := func(name string, choices ...int) time.Duration {
		return time.Duration(rapid.SampledFrom(choices).Draw(t, name)) * time.Millisecond
	}
	s := &wish{n: n, group: group, offset: -1, delay: ms("after ms", 0, 0, 0, 10, 300, 1_000), limit: ms("limit ms", 0, 0, 0, 0, 1, 10, 300, 2_000)}
	s.ps = w.drawSought(t, n, group)
	kinds := []string{"offset", "offset", "offset", "time", "beginning", "end"}
	if len(s.ps) != 1 {
		kinds = kinds[3:]
	}
	switch rapid.SampledFrom(kinds).Draw(t, "position") {
	case "offset":
		start, end, err := w.broker.Offsets(s.ps[0].Topic, s.ps[0].Partition)
		if err != nil {
			start, end = 0, 3 // the topic does not exist
		}
		s.offset = rapid.Int64Range(start, end).Draw(t, "offset")
		if rapid.IntRange(0, 7).Draw(t, "out of the log") == 0 {
			s.offset = end + 1
		}
		s.to = kafka.AtOffset(s.offset)
	case "time":
		if s.at = time.Now().Add(-seconds(t, "s ago", 0, 1, 10, 100, 1_000)); rarely(t, "before all") {
			s.at = time.Time{}
		}
		s.to = kafka.AtTime(s.at)
	case "beginning":
		s.to = kafka.AtBeginning()
	case "end":
		s.to = kafka.AtEnd()
	}
	if rapid.IntRange(0, 2).Draw(t, "faulty") == 0 {
		s.rule = drawSeekFault(t)
		w.trouble()
		w.faults.add(s.rule)
	}
	return s
}

// drawSought draws the partitions that are named: those that a consumer owns, or some that
// it reads, or none.
func (w *world) drawSought(t *rapid.T, n *node, group string) (ps []kafka.TopicPartition) {
	which := rapid.IntRange(0, 5).Draw(t, "which")
	if which == 0 {
		return nil
	}
	if s, err := n.manager.Consumer(group); err == nil && which > 1 {
		for _, p := range s.Partitions {
			ps = append(ps, kafka.TopicPartition{Topic: p.Topic, Partition: p.Partition})
		}
	}
	if len(ps) == 0 {
		return w.somePartitions(t, group)
	}
	first := rapid.IntRange(0, len(ps)-1).Draw(t, "first")
	return ps[first:min(len(ps), first+rapid.SampledFrom([]int{1, 1, 1, 2, 8}).Draw(t, "partitions to name"))]
}

// drawSeekFault draws what befalls one of the calls of a seek. The contract of a group of
// which no call is a member has no answer that is lost before the context ends.
func drawSeekFault(t *rapid.T) *rule {
	r := drawFault(t)
	r.left = 1
	r.op = rapid.SampledFrom([]fault.Op{
		fault.Seek, fault.Seek, fault.Seek, fault.Seek, fault.OpenGroup, fault.FindOffsets, fault.ReadGroup, fault.CommitGroup, fault.CommitGroup,
	}).Draw(t, "of a seek")
	switch lost := rapid.Bool().Draw(t, "answer is lost"); {
	case r.op == fault.CommitGroup && (lost || r.fault.When == fault.AfterCall):
		r.fault.When = fault.InsteadOfIt
	case lost:
		r.fault.When = fault.AfterCall
	}
	return r
}

// make makes the call, and records with the judge what comes of it.
func (s *wish) make() {
	time.Sleep(s.delay)
	w := s.n.w
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.limit > 0 {
		defer time.AfterFunc(s.limit, cancel).Stop()
	}
	w.seeks.mu.Lock()
	w.seeks.calls++
	id := w.seeks.calls
	w.seeks.mu.Unlock()
	w.judge.Tell(judge.Seeking{ID: id, Member: s.n.member(s.group), Partitions: judged(s.ps), Offset: s.offset})
	lows := w.bounds(s)
	err := s.n.manager.Seek(ctx, s.group, s.to, s.ps...)
	e := judge.SeekReturned{ID: id}
	var failed *kafka.SeekError
	partly := errors.As(err, &failed)
	if err == nil || partly {
		e.Done = w.claimMoved(s, failed)
		s.checkNamed(e.Done, failed)
	}
	if partly {
		for _, f := range failed.Failed {
			if errors.Is(f.Err, kafka.ErrUnknownOutcome) {
				e.Unknown = append(e.Unknown, judge.Target{Partition: judgedOne(f.Partition), Offset: f.To})
			}
		}
	}
	s.checkBounds(lows, slices.Concat(e.Done, e.Unknown))
	w.judge.Tell(e)
	if s.rule != nil {
		w.faults.end(s.rule)
	}
	s.count(err, ctx)
}

// count counts what a call has come to.
func (s *wish) count(err error, ctx context.Context) {
	strike := s.n.w.stats.strike
	var code *driver.Error
	switch {
	case err == nil:
		strike("seek: done")
	case errors.Is(err, kafka.ErrUnknownOutcome):
		strike("seek: unknown outcome")
	case errors.Is(err, kafka.ErrGroupHasMembers):
		strike("seek: refused, the group has members")
	case errors.Is(err, kafka.ErrNotOwned):
		strike("seek: refused, not owned")
	case errors.Is(err, kafka.ErrNotRunning):
		strike("seek: refused, not running")
	case errors.As(err, &code) && code.Code == "OFFSET_OUT_OF_RANGE":
		strike("seek: refused, out of the log")
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		strike("seek: ended by its context")
	case errors.Is(err, kafka.ErrClaimEnded):
		strike("seek: the claim had ended")
	case errors.Is(err, kafka.ErrClosed):
		s.n.w.stats.count("seek: ended by a shutdown")
	default:
		s.n.w.stats.count("seek: failed")
	}
}

// claimMoved takes what the consumer has reported of a call that has returned.
func (w *world) claimMoved(s *wish, failed *kafka.SeekError) (done []judge.Target) {
	w.seeks.mu.Lock()
	defer w.seeks.mu.Unlock()
	i := slices.IndexFunc(w.seeks.moved, func(m moved) bool {
		return m.n == s.n && m.by.JobName == s.group && m.by.To == s.to && !slices.ContainsFunc(m.by.Partitions, func(p kafka.MovedPartition) bool {
			return len(s.ps) > 0 && !slices.Contains(s.ps, p.TopicPartition) || hasFailed(failed, p.TopicPartition)
		})
	})
	if i < 0 {
		return nil
	}
	for _, p := range w.seeks.moved[i].by.Partitions {
		done = append(done, judge.Target{Partition: judgedOne(p.TopicPartition), Offset: p.Offset})
	}
	w.seeks.moved = slices.Delete(w.seeks.moved, i, i+1)
	return done
}

func hasFailed(e *kafka.SeekError, p kafka.TopicPartition) bool {
	return e != nil && slices.ContainsFunc(e.Failed, func(f kafka.SeekFailure) bool { return f.Partition == p })
}

// checkNamed holds that a call answers for each partition that it names, once.
func (s *wish) checkNamed(done []judge.Target, failed *kafka.SeekError) {
	var answered []kafka.TopicPartition
	for _, t := range done {
		answered = append(answered, kafka.TopicPartition{Topic: t.Partition.Topic, Partition: t.Partition.Number})
	}
	if failed != nil {
		for _, f := range failed.Failed {
			answered = append(answered, f.Partition)
		}
	}
	order := func(a, b kafka.TopicPartition) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	}
	slices.SortFunc(answered, order)
	asked := slices.Clone(s.ps)
	slices.SortFunc(asked, order)
	if len(asked) > 0 && !slices.Equal(slices.Compact(asked), answered) || failed != nil && len(failed.Failed) == 0 || failed == nil && len(answered) == 0 {
		s.n.w.breaks("seek-answers-for-others")
	}
}

// bounds returns where a position may lie: at each named or covered partition, the lowest
// offset for it as of now, and the highest. It returns nil while something is out of order.
func (w *world) bounds(s *wish) (lows map[judge.Partition][2]int64) {
	if !w.calmly.Load() || s.offset >= 0 {
		return nil
	}
	lows = make(map[judge.Partition][2]int64)
	for _, p := range w.partitions() {
		start, end, err := w.broker.Offsets(p.Topic, p.Number)
		if err != nil || !slices.Contains(w.readBy(s.group), p.Topic) {
			continue
		}
		switch s.to.String() {
		case "beginning":
			end = start
		case "end":
			start = end
		default:
			records, err := w.broker.Records(p.Topic, p.Number, driver.ReadUncommitted)
			if err != nil {
				continue
			}
			for _, r := range records {
				if !r.Timestamp.Truncate(time.Millisecond).Before(s.at) {
					end = r.Offset
					break
				}
				start = r.Offset + 1
			}
		}
		lows[p] = [2]int64{start, end}
	}
	return lows
}

// checkBounds holds that positions were moved to where the logs have what was asked for, at
// some time of the call.
func (s *wish) checkBounds(lows map[judge.Partition][2]int64, to []judge.Target) {
	highs := s.n.w.bounds(s)
	for _, t := range to {
		low, before := lows[t.Partition]
		high, after := highs[t.Partition]
		if before && after && (t.Offset < low[0] || t.Offset > high[1]) {
			s.n.w.stats.failed(fmt.Sprintf("seek to %v: %v, from %v to %v", s.to, t, low, high))
			s.n.w.breaks("sought-elsewhere")
		}
		if before && after {
			s.n.w.stats.count("seek: position compared with the log")
		}
	}
}

// sought records with the judge that the broker has moved a position.
func (w *world) sought(c memory.Commit, p judge.Partition) {
	by := judge.Member{Group: c.Group}
	if c.Member != "" {
		by = memberOf(memory.Member{ClientID: c.Member[:strings.LastIndexByte(c.Member, '-')]})
	}
	w.mu.Lock()
	w.pinned[judge.Subscription{Group: c.Group, Topic: fmt.Sprint(p)}] = true
	w.mu.Unlock()
	if c.Metadata != "" {
		w.breaks("seek-keeps-metadata")
	}
	w.recordDead()
	w.judge.Tell(judge.Sought{By: by, Partition: p, Offset: c.Offset})
	how := "nothing"
	switch before := w.committed(c, p); {
	case c.Member == "":
		how = "off"
	case c.Offset < before:
		how = "moved back"
	case c.Offset > before:
		how = "moved forward"
	}
	w.stats.strike("seek: " + how)
}

// committed notes a commit, and returns what was committed before.
func (w *world) committed(c memory.Commit, p judge.Partition) int64 {
	w.seeks.mu.Lock()
	defer w.seeks.mu.Unlock()
	if w.seeks.committed == nil {
		w.seeks.committed = make(map[committedAt]int64)
	}
	at := committedAt{c.Group, p}
	before := w.seeks.committed[at]
	w.seeks.committed[at] = c.Offset
	return before
}

// positionsMoved reports what a consumer says of a seek.
func (h hook) positionsMoved(e kafka.Event) {
	m, ok := e.(kafka.PositionsMoved)
	if !ok {
		return
	}
	w := h.n.w
	w.seeks.mu.Lock()
	defer w.seeks.mu.Unlock()
	w.seeks.moved = append(w.seeks.moved, moved{h.n, m})
}

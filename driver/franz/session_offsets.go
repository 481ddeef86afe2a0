package franz

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func (s *session) takeBeside() map[partition]place {
	s.mu.Lock()
	defer s.mu.Unlock()
	beside := s.beside
	s.beside = nil
	return beside
}

// A beginning is what is known of the partitions of an assignment when their claims are made.
type beginning struct {
	by      member
	fetched map[partition]place
	starts  map[partition]startAt
	failed  map[partition]error // why others have no start yet
}

// onOffsets makes the claims, with the positions that kgo has fetched. Kgo begins to fetch
// records when it returns.
func (s *session) onOffsets(ctx context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	by, ok := s.member()
	if s.isOver() || !ok {
		return nil, s.refuse(ctx)
	}
	b := beginning{by: by, fetched: placesOf(offsets, s.takeBeside())}
	s.compareTopics(ctx)
	if s.isOver() {
		return nil, s.refuse(ctx)
	}
	err := s.findStarts(ctx, &b)
	if ctx.Err() != nil || s.isOver() {
		return nil, s.refuse(ctx)
	}
	if err != nil {
		if errors.Is(err, context.Canceled) { // kgo would take it for its own end, and never join again
			err = errors.New(err.Error())
		}
		return nil, wrap(fmt.Errorf("start of claims: %w", err))
	}
	made, later := s.makeClaims(b, offsets)
	if !s.beginClaims(ctx, b, made, later) {
		return nil, s.refuse(ctx)
	}
	return offsets, nil
}

// placesOf returns the positions that kgo has fetched, with the metadata of those that the
// driver has seen beside.
func placesOf(offsets map[string]map[int32]kgo.Offset, beside map[partition]place) map[partition]place {
	fetched := map[partition]place{}
	for topic, at := range offsets {
		for id, o := range at {
			p, found := partition{Topic: topic, ID: id}, place{EpochOffset: o.EpochOffset()}
			if known := beside[p]; known.Offset == found.Offset {
				found.metadata = known.metadata
			}
			fetched[p] = found
		}
	}
	return fetched
}

// findStarts decides where the claims begin. It decides again while the epoch of the member
// changes.
func (s *session) findStarts(ctx context.Context, b *beginning) (err error) {
	b.starts, b.failed, err = s.c.positions.starts(ctx, s.c.leaders.within(surveyTimeout), s, b.by, b.fetched)
	for retry := firstRetry; s.c.membership.byEpochs && errors.Is(err, errSuperseded) && ctx.Err() == nil && !s.isOver(); retry = min(2*retry, lastRetry) {
		select { // the epoch changes also while the partitions stay
		case <-time.After(retry):
		case <-ctx.Done():
		}
		var ok bool
		if b.by, ok = s.member(); ok {
			b.starts, b.failed, err = s.c.positions.starts(ctx, s.c.leaders.within(surveyTimeout), s, b.by, b.fetched)
		}
	}
	return err
}

// makeClaims makes the claims whose start is known, and sets in offsets where kgo begins each.
// The start of the later ones is not known yet.
func (s *session) makeClaims(b beginning, offsets map[string]map[int32]kgo.Offset) (made []*claim, later []partition) {
	for p := range b.fetched {
		at, known := b.starts[p]
		switch {
		case !known:
			later = append(later, p)
			offsets[p.Topic][p.ID] = kgo.NewOffset().At(0) // paused until the start is known
			continue
		case at.at == startUnknown:
			offsets[p.Topic][p.ID] = kgo.NewOffset().AtStart()
		default:
			offsets[p.Topic][p.ID] = kgo.NewOffset().At(at.at) // without an epoch: kgo moves nothing
		}
		made = append(made, s.newClaim(p, at, b.by))
	}
	return made, later
}

// beginClaims assigns the claims that were made, and lets the later ones begin when they can. It
// reports false, and does nothing, if the assignment is over.
func (s *session) beginClaims(ctx context.Context, b beginning, made []*claim, later []partition) (begun bool) {
	s.turn.quiet(func() {
		if now, ok := s.member(); s.isOver() || ctx.Err() != nil || !ok || !s.goesOn(b.by, now) {
			return
		}
		begun = true
		s.client.ResumeFetchPartitions(byTopic(places(made)...)) // kgo keeps a pause over a rebalance
		if len(later) > 0 {
			s.client.PauseFetchPartitions(byTopic(later...))
		}
		for p := range b.fetched {
			s.newHolding(p)
		}
		s.assign(made)
		for _, p := range later {
			s.startLater(p, b.failed[p])
		}
		for _, cl := range made {
			if parted := b.starts[cl.where].parted; parted >= 0 {
				s.astray(cl, &stray{err: cutBackAt(cl.where, parted), parted: parted})
			}
		}
	})
	return begun
}

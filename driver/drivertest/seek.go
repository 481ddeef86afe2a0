package drivertest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func seekChecks() []check {
	return []check{
		{"SeekMovesPositions", "Seek ends the claims of the marks by Handler.Revoke; it makes the marks durable; claims that start there are assigned. It returns nil only if every mark is durable.", seekMovesPositions},
		{"SeekDrainsFirst", "Seek ends the claims first and makes the marks durable after that. A claim that starts there comes last.", seekDrainsFirst},
		{"SeekTakesMetadata", "What Commit does about Metadata, and about Metadata that is too large, Seek must do as well.", seekTakesMetadata},
		{"SeekRefusesEndedClaims", "A mark whose claim has ended must be refused with ErrClaimEnded, without asking the broker. The position is untouched.", seekRefusesEndedClaims},
		{"SeekOfAClaimThatEndsFirst", "A claim may end for another reason before its mark was sent. Its mark must then be refused with ErrClaimEnded. The position is untouched.", seekOfAClaimThatEndsFirst},
		{"SeekOfALostMember", "The error of a mark that the broker refuses because the group no longer counts on this member must wrap ErrClaimEnded. The position is untouched.", seekOfALostMember},
		{"SeekAfterTheEndOfItsContext", "If ctx has ended before the call, Seek must end no claim. The errors of the marks wrap ctx's error.", seekAfterTheEndOfItsContext},
		{"SeekInTime", "Seek returns by the end of ctx. When it has returned, no mark may be sent for it any longer. A claim of a partition whose claim Seek has ended must be assigned again, whatever became of the mark, and must start at the position that is durable.", seekInTime},
		{"SeekWithoutBrokers", "Seek returns by the end of ctx. The error of a mark that was sent and not answered must wrap ErrUnknownOutcome.", seekWithoutBrokers},
		{"SeekWaitsForNoStuckRevoke", "The end of the context of Revoke ends the claims, also those that Seek ends: a stuck handler holds up no Seek.", seekWaitsForNoStuckRevoke},
		{"CloseEndsSeek", "A mark whose claim ends by Close must be refused with ErrClaimEnded. Seek returns when the outcome of each mark is known.", closeEndsSeek},
	}
}

// seeks skips the case if the consumer cannot move positions.
func (m *member) seeks() {
	m.e.t.Helper()
	if _, ok := m.consumer.(driver.Seeker); !ok {
		m.e.t.Skipf("the consumer does not implement driver.Seeker")
	}
}

// joinSeeker is joinTen for a member that can move positions.
func joinSeeker(e *env, partitions int32) (driver.ConsumerConfig, *member, []*driver.Claim) {
	e.t.Helper()
	cfg := tenRecords(e, partitions)
	m := e.open(cfg)
	m.seeks()
	m.start()
	claims := m.waitClaims(int(partitions))
	for _, c := range claims {
		m.waitRecords(c, 10)
	}
	return cfg, m, claims
}

// callSeek is one of the calls of the core.
func (m *member) callSeek(ctx context.Context, to ...driver.Mark) error {
	err := m.consumer.(driver.Seeker).Seek(ctx, to)
	m.judgeCommit(err)
	return err
}

// trySeek calls Seek, which must return by the end of ctx, and returns its result.
func (m *member) trySeek(ctx context.Context, to ...driver.Mark) error {
	m.e.t.Helper()
	deadline, _ := ctx.Deadline()
	err, returned := answerBy(m.e, "SeekInTime", time.Until(deadline), "Seek of "+m.name, func() error { return m.callSeek(ctx, to...) })
	if !returned {
		return errNoAnswer
	}
	return err
}

// seek moves one position, which must succeed. It returns the claim that starts there.
func (m *member) seek(c *driver.Claim, offset int64) *driver.Claim {
	m.e.t.Helper()
	if err := m.trySeek(m.e.context(), driver.Mark{Claim: c, Offset: offset}); err != nil {
		m.e.fatalf("Seek of partition %d to %d: %v", c.Partition, offset, err)
	}
	return m.next(c)
}

// next waits for a claim of c's partition that is not c.
func (m *member) next(c *driver.Claim) (now *driver.Claim) {
	m.e.t.Helper()
	m.await("a claim after the one that Seek has ended", func() bool {
		for _, l := range m.live() {
			if samePartition(l, c) && l != c {
				now = l
			}
		}
		return now != nil
	})
	return now
}

// lostClaim reports whether a claim has ended by Lost.
func (m *member) lostClaim(c *driver.Claim) bool {
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	return m.ownership(c).lost
}

// errorOf returns the error of the mark of one claim.
func errorOf(err error, c *driver.Claim) error {
	var ce *driver.CommitError
	if !errors.As(err, &ce) {
		return err
	}
	for _, f := range ce.Failed {
		if f.Mark.Claim == c {
			return f.Err
		}
	}
	return nil
}

func seekMovesPositions(e *env) {
	cfg, m, claims := joinSeeker(e, 2)
	topic := cfg.Topics[0]
	m.commit(claims[0], 6)
	m.commit(claims[1], 6)
	back := m.seek(claims[0], 2)
	if m.lostClaim(claims[0]) {
		e.errorf("Seek has ended the claim by Lost, want Revoke")
	}
	e.wantCommitted(cfg.Group, topic, 0, 2)
	e.wantClaim(back, 2, "")
	m.waitRecords(back, 8)
	m.wantValues(e.name, back, numbered("v", 10)[2:])
	m.commit(back, 4)
	e.wantCommitted(cfg.Group, topic, 0, 4)

	ahead := m.seek(m.waitClaims(2)[1], 9)
	e.wantCommitted(cfg.Group, topic, 1, 9)
	e.wantClaim(ahead, 9, "")
	m.waitRecords(ahead, 1)
	m.wantValues(e.name, ahead, numbered("v", 10)[9:])
	e.wantCommitted(cfg.Group, topic, 0, 4)

	both := m.waitClaims(2)
	if err := m.trySeek(e.context(), driver.Mark{Claim: both[0], Offset: 1}, driver.Mark{Claim: both[1], Offset: 3}); err != nil {
		e.errorf("Seek of two claims: %v", err)
	}
	e.wantCommitted(cfg.Group, topic, 0, 1)
	e.wantCommitted(cfg.Group, topic, 1, 3)
	e.wantClaim(m.next(both[0]), 1, "")
	e.wantClaim(m.next(both[1]), 3, "")
}

func seekDrainsFirst(e *env) {
	cfg, m, claims := joinSeeker(e, 1)
	topic, old := cfg.Topics[0], claims[0]
	e.change(func() {
		m.onRevoke = func(ctx context.Context, _ []*driver.Claim) {
			if err := m.tryCommit(ctx, driver.Mark{Claim: old, Offset: 7}); err != nil {
				e.errorf("Commit inside the Revoke of Seek: %v", err)
			}
			if got, err := e.h.Committed(ctx, cfg.Group, topic, 0); err != nil || got != 7 {
				e.errorf("the position is %d, %v while Revoke runs, want the 7 that Revoke has committed", got, err)
			}
		}
		m.onAssign = func([]*driver.Claim) {
			ctx, cancel := context.WithTimeout(context.Background(), e.Patience)
			defer cancel()
			if got, err := e.h.Committed(ctx, cfg.Group, topic, 0); err != nil || got != 2 {
				e.errorf("the position is %d, %v when the next claim is assigned, want 2", got, err)
			}
		}
	})
	now := m.seek(old, 2)
	wantRefused(e, m, driver.Mark{Claim: old, Offset: 9})
	e.wantCommitted(cfg.Group, topic, 0, 2)
	e.wantClaim(now, 2, "")
	e.change(func() { m.onRevoke, m.onAssign = nil, nil })
}

func seekTakesMetadata(e *env) {
	ability[MetadataReader](e)
	cfg, m, claims := joinSeeker(e, 1)
	topic := cfg.Topics[0]
	m.mark(claims[0], 6, "done above 6")
	const text = "mark \"é\" 世界"
	for _, to := range []driver.Mark{{Offset: 4, Metadata: text}, {Offset: 4}, {Offset: 5, Metadata: text}} {
		to.Claim = m.waitClaims(1)[0]
		if err := m.trySeek(e.context(), to); err != nil {
			e.errorf("Seek to %d with the metadata %q: %v", to.Offset, to.Metadata, err)
		}
		e.wantPlace(cfg.Group, topic, 0, to.Offset, to.Metadata)
		e.wantClaim(m.next(to.Claim), to.Offset, to.Metadata)
	}
	c := m.waitClaims(1)[0]
	if err := m.trySeek(e.context(), driver.Mark{Claim: c, Offset: 3, Metadata: strings.Repeat("m", largeMetadata)}); err != nil {
		e.errorf("Seek with too much metadata: %v", err)
	}
	e.wantPlace(cfg.Group, topic, 0, 3, "")
	e.wantClaim(m.next(c), 3, "")
}

func seekRefusesEndedClaims(e *env) {
	topic, group := e.topic(2), e.unique("group")
	m, ended, live := endedAndLive(e, group, topic)
	m.seeks()
	err := m.trySeek(e.context(), driver.Mark{Claim: ended, Offset: 4}, driver.Mark{Claim: live, Offset: 7})
	if !errors.Is(errorOf(err, ended), driver.ErrClaimEnded) || errorOf(err, live) != nil {
		e.errorf("Seek of an ended and a live claim returned %v, want ErrClaimEnded for the first alone", err)
	}
	e.wantCommitted(group, topic, ended.Partition, -1)
	e.wantCommitted(group, topic, live.Partition, 7)
	e.wantClaim(m.next(live), 7, "")

	heal := e.silence()
	err, returned := answerBy(e, e.name, 0, "Seek of an ended claim without brokers", func() error {
		return m.callSeek(e.context(), driver.Mark{Claim: ended, Offset: 4})
	})
	if returned && !errors.Is(err, driver.ErrClaimEnded) {
		e.errorf("Seek of an ended claim returned %v, want ErrClaimEnded", err)
	}
	heal()
}

// seekOfAClaimThatEndsFirst asks for positions of claims that a rebalance drains.
func seekOfAClaimThatEndsFirst(e *env) {
	cfg, a, _ := joinSeeker(e, 2)
	draining, release := e.holdRevokes(a)
	b := e.join(cfg)
	receive(e, "a member in Revoke", draining)
	var marks []driver.Mark
	e.mu.Lock()
	for _, o := range a.owned {
		if o.revoking != nil {
			marks = append(marks, driver.Mark{Claim: o.claim, Offset: 2})
		}
	}
	e.mu.Unlock()
	answer := make(chan error, 1)
	go func() { answer <- a.callSeek(e.context(), marks...) }()
	time.Sleep(e.DrainTimeout / 4)
	e.change(func() { a.onRevoke = nil })
	release()
	err := receive(e, "the answer of Seek", answer)
	for _, m := range marks {
		if !errors.Is(errorOf(err, m.Claim), driver.ErrClaimEnded) {
			e.errorf("Seek of partition %d, which a rebalance took, returned %v, want ErrClaimEnded", m.Claim.Partition, errorOf(err, m.Claim))
		}
	}
	b.waitClaims(1)
	for _, m := range marks {
		e.wantCommitted(cfg.Group, cfg.Topics[0], m.Claim.Partition, -1)
	}
}

func seekOfALostMember(e *env) {
	ender := ability[SessionEnder](e)
	cfg, m, claims := joinSeeker(e, 1)
	m.commit(claims[0], 6)
	draining, release := e.holdRevokes(m)
	answer := make(chan error, 1)
	go func() { answer <- m.callSeek(e.context(), driver.Mark{Claim: claims[0], Offset: 2}) }()
	receive(e, "a member in Revoke", draining)
	e.change(func() { e.zombies = true; m.onRevoke = nil })
	e.must(ender.EndSessions(e.context(), cfg.Group))
	release()
	if err := receive(e, "the answer of Seek", answer); !errors.Is(errorOf(err, claims[0]), driver.ErrClaimEnded) {
		e.errorf("Seek of a member that the group has removed returned %v, want ErrClaimEnded", err)
	}
	now := m.next(claims[0])
	e.wantCommitted(cfg.Group, cfg.Topics[0], 0, 6)
	e.wantClaim(now, 6, "")
}

func seekAfterTheEndOfItsContext(e *env) {
	cfg, m, claims := joinSeeker(e, 1)
	m.commit(claims[0], 6)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	err, returned := answerBy(e, e.name, 0, "Seek with a context that has ended", func() error {
		return m.callSeek(ended, driver.Mark{Claim: claims[0], Offset: 2})
	})
	if returned && !errors.Is(errorOf(err, claims[0]), context.Canceled) {
		e.errorf("Seek with a context that has ended returned %v, want context.Canceled", err)
	}
	e.quiet()
	if now := m.waitClaims(1)[0]; now != claims[0] {
		e.errorf("Seek with a context that has ended has ended the claim")
	}
	e.wantCommitted(cfg.Group, cfg.Topics[0], 0, 6)
}

// seekInTime lets the context of Seek end while its Revoke runs.
func seekInTime(e *env) {
	cfg, m, claims := joinSeeker(e, 1)
	m.commit(claims[0], 6)
	draining, release := e.holdRevokes(m)
	ctx, cancel := context.WithCancel(e.context())
	answer := make(chan error, 1)
	go func() { answer <- m.callSeek(ctx, driver.Mark{Claim: claims[0], Offset: 2}) }()
	receive(e, "a member in Revoke", draining)
	cancel()
	err, returned := answerBy(e, e.name, 0, "Seek whose context has ended", func() error { return <-answer })
	if returned && !errors.Is(errorOf(err, claims[0]), context.Canceled) {
		e.errorf("Seek whose context ended while Revoke ran returned %v, want context.Canceled", err)
	}
	e.change(func() { m.onRevoke = nil })
	release()
	now := m.next(claims[0])
	e.wantClaim(now, 6, "")
	e.quiet()
	e.wantCommitted(cfg.Group, cfg.Topics[0], 0, 6)
}

// seekWithoutBrokers judges what Seek says of an outcome by the position when the brokers
// answer again.
func seekWithoutBrokers(e *env) {
	cfg, m, claims := joinSeeker(e, 1)
	m.commit(claims[0], 6)
	heal := e.silence()
	err, returned := answerBy(e, e.name, e.Quiet, "Seek while no broker answers", func() error {
		return m.callSeek(e.within(e.Quiet), driver.Mark{Claim: claims[0], Offset: 2})
	})
	why := errorOf(err, claims[0])
	if returned && (why == nil || !errors.Is(why, context.DeadlineExceeded)) {
		e.errorf("Seek while no broker answers returned %v, want context.DeadlineExceeded", err)
	}
	heal()
	var now *driver.Claim
	m.await("a claim that fetches", func() bool {
		live := slices.Clone(m.live())
		if len(live) == 1 {
			now = live[0]
		}
		return len(live) == 1
	})
	e.quiet()
	committed := e.committed(cfg.Group, cfg.Topics[0], 0)
	if committed != 6 && (committed != 2 || !errors.Is(why, driver.ErrUnknownOutcome)) {
		e.errorf("the position is %d after Seek returned %v", committed, err)
	}
	now = m.waitClaims(1)[0]
	if now != claims[0] && now.Start != committed {
		e.errorf("the claim starts at %d, want what is durable, %d", now.Start, committed)
	}
}

func seekWaitsForNoStuckRevoke(e *env) {
	cfg, m, claims := joinSeeker(e, 1)
	m.commit(claims[0], 6)
	e.change(func() { e.zombies = true })
	_, release := e.holdRevokes(m)
	err, returned := answerBy(e, e.name, e.DrainTimeout, "Seek beside a stuck Revoke", func() error {
		return m.callSeek(e.context(), driver.Mark{Claim: claims[0], Offset: 2})
	})
	if returned && err != nil {
		e.errorf("Seek beside a stuck Revoke: %v", err)
	}
	e.change(func() { m.onRevoke = nil })
	if returned {
		e.wantClaim(m.next(claims[0]), 2, "")
		e.wantCommitted(cfg.Group, cfg.Topics[0], 0, 2)
	}
	release()
}

func closeEndsSeek(e *env) {
	cfg, m, claims := joinSeeker(e, 1)
	m.commit(claims[0], 6)
	draining, release := e.holdRevokes(m)
	answer := make(chan error, 1)
	go func() { answer <- m.callSeek(e.context(), driver.Mark{Claim: claims[0], Offset: 2}) }()
	receive(e, "a member in Revoke", draining)
	_, _ = m.closeWithin(e.name, e.Quiet)
	err, returned := answerBy(e, e.name, 0, "Seek of a consumer that is closed", func() error { return <-answer })
	e.change(func() { m.onRevoke = nil })
	release()
	e.ends(e.name, e.Grace, "Run after the stuck Revoke", m.ran)
	why, committed := errorOf(err, claims[0]), e.committed(cfg.Group, cfg.Topics[0], 0)
	switch {
	case !returned:
	case err == nil && committed != 2, errors.Is(why, driver.ErrClaimEnded) && committed != 6:
		e.errorf("the position is %d after Seek returned %v", committed, err)
	case err != nil && !errors.Is(why, driver.ErrClaimEnded) && !errors.Is(why, driver.ErrUnknownOutcome):
		e.errorf("Seek of a consumer that was closed returned %v, want ErrClaimEnded", err)
	}
}

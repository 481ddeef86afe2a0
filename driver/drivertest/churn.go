package drivertest

import (
	"context"
	"fmt"
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// commitOnRevoke commits every delivered record of the claims.
func (m *member) commitOnRevoke(ctx context.Context, claims []*driver.Claim) {
	for _, c := range claims {
		m.e.mu.Lock()
		next := m.ownership(c).next
		m.e.mu.Unlock()
		if next < 0 {
			continue
		}
		if err := m.tryCommit(ctx, driver.Mark{Claim: c, Offset: next}); err != nil {
			m.e.errorf("%s: Commit inside Revoke: %v", m.name, err)
		}
	}
}

// membersComeAndGo sends records while the members of a group change. Every member
// commits in Revoke everything it got, so every record is delivered once.
func membersComeAndGo(e *env, strategy driver.BalanceStrategy) {
	const partitions = 4
	topic := e.topic(partitions)
	cfg := e.consumerConfig(e.unique("group"), topic)
	e.strategy(&cfg, strategy)
	var sent []string
	round := func() {
		for p := range int32(partitions) {
			values := numbered(fmt.Sprintf("%d-%d", len(sent), p), 20)
			e.send(topic, p, values...)
			sent = append(sent, values...)
		}
	}
	join := func() *member {
		m := e.open(cfg)
		m.onRevoke = m.commitOnRevoke
		m.start()
		return m
	}

	a := join()
	a.waitClaims(partitions)
	round()
	b := join()
	round()
	e.await("a share of 2 and 2", func() bool { return len(a.live()) == 2 && len(b.live()) == 2 })
	c := join()
	round()
	e.await("a share of three", func() bool { return len(c.live()) > 0 && len(a.live())+len(b.live())+len(c.live()) == partitions })
	round()
	a.stop()
	round()
	e.await("a share of 2 and 2", func() bool { return len(b.live()) == 2 && len(c.live()) == 2 })
	b.stop()
	c.waitClaims(partitions)
	round()
	wantEachOnce(e, sent, a, b, c)
}

// wantEachOnce waits for all values and reports those that the members did not get
// exactly once.
func wantEachOnce(e *env, sent []string, members ...*member) {
	e.t.Helper()
	delivered := func() (all []string) {
		for _, m := range members {
			for _, o := range m.owned {
				all = append(all, o.values()...)
			}
		}
		return all
	}
	e.await(fmt.Sprintf("%d records", len(sent)), func() bool { return len(delivered()) >= len(sent) })
	e.mu.Lock()
	got := delivered()
	e.mu.Unlock()
	slices.Sort(got)
	want := slices.Sorted(slices.Values(sent))
	if !slices.Equal(got, want) {
		e.errorf("%d records were sent and %d delivered, want each delivered once", len(want), len(got))
	}
}

// nothingOfAnEarlierClaim moves partitions back and forth while their records are being
// fetched. Each claim is committed a little of what it was given, so the next one starts
// below what is still on its way.
func nothingOfAnEarlierClaim(e *env) {
	backAndForth(e, driver.RoundRobin)
	if e.classic() {
		backAndForth(e, driver.CooperativeSticky)
	}
}

func backAndForth(e *env, strategy driver.BalanceStrategy) {
	const partitions, records, rounds = 4, 4000, 3
	topic := e.topic(partitions)
	for p := range int32(partitions) {
		e.send(topic, p, numbered(fmt.Sprint(p), records)...)
	}
	cfg := e.consumerConfig(e.unique("group"), topic)
	e.strategy(&cfg, strategy)
	cfg.MaxMessageBytes = smallFetch
	join := func() *member {
		m := e.open(cfg)
		m.onRevoke = m.commitLittle
		m.start()
		return m
	}
	a := join()
	members := []*member{a}
	for range rounds {
		a.await("records of each partition", func() bool { return len(a.live()) == partitions && a.hasSome() })
		b := join()
		members = append(members, b)
		e.await("a share of 2 and 2", func() bool { return len(a.live()) == 2 && len(b.live()) == 2 })
		e.await("records of each partition", func() bool { return a.hasSome() && b.hasSome() })
		b.stop()
	}
	for _, c := range a.waitClaims(partitions) {
		a.waitRecords(c, records-int(max(c.Start, 0)))
	}
	for _, m := range members {
		m.wantFromStart()
	}
}

// smallFetch is a number of bytes of which a partition takes many fetches.
const smallFetch = 4 << 10

// hasSome reports whether some records of each live claim have been delivered.
func (m *member) hasSome() bool {
	return !slices.ContainsFunc(m.live(), func(c *driver.Claim) bool { return m.count(c) < 5 })
}

// commitLittle commits the first few of the records that each claim was given.
func (m *member) commitLittle(ctx context.Context, claims []*driver.Claim) {
	for _, c := range claims {
		if n := min(int64(len(m.records(c))), 3); n > 0 {
			_ = m.tryCommit(ctx, driver.Mark{Claim: c, Offset: max(c.Start, 0) + n})
		}
	}
}

// wantFromStart reports a claim whose records are not those of its log from Start on,
// which begins at offset 0 and has no holes.
func (m *member) wantFromStart() {
	m.e.t.Helper()
	m.e.mu.Lock()
	defer m.e.mu.Unlock()
	for _, o := range m.owned {
		for i, r := range o.delivered {
			if want := max(o.claim.Start, 0) + int64(i); r.Offset != want {
				m.e.errorf("%s: a claim of partition %d that starts at %d got offset %d as record %d, want %d",
					m.name, o.claim.Partition, o.claim.Start, r.Offset, i, want)
				break
			}
		}
	}
}

package drivertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

func groupChecks() []check {
	return []check{
		{"OpenGroup", "OpenGroup must return by the end of ctx. The group that it returns must not depend on ctx.", openGroup},
		{"GroupRead", "Read returns, for each partition of ConsumerConfig.Topics, what the group has committed and where the log begins and ends. The order is that of Topics, then of partitions. Read must ask the brokers at each call.", groupRead},
		{"GroupReadsTheBeginning", "GroupPartition.Begin is the first offset of the log.", groupReadsTheBeginning},
		{"GroupReadsTheHighWatermark", "GroupPartition.End is the high watermark, whatever ConsumerConfig.IsolationLevel is.", groupReadsTheHighWatermark},
		{"GroupReadsBesideAMissingTopic", "Trouble of one partition must not hold up another one. A topic without partitions that can be read is one GroupPartition with Partition -1. The Err of a topic that does not exist must have the code UNKNOWN_TOPIC_OR_PARTITION and must not wrap ErrPermanent. Read must not create a topic.", groupReadsBesideAMissingTopic},
		{"GroupJoinsNothing", "A Group is not a member: no call may make the group rebalance.", groupJoinsNothing},
		{"GroupCommit", "Group.Commit makes marks durable for a group without members, also behind its position. A driver must pass Metadata as it is.", groupCommit},
		{"GroupCommitIsRefused", "The brokers refuse every mark of Group.Commit while the group has members. The error must then wrap ErrGroupHasMembers and must not wrap ErrPermanent. Its tree has either a PartitionError for each mark, or none.", groupCommitIsRefused},
		{"GroupCommitAnswersPerMark", "Group.Commit must not retry the refusal of one mark. The tree of its error has a PartitionError for each mark that is not known to be durable.", groupCommitAnswersPerMark},
		{"GroupInTime", "Read and Commit of a Group return ctx's error if ctx has ended before the call, and ErrClosed after Close. They must return by the end of ctx. If Read has no answer of the coordinator, it returns an error and no partitions.", groupInTime},
		{"GroupClose", "Close of a Group ends the calls that run, with ErrClosed. A second Close must wait for the first, or for its own ctx, and return the same answer.", groupClose},
		{"GroupCloseLeavesNothingBehind", "When Close of a Group returns nil, no goroutine or connection of the group remains.", groupCloseLeavesNothingBehind},
	}
}

// groupReader returns the driver if it can look at groups, or skips the case.
func (e *env) groupReader() driver.GroupReader {
	e.t.Helper()
	r, ok := e.h.Driver().(driver.GroupReader)
	if !ok {
		e.t.Skipf("the driver does not implement driver.GroupReader")
	}
	return r
}

// group opens a group and closes it at the end of the case.
func (e *env) group(cfg driver.ConsumerConfig) driver.Group {
	e.t.Helper()
	g, err := e.groupReader().OpenGroup(e.context(), cfg)
	if err != nil {
		e.fatalf("OpenGroup: %v", err)
	}
	e.t.Cleanup(func() {
		e.restore()
		e.closeGroup(g)
	})
	return g
}

// closeGroup closes a group, which must succeed.
func (e *env) closeGroup(g driver.Group) {
	e.t.Helper()
	err, returned := answerBy(e, "GroupClose", e.Patience, "Close of a group", func() error { return g.Close(e.context()) })
	if returned && err != nil {
		e.breach("GroupClose", "Close of a group returned %v, want nil", err)
	}
}

// readGroup reads a group, which must succeed.
func (e *env) readGroup(g driver.Group) []driver.GroupPartition {
	e.t.Helper()
	all, err := g.Read(e.context())
	if err != nil {
		e.fatalf("Read: %v", err)
	}
	return all
}

// wantGroup reports a Read of g that differs from want.
func (e *env) wantGroup(g driver.Group, want ...driver.GroupPartition) {
	e.t.Helper()
	got := e.readGroup(g)
	if !slices.Equal(got, want) {
		e.errorf("Read returned\n%s\nwant\n%s", showGroup(got), showGroup(want))
	}
}

func showGroup(all []driver.GroupPartition) string {
	var lines []string
	for _, p := range all {
		lines = append(lines, fmt.Sprintf("%s/%d: committed %d %q, log from %d to %d, error %v", p.Topic, p.Partition, p.Committed, p.Metadata, p.Begin, p.End, p.Err))
	}
	return strings.Join(lines, "\n")
}

func openGroup(e *env) {
	topic := e.topic(1)
	cfg := e.consumerConfig(e.unique("group"), topic)
	r := e.groupReader()
	ended, end := context.WithCancel(context.Background())
	end()
	if g, err := r.OpenGroup(ended, cfg); err == nil {
		e.closeGroup(g)
		e.errorf("OpenGroup with a context that has ended returned no error")
	} else if !errors.Is(err, context.Canceled) {
		e.errorf("OpenGroup with a context that has ended: %v, want context.Canceled", err)
	}
	ctx, cancel := context.WithCancel(e.context())
	g, err := r.OpenGroup(ctx, cfg)
	cancel()
	if err != nil {
		e.fatalf("OpenGroup: %v", err)
	}
	if _, err := g.Read(e.context()); err != nil {
		e.errorf("Read after the end of the context of OpenGroup: %v", err)
	}
	e.closeGroup(g)
	heal := e.silence()
	err, returned := answerBy(e, e.name, e.Quiet, "OpenGroup without brokers", func() error {
		g, err := r.OpenGroup(e.within(e.Quiet), cfg)
		if err == nil {
			defer e.closeGroup(g)
		}
		return err
	})
	if returned && err == nil {
		e.errorf("OpenGroup without brokers returned no error")
	}
	heal()
}

func groupRead(e *env) {
	setter := ability[PositionSetter](e)
	one, two := e.topic(2), e.topic(1)
	cfg := e.consumerConfig(e.unique("group"), two, one)
	e.send(one, 0, numbered("v", 5)...)
	e.send(two, 0, numbered("v", 7)...)
	g := e.group(cfg)
	e.wantGroup(g,
		driver.GroupPartition{Topic: two, Partition: 0, Committed: -1, Begin: 0, End: 7},
		driver.GroupPartition{Topic: one, Partition: 0, Committed: -1, Begin: 0, End: 5},
		driver.GroupPartition{Topic: one, Partition: 1, Committed: -1, Begin: 0, End: 0})
	const text = "mark gk1.AQID-_ \"é\" 世界"
	e.must(setter.SetCommitted(e.context(), cfg.Group, one, 0, 3, text))
	e.must(setter.SetCommitted(e.context(), cfg.Group, one, 1, 0, ""))
	e.send(one, 0, numbered("w", 2)...)
	e.wantGroup(g,
		driver.GroupPartition{Topic: two, Partition: 0, Committed: -1, Begin: 0, End: 7},
		driver.GroupPartition{Topic: one, Partition: 0, Committed: 3, Metadata: text, Begin: 0, End: 7},
		driver.GroupPartition{Topic: one, Partition: 1, Committed: 0, Begin: 0, End: 0})
}

func groupReadsTheBeginning(e *env) {
	truncater := ability[Truncater](e)
	topic := e.topic(1)
	e.send(topic, 0, numbered("v", 5)...)
	e.must(truncater.Truncate(e.context(), topic, 0, 2))
	e.wantGroup(e.group(e.consumerConfig(e.unique("group"), topic)), driver.GroupPartition{Topic: topic, Committed: -1, Begin: 2, End: 5})
}

func groupReadsTheHighWatermark(e *env) {
	transactor := ability[Transactor](e)
	topic := e.topic(1)
	e.send(topic, 0, numbered("v", 3)...)
	end, err := transactor.Begin(e.context(), topic, 0, driver.Record{Value: []byte("open")}, driver.Record{Value: []byte("open")})
	e.must(err)
	defer func() { e.must(end(e.context(), false)) }()
	for _, level := range []driver.IsolationLevel{driver.ReadCommitted, driver.ReadUncommitted} {
		cfg := e.consumerConfig(e.unique("group"), topic)
		cfg.IsolationLevel = level
		e.wantGroup(e.group(cfg), driver.GroupPartition{Topic: topic, Committed: -1, Begin: 0, End: 5})
	}
}

func groupReadsBesideAMissingTopic(e *env) {
	there, missing := e.topic(1), e.unique("missing")
	e.send(there, 0, numbered("v", 3)...)
	g := e.group(e.consumerConfig(e.unique("group"), missing, there))
	for range 2 { // the second call would find what the first one has created
		all := e.readGroup(g)
		if len(all) != 2 {
			e.fatalf("Read returned\n%s\nwant a missing topic, and a partition", showGroup(all))
		}
		err := all[0].Err
		all[0].Err = nil
		want := []driver.GroupPartition{
			{Topic: missing, Partition: -1, Committed: driver.UnknownPosition, Begin: -1, End: -1},
			{Topic: there, Committed: -1, Begin: 0, End: 3},
		}
		if !slices.Equal(all, want) {
			e.errorf("Read returned\n%s\nwant\n%s", showGroup(all), showGroup(want))
		}
		if codeOf(err) != "UNKNOWN_TOPIC_OR_PARTITION" || errors.Is(err, driver.ErrPermanent) {
			e.errorf("a topic that does not exist: %v, want UNKNOWN_TOPIC_OR_PARTITION, not permanent", err)
		}
		e.quiet()
	}
	e.must(e.h.CreateTopic(e.context(), missing, 1))
	e.eventually("the topic to be read once it exists", func() bool {
		all := e.readGroup(g)
		return len(all) == 2 && all[0] == driver.GroupPartition{Topic: missing, Committed: -1}
	})
}

func groupJoinsNothing(e *env) {
	e.groupReader()
	cfg := tenRecords(e, 2)
	m, claims := joinTen(e, cfg, 2, 0)
	e.mu.Lock()
	assigns := m.assigns
	e.mu.Unlock()
	g := e.group(cfg)
	m.commit(claims[0], 4)
	e.wantGroup(g,
		driver.GroupPartition{Topic: cfg.Topics[0], Partition: 0, Committed: 4, Begin: 0, End: 10},
		driver.GroupPartition{Topic: cfg.Topics[0], Partition: 1, Committed: -1, Begin: 0, End: 10})
	if err := g.Commit(e.context(), []driver.GroupMark{{Topic: cfg.Topics[0], Offset: 2}}); err == nil {
		e.errorf("Commit of a group with a member returned nil")
	}
	if f, ok := g.(driver.OffsetFinder); ok {
		e.findOffsetsOf(f, map[string][]int32{cfg.Topics[0]: nil}, time.Time{})
	}
	e.quiet()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(m.live()) != 2 || m.assigns != assigns {
		e.errorf("the member has %d of its 2 claims after calls on the group, and has joined %d times more", len(m.live()), m.assigns-assigns)
	}
}

func groupCommit(e *env) {
	ability[MetadataReader](e)
	e.groupReader()
	cfg := tenRecords(e, 2)
	topic := cfg.Topics[0]
	commit := func(marks ...driver.GroupMark) {
		e.t.Helper()
		if err := e.group(cfg).Commit(e.context(), marks); err != nil {
			e.errorf("Commit of %v: %v", marks, err)
		}
	}
	commit(driver.GroupMark{Topic: topic, Partition: 0, Offset: 6, Metadata: "mark \"é\" 世界"}, driver.GroupMark{Topic: topic, Partition: 1, Offset: 5})
	e.wantPlace(cfg.Group, topic, 0, 6, "mark \"é\" 世界")
	e.wantPlace(cfg.Group, topic, 1, 5, "")
	commit(driver.GroupMark{Topic: topic, Partition: 0, Offset: 2})
	e.wantPlace(cfg.Group, topic, 0, 2, "")
	e.wantPlace(cfg.Group, topic, 1, 5, "")
	m := e.join(cfg)
	e.wantClaim(m.waitClaim(e.Patience, topic, 0), 2, "")
	e.wantClaim(m.waitClaim(e.Patience, topic, 1), 5, "")
}

func groupCommitIsRefused(e *env) {
	e.groupReader()
	cfg := tenRecords(e, 2)
	topic := cfg.Topics[0]
	g := e.group(cfg)
	m, claims := joinTen(e, cfg, 2, 0)
	m.commit(claims[0], 4)
	err := g.Commit(e.context(), []driver.GroupMark{{Topic: topic, Partition: 0, Offset: 2}, {Topic: topic, Partition: 1, Offset: 2}})
	e.judgeError("Commit of a group with a member", err)
	if !errors.Is(err, driver.ErrGroupHasMembers) || errors.Is(err, driver.ErrPermanent) {
		e.errorf("Commit of a group with a member returned %v, want ErrGroupHasMembers, not permanent", err)
	}
	if n := len(partitionErrors(err)); n != 0 && n != 2 {
		e.errorf("Commit of a group with a member returned %v, with a PartitionError for %d of 2 marks, want each or none", err, n)
	}
	e.wantCommitted(cfg.Group, topic, 0, 4)
	e.wantCommitted(cfg.Group, topic, 1, -1)
}

func groupCommitAnswersPerMark(e *env) {
	ability[MetadataReader](e)
	e.groupReader()
	cfg := tenRecords(e, 3)
	topic := cfg.Topics[0]
	g := e.group(cfg)
	err, _ := answerBy(e, e.name, 0, "Commit with a mark that is refused", func() error {
		return g.Commit(e.context(), []driver.GroupMark{
			{Topic: topic, Partition: 0, Offset: 3, Metadata: "mark"},
			{Topic: topic, Partition: 1, Offset: 4, Metadata: strings.Repeat("m", largeMetadata)},
			{Topic: topic, Partition: 2, Offset: 5},
		})
	})
	if errors.Is(err, context.DeadlineExceeded) {
		e.errorf("Commit has tried the refused mark again until the end of its context: %v", err)
	}
	refused := partitionErrors(err)
	if len(refused) != 1 || refused[0].Topic != topic || refused[0].Partition != 1 || codeOf(refused[0]) != "OFFSET_METADATA_TOO_LARGE" {
		e.errorf("Commit returned %v, want the code OFFSET_METADATA_TOO_LARGE for partition 1 alone", err)
	}
	e.wantPlace(cfg.Group, topic, 0, 3, "mark")
	e.wantCommitted(cfg.Group, topic, 1, -1)
	e.wantPlace(cfg.Group, topic, 2, 5, "")
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

// A groupCall is Read, Commit or FindOffsets.
type groupCall struct {
	name string
	call func(ctx context.Context) error
}

func groupCalls(g driver.Group, topic string) []groupCall {
	calls := []groupCall{
		{"Read", func(ctx context.Context) error {
			_, err := g.Read(ctx)
			return err
		}},
		{"Commit", func(ctx context.Context) error {
			return g.Commit(ctx, []driver.GroupMark{{Topic: topic, Offset: 1}})
		}},
	}
	if f, ok := g.(driver.OffsetFinder); ok {
		calls = append(calls, groupCall{"FindOffsets", func(ctx context.Context) error {
			_, err := f.FindOffsets(ctx, map[string][]int32{topic: nil}, time.Time{})
			return err
		}})
	}
	return calls
}

func groupInTime(e *env) {
	topic := e.topic(1)
	g := e.group(e.consumerConfig(e.unique("group"), topic))
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range groupCalls(g, topic) {
		if err := c.call(ended); !errors.Is(err, context.Canceled) {
			e.errorf("%s with a context that has ended: %v, want context.Canceled", c.name, err)
		}
	}
	heal := e.silence()
	for _, c := range groupCalls(g, topic) {
		err, returned := answerBy(e, e.name, e.Quiet, c.name, func() error { return c.call(e.within(e.Quiet)) })
		if returned && !errors.Is(err, context.DeadlineExceeded) {
			e.errorf("%s while no broker answers: %v, want context.DeadlineExceeded", c.name, err)
		}
	}
	if all, err := g.Read(e.within(e.Quiet)); err == nil || len(all) > 0 {
		e.errorf("Read while no broker answers returned %d partitions and the error %v, want none and an error", len(all), err)
	}
	heal()
	e.closeGroup(g)
	for _, c := range groupCalls(g, topic) {
		if err := c.call(e.context()); !errors.Is(err, driver.ErrClosed) {
			e.errorf("%s after Close: %v, want ErrClosed", c.name, err)
		}
	}
}

func groupClose(e *env) {
	topic := e.topic(1)
	g := e.group(e.consumerConfig(e.unique("group"), topic))
	heal := e.silence()
	calls := groupCalls(g, topic)
	answers := make([]chan error, len(calls))
	for i, c := range calls {
		answers[i] = make(chan error, 1)
		go func() { answers[i] <- c.call(e.context()) }()
	}
	e.quiet()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	closes := []func() error{
		func() error { return g.Close(e.context()) },
		func() error { return g.Close(e.context()) },
		func() error { return g.Close(ended) },
	}
	closed := make([]time.Time, len(closes))
	var closing sync.WaitGroup
	begun := make(chan struct{})
	for i, call := range closes {
		closing.Go(func() {
			if i > 0 {
				<-begun
			} else {
				time.AfterFunc(e.Grace/10, func() { close(begun) })
			}
			err, returned := answerBy(e, e.name, e.Patience, "Close of a group", call)
			if returned && err != nil && !(i == 2 && errors.Is(err, context.Canceled)) {
				e.errorf("Close %d of a group returned %v, want nil", i+1, err)
			}
			closed[i] = time.Now()
		})
	}
	closing.Wait()
	if early := closed[0].Sub(closed[1]); early > e.Grace/2 {
		e.errorf("a second Close of a group returned %v before the first", early)
	}
	if late := closed[2].Sub(closed[1]); late > 0 && closed[2].After(closed[0].Add(e.Grace)) {
		e.errorf("a Close whose context has ended returned %v after another one", late)
	}
	for i, c := range calls {
		select {
		case err := <-answers[i]:
			if !errors.Is(err, driver.ErrClosed) {
				e.errorf("Close ended a %s with %v, want ErrClosed", c.name, err)
			}
		case <-time.After(e.Grace):
			e.errorf("%s has not ended %v after Close", c.name, e.Grace)
		}
	}
	heal()
	e.closeGroup(g)
}

func groupCloseLeavesNothingBehind(e *env) {
	e.groupReader()
	cfg := tenRecords(e, 2)
	connections, goroutines := e.connections(), goroutines()
	g := e.group(cfg)
	e.readGroup(g)
	if err := g.Commit(e.context(), []driver.GroupMark{{Topic: cfg.Topics[0], Offset: 1}}); err != nil {
		e.errorf("Commit: %v", err)
	}
	e.closeGroup(g)
	if !e.settles(func() bool { return e.connections() <= connections }) {
		e.errorf("%d connections before the group was opened, but %d after Close", connections, e.connections())
	}
	if !e.settles(func() bool { return len(newGoroutines(goroutines)) == 0 }) {
		e.errorf("goroutines that remain after Close:\n%s", strings.Join(newGoroutines(goroutines), "\n\n"))
	}
}

package drivertest_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// OpenGroup implements driver.GroupReader.
func (d wrongDriver) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	d.h.groups.Add(1)
	if d.h.wrong.group == nil {
		return d.h.broker.OpenGroup(ctx, cfg)
	}
	g := &groupOutside{h: d.h, ctx: ctx, cfg: cfg}
	d.h.wrong.group(g)
	if g.open == nil {
		g.open = d.h.broker.OpenGroup
	}
	inner, err := g.open(ctx, cfg)
	g.Group = inner
	if err == nil && g.opened != nil {
		g.opened()
	}
	return g, err
}

// A groupOutside calls its functions in place of the methods of the group below.
type groupOutside struct {
	driver.Group
	h   *wrongHarness
	ctx context.Context // of OpenGroup
	cfg driver.ConsumerConfig

	open   func(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error)
	opened func()
	read   func(ctx context.Context) ([]driver.GroupPartition, error)
	commit func(ctx context.Context, marks []driver.GroupMark) error
	close  func(ctx context.Context) error
	find   func(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error)
}

// FindOffsets implements driver.OffsetFinder.
func (g *groupOutside) FindOffsets(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
	if g.find != nil {
		return g.find(ctx, of, t)
	}
	return g.rightFind(ctx, of, t)
}

func (g *groupOutside) rightFind(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
	return g.Group.(driver.OffsetFinder).FindOffsets(ctx, of, t)
}

func (g *groupOutside) Read(ctx context.Context) ([]driver.GroupPartition, error) {
	if g.read != nil {
		return g.read(ctx)
	}
	return g.Group.Read(ctx)
}

func (g *groupOutside) Commit(ctx context.Context, marks []driver.GroupMark) error {
	if g.commit != nil {
		return g.commit(ctx, marks)
	}
	return g.Group.Commit(ctx, marks)
}

func (g *groupOutside) Close(ctx context.Context) error {
	if g.close != nil {
		return g.close(ctx)
	}
	return g.Group.Close(ctx)
}

// changing returns a group that changes what Read has found.
func changing(change func(g *groupOutside, all []driver.GroupPartition) []driver.GroupPartition) func(*groupOutside) {
	return func(g *groupOutside) {
		g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
			all, err := g.Group.Read(ctx)
			if err != nil {
				return nil, err
			}
			return change(g, all), nil
		}
	}
}

// wrongGroups break rules of how a group is looked at from outside.
func wrongGroups() []wrong {
	return slices.Concat(wrongReads(), wrongGroupCommits(), wrongGroupCloses(), wrongFinds())
}

func wrongReads() []wrong {
	return []wrong{
		{name: "opens a group after its context has ended", fails: "OpenGroup", group: func(g *groupOutside) {
			g.open = func(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
				return g.h.broker.OpenGroup(context.WithoutCancel(ctx), cfg)
			}
		}},
		{name: "waits for a broker that opens a group", fails: "OpenGroup", group: func(g *groupOutside) {
			g.open = func(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
				g.h.waitForBroker()
				return g.h.broker.OpenGroup(ctx, cfg)
			}
		}},
		{name: "lets a group end with the context of OpenGroup", fails: "OpenGroup", group: func(g *groupOutside) {
			g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
				if g.ctx.Err() != nil {
					return nil, driver.ErrClosed
				}
				return g.Group.Read(ctx)
			}
		}},
		{name: "leaves out partitions without a position", fails: "GroupRead", also: []string{"GroupReadsTheBeginning", "GroupReadsTheHighWatermark", "GroupReadsBesideAMissingTopic", "GroupJoinsNothing"}, group: changing(
			func(_ *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				return slices.DeleteFunc(all, func(p driver.GroupPartition) bool { return p.Partition >= 0 && p.Committed < 0 })
			})},
		{name: "reads topics in another order", fails: "GroupRead", also: []string{"GroupReadsBesideAMissingTopic"}, group: changing(
			func(g *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				slices.SortStableFunc(all, func(a, b driver.GroupPartition) int {
					return slices.Index(g.cfg.Topics, b.Topic) - slices.Index(g.cfg.Topics, a.Topic)
				})
				return all
			})},
		{name: "calls the first offset of a log zero", fails: "GroupReadsTheBeginning", group: changing(
			func(_ *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				for i := range all {
					all[i].Begin = min(all[i].Begin, 0)
				}
				return all
			})},
		{name: "forgets what is committed beside a position", fails: "GroupRead", group: changing(
			func(_ *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				for i := range all {
					all[i].Metadata = ""
				}
				return all
			})},
		{name: "reads a position at 0 as none", fails: "GroupRead", group: changing(
			func(_ *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				for i := range all {
					if all[i].Committed == 0 {
						all[i].Committed = -1
					}
				}
				return all
			})},
		{name: "answers a Read from what it knew before", fails: "GroupRead", also: []string{"GroupReadsBesideAMissingTopic"}, group: func(g *groupOutside) {
			var mu sync.Mutex
			var known []driver.GroupPartition
			g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
				mu.Lock()
				defer mu.Unlock()
				all, err := g.Group.Read(ctx)
				if err != nil || known != nil {
					return slices.Clone(known), err
				}
				known = all
				return slices.Clone(known), nil
			}
		}},
		{name: "reads the last stable offset as the end", fails: "GroupReadsTheHighWatermark", group: changing(
			func(g *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				for i := range all {
					if records, err := g.h.broker.Records(all[i].Topic, all[i].Partition, g.cfg.IsolationLevel); err == nil && len(records) > 0 {
						all[i].End = records[len(records)-1].Offset + 1
					}
				}
				return all
			})},
		{name: "fails where one topic is missing", fails: "GroupReadsBesideAMissingTopic", group: func(g *groupOutside) {
			g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
				all, err := g.Group.Read(ctx)
				for _, p := range all {
					err = errors.Join(err, p.Err)
				}
				return all, err
			}
		}},
		{name: "leaves out a missing topic", fails: "GroupReadsBesideAMissingTopic", group: changing(
			func(_ *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				return slices.DeleteFunc(all, func(p driver.GroupPartition) bool { return p.Err != nil })
			})},
		{name: "creates the topics that it reads", fails: "GroupReadsBesideAMissingTopic", group: changing(
			func(g *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				for _, p := range all {
					if p.Err != nil {
						_ = g.h.broker.CreateTopic(p.Topic, 1)
					}
				}
				return all
			})},
		{name: "calls a missing topic of a group permanent", fails: "GroupReadsBesideAMissingTopic", group: changing(
			func(_ *groupOutside, all []driver.GroupPartition) []driver.GroupPartition {
				for i := range all {
					if all[i].Err != nil {
						all[i].Err = &driver.Error{Code: "UNKNOWN_TOPIC_OR_PARTITION", Kind: driver.ErrPermanent, Err: all[i].Err}
					}
				}
				return all
			})},
		{name: "joins the group that it looks at", fails: "GroupJoinsNothing", also: []string{"GroupRead", "GroupReadsTheHighWatermark", "GroupReadsBesideAMissingTopic", "GroupCommit", "GroupCommitIsRefused", "GroupCommitAnswersPerMark", "GroupCloseLeavesNothingBehind", "GroupInTime", "GroupClose"}, group: func(g *groupOutside) {
			var c driver.Consumer
			ran := make(chan struct{})
			g.opened = func() {
				c, _ = g.h.broker.OpenConsumer(g.ctx, g.cfg)
				go func() { defer close(ran); _ = c.Run(noHandler{}) }()
			}
			g.close = func(ctx context.Context) error {
				err := errors.Join(c.Close(ctx), g.Group.Close(ctx))
				<-ran
				return err
			}
		}},
	}
}

// A noHandler takes claims, and does nothing.
type noHandler struct{}

func (noHandler) Assign([]*driver.Claim)                  {}
func (noHandler) Deliver(*driver.Claim, driver.Batch)     {}
func (noHandler) Revoke(context.Context, []*driver.Claim) {}
func (noHandler) Lost([]*driver.Claim, error)             {}
func (noHandler) Error(error)                             {}

func wrongGroupCommits() []wrong {
	members := func(g *groupOutside) int { return len(g.h.broker.Members(g.cfg.Group)) }
	return []wrong{
		{name: "commits no metadata from outside", fails: "GroupCommit", also: []string{"GroupCommitAnswersPerMark"}, group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				plain := slices.Clone(marks)
				for i := range plain {
					plain[i].Metadata = ""
				}
				return g.Group.Commit(ctx, plain)
			}
		}},
		{name: "moves no position back from outside", fails: "GroupCommit", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				ahead := slices.DeleteFunc(slices.Clone(marks), func(m driver.GroupMark) bool {
					return m.Offset < g.h.broker.Committed(g.cfg.Group, m.Topic, m.Partition)
				})
				return g.Group.Commit(ctx, ahead)
			}
		}},
		{name: "says nothing of a refusal while the group has members", fails: "GroupCommitIsRefused", also: []string{"GroupJoinsNothing"}, group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if errors.Is(err, driver.ErrGroupHasMembers) {
					return nil
				}
				return err
			}
		}},
		{name: "passes the refusal on without its sentinel", fails: "GroupCommitIsRefused", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if errors.Is(err, driver.ErrGroupHasMembers) {
					return &driver.Error{Code: "UNKNOWN_MEMBER_ID", Err: errors.New(err.Error())}
				}
				return err
			}
		}},
		{name: "commits for members from outside", fails: "GroupCommitIsRefused", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				for _, m := range marks {
					if members(g) > 0 {
						g.h.pretend(position{g.cfg.Group, m.Topic, m.Partition}, m.Offset)
					}
				}
				return err
			}
		}},
		{name: "waits for the members to go", fails: "GroupCommitIsRefused", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				for range 200 {
					if members(g) == 0 {
						return g.Group.Commit(ctx, marks)
					}
					time.Sleep(time.Millisecond)
				}
				return &driver.Error{Code: "REQUEST_TIMED_OUT", Err: context.DeadlineExceeded}
			}
		}},
		{name: "joins to commit from outside", fails: "GroupJoinsNothing", also: []string{"GroupCommitIsRefused"}, group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if !errors.Is(err, driver.ErrGroupHasMembers) {
					return err
				}
				c, openErr := g.h.broker.OpenConsumer(ctx, g.cfg)
				if openErr != nil {
					return errors.Join(err, openErr)
				}
				go func() {
					time.Sleep(10 * time.Millisecond)
					_ = c.Close(context.Background())
				}()
				_ = c.Run(noHandler{})
				return err
			}
		}},
		{name: "calls members of a group permanent", fails: "GroupCommitIsRefused", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if errors.Is(err, driver.ErrGroupHasMembers) {
					return &driver.Error{Code: "UNKNOWN_MEMBER_ID", Kind: driver.ErrPermanent, Err: err}
				}
				return err
			}
		}},
		{name: "names one mark of a group with members", fails: "GroupCommitIsRefused", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if errors.Is(err, driver.ErrGroupHasMembers) {
					return &driver.PartitionError{Topic: marks[0].Topic, Partition: marks[0].Partition, Offset: marks[0].Offset, Err: err}
				}
				return err
			}
		}},
		{name: "tries a refused mark again until its context ends", fails: "GroupCommitAnswersPerMark", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				for {
					err := g.Group.Commit(ctx, marks)
					if _, ok := errors.AsType[*driver.PartitionError](err); !ok {
						return err
					}
					select {
					case <-time.After(10 * time.Millisecond):
					case <-ctx.Done():
						return errors.Join(err, ctx.Err())
					}
				}
			}
		}},
		{name: "fails all marks for one", fails: "GroupCommitAnswersPerMark", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if err == nil || len(marks) < 2 || members(g) > 0 {
					return err
				}
				var all []error
				for _, m := range marks {
					all = append(all, &driver.PartitionError{Topic: m.Topic, Partition: m.Partition, Offset: m.Offset, Err: err})
				}
				return errors.Join(all...)
			}
		}},
		{name: "does not name the mark that was refused", fails: "GroupCommitAnswersPerMark", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if p, ok := errors.AsType[*driver.PartitionError](err); ok {
					return p.Err
				}
				return err
			}
		}},
		{name: "tries a mark with too much metadata again", fails: "GroupCommitAnswersPerMark", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if _, ok := errors.AsType[*driver.PartitionError](err); ok {
					plain := slices.Clone(marks)
					for i := range plain {
						plain[i].Metadata = plain[i].Metadata[:min(len(plain[i].Metadata), 10)]
					}
					return g.Group.Commit(ctx, plain)
				}
				return err
			}
		}},
	}
}

func wrongGroupCloses() []wrong {
	return []wrong{
		{name: "reads a group after its context has ended", fails: "GroupInTime", group: func(g *groupOutside) {
			g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
				if ctx.Err() != nil && !g.h.cut.Load() {
					ctx = context.WithoutCancel(ctx)
				}
				return g.Group.Read(ctx)
			}
		}},
		{name: "waits for the broker beyond the context of a group's Commit", fails: "GroupInTime", also: []string{"GroupClose"}, group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				g.h.waitForBroker()
				return g.Group.Commit(ctx, marks)
			}
		}},
		{name: "gives a group up before its context ends", fails: "GroupInTime", also: []string{"GroupClose"}, group: func(g *groupOutside) {
			g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
				if g.h.cut.Load() {
					return nil, &driver.Error{Code: "CONNECTION_FAILED", Err: errors.New("no broker")}
				}
				return g.Group.Read(ctx)
			}
		}},
		{name: "reads a group after Close", fails: "GroupInTime", also: []string{"GroupClose"}, group: func(g *groupOutside) {
			g.close = func(context.Context) error { return nil }
		}},
		{name: "lets a call outlast the Close of its group", fails: "GroupClose", group: func(g *groupOutside) {
			g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
				all, err := g.Group.Read(ctx)
				if errors.Is(err, driver.ErrClosed) && g.h.cut.Load() {
					g.h.waitForBroker()
				}
				return all, err
			}
		}},
		{name: "ends the calls of a closed group with another error", fails: "GroupClose", group: func(g *groupOutside) {
			g.commit = func(ctx context.Context, marks []driver.GroupMark) error {
				err := g.Group.Commit(ctx, marks)
				if errors.Is(err, driver.ErrClosed) && g.h.cut.Load() {
					return &driver.Error{Code: "CONNECTION_FAILED", Err: errors.New("closed connection")}
				}
				return err
			}
		}},
		{name: "does not wait for the first Close of a group", fails: "GroupClose", group: func(g *groupOutside) {
			var begun atomic.Bool
			g.close = func(ctx context.Context) error {
				if begun.Swap(true) {
					return nil
				}
				err := g.Group.Close(ctx)
				if g.h.cut.Load() {
					time.Sleep(3 * time.Second)
				}
				return err
			}
		}},
		{name: "waits for the first Close of a group beyond its context", fails: "GroupClose", group: func(g *groupOutside) {
			g.close = func(ctx context.Context) error {
				if ctx.Err() != nil {
					time.Sleep(time.Minute)
				}
				return g.Group.Close(ctx)
			}
		}},
		{name: "returns partitions without a coordinator", fails: "GroupInTime", group: func(g *groupOutside) {
			g.read = func(ctx context.Context) ([]driver.GroupPartition, error) {
				all, err := g.Group.Read(ctx)
				if errors.Is(err, context.DeadlineExceeded) {
					all = []driver.GroupPartition{{Topic: g.cfg.Topics[0], Partition: -1, Committed: driver.UnknownPosition, Begin: -1, End: -1}}
				}
				return all, err
			}
		}},
		{name: "answers the second Close of a group differently", fails: "GroupClose", group: func(g *groupOutside) {
			var once sync.Once
			g.close = func(ctx context.Context) error {
				err := error(driver.ErrClosed)
				once.Do(func() { err = g.Group.Close(ctx) })
				return err
			}
		}, also: []string{"OpenGroup", "GroupInTime", "GroupCloseLeavesNothingBehind"}},
		{name: "leaves a goroutine behind a group", fails: "GroupCloseLeavesNothingBehind", group: func(g *groupOutside) {
			g.opened = func() { go func() { <-g.h.released }() }
		}},
	}
}

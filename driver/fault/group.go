package fault

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aarontianqx/gopkg/driver"
)

// OpenGroup implements driver.GroupReader. Over a driver that cannot look at groups its
// error wraps errors.ErrUnsupported.
func (d *faulty) OpenGroup(ctx context.Context, cfg driver.ConsumerConfig) (driver.Group, error) {
	reader, ok := d.inner.(driver.GroupReader)
	if !ok {
		return nil, fmt.Errorf("fault: %T reads no groups: %w", d.inner, errors.ErrUnsupported)
	}
	who := Call{ClientID: cfg.ClientID, Group: cfg.Group, Partition: -1}
	f := d.i.Inject(who.op(OpenGroup))
	if err := f.begin(ctx); err != nil {
		return nil, err
	}
	g, err := reader.OpenGroup(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if f.When == AfterCall {
		if err := abandon(ctx, g); err != nil {
			return nil, errors.Join(f.Err, err)
		}
		return nil, f.Err
	}
	return &group{inner: g, i: d.i, who: who, closing: make(chan struct{})}, nil
}

// abandonTime bounds the close of what no caller gets. Its own context may have ended.
const abandonTime = 5 * time.Second

// abandon closes what was opened for a caller that gets an error.
func abandon(ctx context.Context, opened interface{ Close(context.Context) error }) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTime)
	defer cancel()
	return opened.Close(ctx)
}

type group struct {
	inner   driver.Group
	i       Injector
	who     Call
	once    sync.Once
	closing chan struct{}
}

func (g *group) Read(ctx context.Context) ([]driver.GroupPartition, error) {
	f, err := g.begin(ctx, ReadGroup)
	if err != nil {
		return nil, err
	}
	all, err := g.inner.Read(ctx)
	if err == nil && f.When == AfterCall {
		return nil, f.Err
	}
	return all, err
}

func (g *group) Commit(ctx context.Context, marks []driver.GroupMark) error {
	f, err := g.begin(ctx, CommitGroup)
	if err != nil {
		return err
	}
	err = g.inner.Commit(ctx, marks)
	if err == nil && f.When == AfterCall {
		return f.Err
	}
	return err
}

// FindOffsets implements driver.OffsetFinder. Over a group that is none, its error wraps
// errors.ErrUnsupported.
func (g *group) FindOffsets(ctx context.Context, of map[string][]int32, t time.Time) ([]driver.FoundOffsets, error) {
	finder, ok := g.inner.(driver.OffsetFinder)
	if !ok {
		return nil, fmt.Errorf("fault: %T finds no offsets: %w", g.inner, errors.ErrUnsupported)
	}
	f, err := g.begin(ctx, FindOffsets)
	if err != nil {
		return nil, err
	}
	all, err := finder.FindOffsets(ctx, of, t)
	if err == nil && f.When == AfterCall {
		return nil, f.Err
	}
	return all, err
}

// begin applies the part of a fault that comes before the call. A Close ends it.
func (g *group) begin(ctx context.Context, op Op) (Fault, error) {
	if err := ctx.Err(); err != nil {
		return Fault{}, err
	}
	f := g.i.Inject(g.who.op(op))
	select {
	case <-g.closing:
		return f, driver.ErrClosed
	default:
	}
	if !f.wait(ctx.Done(), g.closing) {
		if err := ctx.Err(); err != nil {
			return f, err
		}
		return f, driver.ErrClosed
	}
	if f.When == BeforeCall {
		return f, f.Err
	}
	return f, nil
}

func (g *group) Close(ctx context.Context) error {
	g.once.Do(func() { close(g.closing) })
	return g.inner.Close(ctx)
}

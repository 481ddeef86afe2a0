package differential

import (
	"errors"
	"fmt"
	"time"

	"pgregory.net/rapid"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/aarontianqx/gopkg/driver"
)

// A deletion removes records from the beginning of a partition.
type deletion struct {
	partition int32
	quarters  int // of what is in the log; 5 is more than there is
}

// A hole takes offsets that no consumer gets.
type hole struct {
	partition int32
	n         int
}

// A growth adds a partition.
type growth struct{}

// A hold pauses the claim of a partition, a release resumes it.
type (
	hold    struct{ partition int32 }
	release struct{ partition int32 }
)

func deletions(partitions int32) *rapid.Generator[operation] {
	return draws(func(t *rapid.T) deletion {
		return deletion{rapid.Int32Range(0, partitions-1).Draw(t, "partition"), rapid.IntRange(1, 5).Draw(t, "quarters")}
	})
}

func holes(partitions int32) *rapid.Generator[operation] {
	return draws(func(t *rapid.T) hole {
		return hole{rapid.Int32Range(0, partitions-1).Draw(t, "partition"), rapid.IntRange(2, 4).Draw(t, "n")}
	})
}

func holds(partitions int32) *rapid.Generator[operation] {
	return draws(func(t *rapid.T) hold { return hold{rapid.Int32Range(0, partitions-1).Draw(t, "partition")} })
}

func releases(partitions int32) *rapid.Generator[operation] {
	return draws(func(t *rapid.T) release { return release{rapid.Int32Range(0, partitions-1).Draw(t, "partition")} })
}

func (d deletion) String() string {
	return fmt.Sprintf("delete %d quarters of partition %d", d.quarters, d.partition)
}
func (h hole) String() string    { return fmt.Sprintf("hole of %d in partition %d", h.n, h.partition) }
func (growth) String() string    { return "add a partition" }
func (h hold) String() string    { return fmt.Sprintf("pause partition %d", h.partition) }
func (r release) String() string { return fmt.Sprintf("resume partition %d", r.partition) }

func (d deletion) do(l *lane) {
	if !l.settle() {
		return
	}
	if l.seq.outOfRange == driver.OutOfRangeStop && l.keeps() {
		return // the member ends
	}
	if _, claim := l.owner(d.partition); claim != nil && claim.paused {
		return // it may have been given what is deleted, or not
	}
	log := &l.logs[d.partition]
	before := log.begin + (log.end-log.begin)*int64(d.quarters)/4 // a consumer passes a hole at the end by chance
	if d.quarters > 4 {
		before = log.top + 1
	}
	err := l.sys.Truncate(l.ctx, l.topic, d.partition, before)
	l.note("up to %d: %s", before, outsideClass(err))
	if err == nil {
		l.change(func() { log.begin = before })
	}
}

// outsideClass is the code of an error of the cluster itself.
func outsideClass(err error) string {
	if ke, ok := errors.AsType[*kerr.Error](err); ok {
		return ke.Message
	}
	if de, ok := errors.AsType[*driver.Error](err); ok {
		return de.Code
	}
	return fmt.Sprint(err)
}

func (h hole) do(l *lane) {
	if l.fails("make a hole", l.sys.MakeHole(l.ctx, l.topic, h.partition, h.n)) {
		return
	}
	l.change(func() { l.logs[h.partition].top += int64(h.n) })
}

// do returns when the producer knows the new partition: until then it sends keys to
// their old partitions.
func (growth) do(l *lane) {
	const most = 6
	if l.partitions >= most || !l.settle() || l.keeps() {
		return
	}
	switch {
	case l.seq.outOfRange == driver.OutOfRangeStop:
		return // a member that ends may have got to the new partition before, or not
	case l.recreated && l.seq.initial == driver.OffsetOldest:
		return // where a new partition of the new topic begins may or may not be made durable
	case l.seq.static:
		return // a static leader that was replaced does not notice: see CHANGELOG.md
	}
	if l.fails("add a partition", l.sys.AddPartitions(l.ctx, l.topic, l.partitions+1)) {
		return
	}
	l.change(func() {
		l.partitions++
		l.logs = append(l.logs, extent{})
	})
	m := &driver.Message{Topic: l.topic, Partition: l.partitions - 1, Value: []byte("first")}
	err := l.produce(m)
	for ; err != nil && l.ctx.Err() == nil; err = l.produce(m) {
		time.Sleep(20 * time.Millisecond)
	}
	if l.fails("send to the new partition", err) {
		return
	}
	l.appended(m.Partition, m.Offset)
	if l.settle() {
		l.showGroup()
	}
}

func (h hold) do(l *lane) {
	if !l.settle() {
		return
	}
	m, claim := l.owner(h.partition)
	if m == nil {
		return
	}
	l.change(func() { claim.paused = true })
	m.consumer.Pause(claim.Claim)
}

func (r release) do(l *lane) {
	if !l.settle() {
		return
	}
	m, claim := l.owner(r.partition)
	if m == nil {
		return
	}
	m.consumer.Resume(claim.Claim)
	l.change(func() { claim.resumed() })
	if l.settle() {
		l.showGroup()
	}
}

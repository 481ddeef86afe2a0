package differential

import (
	"errors"
	"fmt"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A commit asks for a position by the owner of a partition.
type commit struct {
	partition int32
	quarters  int // of what is in the log; 5 is more than there is
}

func commits(s sequence) *rapid.Generator[operation] {
	most := 5
	if s.free() {
		most = 4 // see operations
	}
	return draws(func(t *rapid.T) commit {
		return commit{
			partition: rapid.Int32Range(0, s.partitions-1).Draw(t, "partition"),
			quarters:  rapid.IntRange(-1, most).Draw(t, "quarters"),
		}
	})
}

func (c commit) String() string {
	return fmt.Sprintf("commit of partition %d, %d quarters", c.partition, c.quarters)
}

func (c commit) do(l *lane) {
	log := l.logs[c.partition]
	offset := int64(-1)
	if c.quarters >= 0 {
		offset = log.begin + (log.top-log.begin)*int64(c.quarters)/4
	}
	if before := l.committed(l.topic, c.partition); before < 0 && offset == log.begin {
		return // it may or may not be made durable: a driver need not know where it started
	}
	for {
		if !l.settle() {
			return
		}
		m, h := l.owner(c.partition)
		if m == nil {
			return
		}
		err := m.commit(l.ctx, driver.Mark{Claim: h.Claim, Offset: offset})
		if errors.Is(err, driver.ErrClaimEnded) && l.hasEnded(h) {
			continue // a rebalance came between
		}
		l.note("commit of %d: %s", offset, class(err))
		l.showCommitted(l.topic)
		return
	}
}

// owner returns the member that has a partition, or nil.
func (l *lane) owner(partition int32) (*member, *held) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range l.members() {
		for _, h := range m.live() {
			if h.Partition == partition {
				return m, h
			}
		}
	}
	return nil, nil
}

func (l *lane) hasEnded(h *held) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return h.end != ""
}

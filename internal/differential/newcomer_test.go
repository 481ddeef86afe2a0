package differential

import (
	"context"
	"fmt"

	"pgregory.net/rapid"

	"github.com/aarontianqx/gopkg/driver"
)

// A newcomer is a group without a position, which reads the topic.
type newcomer struct{ initial driver.InitialOffset }

var newcomers = draws(func(t *rapid.T) newcomer {
	return newcomer{rapid.SampledFrom([]driver.InitialOffset{driver.OffsetOldest, driver.OffsetNewest}).Draw(t, "initial")}
})

func (n newcomer) String() string { return fmt.Sprintf("newcomer from %v", n.initial) }

func (n newcomer) do(l *lane) {
	cfg := l.consumerConfig(fmt.Sprintf("%s-%d", l.topic, len(l.lines)))
	cfg.InitialOffset = n.initial
	m := l.start(cfg)
	if m == nil {
		return
	}
	l.watch(m)
	l.fails("close of the newcomer", l.shut(m))
	l.showCommitted(cfg.Group)
	for p := range l.partitions {
		l.showLog(p)
	}
}

// watch waits until m has read all that it will, and shows it.
func (l *lane) watch(m *member) {
	ctx, cancel := context.WithTimeout(l.ctx, l.sys.settleTime())
	defer cancel()
	if !l.await(ctx, func() bool { return l.hasReadUp(m) }) {
		l.stuck = "the newcomer does not get to the end"
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range m.live() {
		l.note("newcomer: %s", h.show(l.logs[h.Partition]))
		for _, r := range h.records {
			l.note("    %d %v", r.Offset, record(r))
		}
	}
}

func (l *lane) hasReadUp(m *member) bool {
	live := m.live()
	for _, h := range live {
		if !h.readUp(l.logs[h.Partition]) {
			return false
		}
	}
	return len(live) == int(l.partitions)
}

// showLog shows what lies in a partition, as another client sees it.
func (l *lane) showLog(partition int32) {
	records, err := l.sys.Read(l.ctx, l.topic, partition)
	if l.fails("read", err) {
		return
	}
	for _, r := range records {
		l.note("log %d/%d %v", partition, r.Offset, record(r))
	}
}

package position

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/aarontianqx/gopkg/driver"
)

// A Progress is how far the commits of one claim have come. Several goroutines may use it.
type Progress struct {
	mu       sync.Mutex // guards what follows
	offset   int64      // the durable position, or -1 without one
	metadata string     // that is durable beside the position
	unsure   bool       // an attempt to change the metadata has not been acknowledged
}

// NewProgress returns the progress of a claim that starts at a position, or at -1 without
// one, beside which metadata was found.
func NewProgress(start int64, metadata string) *Progress {
	return &Progress{offset: start, metadata: metadata}
}

// Offset returns the durable position, or -1 without one.
func (p *Progress) Offset() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offset
}

// Passed reports whether a mark has nothing to do.
func (p *Progress) Passed(offset int64, metadata string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return offset < p.at() || offset == p.at() && metadata == p.metadata && !p.unsure
}

// Sending notes that a mark that has not passed is about to be sent.
func (p *Progress) Sending(offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsure = p.unsure || offset == p.at()
}

// Commit notes that a mark is durable. It reports false if a later one is.
func (p *Progress) Commit(offset int64, metadata string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if offset < p.offset {
		return false
	}
	p.offset, p.metadata, p.unsure = offset, metadata, false
	return true
}

// at returns the position below which every mark has passed. The mutex must be held.
func (p *Progress) at() int64 { return max(p.offset, 0) }

// A Metadata decides whether a consumer sends metadata. The zero value sends it. Several
// goroutines may use it.
type Metadata struct{ refused atomic.Bool }

// Of returns the metadata that is sent with a mark.
func (m *Metadata) Of(mark driver.Mark) string {
	if m.refused.Load() {
		return ""
	}
	return mark.Metadata
}

// Refuse notes that a broker has refused the metadata that was sent for p as too large. No
// metadata is sent from now on. Refuse returns the report of the first refusal, and nil
// after that.
func (m *Metadata) Refuse(p Partition, sent string, err error) (report error) {
	if sent == "" || m.refused.Swap(true) {
		return nil
	}
	return fmt.Errorf("no metadata is committed from now on: that of %s/%d: %w", driver.Printable(p.Topic, 0), p.ID, err)
}

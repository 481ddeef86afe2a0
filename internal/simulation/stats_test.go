package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// stats count what has happened in all sequences.
type stats struct {
	mu      sync.Mutex
	counts  map[string]int
	failure string // the first, as it was before rapid looked for a smaller one
}

func newStats() *stats { return &stats{counts: make(map[string]int)} }

func (s *stats) count(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name]++
}

// strike counts what an action has come to.
func (s *stats) strike(name string) { s.count("struck " + name) }

// failed keeps the first failure: one that depends on the scheduler does not come
// again when rapid tries, and is not printed by it.
func (s *stats) failed(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failure == "" {
		s.failure = text
	}
}

// String lists the counts in order of name.
func (s *stats) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&b, "%10d  %s\n", s.counts[name], name)
	}
	return b.String()
}

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
	mu     sync.Mutex
	counts map[string]int
}

func newStats() *stats { return &stats{counts: make(map[string]int)} }

func (s *stats) count(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name]++
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

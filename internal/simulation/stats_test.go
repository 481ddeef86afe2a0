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

// add is count, for n times.
func (s *stats) add(name string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts[name] += n
}

// strike counts what an action has come to.
func (s *stats) strike(name string) { s.count("struck " + name) }

// strikes are what has to happen often enough for a run to say something about it. It is
// more than to be drawn: what was asked for took effect.
var strikes = []string{
	"dead letter: attempts", "dead letter: handler", "dead letter: classify", "dead letter: operator",
	"skip", "stop", "hold", "hold is over", "hold ended by an operator", "probe",
	"resolve: keep", "resolve: skip", "resolve: dead letter",
	"handler asks retry", "handler asks skip", "handler asks dead letter", "handler asks stop", "handler asks hold",
	"handler asks joined", "handler asks classified", "handler marks nil", "handler panics marked",
	"batch error: Add", "batch error: AddFrom", "handler timeout",
	"retry topic 1", "retry topic 2", "retry topic 3", "passed over",
	"stray bare", "stray foreign", "stray malformed", "stray elsewhere", "stray copy",
	"paused: consumer", "paused: partition", "resumed: consumer", "resumed: partition", "rate changed", "rate: a record waits",
	"metadata at an assignment: by partition", "metadata at an assignment: by key", "metadata at an assignment: none",
	"order by key: several handlers at one partition", "order none: several handlers at one partition",
	"order by key: records wait behind their key", "order by key: several records back off", "order none: several records back off",
	"order by key: records back off beside handlers", "order none: records back off beside handlers",
	"order by key: done above the position", "order none: done above the position",
	"seek: moved back", "seek: moved forward", "seek: nothing", "seek: off", "seek: done", "seek: unknown outcome", "seek: ended by its context",
	"seek: refused, not owned", "seek: refused, not running", "seek: refused, out of the log", "seek: refused, the group has members", "seek: the claim had ended",
	"key fails", "key panics", "key slow", "key deaf", "key blocks",
}

// oftenEnough is how often each of the strikes should be in so many sequences.
const oftenEnough, ofSequences = 1_000, 300_000

// few lists the strikes that would not be often enough in a long run.
func (s *stats) few() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range strikes {
		if n := s.counts["struck "+name]; n*ofSequences < oftenEnough*s.counts["sequences"] {
			names = append(names, fmt.Sprintf("%s (%d)", name, n))
		}
	}
	return names
}

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

package otelkafka

import (
	"sync"
	"sync/atomic"
)

// A cache is a map with many reads and few writes. A read takes no lock and
// allocates nothing. It holds at most max entries, and is then emptied: input from
// outside cannot make it grow.
type cache[K comparable, V any] struct {
	max  int
	read atomic.Pointer[map[K]V] // a copy of all as of some time; never written

	mu     sync.Mutex
	all    map[K]V
	misses int // of read since it was made
}

func newCache[K comparable, V any](max int) *cache[K, V] {
	c := &cache[K, V]{max: max, all: map[K]V{}}
	c.publish()
	return c
}

// get returns the value of k, if there is one.
func (c *cache[K, V]) get(k K) (V, bool) {
	if v, ok := (*c.read.Load())[k]; ok {
		return v, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v, ok := c.all[k]
	if ok {
		// As many misses as a copy has entries pay for the copy.
		if c.misses++; c.misses >= len(c.all) {
			c.publish()
		}
	}
	return v, ok
}

// put sets the value of k, unless there is one, and returns what is there.
func (c *cache[K, V]) put(k K, v V) V {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.all[k]; ok {
		return old
	}
	if len(c.all) >= c.max {
		clear(c.all)
		c.publish()
	}
	c.all[k] = v
	return v
}

func (c *cache[K, V]) publish() {
	read := make(map[K]V, len(c.all))
	for k, v := range c.all {
		read[k] = v
	}
	c.misses = 0
	c.read.Store(&read)
}

// A names is a bounded set of names that may become values of attributes. The
// first ones get in and stay; later ones come from a mistake or an attack, and must
// not multiply time series.
type names struct {
	max int
	mu  sync.Mutex
	in  map[string]bool
}

func newNames(max int) *names { return &names{max: max, in: map[string]bool{}} }

// allow reports whether name is one of the set, to which it is added if there
// is room.
func (n *names) allow(name string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.in[name] {
		return true
	}
	if len(n.in) >= n.max {
		return false
	}
	n.in[name] = true
	return true
}

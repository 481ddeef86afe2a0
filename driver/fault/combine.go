package fault

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// On leaves all calls alone that are not op.
func On(op Op, i Injector) Injector {
	return selected{fmt.Sprintf("On(%v", op), func(c Call) bool { return c.Op == op }, i}
}

// Group leaves all calls alone that are not those of a consumer of a group.
func Group(name string, i Injector) Injector {
	return selected{fmt.Sprintf("Group(%q", name), func(c Call) bool { return c.Group == name }, i}
}

// Client leaves all calls alone that are not those of a client ID.
func Client(id string, i Injector) Injector {
	return selected{fmt.Sprintf("Client(%q", id), func(c Call) bool { return c.ClientID == id }, i}
}

// Topic leaves all calls alone that are not about a topic.
func Topic(name string, i Injector) Injector {
	return selected{fmt.Sprintf("Topic(%q", name), func(c Call) bool { return c.Topic == name }, i}
}

// Partition leaves all calls alone that are not about a partition of that number.
func Partition(n int32, i Injector) Injector {
	return selected{fmt.Sprintf("Partition(%d", n), func(c Call) bool { return c.Partition == n }, i}
}

type selected struct {
	name string
	sel  func(Call) bool
	i    Injector
}

func (s selected) Inject(c Call) Fault {
	if !s.sel(c) {
		return Fault{}
	}
	return s.i.Inject(c)
}

func (s selected) String() string { return fmt.Sprintf("%s, %v)", s.name, s.i) }

// First lets the first n faults of i happen and no more.
func First(n int, i Injector) Injector {
	return &counted{name: fmt.Sprintf("First(%d", n), i: i, keep: func(k int) bool { return k <= n }}
}

// Nth lets only the n-th fault of i happen, counted from 1.
func Nth(n int, i Injector) Injector {
	return &counted{name: fmt.Sprintf("Nth(%d", n), i: i, keep: func(k int) bool { return k == n }}
}

// Skip leaves the first n faults of i out.
func Skip(n int, i Injector) Injector {
	return &counted{name: fmt.Sprintf("Skip(%d", n), i: i, keep: func(k int) bool { return k > n }}
}

// Chance lets each fault of i happen with probability p. The same seed and the
// same order of calls give the same faults.
func Chance(p float64, seed uint64, i Injector) Injector {
	r := rand.New(rand.NewPCG(seed, 0))
	return &counted{name: fmt.Sprintf("Chance(%v, %d", p, seed), i: i, keep: func(int) bool { return r.Float64() < p }}
}

// A counted injector asks, under its mutex, which of i's faults to keep.
type counted struct {
	name string
	i    Injector

	mu   sync.Mutex
	n    int
	keep func(n int) bool
}

func (c *counted) Inject(call Call) Fault {
	f := c.i.Inject(call)
	if f.isNone() {
		return f
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	if !c.keep(c.n) {
		return Fault{}
	}
	return f
}

func (c *counted) String() string { return fmt.Sprintf("%s, %v)", c.name, c.i) }

// Any asks one injector after the other until one has a fault. None but the
// first that has is asked further.
func Any(is ...Injector) Injector { return anyOf(is) }

type anyOf []Injector

func (a anyOf) Inject(c Call) Fault {
	for _, i := range a {
		if f := i.Inject(c); !f.isNone() {
			return f
		}
	}
	return Fault{}
}

func (a anyOf) String() string { return list("Any", a) }

// All asks all injectors. Their delays add up, and the first failure counts.
func All(is ...Injector) Injector { return allOf(is) }

type allOf []Injector

func (a allOf) Inject(c Call) Fault {
	var sum Fault
	for _, i := range a {
		f := i.Inject(c)
		sum.Delay += f.Delay
		if sum.When == NoFailure {
			sum.When, sum.Err = f.When, f.Err
		}
	}
	return sum
}

func (a allOf) String() string { return list("All", a) }

func list(name string, is []Injector) string {
	parts := make([]string, len(is))
	for k, i := range is {
		parts[k] = i.String()
	}
	return name + "(" + strings.Join(parts, ", ") + ")"
}

// A Switch is an injector that a test turns on and off. It is off at first.
type Switch struct {
	i Injector

	mu sync.Mutex
	on bool
}

// NewSwitch returns a switch for i.
func NewSwitch(i Injector) *Switch { return &Switch{i: i} }

// Set turns the switch on or off.
func (s *Switch) Set(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.on = on
}

// Inject implements Injector.
func (s *Switch) Inject(c Call) Fault {
	s.mu.Lock()
	on := s.on
	s.mu.Unlock()
	if !on {
		return Fault{}
	}
	return s.i.Inject(c)
}

// String implements Injector.
func (s *Switch) String() string { return fmt.Sprintf("NewSwitch(%v)", s.i) }

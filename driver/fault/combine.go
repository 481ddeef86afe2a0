package fault

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
)

// On applies i to calls of op only.
func On(op Op, i Injector) Injector {
	return selected{fmt.Sprintf("On(%v", op), func(c Call) bool { return c.Op == op }, i}
}

// Group applies i to calls of consumers of the named group only.
func Group(name string, i Injector) Injector {
	return selected{fmt.Sprintf("Group(%q", name), func(c Call) bool { return c.Group == name }, i}
}

// Client applies i to calls of consumers and producers with a client ID only.
func Client(id string, i Injector) Injector {
	return selected{fmt.Sprintf("Client(%q", id), func(c Call) bool { return c.ClientID == id }, i}
}

// Topic applies i to calls for a topic only.
func Topic(name string, i Injector) Injector {
	return selected{fmt.Sprintf("Topic(%q", name), func(c Call) bool { return c.Topic == name }, i}
}

// Partition applies i to calls for partitions with number n only.
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

// First lets only the first n faults of i happen.
func First(n int, i Injector) Injector {
	return &counted{name: fmt.Sprintf("First(%d", n), i: i, keep: func(k int) bool { return k <= n }}
}

// Nth lets only the n-th fault of i happen, counted from 1.
func Nth(n int, i Injector) Injector {
	return &counted{name: fmt.Sprintf("Nth(%d", n), i: i, keep: func(k int) bool { return k == n }}
}

// Skip suppresses the first n faults of i.
func Skip(n int, i Injector) Injector {
	return &counted{name: fmt.Sprintf("Skip(%d", n), i: i, keep: func(k int) bool { return k > n }}
}

// Chance lets each fault of i happen with probability p. The same seed and the same
// order of calls produce the same faults.
func Chance(p float64, seed uint64, i Injector) Injector {
	r := rand.New(rand.NewPCG(seed, 0))
	return &counted{name: fmt.Sprintf("Chance(%v, %d", p, seed), i: i, keep: func(int) bool { return r.Float64() < p }}
}

// A counted injector keeps the faults of i for which keep, called under the mutex,
// returns true.
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

// Any calls the injectors in order and returns the first fault. It does not call the
// injectors after that one.
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

// All calls all injectors. It adds up their delays and takes the first failure.
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

// A Switch is an injector that a test turns on and off. It is initially off.
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

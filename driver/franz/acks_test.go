package franz

import (
	"slices"
	"sync"
)

// acks counts acknowledgements by message.
type acks struct {
	mu      sync.Mutex
	results map[int][]error
}

func newAcks() *acks { return &acks{results: map[int][]error{}} }

type ack struct {
	to *acks
	id int
}

func (a ack) Ack(err error) {
	a.to.mu.Lock()
	defer a.to.mu.Unlock()
	a.to.results[a.id] = append(a.to.results[a.id], err)
}

func (a *acks) of(id int) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.results[id])
}

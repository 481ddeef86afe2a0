package memory

import "github.com/aarontianqx/gopkg/driver"

// An arena copies bytes that must no longer change into chunks, so that a record needs no
// allocation of its own.
type arena struct {
	free []byte
	next int // size of the next chunk
}

const (
	smallestChunk = 512
	largestChunk  = 64 << 10
)

// copy distinguishes nil from empty.
func (a *arena) copy(b []byte) []byte {
	switch n := len(b); {
	case b == nil:
		return nil
	case n == 0:
		return []byte{}
	case n > largestChunk/4:
		return append([]byte(nil), b...)
	case n > len(a.free):
		a.grow(n)
	}
	n := copy(a.free, b)
	c := a.free[:n:n]
	a.free = a.free[n:]
	return c
}

func (a *arena) grow(n int) {
	a.next = min(max(2*a.next, smallestChunk), largestChunk)
	a.free = make([]byte, max(a.next, n))
}

func (a *arena) copyHeaders(hs []driver.Header) []driver.Header {
	if hs == nil {
		return nil
	}
	c := make([]driver.Header, len(hs))
	for i, h := range hs {
		c[i] = driver.Header{Key: h.Key, Value: a.copy(h.Value)}
	}
	return c
}

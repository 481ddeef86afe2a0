package kafka

import (
	"bytes"
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
)

// deliverFetch delivers n records whose values are parts of one buffer, as those of
// one fetch are, and returns a weak pointer to that buffer.
func (c *fakeConsumer) deliverFetch(cl *driver.Claim, n int) weak.Pointer[byte] {
	const size = 1 << 10
	fetch := make([]byte, n*size)
	var b driver.Batch
	for i := range n {
		b.Records = append(b.Records, driver.Record{Offset: int64(i), Value: fetch[i*size : (i+1)*size : (i+1)*size]})
	}
	c.h.Deliver(cl, b)
	return weak.Make(&fetch[0])
}

// A handler that keeps a value keeps its fetch, as the doc comments say; one that
// keeps a copy keeps nothing else, and the library keeps nothing of its own.
func TestFault_E4_AKeptValuePinsItsFetchAndACopyDoesNot(t *testing.T) {
	type keep func(value []byte) []byte
	kept := func(keep keep, kind func(ConsumerConfig, func([]byte)) Consumer) (inMemory bool) {
		synctest.Test(t, func(t *testing.T) {
			d := &fakeDriver{}
			m := New(d, quiet())
			defer stop(t, m)
			var last []byte
			startOn(t, m, kind(testConfig(), func(value []byte) { last = keep(value) }))
			c := d.consumer(t)
			fetch := c.deliverFetch(c.assign(0, 0), 400)
			pass(time.Minute)
			runtime.GC()
			inMemory = fetch.Value() != nil
			assert.Len(t, last, 1<<10)
		})
		return inMemory
	}
	values := func(cfg ConsumerConfig, see func([]byte)) Consumer {
		return &handlerFunc{cfg, func(_ context.Context, v []byte) error { see(v); return nil }}
	}
	messages := func(cfg ConsumerConfig, see func([]byte)) Consumer {
		return NewConsumer(cfg, func(_ context.Context, m *Message) error { see(m.Value); return nil })
	}
	assert.True(t, kept(func(v []byte) []byte { return v }, values), "a kept value does not pin its fetch")
	assert.True(t, kept(func(v []byte) []byte { return v }, messages), "a kept value does not pin its fetch")
	assert.False(t, kept(bytes.Clone, values), "after all is handled, something pins the fetch")
	assert.False(t, kept(bytes.Clone, messages), "after all is handled, something pins the fetch")
}

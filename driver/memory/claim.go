package memory

import (
	"github.com/aarontianqx/gopkg/driver"
)

// A claim is what stands behind a driver.Claim. The broker's mutex guards all
// but what is set when it is made.
type claim struct {
	driver.Claim
	c    *consumer
	log  *partitionLog
	done chan struct{} // closed when its goroutine has ended

	next      int64 // where fetching goes on
	committed int64
	watermark int64
	paused    bool
	stopped   bool   // delivers nothing any more
	ended     bool   // commits nothing any more
	changed   signal // fired when a fetch may answer differently
}

func (k *claim) partition() TopicPartition { return TopicPartition{k.Topic, k.Partition} }

// deliver hands over what is fetched until the claim is stopped. Each claim has
// its own goroutine, so that none waits for another.
func (k *claim) deliver(h driver.Handler) {
	defer close(k.done)
	for {
		b, ok, wait := k.fetch()
		if ok {
			h.Deliver(&k.Claim, b)
			continue
		}
		if wait == nil {
			return
		}
		select {
		case <-wait[0]:
		case <-wait[1]:
		}
	}
}

// fetch returns a batch, or what to wait for, or neither if the claim has been
// stopped or has lost its place.
func (k *claim) fetch() (b driver.Batch, ok bool, wait []<-chan struct{}) {
	k.c.b.mu.Lock()
	defer k.c.b.mu.Unlock()
	if k.stopped {
		return b, false, nil
	}
	if !k.paused && k.c.reachable() {
		if k.next < k.log.start || k.next > k.log.end {
			k.c.outOfRange(k)
			return b, false, nil
		}
		if b, ok = k.read(); ok {
			return b, true, nil
		}
	}
	return b, false, []<-chan struct{}{k.changed.wait(), k.log.changed.wait()}
}

func (k *claim) read() (driver.Batch, bool) {
	records, next := k.log.read(k.next, k.c.cfg.IsolationLevel, k.c.cfg.MaxMessageBytes)
	k.watermark = k.log.end
	if next == k.next {
		return driver.Batch{}, false
	}
	k.next = next
	return driver.Batch{Records: records, Next: next}, true
}

// stop ends delivery. Who has called it waits for k.done.
func (k *claim) stop() {
	k.stopped = true
	k.changed.fire()
}

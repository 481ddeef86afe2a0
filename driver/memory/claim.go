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
	reported  int64  // the damaged offset that the handler knows of, or -1
	refused   bool   // the handler knows that the topic may not be read
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
		f := k.fetch()
		switch {
		case f.ok:
			h.Deliver(&k.Claim, f.batch)
		case f.trouble != nil:
			h.Error(f.trouble)
		case f.changed == nil:
			return
		default:
			select {
			case <-f.changed:
			case <-f.logChanged:
			}
		}
	}
}

// A fetched is what one fetch has brought: a batch, or trouble to report, or what
// to wait for. It is empty if the claim has been stopped or has lost its place.
type fetched struct {
	ok                  bool
	batch               driver.Batch
	trouble             error
	changed, logChanged <-chan struct{}
}

func (k *claim) fetch() (f fetched) {
	k.c.b.mu.Lock()
	defer k.c.b.mu.Unlock()
	if k.stopped {
		return f
	}
	if !k.paused && k.c.reachable() && !k.orphaned() {
		if f.trouble = k.refusal(); f.trouble != nil {
			return f
		}
		if k.next < k.log.start || k.next > k.log.end {
			k.c.outOfRange(k)
			return f
		}
		if !k.refused && k.read(&f) {
			return f
		}
	}
	f.changed, f.logChanged = k.changed.wait(), k.log.changed.wait()
	return f
}

// read reads on, and reports whether that has brought anything: damage is reported
// once.
func (k *claim) read(f *fetched) bool {
	records, next := k.log.read(k.next, k.c.cfg.IsolationLevel, k.c.cfg.MaxMessageBytes)
	switch {
	case next > k.next:
		k.next = next
		f.ok, f.batch = true, driver.Batch{Records: records, Next: next}
	case k.log.damagedAt(next) && next < k.log.limit(k.c.cfg.IsolationLevel) && k.reported != next:
		k.reported = next
		f.trouble = errDamaged(k.partition(), next)
	}
	return f.ok || f.trouble != nil
}

// refusal returns, once, that the topic may not be read.
func (k *claim) refusal() error {
	told := k.refused
	k.refused = k.c.b.topics[k.Topic].forbidden
	if !k.refused || told {
		return nil
	}
	return errTopic(k.Topic, errForbidden(k.Topic))
}

// highWatermark is that of now while the broker can be asked, and also while
// nothing is fetched: a paused claim has one, too.
func (k *claim) highWatermark() int64 {
	if k.c.reachable() && !k.orphaned() {
		k.watermark = k.log.end
	}
	return k.watermark
}

// stop ends delivery. Who has called it waits for k.done.
func (k *claim) stop() {
	k.stopped = true
	k.changed.fire()
}

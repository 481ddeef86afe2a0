package memory

import (
	"github.com/aarontianqx/gopkg/driver"
)

// A claim is the broker's side of a driver.Claim. The broker's mutex guards all but the
// fields of the first block, which never change.
type claim struct {
	driver.Claim
	b        *Broker
	set      *claimSet // that it belongs to
	link     *link
	log      *partitionLog
	level    driver.IsolationLevel
	maxBytes int           // of one fetch
	done     chan struct{} // closed when its goroutine has ended

	next      int64 // where fetching continues
	committed place
	watermark int64
	paused    bool
	reported  int64  // the damaged offset that was reported to the Handler, or -1
	refused   bool   // the Handler knows that the topic may not be read
	stopped   bool   // delivers nothing more
	ended     bool   // commits nothing more
	changed   signal // fired when a fetch may answer differently
}

func (k *claim) partition() TopicPartition { return TopicPartition{k.Topic, k.Partition} }

func (k *claim) setPaused(paused bool) {
	if k.paused != paused {
		k.paused = paused
		k.changed.fire()
	}
}

// deliver hands over what fetches bring until the claim is stopped. Each claim has its own
// goroutine, so that none waits for another.
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

// A fetched is the result of one fetch: a batch, a trouble to report, or the signals to
// wait for. It is empty if the claim was stopped or has lost its place.
type fetched struct {
	ok                  bool
	batch               driver.Batch
	trouble             error
	changed, logChanged <-chan struct{}
}

func (k *claim) fetch() (f fetched) {
	k.b.mu.Lock()
	defer k.b.mu.Unlock()
	if k.stopped {
		return f
	}
	if !k.paused && k.link.up() && !k.orphaned() {
		if f.trouble = k.refusal(); f.trouble != nil {
			return f
		}
		if k.next < k.log.start || k.next > k.log.end {
			k.set.stray(k)
			return f
		}
		if !k.refused && k.read(&f) {
			return f
		}
	}
	f.changed, f.logChanged = k.changed.wait(), k.log.changed.wait()
	return f
}

// read reads records, and reports whether that had a result. Damage is a result once.
func (k *claim) read(f *fetched) bool {
	records, next := k.log.read(k.next, k.level, k.maxBytes)
	switch {
	case next > k.next:
		k.next, k.watermark = next, k.log.end
		f.ok, f.batch = true, driver.Batch{Records: records, Next: next}
	case k.log.damagedAt(next) && next < k.log.limit(k.level) && k.reported != next:
		k.reported = next
		f.trouble = errDamaged(k.partition(), next)
	}
	return f.ok || f.trouble != nil
}

// refusal returns, once, the error of a topic that may not be read.
func (k *claim) refusal() error {
	known := k.refused
	k.refused = k.b.topics[k.Topic].forbidden
	if !k.refused || known {
		return nil
	}
	return errTopic(k.Topic, errForbidden(k.Topic))
}

// highWatermark is the current one while the broker is reachable, also for a paused claim,
// which fetches nothing.
func (k *claim) highWatermark() int64 {
	if k.link.up() && !k.orphaned() {
		k.watermark = k.log.end
	}
	return k.watermark
}

// stop ends delivery. The caller waits for k.done.
func (k *claim) stop() {
	k.stopped = true
	k.changed.fire()
}

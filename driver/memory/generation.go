package memory

import (
	"slices"

	"github.com/aarontianqx/gopkg/driver"
)

// participate goes through one generation and returns the reason why it is over.
func (r *run) participate() error {
	if r.watch.orphaned() {
		return errOrphaned
	}
	if r.c.place.byEpochs {
		return r.reconcile()
	}
	if !r.c.cooperative() {
		if err := r.drains.revoke(r.live()); err != nil {
			return err
		}
	}
	if err := r.join(); err != nil {
		return err
	}
	if err := r.watch.until(r.c.place.synced); err != nil {
		return err
	}
	for {
		if err := r.adopt(); err != nil {
			return err
		}
		err := r.until(func() (bool, error) {
			if r.c.link.up() && r.c.g.state != stable {
				return false, errRebalance(r.c.g)
			}
			return false, nil
		})
		if err != errSought {
			return err
		}
	}
}

// join waits until the group is complete under a new generation. While the members have no
// balance strategy in common, it asks again whenever the group has changed.
func (r *run) join() error {
	r.c.b.mu.Lock()
	r.c.place.joining = true
	r.c.b.mu.Unlock()
	asked, reported := false, false
	return r.watch.until(func() (bool, error) {
		if !r.c.link.up() {
			return false, nil
		}
		if !asked {
			switch err := r.c.place.ask(r.c); {
			case code(err) == "INCONSISTENT_GROUP_PROTOCOL":
				if !reported {
					r.watch.trouble, reported = err, true
				}
				return false, nil
			case err != nil:
				return false, err
			}
			asked = true
		}
		done, err := r.c.place.joined()
		if done {
			r.c.topics.remember()
		}
		return done, err
	})
}

// adopt creates the claims that the assignment adds and revokes those that it drops. After
// it has dropped some, the member joins once more or, with the ConsumerProtocol, says so.
func (r *run) adopt() error {
	r.reportReborn() // a topic may have been created again while a seek ended its claims
	added, dropped, missing := r.compare()
	for _, topic := range missing {
		r.h.Error(topic)
	}
	for _, start := range r.c.topics.takeUnplaced() {
		r.h.Error(&driver.Error{Code: start.ErrorType(), Err: start})
	}
	if r.c.place.announce(len(added)) {
		r.c.b.observer.flush() // what the group has committed before the claims began
		r.h.Assign(claimsOf(added))
	}
	for _, k := range added {
		go k.deliver(r.h)
	}
	if len(dropped) == 0 {
		return nil
	}
	if err := r.drains.revoke(dropped); err != nil {
		return err
	}
	return fail("REBALANCE_IN_PROGRESS", "%d partitions were given up", len(dropped))
}

// compare returns the claims that the assignment adds, those that it drops, and the errors
// of topics. It drops a partition whose topic was created again, before it adds it.
func (r *run) compare() (added, dropped []*claim, missing []*driver.PartitionError) {
	r.c.b.mu.Lock()
	defer r.c.b.mu.Unlock()
	assigned, held := r.c.place.previous, make(map[TopicPartition]bool)
	for _, k := range r.c.claims.live {
		held[k.partition()] = true
		if k.orphaned() || !slices.Contains(assigned, k.partition()) {
			dropped = append(dropped, k)
		}
	}
	for _, tp := range assigned {
		if l := r.c.b.log(tp); l != nil && !held[tp] {
			added = append(added, r.newClaim(tp, l))
		}
	}
	r.c.claims.live = append(r.c.claims.live, added...)
	return added, dropped, r.c.topics.missing()
}

func (r *run) newClaim(tp TopicPartition, l *partitionLog) *claim {
	start := r.c.g.start(r.c, tp, l)
	k := &claim{
		b: r.c.b, set: &r.c.claims, link: &r.c.link, log: l, done: make(chan struct{}),
		level: r.c.cfg.IsolationLevel, maxBytes: r.c.cfg.MaxMessageBytes,
		next: start.offset, committed: start, watermark: -1, reported: -1,
	}
	k.Claim = driver.Claim{
		Topic: tp.Topic, Partition: tp.Partition,
		Start: start.offset, Metadata: start.metadata, End: l.end, Generation: r.c.place.generation, Backend: k,
	}
	return k
}

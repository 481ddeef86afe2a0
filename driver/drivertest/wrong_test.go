package drivertest_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/aarontianqx/gopkg/driver"
	"github.com/aarontianqx/gopkg/driver/drivertest"
	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A wrong is a driver that breaks one sentence of the contract, as a few lines
// over the memory driver.
type wrong struct {
	name  string
	fails string   // the case that is meant for it
	also  []string // other cases that depend on that sentence
	wide  bool     // most cases depend on it

	validate error                                            // the answer of the validator
	open     func(h *wrongHarness, cfg driver.ConsumerConfig) // comes before Open
	config   func(cfg *driver.ConsumerConfig)                 // changes what the consumer is asked for
	consumer func(c *consumer)
	producer func(p *producer)
	sends    func(cfg *driver.ProducerConfig) // changes what the producer is asked for
}

func wrongs() []wrong {
	return slices.Concat(
		wrongMembers(), wrongStarts(), wrongDeliveries(), wrongPauses(), wrongCommits(), wrongRevokes(), wrongTopics(), wrongProducers(),
	)
}

// TestWrongDrivers shows that each case can fail, and for its own reason only:
// what another case reports of a wrong driver is under the name of the one that
// is meant for it.
func TestWrongDrivers(t *testing.T) {
	testkit.Slow(t, "runs the suite on each of the wrong drivers")
	opens := opensOf(t)
	for _, w := range wrongs() {
		t.Run(w.name, func(t *testing.T) {
			for _, c := range drivertest.Cases() {
				if !w.matters(opens[c.Name]) {
					continue
				}
				r := run(t, c, func(t drivertest.T) drivertest.Harness { return newWrongHarness(t, w) })
				switch {
				case c.Name == w.fails:
					assert.Truef(t, r.names(w.fails), "%s did not find it; it reports %q", c.Name, r.errors)
				case r.Failed() && !r.names(w.fails) && !w.wide:
					assert.Containsf(t, w.also, c.Name, "a case that is not meant for it reports %q", r.errors)
				}
			}
		})
	}
}

// opens is what a case opens.
type opens struct{ consumers, producers bool }

// opensOf runs every case on the right driver, which must pass, and returns what
// each opens.
func opensOf(t *testing.T) map[string]opens {
	t.Helper()
	all := make(map[string]opens)
	for _, c := range drivertest.Cases() {
		var h *wrongHarness
		r := run(t, c, func(t drivertest.T) drivertest.Harness {
			h = newWrongHarness(t, wrong{})
			return h
		})
		assert.Emptyf(t, r.errors, "%s on the right driver", c.Name)
		assert.Emptyf(t, r.skipped, "%s on the right driver", c.Name)
		all[c.Name] = opens{h.consumers.Load() > 0, h.producers.Load() > 0}
	}
	return all
}

// matters reports whether a case with these opens can see what is wrong.
func (w wrong) matters(o opens) bool {
	return o.producers && (w.producer != nil || w.sends != nil) || o.consumers && (w.consumer != nil || w.config != nil || w.open != nil || w.validate != nil)
}

// TestEveryCaseCanFail holds the table complete.
func TestEveryCaseCanFail(t *testing.T) {
	for _, c := range drivertest.Cases() {
		found := slices.ContainsFunc(wrongs(), func(w wrong) bool { return w.fails == c.Name })
		assert.Truef(t, found, "no wrong driver is meant to fail %s", c.Name)
	}
}

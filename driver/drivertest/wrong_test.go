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

	protocol driver.GroupProtocol                             // of the harness
	denies   bool                                             // supports no protocol
	validate error                                            // the answer of the validator
	open     func(h *wrongHarness, cfg driver.ConsumerConfig) // comes before Open
	config   func(cfg *driver.ConsumerConfig)                 // changes what the consumer is asked for
	consumer func(c *consumer)
	producer func(p *producer)
	group    func(g *groupOutside)
	sends    func(cfg *driver.ProducerConfig) // changes what the producer is asked for
}

func wrongs() []wrong {
	return slices.Concat(
		wrongMembers(), wrongStarts(), wrongDeliveries(), wrongPauses(), wrongCommits(), wrongRevokes(), wrongSeeks(), wrongTopics(), wrongProducers(), wrongGroups(),
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

// TestWrongDriversOfTheConsumerProtocol shows that the cases can fail with that protocol,
// too.
func TestWrongDriversOfTheConsumerProtocol(t *testing.T) {
	testkit.Slow(t, "waits for the patience of cases that fail")
	for _, w := range wrongsOfTheConsumerProtocol() {
		t.Run(w.name, func(t *testing.T) {
			w.protocol = driver.ConsumerProtocol
			cases := drivertest.Cases()
			c := cases[slices.IndexFunc(cases, func(c drivertest.Case) bool { return c.Name == w.fails })]
			r := run(t, c, func(t drivertest.T) drivertest.Harness { return newWrongHarness(t, wrong{protocol: w.protocol}) })
			assert.Emptyf(t, r.errors, "%s on the right driver", c.Name)
			r = run(t, c, func(t drivertest.T) drivertest.Harness { return newWrongHarness(t, w) })
			assert.Truef(t, r.names(w.fails), "%s did not find it; it reports %q", c.Name, r.errors)
		})
	}
}

// TestSkippedCasesOfTheConsumerProtocol runs all cases on the right driver: those that do
// not apply, and no others, are skipped and say why.
func TestSkippedCasesOfTheConsumerProtocol(t *testing.T) {
	skipped := make(map[string]string)
	for _, c := range drivertest.Cases() {
		r := run(t, c, func(t drivertest.T) drivertest.Harness { return newMemoryHarnessOf(driver.ConsumerProtocol) })
		assert.Emptyf(t, r.errors, c.Name)
		if r.skipped != "" {
			t.Logf("%s: %s", c.Name, r.skipped)
			skipped[c.Name] = r.skipped
		}
	}
	assert.Len(t, skipped, 2)
	for _, name := range []string{"OneOwnerAtATimeCooperative", "NoCommonStrategyWaits"} {
		assert.Contains(t, skipped[name], "does not apply to the ConsumerProtocol")
	}
}

// opens is what a case opens.
type opens struct{ consumers, producers, groups bool }

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
		all[c.Name] = opens{h.consumers.Load() > 0, h.producers.Load() > 0, h.groups.Load() > 0}
	}
	return all
}

// matters reports whether a case with these opens can see what is wrong.
func (w wrong) matters(o opens) bool {
	if w.denies {
		return !o.consumers && !o.producers && !o.groups // it is seen where the right driver refuses nothing
	}
	return o.groups && w.group != nil || o.producers && (w.producer != nil || w.sends != nil) || o.consumers && (w.consumer != nil || w.config != nil || w.open != nil || w.validate != nil)
}

// TestEveryCaseCanFail holds the table complete.
func TestEveryCaseCanFail(t *testing.T) {
	for _, c := range drivertest.Cases() {
		found := slices.ContainsFunc(wrongs(), func(w wrong) bool { return w.fails == c.Name })
		assert.Truef(t, found, "no wrong driver is meant to fail %s", c.Name)
	}
}

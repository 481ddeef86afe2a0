package drivertest

import (
	"slices"
	"testing"
)

// A Case checks one sentence of the contract in package driver.
type Case struct {
	Name string
	Rule string // the sentence

	// Run checks the driver of h and reports violations to t. It returns when
	// everything that it started has ended. It calls Fatalf and Skipf only on the
	// goroutine that called it.
	Run func(t T, h Harness)
}

// A T is the part of *testing.T, *testing.B or rapid.T that a case needs. All methods
// except Fatalf and Skipf must be safe for concurrent use by several goroutines.
type T interface {
	Helper()
	Cleanup(func())
	Failed() bool
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// Run runs every case as a subtest with its own harness.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, newHarness(t)) })
	}
}

// Cases returns the cases in the order in which they should run: a case comes after
// those that check what it relies on.
func Cases() []Case {
	var cases []Case
	for _, c := range slices.Concat(
		openChecks(), startChecks(), deliverChecks(), pauseChecks(), commitChecks(), commitWaitChecks(), metadataChecks(),
		rebalanceChecks(), lostChecks(), topicChecks(), sessionChecks(), seekChecks(), closeChecks(), errorChecks(), groupChecks(), findOffsetsChecks(),
		produceChecks(), produceLimitChecks(), acceptChecks(), findChecks(), produceCloseChecks(),
	) {
		cases = append(cases, c.asCase())
	}
	return cases
}

// A check is the definition of a case.
type check struct {
	name string
	rule string
	run  func(e *env)
}

func (c check) asCase() Case {
	return Case{Name: c.name, Rule: c.rule, Run: func(t T, h Harness) {
		t.Helper()
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("the rule: %s", c.rule)
			}
		})
		e := newEnv(t, h, c.name)
		e.skipUnlessApplies()
		c.run(e)
	}}
}

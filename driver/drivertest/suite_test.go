package drivertest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/driver"
)

func TestCasesAreWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range Cases() {
		assert.NotEmpty(t, c.Name)
		assert.NotContains(t, seen, c.Name, "two cases of one name")
		seen[c.Name] = true
		assert.Truef(t, strings.HasSuffix(c.Rule, "."), "case %s: the rule is not a sentence: %q", c.Name, c.Rule)
	}
	for _, rule := range []string{
		ruleOwnGoroutine, ruleSilence, ruleAssignFirst, ruleNothingAfterEnd, ruleEndsOnce, ruleNoOverlap,
		ruleFixed, ruleNewClaim, ruleOneOwner, ruleOneOwnerCooperative, ruleOrder, ruleNext, ruleWindow,
		ruleNamedErrors, ruleRunEndsClaims, ruleDeadline, ruleBytes, ruleCloseInTime, ruleCloseAnswer, ruleRunNil,
		rulePerMark, ruleCommitInTime, ruleAckOnce, ruleAckSilence, ruleFlush, ruleProduceInTime,
		ruleProducerCloseInTime, ruleProducerCloseWaits,
	} {
		assert.Contains(t, seen, rule, "reports need a case of their name")
	}
}

// TestMurmur2 has the vectors of Java's client.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"21":                         -973932308,
		"foobar":                     -790332482,
		"a-little-bit-long-string":   -985981536,
		"a-little-bit-longer-string": -1486304829,
		"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
		"abc": 479470107,
	} {
		assert.Equalf(t, want, murmur2([]byte(key)), "murmur2(%q)", key)
	}
}

// A skipRecorder is a T that notes why a case was skipped.
type skipRecorder struct {
	*testing.T
	reason string
}

func (r *skipRecorder) Skipf(format string, args ...any) {
	r.reason = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// TestMissingAbilityIsNamed runs cases on a harness without abilities, which skips them.
func TestMissingAbilityIsNamed(t *testing.T) {
	skip := func(need func(e *env)) string {
		r := &skipRecorder{T: t}
		done := make(chan struct{})
		go func() { defer close(done); need(&env{t: r}) }()
		<-done
		return r.reason
	}
	got := []string{
		skip(func(e *env) { ability[SessionEnder](e) }),
		skip(func(e *env) { ability[Truncater](e) }),
		skip(func(e *env) { e.silence() }),
	}
	want := []string{
		"the harness does not implement drivertest.SessionEnder",
		"the harness does not implement drivertest.Truncater",
		"the harness implements neither drivertest.Staller nor drivertest.Cutter",
	}
	require.Equal(t, want, got)
}

// TestSettingsKeepWhatIsSet fills in what is not.
func TestSettingsKeepWhatIsSet(t *testing.T) {
	s := Settings{Quiet: 1}.withDefaults()
	require.Equal(t, time.Duration(1), s.Quiet)
	require.NotZero(t, s.Patience)
	require.NotZero(t, s.SessionTimeout)
}

func TestSameRecord(t *testing.T) {
	r := driver.Record{Offset: 1, Key: []byte{}, Value: []byte("v"), Headers: []driver.Header{{Key: "a"}, {Key: "b"}}}
	same := cloneRecord(r)
	require.Truef(t, sameRecord(r, same), "%s and %s", show(r), show(same))
	for name, change := range map[string]func(*driver.Record){
		"offset":  func(r *driver.Record) { r.Offset++ },
		"nil key": func(r *driver.Record) { r.Key = nil },
		"value":   func(r *driver.Record) { r.Value = []byte("w") },
		"headers": func(r *driver.Record) { slices.Reverse(r.Headers) },
	} {
		other := cloneRecord(r)
		change(&other)
		require.Falsef(t, sameRecord(r, other), "%s: %s and %s", name, show(r), show(other))
	}
}

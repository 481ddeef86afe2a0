package drivertest

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/aarontianqx/gopkg/driver"
)

func TestCasesAreWhole(t *testing.T) {
	seen := make(map[string]bool)
	for _, c := range Cases() {
		if c.Name == "" || seen[c.Name] {
			t.Errorf("case %q: the name is empty or is there twice", c.Name)
		}
		seen[c.Name] = true
		if !strings.HasSuffix(c.Rule, ".") {
			t.Errorf("case %s: the rule is no sentence: %q", c.Name, c.Rule)
		}
	}
	for _, rule := range []string{
		ruleOwnGoroutine, ruleSilence, ruleAssignFirst, ruleNothingAfterEnd, ruleEndsOnce, ruleNoOverlap,
		ruleFixed, ruleNewClaim, ruleOneOwner, ruleOneOwnerCooperative, ruleOrder, ruleNext, ruleWindow,
		ruleNamedErrors, ruleRunEndsClaims, ruleDeadline, ruleBytes, ruleCloseInTime, ruleCloseAnswer, ruleRunNil,
		rulePerMark, ruleCommitInTime, ruleAckOnce, ruleAckSilence, ruleFlush, ruleProduceInTime,
		ruleProducerCloseInTime, ruleProducerCloseWaits,
	} {
		if !seen[rule] {
			t.Errorf("%s is reported, and is no case", rule)
		}
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
		if got := murmur2([]byte(key)); got != want {
			t.Errorf("murmur2(%q) = %d, want %d", key, got, want)
		}
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

// TestMissingAbilityIsNamed skips what a harness without abilities can not do.
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
		"the harness is no drivertest.SessionEnder",
		"the harness is no drivertest.Truncater",
		"the harness is neither a drivertest.Staller nor a drivertest.Cutter",
	}
	if !slices.Equal(got, want) {
		t.Errorf("skipped with %q, want %q", got, want)
	}
}

// TestSettingsKeepWhatIsSet fills in what is not.
func TestSettingsKeepWhatIsSet(t *testing.T) {
	s := Settings{Quiet: 1}.withDefaults()
	if s.Quiet != 1 || s.Patience == 0 || s.SessionTimeout == 0 {
		t.Errorf("the settings are %+v", s)
	}
}

func TestSameRecord(t *testing.T) {
	r := driver.Record{Offset: 1, Key: []byte{}, Value: []byte("v"), Headers: []driver.Header{{Key: "a"}, {Key: "b"}}}
	same := cloneRecord(r)
	if !sameRecord(r, same) {
		t.Errorf("%s and %s differ", show(r), show(same))
	}
	for name, change := range map[string]func(*driver.Record){
		"offset":  func(r *driver.Record) { r.Offset++ },
		"nil key": func(r *driver.Record) { r.Key = nil },
		"value":   func(r *driver.Record) { r.Value = []byte("w") },
		"headers": func(r *driver.Record) { slices.Reverse(r.Headers) },
	} {
		other := cloneRecord(r)
		if change(&other); sameRecord(r, other) {
			t.Errorf("%s: %s and %s are the same", name, show(r), show(other))
		}
	}
}

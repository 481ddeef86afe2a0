package simulation

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/aarontianqx/gopkg/internal/testkit"
)

// A mutation is a bug that is planted into a copy of a file of package kafka, or of
// the driver in memory if its name begins with memory/: old, which must be there
// exactly once, becomes new. tests finds it where no random history can: a package below
// kafka/, and which of its tests; the simulation finds all others.
type mutation struct {
	name, file, old, new string
	tests                [2]string
}

// mutations are all planted bugs: those below, those of partitions whose records are
// handled many at once, those of pauses, rates and retry topics, and those of seeks.
var mutations = slices.Concat(serialMutations, orderMutations, operatingMutations, seekingMutations)

func planted(all [][4]string) (ms []mutation) {
	for _, m := range all {
		ms = append(ms, mutation{name: m[0], file: m[1], old: m[2], new: m[3]})
	}
	return ms
}

var serialMutations = planted([][4]string{
	{"skip on error", "partition_hands.go", "if err := h.handle(ctx, h.one[:]); err != nil {\n\t\t\treturn err\n\t\t}", "h.handle(ctx, h.one[:])"},
	{"skip on error, values", "partition_hands.go", "if err := h(ctx, l.record().Value); err != nil {\n\t\t\treturn err\n\t\t}", "h(ctx, l.record().Value)"},
	{"skip on error, batches", "partition_batch.go", "if err := h.handle(ctx, ms); err != nil {\n\t\treturn err\n\t}\n\tl.size", "h.handle(ctx, ms)\n\tl.size"},
	{"panic counts as success", "partition_lane.go", "err = &PanicError{Value: v, Stack: debug.Stack()}", "_ = debug.Stack\n\t\t\tl.size = 1\n\t\t\tl.finish(OutcomeDone)"},
	{"goexit counts as success", "partition_lane.go", "return errGoexit", "l.size = 1\n\t\tl.finish(OutcomeDone)\n\t\treturn nil"},
	{"position of what was handed out", "partition_intake.go", "if in.env.autoCommit {\n\t\treturn max(", "if true {\n\t\treturn max("},
	{"commit one too far", "partition_metadata.go", "m.Claim, m.Offset = in.claim, in.durable()", "m.Claim, m.Offset = in.claim, in.durable()+1"},
	{"commit the handled offset", "partition_metadata.go", "m.Claim, m.Offset = in.claim, in.durable()", "m.Claim, m.Offset = in.claim, max(in.durable()-1, in.claim.Start)"},
	{"mark cleared by a failed commit", "session_commit.go", "case !isBad:\n", "case !isBad || err != nil:\n"},
	{"no commit after a failed one", "session_schedule.go", "\t\ts.earliest = time.Now().Add(s.interval)\n\t\ts.by(s.earliest)\n", ""},
	{"no commit at revoke", "session_claims.go", "\tc.committer.commit(ctx)\n\tc.end(parts)", "\tc.end(parts)"},
	{"revoke acknowledged before the drain", "session_claims.go", "stuck := awaitLanes(drained, parts)", "stuck := awaitLanes(drained, nil)"},
	{"revoke does not cancel", "session_claims.go", "cause = ErrRevoked", "cause = nil"},
	{"revoke does not halt", "session_claims.go", "\t\tif p.sought.Load() {\n\t\t\tp.brake.halt(nil)\n\t\t} else {\n\t\t\tp.brake.halt(cause)\n\t\t}\n", "\t\t_ = p\n"},
	{"loss does not halt", "session_claims.go", "\t\tp.brake.halt(ErrPartitionLost)\n\t}\n\tc.end(parts)", "\t\tp.brake.cancel(nil)\n\t}\n\tc.end(parts)"},
	{"loss does not cancel", "session_claims.go", "\t\tp.brake.halt(ErrPartitionLost)\n\t}\n\tc.end(parts)", "\t\tp.brake.halt(nil)\n\t}\n\tc.end(parts)"},
	{"hole blocks the commit", "internal/window/window.go", "return max(position, w.end)", "return position"},
	{"paused for ever", "partition_flow.go", "in.env.driver.Resume(in.claim)", "_ = pause"},
	{"never paused", "partition_flow.go", "in.env.driver.Pause(in.claim)", "_ = pause"},
	{"new claim beside a straggler", "partition.go", "if before.awaitClear(p.brake.haltC) {", "if true {"},
	{"worker not woken", "partition_intake.go", "\tif waiting {\n\t\tselect {\n", "\tif false && waiting {\n\t\tselect {\n"},
	{"backoff of a record never grows", "failure.go", "l.env.backoff.Wait(f.attempts)", "l.env.backoff.Wait(1)"},
	{"backoff of a record of a millisecond", "failure.go", "f.next = f.failed.Add(f.wait)", "f.next = f.failed.Add(min(f.wait, time.Millisecond))"},
	{"backoff of a record blind to halt", "failure.go", "\tcase <-l.brake.haltC:\n\t}\n}", "\t}\n}"},
	{"failures of a recreated topic's records go on", "session_reports.go", "c.env.ledger.forget(key, 0)", "_ = key"},
	{"failures of a handled record go on", "partition_lane.go", "l.env.ledger.strike(key, records[i].Offset)", "_ = key"},
	{"failing record disables", "failure.go", "\tl.align()\n", "\tl.align()\n\tif l.open[0].attempts >= l.env.keeper.(*claims).job.cfg.MaxConsecutiveErrors {\n\t\tl.env.keeper.stop(l.open[0].err)\n\t}\n"},
	{"failed starts never disable", "job.go", "if most := j.cfg.MaxConsecutiveErrors; most != Unlimited && n >= most {", "if false {"},
	{"record left behind after a failure", "failure.go", "\t\t\tl.again = true\n", "\t\t\tfor _, f := range l.open {\n\t\t\t\tl.hands.done(l, f.record.Offset, OutcomeDone)\n\t\t\t}\n"},
	{"no backoff of a restart", "job.go", "timer := time.NewTimer(wait)", "timer := time.NewTimer(0 * wait)"},
	{"backoff of a restart blind to the switch", "job.go", "\t\tcase <-timer.C:\n\t\t\treturn\n\t\tcase <-changed:\n", "\t\tcase <-timer.C:\n\t\t\t_ = changed\n\t\t\treturn\n"},
	{"switch change lost while draining", "job.go", "\tw.ons++\n", ""},
	{"switch-off does not halt", "job.go", "if !on && s != nil {\n\t\ts.halt(ErrSwitchedOff)\n\t}", "_ = s"},
	{"off and on again is one wish", "job.go", "\t\t\tw.on = false\n\t\t\tw.offs++\n", "\t\t\tw.on = false\n"},
	{"stop waits for nobody", "job.go", "\tj.workers.await()\n", ""},
	{"callback called twice", "send_callbacks.go", "\ts.callback(s.answer(), s.err)\n", "\ts.callback(s.answer(), s.err)\n\ts.callback(s.answer(), s.err)\n"},
	{"callback dropped when the producer is closed", "send_async.go", "\ts.end(op.ended(err))\n", "\tif err = op.ended(err); !isClosed(p.closed) {\n\t\ts.end(err)\n\t}\n"},
	{"async send used again before its callback has returned", "send_async.go", "\t\ts.p.callbacks.push(s)\n", "\t\tif s.p.callbacks.push(s); err == nil {\n\t\t\ts.p.asyncSends.Put(s)\n\t\t}\n"},
	{"callbacks dropped after a Goexit", "send_callbacks.go", "\t\tif !ended {\n\t\t\tgo c.run()\n\t\t}\n", "\t\t_ = ended\n"},
	{"producers closed before the handlers are done", "shutdown.go", "\t\tcase <-j.done:\n\t\tcase <-m.stages[consumersSevered].ctx.Done():\n", "\t\tcase <-j.done:\n\t\tdefault:\n"},
	{"shutdown returns before the handlers have", "shutdown.go", "\t\t<-j.done\n\t\tif j.stopErr", "\t\tif j.stopErr"},
	{"failures of a record never forgotten", "partition_lane.go", "if l.attempt > 1 || l.failed || len(l.later) > 0 || how != OutcomeDone {", "if false {"},
	{"failures of a restart never forgotten", "session_standing.go", "return m.handled.Load() || isClosed", "return isClosed"},
	{"failures forgotten with the claim", "job_ledger.go", "\tof[offset]++\n", "\tof[offset] = 1\n"},
	{"waiting worker not told of the halt", "partition_brake.go", "\tif before&flagHalted == 0 {\n\t\tclose(b.haltC)\n\t}", ""},
	{"message of the first attempt reused", "partition_hands.go", "\tif l.attempt > 1 {\n\t\treturn &l.messages(l.run.Records[l.i:l.i+1], l.attempt)[0]\n\t}\n", "\th.made[l.i].Attempt = l.attempt\n"},
	{"last commit under a lost claim's name", "session_claims.go", "\t\tp.brake.halt(ErrPartitionLost)\n\t}\n\tc.end(parts)\n\tif", "\t\tp.brake.halt(ErrPartitionLost)\n\t}\n\tif"},
	{"operation of a refused send never ends", "send_async.go", "\ts.end(op.ended(err))\n", "\ts.end(err)\n"},
	{"sent before it is acknowledged", "send.go", "case err = <-s.acked:\n", "case err = <-s.acked:\n\t\terr = nil\n"},

	// A record that fails is done, or it is kept.
	{"dead letter after the commit", "failure_forward.go", "\tl.failing.note(l.open)\n\tfor i, answer", "\tl.failing.note(l.open)\n\tl.run.Advance(l.i+1, l.i+1)\n\tl.env.schedule.moved()\n\tfor i, answer"},
	{"publish error ignored", "failure_forward.go", "if f := letters[i]; answer.err == nil {", "if f := letters[i]; true {"},
	{"unknown outcome taken for done", "failure_forward.go", "if f := letters[i]; answer.err == nil {", "if f := letters[i]; answer.err == nil || errors.Is(answer.err, ErrUnknownOutcome) {"},
	{"handler run again by a failed publish", "failure_forward.go", "noTarget := errors.Is(a.err, errNoTarget)\n", "noTarget := true\n"},
	{"mark of nil", "failure_mark.go", "\tif err == nil {\n\t\treturn nil\n\t}\n\tm.set", "\tif err == nil {\n\t\terr = errors.New(\"nil\")\n\t}\n\tm.set"},
	{"mark inside a panic", "failure_mark.go", "case *PanicError, *BatchError:", "case *BatchError:"},
	{"join with the unsafe branch first", "failure_mark.go", "!found || m.safety() > safest.safety()", "!found"},
	{"attempts lost at a rebalance", "job_ledger.go", "\t\tg.left[key] = time.Now()\n", "\t\tdelete(g.failures, key)\n"},
	{"hold that counts", "failure.go", "f.attempts = l.env.ledger.failuresOf(", "f.attempts = l.env.ledger.count("},
	{"hold that never ends", "hold.go", "\th.after(wait, h.ripen)\n", "\t_ = wait\n"},
	{"batch index off by one", "partition_batch.go", "return errs[i] == nil && !unhandled[i]", "return errs[(i+1)%len(errs)] == nil && !unhandled[i]"},
	{"headers dropped", "deadletter_headers.go", "\t\t\tw.headers = append(w.headers, h)\n", "\t\t\t_ = h\n"},
	{"position moved before the skip was reported", "failure.go", "\t\tl.env.log.Warn(\"kafka: record skipped\",\n\t\t\t\"topic\", l.claim.Topic, \"partition\", l.claim.Partition, \"offset\", f.record.Offset,\n\t\t\t\"failures\", f.attempts, \"error\", loggable(f.err))\n\t\tl.env.event(RecordSkipped{\n\t\t\tJobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),\n\t\t\tOffset: f.record.Offset, Attempts: f.attempts, Source: f.origin.source, Err: f.err,\n\t\t})\n\t\tl.hands.done(l, f.record.Offset, OutcomeSkipped)\n", "\t\tl.hands.done(l, f.record.Offset, OutcomeSkipped)\n\t\tl.env.log.Warn(\"kafka: record skipped\",\n\t\t\t\"topic\", l.claim.Topic, \"partition\", l.claim.Partition, \"offset\", f.record.Offset,\n\t\t\t\"failures\", f.attempts, \"error\", loggable(f.err))\n\t\tl.env.event(RecordSkipped{\n\t\t\tJobName: l.env.job, Group: l.env.group, TopicPartition: keyOf(l.claim),\n\t\t\tOffset: f.record.Offset, Attempts: f.attempts, Source: f.origin.source, Err: f.err,\n\t\t})\n"},
	{"stop one failure too early", "failure_policy.go", "return p.Then, p.MaxAttempts > 0 && n >= p.MaxAttempts", "early := 0\n\tif p.Then == FailureStop {\n\t\tearly = 1\n\t}\n\treturn p.Then, p.MaxAttempts > 0 && n >= p.MaxAttempts-early"},
	{"goexit in a halted partition not reported", "partition_lane.go", "return !l.goexit && l.i <", "return l.i <"},

	// A topic is its ID.
	{"old position committed to the new incarnation", "memory/commit.go", "\tcase k.orphaned():\n", "\tcase false:\n"},
	{"claim survives its topic", "memory/incarnation.go", "return k.b.log(k.partition()) != k.log }", "return k.b.log(k.partition()) == nil }"},
	{"new incarnation starts at the newest offset", "memory/offsets.go", "\t\tg.offsets[tp] = place{offset: l.start}\n", "\t\tg.offsets[tp] = place{offset: l.end}\n"},

	// One bad thing stops its neighbours.
	{"damaged record skipped", "memory/claim.go", "\t\tk.reported = next\n", "\t\tk.next = next + 1\n"},
	{"damage stops the neighbours", "memory/claim.go", "\t\tcase f.trouble != nil:\n", "\t\tcase f.trouble != nil:\n\t\t\tk.b.mu.Lock()\n\t\t\tfor _, other := range k.set.live {\n\t\t\t\tother.setPaused(true)\n\t\t\t}\n\t\t\tk.b.mu.Unlock()\n"},
	{"intact head withheld", "memory/damage.go", "\t\treturn min(l.damaged[i], limit)\n", "\t\treturn offset\n"},
	{"missing topic stops the others", "memory/group.go", "balance(g.strategy, subs, g.b.described)", "balance(g.strategy, subs, func(topic string) int {\n\t\tfor _, m := range g.members {\n\t\t\tfor _, wanted := range m.c.cfg.Topics {\n\t\t\t\tif g.b.described(wanted) == 0 {\n\t\t\t\t\treturn 0\n\t\t\t\t}\n\t\t\t}\n\t\t}\n\t\treturn g.b.described(topic)\n\t})"},
	{"missing topic not noticed when it appears", "memory/topic.go", "\tb.topics[name] = t\n\tb.metadataChanged(name)\n", "\tb.topics[name] = t\n"},

	// A group of the ConsumerProtocol moves partitions one by one, and fences by epochs.
	{"partition assigned before it is given up", "memory/epochs.go", "return slices.Contains(m.assignment, tp) || slices.Contains(m.revoking, tp)", "return slices.Contains(m.assignment, tp)"},
	{"epoch of a heartbeat not checked", "memory/epochs.go", "\tif epoch != m.generation {\n\t\treturn fail(\"FENCED_MEMBER_EPOCH\"", "\tif false {\n\t\treturn fail(\"FENCED_MEMBER_EPOCH\""},
	{"epoch of a commit not checked", "memory/epochs.go", "\tif epoch != m.generation {\n\t\treturn fail(\"STALE_MEMBER_EPOCH\"", "\tif false {\n\t\treturn fail(\"STALE_MEMBER_EPOCH\""},

	// A member that is cut off lets go in time.
	{"session deadline ignored", "memory/link.go", "return p != nil && !p.cut.IsZero() && !time.Now().Before(p.deadline())", "return p == nil && false"},
	{"session deadline counted from the answer", "memory/pulse.go", "return p.sent(p.latest().Add(-p.delay)).Add(p.session)", "return p.sent(p.latest().Add(-p.delay)).Add(p.delay + p.session)"},
})

// path returns where the file is that m changes.
func (m mutation) path() string {
	if strings.HasPrefix(m.file, "memory/") {
		return filepath.Join("../../driver", m.file)
	}
	return filepath.Join("../../kafka", m.file)
}

// A verdict is what killed a mutation, "" if nothing has, and after how many
// sequences.
type verdict struct {
	killer string
	after  int
}

var (
	failedPattern = regexp.MustCompile(`(?:failed|panic) after (\d+) tests: (?:violated )?(deadlock|.*)`)
	fatalPattern  = regexp.MustCompile(`(?m)^(?:panic: |fatal error: |.*\[rapid\] )(.*)`)
	failedTest    = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	countPattern  = regexp.MustCompile(`(\d+) sequences, `)
)

// plant builds the tests that find m with m in it.
func (m mutation) plant(t *testing.T, replaced map[string]string) (binary string) {
	t.Helper()
	path, err := filepath.Abs(m.path())
	require.NoError(t, err)
	src, err := os.ReadFile(path)
	require.NoError(t, err)
	if !assert.Equal(t, 1, strings.Count(string(src), m.old), "%s: how often %q is in %s", m.name, m.old, m.file) {
		return ""
	}
	dir := t.TempDir()
	mutant := filepath.Join(dir, filepath.Base(m.file))
	replaced = maps.Clone(replaced)
	replaced[path] = mutant
	overlay, _ := json.Marshal(map[string]map[string]string{"Replace": replaced})
	require.NoError(t, os.WriteFile(mutant, []byte(strings.Replace(string(src), m.old, m.new, 1)), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	binary = filepath.Join(dir, "simulation.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, m.home())
	if out, err := cmd.CombinedOutput(); !assert.NoError(t, err, "%s does not compile:\n%s", m.name, out) {
		return ""
	}
	return binary
}

// home returns the package of the tests that find m.
func (m mutation) home() string {
	if m.tests[0] == "" {
		return "."
	}
	return "../../" + m.tests[0]
}

// testWith runs a binary that plant has built of tests that need no random histories. A
// test that hangs is stopped.
func (m mutation) testWith(t *testing.T, binary string) verdict {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run", m.tests[1], "-test.timeout", "1m", "-test.short")
	cmd.Dir = m.home()
	out, err := cmd.CombinedOutput()
	if err == nil {
		return verdict{}
	}
	if found := failedTest.FindSubmatch(out); found != nil {
		return verdict{string(found[1]), 1}
	}
	return verdict{"failed", 1}
}

// simulateWith runs a binary that plant has built.
func simulateWith(t *testing.T, binary, checks, seed string) verdict {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "-test.run", "^TestSimulation$", "-test.v", "-test.timeout", "7m",
		"-rapid.nofailfile", "-rapid.shrinktime=1ns", "-rapid.checks="+checks, "-rapid.seed="+seed)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		return verdict{}
	}
	if found := failedPattern.FindSubmatch(out); found != nil {
		n, _ := strconv.Atoi(string(found[1]))
		return verdict{string(found[2]), n}
	}
	v := verdict{killer: "failed"}
	if found := fatalPattern.FindSubmatch(out); found != nil {
		v.killer = string(found[1])
	}
	if found := countPattern.FindSubmatch(out); found != nil {
		v.after, _ = strconv.Atoi(string(found[1]))
	}
	return v
}

// chanceOverlay returns what package chance replaces.
func chanceOverlay(t *testing.T) map[string]string {
	t.Helper()
	path, err := exec.CommandContext(t.Context(), "go", "run", "./chance").Output()
	require.NoError(t, err)
	text, err := os.ReadFile(strings.TrimSpace(string(path)))
	require.NoError(t, err)
	var overlay struct{ Replace map[string]string }
	require.NoError(t, json.Unmarshal(text, &overlay))
	return overlay.Replace
}

// TestPlantedBugs shows that the simulation would notice. KAFKA_MUTATIONS=all
// plants every bug of the table, and runs the simulation three times with each,
// under the overlay of package chance: so the table comes out the same each time.
func TestPlantedBugs(t *testing.T) {
	testkit.Slow(t, "builds a program per planted bug")
	sample, seeds, replaced := mutations[:3], []string{"0"}, map[string]string{}
	checks := cmp.Or(os.Getenv("KAFKA_MUTATION_CHECKS"), "10000")
	if os.Getenv("KAFKA_MUTATIONS") == "all" {
		sample, seeds, replaced = mutations, []string{"1", "2", "3"}, chanceOverlay(t)
	} else {
		t.Logf("a sample of %d of %d: each takes some seconds; KAFKA_MUTATIONS=all plants them all", len(sample), len(mutations))
	}
	only := regexp.MustCompile(os.Getenv("KAFKA_MUTATION")) // part of a name, or a pattern of some
	for _, m := range sample {
		if !only.MatchString(m.name) {
			continue
		}
		binary := m.plant(t, replaced)
		if binary == "" {
			continue
		}
		var killers []string
		var after []int
		for _, seed := range seeds {
			v := verdict{}
			if m.tests[0] != "" {
				v = m.testWith(t, binary)
			} else {
				v = simulateWith(t, binary, checks, seed)
			}
			if !assert.NotEmpty(t, v.killer, "| %s | survived %s sequences of seed %s |", m.name, checks, seed) {
				continue
			}
			killers, after = append(killers, v.killer), append(after, v.after)
		}
		slices.Sort(killers)
		slices.Sort(after)
		if len(after) > 0 {
			t.Logf("| %s | %s | %d |", m.name, strings.Join(slices.Compact(killers), ", "), after[len(after)/2])
		}
	}
}

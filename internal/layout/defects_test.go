package layout

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every test that DEFECTS.md names exists, and every row from B01 to B44 is there.
func TestDefectsNameTheirTests(t *testing.T) {
	text, err := os.ReadFile("../../DEFECTS.md")
	require.NoError(t, err)
	tests := testNames(t)
	for _, name := range regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		assert.True(t, tests[name[1]], "DEFECTS.md names %s, which does not exist", name[1])
	}
	rows := regexp.MustCompile(`(?m)^\| (B\d\d) \|`).FindAllStringSubmatch(string(text), -1)
	require.Len(t, rows, 44, "rows of DEFECTS.md")
	assert.Equal(t, "B01", rows[0][1])
	assert.Equal(t, "B44", rows[43][1])
}

// Every test that another document names exists, in tables and in text. Blocks of code
// define tests of their own, and docs/runs shows what was run under the names of its day.
func TestDocumentsNameTheirTests(t *testing.T) {
	tests := testNames(t)
	blocks := regexp.MustCompile("(?ms)^```.*?^```")
	found := 0
	for _, file := range markdownFiles(t) {
		if strings.Contains(file, filepath.Join("docs", "runs")) {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range regexp.MustCompile("`(Test[A-Z][A-Za-z0-9_]+)`").FindAllStringSubmatch(blocks.ReplaceAllString(string(text), ""), -1) {
			found++
			assert.True(t, tests[name[1]], "%s names %s, which does not exist", file, name[1])
		}
	}
	require.Greater(t, found, 50)
}

// faults are the letters of DEFECTS.md's faults found in use, with how many each has.
var faults = []struct {
	letter string
	n      int
}{{"A", 5}, {"B", 7}, {"C", 5}, {"D", 7}, {"E", 9}, {"F", 4}, {"G", 5}, {"H", 13}}

// DEFECTS.md has a row for every fault found in use, in order, and each row names a
// test of that fault: TestFault_A1_… shows fault A1, TestRealFault_A1_… on a real
// Kafka only. That the named tests exist is checked above.
func TestEveryFaultHasItsTest(t *testing.T) {
	text, err := os.ReadFile("../../DEFECTS.md")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## Faults found in use\n")
	require.True(t, found, "DEFECTS.md has no section of faults found in use")
	var want, got []string
	for _, f := range faults {
		for i := range f.n {
			want = append(want, fmt.Sprint(f.letter, i+1))
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^\| ([A-H]\d+) \|.*$`).FindAllStringSubmatch(section, -1) {
		got = append(got, row[1])
		assert.Equal(t, 5, len(strings.Split(strings.ReplaceAll(row[0], `\|`, ""), "|"))-1, "cells of %s", row[0])
		named := regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(row[0], -1)
		assert.NotEmpty(t, named, "%s names no test", row[1])
		for _, test := range named {
			assert.Regexp(t, "^Test(Real)?Fault_"+row[1]+"_[A-Z0-9]", test[1], "the test of %s", row[1])
		}
	}
	assert.Equal(t, want, got)
}

// testNames returns the names of all test functions of the module.
func testNames(t *testing.T) map[string]bool {
	names := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9_]+)\(`)
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		src, err := os.ReadFile(path)
		for _, f := range function.FindAllSubmatch(src, -1) {
			names[string(f[1])] = true
		}
		return err
	})
	require.NoError(t, err)
	return names
}

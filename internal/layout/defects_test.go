package layout

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Every test that DEFECTS.md names exists, and every row from B01 to B44 is there.
func TestDefectsNameTheirTests(t *testing.T) {
	text, err := os.ReadFile("../../DEFECTS.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := testNames(t)
	for _, name := range regexp.MustCompile("`(Test[A-Za-z0-9_]+)`").FindAllStringSubmatch(string(text), -1) {
		if !tests[name[1]] {
			t.Errorf("DEFECTS.md names %s, which does not exist", name[1])
		}
	}
	rows := regexp.MustCompile(`(?m)^\| (B\d\d) \|`).FindAllStringSubmatch(string(text), -1)
	if len(rows) != 44 || rows[0][1] != "B01" || rows[43][1] != "B44" {
		t.Errorf("DEFECTS.md has %d rows, want B01 to B44", len(rows))
	}
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
	if err != nil {
		t.Fatal(err)
	}
	return names
}

package layout

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A wording is a pattern that the project's text does not use, and what to write.
type wording struct {
	pattern *regexp.Regexp
	instead string
}

// wordings are those that a pattern can find. Each word of a phrase may stand on a
// line of its own.
var wordings = []wording{
	{word(`can not`), "cannot"},
	{word(`for ever`), "forever"},
	{word(`any more`), "no longer"},
	{word(`anew`), "again"},
	{regexp.MustCompile(`(?i)\bfor\s+(?://\s*)?good(?:[.,;:)"\n]|$)`), "permanently"},
	{word(`in vain`), "without success"},
	{word(`(?:nobody|somebody)(?:'s)?`), "no caller, another member, an operator"},
	{word(`(?:tells|told)`), "reports, notifies, logs, records, is called with"},
	{word(`who(?:ever)? (?:is|are|was|were|has|have|had|does|did|will|would|can|could|may|must|should|\w+s|\w+ed)`),
		"name the actor: a caller that, an operator that"},
	{regexp.MustCompile(`(?:^|[.;:]\s+)What (?:is|was|has been) \w+(?:ed|en|nt|ne)\b`), "name the thing: a message that was sent"},
	{word(`(?:one|two|an?|no|\d+|many|several) (?:answer|allocation|branch|case|connection|copy|entry|fetch|goroutine|line|loop|package|page|program|request|row|set|slice|span|string|word)s? an? ` + unit),
		"per"},
	{word(`(?:messages|records|requests|lines|goroutines|bytes|allocations|connections|rounds|CPU|[kM]|ns|µs|ms) an? ` + unit), "per"},
	{word(`times an? (?:second|minute|hour|day)`), "per"},
}

// unit is what amounts are counted by.
const unit = `(?:second|minute|hour|day|broker|call|case|claim|client|commit|consumer|handler|idea|line|member|message|metric|partition|process|producer|record|round|send|sentence|span|task|test|topic|turn)`

// word makes a pattern of words between word boundaries, in either case.
func word(s string) *regexp.Regexp {
	return regexp.MustCompile(`(?i)\b(?:` + strings.ReplaceAll(s, " ", `\s+(?://\s*)?`) + `)\b`)
}

// Comments, and texts such as errors and log lines, use plain words in every package,
// tests excepted, and so do all documents but the transcripts in docs/runs.
func TestPlainWords(t *testing.T) {
	for _, file := range markdownFiles(t) {
		if strings.Contains(file, filepath.Join("docs", "runs")) {
			continue
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		report(t, file, 1, prose(string(text)))
	}
	for _, file := range goFiles(t) {
		checkGo(t, file)
	}
}

// goFiles returns the files of every package, tests excepted.
func goFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			files = append(files, path)
		}
		return err
	})
	require.NoError(t, err)
	require.NotEmpty(t, files)
	return files
}

// report complains about each wording that text, which begins at a line of file, has.
func report(t *testing.T, file string, line int, text string) {
	t.Helper()
	for _, hit := range hits(line, text) {
		assert.Fail(t, "wording", "%s:%s", strings.TrimPrefix(file, root+"/"), hit)
	}
}

// hits returns the wordings in text, each as its line, what is there and what to write.
func hits(line int, text string) (all []string) {
	for _, w := range wordings {
		for _, at := range w.pattern.FindAllStringIndex(text, -1) {
			all = append(all, fmt.Sprintf("%d: %q: write %s", line+strings.Count(text[:at[0]], "\n"), text[at[0]:at[1]], w.instead))
		}
	}
	return all
}

// prose blanks what a document quotes: code, and what stands in quotation marks.
func prose(markdown string) string {
	return quoted.ReplaceAllStringFunc(markdown, func(s string) string {
		return strings.Repeat("\n", strings.Count(s, "\n"))
	})
}

var quoted = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`|\"[^\"\n]*\"")

// checkGo checks the comments and the string literals of a file.
func checkGo(t *testing.T, name string) {
	t.Helper()
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	for _, group := range file.Comments {
		var text strings.Builder
		for _, c := range group.List {
			text.WriteString(c.Text + "\n")
		}
		report(t, name, files.Position(group.Pos()).Line, text.String())
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			report(t, name, files.Position(lit.Pos()).Line, lit.Value)
		}
		return true
	})
}

// TestWordingsAreFound shows a text that each pattern finds, and texts that none does.
func TestWordingsAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"it can not\n// be": "cannot", "for ever": "forever", "any more": "no longer", "joins anew.": "again",
		"closed for good": "permanently", "waits in vain": "without success", "nobody's affair": "no caller",
		"hooks are told": "reports", "It tells why": "reports", "by who has it": "name the actor", "Who retries must": "name the actor",
		"Gone.  What is handled stays": "name the thing", "one goroutine a claim": "per", "300 messages a second": "per",
		"an answer a\n// partition": "per", "30 times a second": "per",
	} {
		found := hits(1, text)
		if assert.Len(t, found, 1, text) {
			assert.Contains(t, found[0], "write "+want, text)
		}
	}
	for _, text := range []string{
		"cannot", "forever", "one more", "a renewed", "for good reasons", "retold", "sends a message", "how many times a record", "answers a request",
		"what is handled", "of a partition", "a consumer that has it", "whose", "What is this?",
	} {
		assert.Empty(t, hits(1, text), text)
	}
	assert.Equal(t, "a  b\n\n\nc ", prose("a `told` b\n```\ntold\n```c \"anew\""))
}

package layout

import (
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

// README.md says how to get the library and what to import, and has a program.
// TestGoBlocksOfDocumentsCompile compiles it and runs its test.
func TestFault_G4_ReadmeShowsImportsAndAProgramThatCompiles(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	readme := string(data)
	byPath := index(load(t))
	assert.Contains(t, readme, "go get github.com/aarontianqx/gopkg\n")
	imports := regexp.MustCompile(`(?m)^\t"github\.com/aarontianqx/gopkg/([a-z/]+)"`).FindAllStringSubmatch(readme, -1)
	named := map[string]bool{}
	for _, i := range imports {
		named[i[1]] = true
		assert.Contains(t, byPath, i[1], "README.md imports it")
	}
	for _, want := range []string{"kafka", "driver/sarama", "kafkatest", "otel"} {
		assert.True(t, named[want], "README.md does not show the import of %s", want)
	}
	assert.Contains(t, readme, "```go\npackage main\n", "README.md has no program")
}

// The tables of docs/configuration.md have every field of the configurations, and
// no other.
func TestFault_G4_ConfigurationTablesHaveEveryField(t *testing.T) {
	data, err := os.ReadFile("../../docs/configuration.md")
	require.NoError(t, err)
	for _, config := range []string{"ConsumerConfig", "FailurePolicy", "RetryTopic", "DeadLetterConfig", "ProducerConfig", "Backoff", "TLSConfig", "SASLConfig"} {
		_, table, found := strings.Cut(string(data), "| "+config+" |")
		require.True(t, found, config)
		table, _, _ = strings.Cut(table, "\n\n")
		var listed []string
		for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(table, -1) {
			for _, field := range regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(row[1], -1) {
				listed = append(listed, field[1])
			}
		}
		assert.ElementsMatch(t, fieldsOf(t, "../../kafka", config), listed, config)
	}
}

// The pages name every event of a hook and every option of a manager, and README.md
// links to every page.
func TestPagesAreComplete(t *testing.T) {
	for page, pattern := range map[string]string{
		"docs/operating.md":     `(?m)^func \((\w+)\) event\(\)`,
		"docs/configuration.md": `(?m)^func (With\w+)\([^\n]*\) Option`,
	} {
		text, err := os.ReadFile(filepath.Join(root, page))
		require.NoError(t, err)
		names := declared(t, "../../kafka", pattern)
		require.Greater(t, len(names), 3, pattern)
		for _, name := range names {
			assert.Contains(t, string(text), name, "%s does not name it", page)
		}
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)
	for _, page := range documents(t) {
		if filepath.Base(page) != "README.md" {
			assert.Contains(t, string(readme), "(docs/"+filepath.Base(page)+")", "README.md does not link to it")
		}
	}
}

// declared returns what the first group of pattern finds in a package.
func declared(t *testing.T, dir, pattern string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, file := range files {
		src, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range regexp.MustCompile(pattern).FindAllSubmatch(src, -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}

// Every link of the documents to a file of this repository, or to a heading in one,
// has its target.
func TestLinksOfDocumentsHaveTargets(t *testing.T) {
	markdown := markdownFiles(t)
	headings := map[string]string{}
	for _, file := range markdown {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
			anchor := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
			headings[file] += "#" + strings.ReplaceAll(anchor, " ", "-") + "\n"
		}
	}
	for _, file := range markdown {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, link := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			target, anchor, hasAnchor := strings.Cut(link[1], "#")
			path := file
			if target != "" {
				path = filepath.Join(filepath.Dir(file), target)
			}
			_, err := os.Stat(path)
			assert.NoError(t, err, "%s links to %s", file, link[1])
			if hasAnchor {
				assert.Contains(t, headings[path], "#"+anchor+"\n", "%s links to %s", file, link[1])
			}
		}
	}
}

// Every row of a table of the documents has as many cells as the table's head.
func TestTablesOfDocumentsAreWhole(t *testing.T) {
	for _, file := range markdownFiles(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		cells, fenced := 0, false
		for i, line := range strings.Split(string(text), "\n") {
			fenced = fenced != strings.HasPrefix(line, "```")
			if fenced || !strings.HasPrefix(line, "|") {
				cells = 0
				continue
			}
			n := strings.Count(regexp.MustCompile("\\\\\\||`[^`]*`").ReplaceAllString(line, ""), "|")
			if cells == 0 {
				cells = n
			}
			assert.Equal(t, cells, n, "%s:%d", file, i+1)
		}
	}
}

// markdownFiles returns the documents of the repository.
func markdownFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			files = append(files, path)
		}
		return err
	})
	require.NoError(t, err)
	return files
}

// fieldsOf returns the names of the fields of a package's struct.
func fieldsOf(t *testing.T, dir, name string) (fields []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	require.NoError(t, err)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != name {
				return true
			}
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				for _, ident := range f.Names {
					fields = append(fields, ident.Name)
				}
			}
			return false
		})
	}
	return fields
}

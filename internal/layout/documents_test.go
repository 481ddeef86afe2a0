package layout

import (
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Every Go block of README.md and of the pages in docs is compiled and vetted, in
// a package of its own, and its tests run: in a module of its own, as a user's
// would be, which needs nothing that this module does not need.
//
// A block that begins with a package clause is a whole file. Any other block is
// wrapped:
//
//   - Declarations stand at the top level of a file. Statements stand in a
//     function, and each name that they declare counts as used.
//   - The packages that importable lists are imported. A block of imports is
//     compiled with blank names.
//   - The names in the preamble are declared: ctx, manager, producer and so on.
//   - A comment before the block, <!-- given ... -->, may declare more.
//
// A block after the comment <!-- beside the program --> stands in the package of
// the document's latest whole file, without the preamble.
//
// A block after the comment <!-- from FILE --> is instead a verbatim part of that
// file, except for its indentation. The file's own module compiles it.
func TestGoBlocksOfDocumentsCompile(t *testing.T) {
	require.NoError(t, readDirs(root))
	dir := newModule(t)
	var program string
	var tests []string
	blocks := blocksOf(t, documents(t)...)
	require.NotEmpty(t, blocks)
	for i, b := range blocks {
		formatted, err := format.Source([]byte(b.code))
		if assert.NoError(t, err, "%s", b) {
			assert.Equal(t, string(formatted), b.code, "%s is not as gofmt writes it", b)
		}
		if b.from != "" {
			assertTaken(t, b)
			continue
		}
		src, err := b.source()
		if !assert.NoError(t, err, "%s", b) {
			continue
		}
		pkg, name := program, "beside.go"
		if b.beside == "" {
			pkg, name = fmt.Sprintf("b%d", i), "block.go"
			require.NoError(t, os.Mkdir(filepath.Join(dir, pkg), 0o755))
		}
		if b.whole() {
			program = pkg
		}
		if strings.Contains(src, "func Test") {
			name = strings.Replace(name, ".", "_test.", 1)
			tests = append(tests, "./"+pkg)
		}
		require.NoError(t, os.WriteFile(filepath.Join(dir, pkg, name), []byte(src), 0o644))
	}
	require.NotEmpty(t, tests)
	goCommand(t, dir, "vet", "./...")
	goCommand(t, dir, append([]string{"test"}, tests...)...)
}

// newModule returns a directory with a module that requires this one, by the path
// that it has here, and the versions of this one's go.mod and go.sum.
func newModule(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	here, err := filepath.Abs(root)
	require.NoError(t, err)
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	const path = "github.com/aarontianqx/gopkg"
	text := strings.Replace(string(mod), "module "+path, "module documents", 1) +
		"\nrequire " + path + " v0.0.0\n\nreplace " + path + " => " + here + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(text), 0o644))
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o644))
	return dir
}

// goCommand runs the go command, whose complaints name the lines of the documents.
func goCommand(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=readonly", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	assert.NoError(t, err, "go %s: %s", args, out)
}

// TestBlocksAreWrapped shows what the wrapping makes of each kind of block.
func TestBlocksAreWrapped(t *testing.T) {
	for _, test := range []struct{ name, code, given, want, not string }{
		{"a whole file", "package main\n\nfunc main() {}\n", "", "package main\n\nfunc main() {}", "preamble"},
		{"statements", "n, err := 1, fmt.Errorf(\"x\")\n", "", "\t_, _ = n, err\n", "time"},
		{"statements import", "time.Sleep(0)\n", "", "\"time\"", "synctest"},
		{"declarations", "func f() { _ = errors.New }\n", "", "\nfunc f()", "func fragment"},
		{"given", "_ = order\n", "var order int", "\nvar order int\n", "errors"},
	} {
		got, err := (block{line: 1, code: test.code, given: test.given}).source()
		require.NoError(t, err, test.name)
		assert.Contains(t, got, test.want, test.name)
		assert.NotContains(t, got, test.not, test.name)
	}
	_, err := (block{line: 1, code: "what is ( this\n"}).source()
	require.Error(t, err)
	beside, err := (block{line: 1, code: "func TestX(t *testing.T) {}\n", beside: "main", file: "x.md"}).source()
	require.NoError(t, err)
	assert.Contains(t, beside, "package main\n\nimport (\n\ttesting \"testing\"\n)\n//line x.md:1\nfunc TestX")
	blocks := blocksIn("x.md", "<!-- beside the program -->\n```go\n_ = p\n```\ntext\n<!-- given\nvar n int\n-->\n```go\n_ = n\n```\n```\nno Go\n```\n<!-- from a/b.go -->\n\n```go\nf()\n```\n")
	assert.Equal(t, []block{
		{file: "x.md", line: 3, code: "_ = p\n", beside: "main"},
		{file: "x.md", line: 10, code: "_ = n\n", given: "var n int\n"},
		{file: "x.md", line: 18, code: "f()\n", from: "a/b.go"},
	}, blocks)
}

// documents are the files whose Go blocks are compiled.
func documents(t *testing.T) []string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	return append(pages, filepath.Join(root, "README.md"))
}

// A block is one piece of Go in a document.
type block struct {
	file   string
	line   int
	code   string
	given  string // what a comment before it declares
	from   string // the file that it is a part of
	beside string // the package of the whole file that it stands beside
}

func (b block) String() string { return fmt.Sprintf("%s:%d", filepath.Base(b.file), b.line) }

// whole reports whether the block is a whole file.
func (b block) whole() bool { return strings.HasPrefix(b.code, "package ") }

func blocksOf(t *testing.T, files ...string) (all []block) {
	t.Helper()
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		blocks := blocksIn(file, string(text))
		assert.Len(t, blocks, strings.Count(string(text), "```go\n"), "%s has a block of Go that does not begin its line", file)
		all = append(all, blocks...)
	}
	return all
}

var blockPattern = regexp.MustCompile("(?ms)^(?:<!-- (given|from|beside)\\s([^>]*?)-->\n+)?```go\n(.*?)^```$")

func blocksIn(file, text string) (all []block) {
	for _, at := range blockPattern.FindAllStringSubmatchIndex(text, -1) {
		b := block{file: file, line: 1 + strings.Count(text[:at[6]], "\n"), code: text[at[6]:at[7]]}
		if at[2] >= 0 {
			switch comment := text[at[4]:at[5]]; text[at[2]:at[3]] {
			case "given":
				b.given = comment
			case "beside":
				b.beside = "main"
			case "from":
				b.from = strings.TrimSpace(comment)
			}
		}
		all = append(all, b)
	}
	return all
}

// importable are the packages that a fragment may use without importing them.
var importable = map[string]string{
	"context": "context", "errors": "errors", "fmt": "fmt", "json": "encoding/json", "log": "log", "net": "net",
	"http": "net/http", "os": "os", "slog": "log/slog", "synctest": "testing/synctest", "testing": "testing",
	"time": "time", "tls": "crypto/tls",

	"drivertest": "github.com/aarontianqx/gopkg/driver/drivertest",
	"driver":     "github.com/aarontianqx/gopkg/driver",
	"fault":      "github.com/aarontianqx/gopkg/driver/fault",
	"ibm":        "github.com/IBM/sarama",
	"franz":      "github.com/aarontianqx/gopkg/driver/franz",
	"kafka":      "github.com/aarontianqx/gopkg/kafka",
	"kafkahttp":  "github.com/aarontianqx/gopkg/kafkahttp",
	"kafkatest":  "github.com/aarontianqx/gopkg/kafkatest",
	"kgo":        "github.com/twmb/franz-go/pkg/kgo",
	"memory":     "github.com/aarontianqx/gopkg/driver/memory",
	"otelkafka":  "github.com/aarontianqx/gopkg/otel",
	"sarama":     "github.com/aarontianqx/gopkg/driver/sarama",
}

// preamble declares what fragments may use without declaring it.
const preamble = `
var (
	ctx      context.Context
	manager  *kafka.Manager
	producer *kafka.Producer
	config   kafka.ConsumerConfig
	err      error
)

func handle(context.Context, *kafka.Message) error { return nil }
`

// source returns the block as a file, in which compilers find the document's lines.
func (b block) source() (string, error) {
	line := fmt.Sprintf("//line %s\n", b)
	if b.whole() {
		return line + b.code, nil
	}
	if strings.HasPrefix(b.code, "import (") {
		return "package p\n\n" + line + strings.ReplaceAll(b.code, "\t\"", "\t_ \""), nil
	}
	body := line + b.code
	if _, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, 0); err != nil {
		file, err := parser.ParseFile(token.NewFileSet(), "", "package p\nfunc fragment() {\n"+body+"}\n", 0)
		if err != nil {
			return "", err
		}
		body = "func fragment() {\n" + body + uses(file) + "}\n"
	}
	name := "p"
	if b.beside == "" {
		body = preamble + b.given + "\n" + body
	} else {
		name = b.beside
	}
	file, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+body, 0)
	if err != nil {
		return "", err
	}
	imports := map[string]string{}
	for _, ident := range file.Unresolved {
		if path, ok := importable[ident.Name]; ok {
			imports[ident.Name] = path
		}
	}
	var src strings.Builder
	src.WriteString("package " + name + "\n\nimport (\n")
	for _, name := range slices.Sorted(maps.Keys(imports)) {
		fmt.Fprintf(&src, "\t%s %q\n", name, imports[name])
	}
	src.WriteString(")\n" + body)
	return src.String(), nil
}

// uses returns a statement that uses the names that the statements of file's one
// function declare.
func uses(file *ast.File) string {
	var names []string
	for _, s := range file.Decls[0].(*ast.FuncDecl).Body.List {
		assign, ok := s.(*ast.AssignStmt)
		if !ok || assign.Tok != token.DEFINE {
			continue
		}
		for _, left := range assign.Lhs {
			if ident := left.(*ast.Ident); ident.Name != "_" && !slices.Contains(names, ident.Name) {
				names = append(names, ident.Name)
			}
		}
	}
	if names == nil {
		return ""
	}
	return "\t" + strings.Repeat("_, ", len(names)-1) + "_ = " + strings.Join(names, ", ") + "\n"
}

// assertTaken checks that a block is a part of the file that it is said to be from.
func assertTaken(t *testing.T, b block) {
	t.Helper()
	src, err := os.ReadFile(filepath.Join(root, b.from))
	if assert.NoError(t, err, "%s", b) {
		assert.Contains(t, flush(string(src)), flush(b.code), "%s is not what %s says", b, b.from)
	}
}

// flush returns text without its indentation.
func flush(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Join(lines, "\n")
}

package layout

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// README.md says how to get the library and what to import, its program compiles,
// and every field, event and function that it names in the configuration exists.
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
	programs := 0
	for _, block := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readme, -1) {
		if !strings.HasPrefix(block[1], "package main\n") {
			continue
		}
		programs++
		file := filepath.Join(t.TempDir(), "main.go")
		require.NoError(t, os.WriteFile(file, []byte(block[1]), 0o644))
		vet := exec.CommandContext(t.Context(), "go", "vet", file)
		vet.Dir = root
		out, err := vet.CombinedOutput()
		assert.NoError(t, err, "%s", out)
	}
	assert.NotZero(t, programs, "README.md has no program")
}

// README.md's tables have every field of the configurations, and no other.
func TestFault_G4_ReadmeTablesHaveEveryField(t *testing.T) {
	data, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for _, config := range []string{"ConsumerConfig", "ProducerConfig"} {
		_, table, found := strings.Cut(string(data), "| "+config+" |")
		require.True(t, found, config)
		table, _, _ = strings.Cut(table, "\n\n")
		var listed []string
		for _, row := range regexp.MustCompile(`(?m)^\| ([^|]*) \|`).FindAllStringSubmatch(table, -1) {
			for _, field := range regexp.MustCompile("`([A-Za-z]+)`").FindAllStringSubmatch(row[1], -1) {
				listed = append(listed, field[1])
			}
		}
		assert.ElementsMatch(t, fieldsOf(t, "../../kafka/config.go", config), listed, config)
	}
}

// fieldsOf returns the names of a struct's fields.
func fieldsOf(t *testing.T, file, name string) (fields []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
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
	return fields
}

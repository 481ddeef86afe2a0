package layout

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// mostTypes is how many of the module's own struct types one field path may lead
// through: x.a.b is a path through the types of x and of x.a. A path through three
// reaches into what another room holds inside, so that neither can change alone.
const mostTypes = 2

// TestFieldPaths holds that package kafka and what lies below it reach no further than
// that. Tests may.
func TestFieldPaths(t *testing.T) {
	module, pkgs := sources(t, "./kafka", "./kafka/internal/...")
	require.NotEmpty(t, pkgs)
	for _, p := range pkgs {
		for _, complaint := range longPaths(module, p) {
			t.Error(complaint)
		}
	}
}

// TestPartitionIsSmall holds that a partition only joins rooms: it has few fields, and
// the cursor is the lane's.
func TestPartitionIsSmall(t *testing.T) {
	_, pkgs := sources(t, "./kafka")
	require.Len(t, pkgs, 1)
	found := false
	for _, f := range pkgs[0].files {
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok || spec.Name.Name != "partition" {
				return true
			}
			found = true
			fields := 0
			for _, field := range spec.Type.(*ast.StructType).Fields.List {
				fields += len(field.Names)
				for _, name := range field.Names {
					require.NotContains(t, []string{"i", "batch", "run", "attempt", "cursor"}, name.Name)
				}
			}
			require.LessOrEqual(t, fields, 12, "fields of partition")
			return false
		})
	}
	require.True(t, found, "there is no type partition")
}

// TestFieldPathsAreFound shows what counts as a path and what does not.
func TestFieldPathsAreFound(t *testing.T) {
	const src = `package p
type d struct{ n int }
func (d) get() c { return c{} }
type c struct{ d *d; ds []d }
type b struct{ c c; of func() c }
type a struct{ b *b; c }
func f(x *a, free struct{ b b }) {
	_ = x.b.c      // 2
	_ = x.b.c.d    // 3
	_ = x.b.c.d.n  // 4
	_ = (*x.b).c.ds[1].n // 4
	_ = x.d.n      // 3: the embedded c is on the way
	_ = free.b.c.d // 2: what has no name does not count
	_ = x.b.of().d.n // 2 and 2: a call ends a path
	_ = x.b.c.d.get().d // 3 and 1
}`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", src, 0)
	require.NoError(t, err)
	p := source{path: "m/p", fset: fset, files: []*ast.File{f}}
	_, err = new(types.Config).Check(p.path, fset, p.files, p.uses())
	require.NoError(t, err)
	require.Equal(t, []string{
		"p.go:9: x.b.c.d leads through 3 types: a, b, c",
		"p.go:10: x.b.c.d.n leads through 4 types: a, b, c, d",
		"p.go:11: (*x.b).c.ds[1].n leads through 4 types: a, b, c, d",
		"p.go:12: x.d.n leads through 3 types: a, c, d",
		"p.go:15: x.b.c.d leads through 3 types: a, b, c",
	}, longPaths("m", p))
}

// A source is a package of the module with its syntax and types.
type source struct {
	path  string
	fset  *token.FileSet
	files []*ast.File
	info  *types.Info
}

func (p *source) uses() *types.Info {
	p.info = &types.Info{Selections: make(map[*ast.SelectorExpr]*types.Selection)}
	return p.info
}

// longPaths returns a sentence for each field path that leads through too many types.
func longPaths(module string, p source) (complaints []string) {
	for _, f := range p.files {
		inside := map[ast.Expr]bool{} // what belongs to a longer path
		ast.Inspect(f, func(n ast.Node) bool {
			e, ok := n.(*ast.SelectorExpr)
			if !ok || inside[e] {
				return true
			}
			// A method ends a path: what its receiver leads through counts.
			through := p.through(module, e, inside)
			if len(through) > mostTypes {
				at := p.fset.Position(e.Pos())
				complaints = append(complaints, fmt.Sprintf("%s:%d: %s leads through %d types: %s",
					at.Filename, at.Line, types.ExprString(e), len(through), strings.Join(through, ", ")))
			}
			return true
		})
	}
	return complaints
}

// through returns the module's types through which e selects fields, and notes what is
// inside it.
func (p source) through(module string, e ast.Expr, inside map[ast.Expr]bool) []string {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return p.through(module, e.X, inside)
	case *ast.StarExpr:
		return p.through(module, e.X, inside)
	case *ast.IndexExpr:
		return p.through(module, e.X, inside)
	case *ast.SelectorExpr:
		s := p.info.Selections[e]
		if s == nil || s.Kind() != types.FieldVal {
			return nil
		}
		inside[e] = true
		return append(p.through(module, e.X, inside), steps(module, s)...)
	}
	return nil
}

// steps returns the module's types that one selection leads through: more than one if
// fields are embedded.
func steps(module string, s *types.Selection) (names []string) {
	t := s.Recv()
	for _, i := range s.Index() {
		if ptr, ok := types.Unalias(t).(*types.Pointer); ok {
			t = ptr.Elem()
		}
		st, ok := t.Underlying().(*types.Struct)
		if !ok {
			return names
		}
		if named, ok := types.Unalias(t).(*types.Named); ok && named.Obj().Pkg() != nil &&
			(named.Obj().Pkg().Path() == module || strings.HasPrefix(named.Obj().Pkg().Path(), module+"/")) {
			names = append(names, named.Obj().Name())
		}
		t = st.Field(i).Type()
	}
	return names
}

// sources parses and checks the packages that patterns name. What they import comes
// from the go command's export data.
func sources(t *testing.T, patterns ...string) (module string, pkgs []source) {
	t.Helper()
	require.NoError(t, readDirs(root))
	args := append([]string{"list", "-export", "-deps", "-json=ImportPath,Dir,GoFiles,Export,DepOnly,Module"}, patterns...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	type listed struct {
		ImportPath, Dir, Export string
		GoFiles                 []string
		DepOnly                 bool
		Module                  *struct{ Path string }
	}
	exports := map[string]string{}
	var named []listed
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		err := d.Decode(&p)
		if err == io.EOF {
			break
		}
		require.NoError(t, err)
		exports[p.ImportPath] = p.Export
		if !p.DepOnly {
			named = append(named, p)
			module = p.Module.Path
		}
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, l := range named {
		p := source{path: l.ImportPath, fset: fset}
		for _, name := range l.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(l.Dir, name), nil, 0)
			require.NoError(t, err)
			p.files = append(p.files, f)
		}
		cfg := types.Config{Importer: imports}
		_, err := cfg.Check(p.path, fset, p.files, p.uses())
		require.NoError(t, err)
		pkgs = append(pkgs, p)
	}
	return module, pkgs
}

// Package layout checks the repository as a whole: that no package imports what it
// must not, that the Go code and the links of the documents are right, that every
// field of a configuration is documented, that DEFECTS.md names tests that exist,
// and that comments use the project's words.
package layout

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// graph is the statement of policy. Every package of the module has a row and
// may import the standard library and what the row allows, nothing else: names
// without a dot in the first element are packages of this module, the others are
// prefixes of third-party packages. Tests may import anything.
//
// Arrows point down only:
//
//	examples  kafkatest  otel, kafkahttp
//	     \       |       /
//	      \    kafka    /
//	       \     |     /
//	memory, sarama, franz, fault, drivertest → driver
//
// DO NOT CHANGE THIS DATA TO FIX BUILDS. A new arrow is a decision of design.
var graph = []row{
	{"driver", nil,
		"it is the contract, and whoever implements it inherits what it imports"},
	{"driver/drivertest", []string{"driver"},
		"authors of other drivers import it"},
	{"driver/fault", []string{"driver"},
		"it wraps any driver and may know none"},
	{"driver/memory", []string{"driver"},
		"a backend must not know its users"},
	{"driver/internal/errorcode", []string{"driver"},
		"every driver that speaks Kafka's protocol shares it, whatever its client"},
	{"driver/internal/credentials", []string{"driver", "driver/internal/errorcode"},
		"every driver that speaks Kafka's protocol shares it, whatever its client"},
	{"driver/internal/response", nil,
		"it follows the bytes of any client"},
	{"driver/internal/dialer", []string{"driver", "driver/internal/response"},
		"it makes the connections of any client"},
	{"driver/internal/fetchwire", []string{"driver/internal/response"},
		"it reads what any client fetches"},
	{"driver/internal/recordbatch", []string{"driver", "github.com/klauspost/compress", "github.com/pierrec/lz4"}, // which every client brings
		"it examines the records of any client"},
	{"driver/internal/position", []string{"driver"},
		"it decides for any client"},
	{"driver/internal/incarnation", []string{"driver/internal/position"},
		"it decides for any client"},
	{"driver/internal/core", []string{"driver"},
		"it knows the Handler of any driver"},
	{"driver/internal/wiretest", []string{"driver", "kafka", "internal/kafkacluster", "internal/outside", "internal/testkit", "github.com/stretchr/testify", "github.com/twmb/franz-go",
		"github.com/klauspost/compress", "github.com/pierrec/lz4"},
		"the tests of each driver of Kafka's protocol import it, and nothing that ships does"},
	{"driver/internal/groupview", []string{"driver", "driver/internal/position"},
		"it decides for any client"},
	{"driver/internal/seek", []string{"driver"},
		"it decides for any client"},
	{"driver/sarama", []string{"driver", "driver/internal/errorcode", "driver/internal/dialer", "driver/internal/response", "driver/internal/recordbatch", "driver/internal/fetchwire",
		"driver/internal/position", "driver/internal/incarnation", "driver/internal/credentials", "driver/internal/core", "driver/internal/groupview", "driver/internal/seek",
		"github.com/IBM/sarama", "github.com/rcrowley/go-metrics"},
		"a backend must not know its users"},
	{"driver/franz", []string{"driver", "driver/internal/errorcode", "driver/internal/dialer", "driver/internal/response", "driver/internal/recordbatch", "driver/internal/fetchwire",
		"driver/internal/position", "driver/internal/incarnation", "driver/internal/credentials", "driver/internal/core", "driver/internal/groupview", "driver/internal/seek",
		"github.com/twmb/franz-go"},
		"a backend must not know its users"},
	{"kafka/internal/window", []string{"driver"},
		"it holds records, and must know no job and no session"},
	{"kafka/internal/finished", nil,
		"it is a format, and must know no job and no session"},
	{"kafka/internal/lanes", []string{"driver", "kafka/internal/finished"},
		"it holds records, and must know no job and no session"},
	{"kafka", []string{"driver", "kafka/internal/window", "kafka/internal/lanes", "kafka/internal/finished"},
		"the core must work with any backend, and bring none into a program that uses another"},
	{"kafkatest", []string{"kafka", "driver", "driver/memory", "driver/fault"},
		"unit tests of users need the in-memory broker, not a client for a real one"},
	{"kafkahttp", []string{"kafka"},
		"every service may show its page, and gets nothing but the core with it"},
	{"otel", []string{"kafka", "go.opentelemetry.io/otel"},
		"it instruments the core whatever the backend"},
	{"internal/kafkacluster", []string{"github.com/twmb/franz-go"},
		"the judge must not share code with what it judges"},
	{"internal/outside", []string{"driver", "github.com/twmb/franz-go"},
		"its word is evidence about drivers, and it knows none of them"},
	{"internal/judge", nil,
		"it judges any run, and shares nothing with what it judges"},
	{"internal/simulation", nil,
		"it is tests only"},
	{"internal/simulation/chance", nil,
		"it writes files"},
	{"internal/differential", nil,
		"it is tests only"},
	{"internal/chaos", []string{"kafka", "driver", "driver/sarama", "driver/franz", "internal/judge", "internal/kafkacluster", "github.com/twmb/franz-go"},
		"it runs the production driver, and judges it by another client"},
	{"internal/testkit", []string{"driver", "github.com/stretchr/testify", "go.uber.org/goleak"},
		"tests of any package import it, and it knows no more than the contract"},
	{"internal/hostile", []string{"kafka", "driver", "driver/sarama", "driver/franz", "internal/hostile/wire", "internal/kafkacluster", "github.com/twmb/franz-go", "github.com/klauspost/compress"},
		"it runs a driver for production, and what attacks it is code of its own"},
	{"internal/hostile/wire", []string{"github.com/twmb/franz-go"},
		"it is the hostile side, and knows none of what it attacks"},
	{"internal/layout", nil,
		"it only looks"},
	{"examples/...", []string{"..."}, ""},
}

const root = "../.."

type row struct {
	pkg     string   // below the module path; with /... also all below
	imports []string // "..." is anything
	why     string
}

// covers reports whether the row speaks of pkg.
func (r row) covers(pkg string) bool {
	if root, ok := strings.CutSuffix(r.pkg, "/..."); ok {
		return pkg == root || strings.HasPrefix(pkg, root+"/")
	}
	return pkg == r.pkg
}

func (r row) allows(imp string) bool {
	return slices.ContainsFunc(r.imports, func(allowed string) bool {
		if allowed == "..." || imp == allowed {
			return true
		}
		thirdParty := strings.Contains(strings.Split(allowed, "/")[0], ".")
		return thirdParty && strings.HasPrefix(imp, allowed+"/")
	})
}

// A pkg is what go list says of a package. Paths of this module are relative to it.
type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string // all, directly or not
	Module     *struct {
		Path string
		Main bool
	}
}

func (p pkg) ours() bool { return p.Module != nil && p.Module.Main }

func TestImports(t *testing.T) {
	pkgs := load(t)
	require.NotEmpty(t, pkgs, "go list found no packages")
	assert.Empty(t, check(graph, pkgs))
}

// TestChecker shows that each kind of forbidden arrow is found.
func TestChecker(t *testing.T) {
	for _, test := range []struct {
		pkg, imp string
		want     string // part of the complaint; empty for none
	}{
		{"driver", "fmt", ""},
		{"kafka", "driver", ""},
		{"driver/sarama", "github.com/IBM/sarama", ""},
		{"driver/sarama", "github.com/IBM/sarama/mocks", ""},
		{"examples/orders", "github.com/IBM/sarama", ""},
		{"examples/orders", "internal/kafkacluster", ""},
		{"driver", "kafka", "driver must not import kafka: it is the contract"},
		{"driver/memory", "kafka", "driver/memory must not import kafka: a backend must not know its users"},
		{"driver/fault", "driver/memory", "driver/fault must not import driver/memory"},
		{"driver/drivertest", "driver/memory", "driver/drivertest must not import driver/memory"},
		{"driver/sarama", "github.com/twmb/franz-go/pkg/kgo", "driver/sarama must not import github.com/twmb"},
		{"driver/sarama", "github.com/IBM/saramago", "must not import github.com/IBM/saramago"},
		{"kafka", "kafka/internal/window", ""},
		{"kafka/internal/window", "driver", ""},
		{"kafka/internal/window", "kafka", "kafka/internal/window must not import kafka: it holds records"},
		{"kafka/internal/lanes", "kafka/internal/finished", ""},
		{"kafka/internal/lanes", "kafka", "kafka/internal/lanes must not import kafka: it holds records"},
		{"kafka/internal/finished", "fmt", ""},
		{"kafka/internal/finished", "driver", "kafka/internal/finished must not import driver: it is a format"},
		{"kafka", "driver/memory", "kafka must not import driver/memory: the core"},
		{"kafka", "github.com/IBM/sarama", "kafka must not import github.com/IBM/sarama"},
		{"kafka", "internal/kafkacluster", "kafka must not import internal/kafkacluster"},
		{"kafkahttp", "kafka", ""},
		{"kafkahttp", "driver", "kafkahttp must not import driver: every service"},
		{"kafkatest", "driver/sarama", "kafkatest must not import driver/sarama"},
		{"brandnew", "fmt", "brandnew has no row"},
	} {
		std := pkg{ImportPath: "fmt", Standard: true}
		ours := pkg{ImportPath: test.pkg, Imports: []string{test.imp}, Module: &struct {
			Path string
			Main bool
		}{Main: true}}
		got := strings.Join(check(graph, []pkg{std, ours}), "\n")
		if test.want == "" {
			assert.Empty(t, got, "%s imports %s", test.pkg, test.imp)
		} else {
			assert.Contains(t, got, test.want, "%s imports %s", test.pkg, test.imp)
		}
	}
}

// TestNoThirdParty holds that a program that imports kafka gets this module and
// the standard library: the client library comes with the backend it chooses.
func TestNoThirdParty(t *testing.T) {
	pkgs := load(t)
	byPath := index(pkgs)
	for _, name := range []string{"driver", "kafka", "kafkahttp"} {
		var modules []string
		for _, dep := range byPath[name].Deps {
			if p := byPath[dep]; !p.Standard && !p.ours() && !slices.Contains(modules, p.Module.Path) {
				modules = append(modules, p.Module.Path)
			}
		}
		assert.Empty(t, modules, "%s must not depend on third-party modules", name)
	}
}

// TestModuleBringsNoGRPC holds that go.mod does not name the OTLP exporters and
// grpc: a program that requires this module would get their versions. What needs
// them is a module of its own, as examples/tracing and otel/grafana are.
func TestModuleBringsNoGRPC(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	for _, path := range []string{"google.golang.org/grpc", "go.opentelemetry.io/otel/exporters", "github.com/prometheus"} {
		assert.NotContains(t, string(mod), path)
	}
}

// check returns a sentence for every arrow that graph does not allow, and for
// every package without a row.
func check(graph []row, pkgs []pkg) (complaints []string) {
	byPath := index(pkgs)
	for _, p := range pkgs {
		if !p.ours() {
			continue
		}
		i := slices.IndexFunc(graph, func(r row) bool { return r.covers(p.ImportPath) })
		if i < 0 {
			complaints = append(complaints, p.ImportPath+" has no row in the import graph")
			continue
		}
		for _, imp := range p.Imports {
			if !byPath[imp].Standard && !graph[i].allows(imp) {
				complaints = append(complaints, fmt.Sprintf("%s must not import %s: %s", p.ImportPath, imp, graph[i].why))
			}
		}
	}
	return complaints
}

func index(pkgs []pkg) map[string]pkg {
	byPath := map[string]pkg{"C": {Standard: true}}
	for _, p := range pkgs {
		byPath[p.ImportPath] = p
	}
	return byPath
}

// load returns the packages of this module and all that they depend on.
func load(t *testing.T) []pkg {
	t.Helper()
	require.NoError(t, readDirs(root))
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Standard,Imports,Deps,Module", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		require.NoError(t, err, "go list: %s", exit.Stderr)
	}
	require.NoError(t, err)
	pkgs, err := decode(string(out))
	require.NoError(t, err)
	return pkgs
}

// readDirs reads the directories of the module in this process. The go command
// repeats the cached result of a test until a file changes that the test has
// looked at itself; go list is another process, so that without this a new
// import would go unseen.
func readDirs(root string) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.Name() == ".git" {
			return fs.SkipDir
		}
		return err
	})
}

// decode reads the output of go list and makes paths of this module relative.
func decode(out string) (pkgs []pkg, err error) {
	for d := json.NewDecoder(strings.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		pkgs = append(pkgs, p)
	}
	module := ""
	for _, p := range pkgs {
		if p.ours() {
			module = p.Module.Path + "/"
		}
	}
	for i := range pkgs {
		p := &pkgs[i]
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		for _, list := range [][]string{p.Imports, p.Deps} {
			for j := range list {
				list[j] = strings.TrimPrefix(list[j], module)
			}
		}
	}
	return pkgs, nil
}

// Chance writes an overlay for the go command under which nothing in a bubble of
// testing/synctest is left to chance, and prints its path:
//
//	GOMAXPROCS=1 go test -overlay "$(go run ./internal/simulation/chance)" ./internal/simulation
//
// The runtime draws lots in four places: which ready case of a select is taken,
// which of the timers that are due at one instant fires first, where the
// iteration of a map begins, and when a goroutine that has run for long is
// interrupted. So a failed sequence would come back only now and then. Under the
// overlay the first three are drawn from a seed of the bubble, which the sequence
// itself has drawn, and nothing is interrupted. The overlay is for tests of the
// machine that it is made on; it fails where the runtime is not as expected.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// A change replaces old, which must be in the file exactly once.
type change struct{ file, old, new string }

var changes = []change{
	{"select.go", "j := cheaprandn(uint32(norder + 1))", "j := uint32(uint64(bubbleRandom()) * uint64(norder+1) >> 32)"},
	{"time.go", "\t\t\tt.rand = cheaprand()\n", "\t\t\tt.rand = bubbleRandom()\n"},
	{"rand.go", "func maps_rand() uint64 {\n\treturn rand()\n}", "func maps_rand() uint64 {\n\tif getg().bubble == nil {\n\t\treturn rand()\n\t}\n\treturn uint64(bubbleRandom())<<32 | uint64(bubbleRandom())\n}"},
	{"proc.go", "const forcePreemptNS = 10 * 1000 * 1000 ", "const forcePreemptNS = 3600 * 1000 * 1000 * 1000 "},
	{"synctest.go", "\tid      uint64 // unique id\n", "\tid      uint64 // unique id\n\trand    uint64\n"},
	{"synctest.go", "\tbubble.now = synctestBaseTime\n", "\tbubble.now = synctestBaseTime\n\tbubble.rand = bubbleSeed\n"},
	{"synctest.go", "// A synctestBubble is", random + "// A synctestBubble is"},
}

// random is wyrand, as in the runtime's cheaprand.
const random = `//go:linkname bubbleSeed
var bubbleSeed uint64

func bubbleRandom() uint32 {
	b := getg().bubble
	if b == nil {
		return cheaprand()
	}
	b.rand += 0xa0761d6478bd642f
	x, y := b.rand, b.rand^0xe7037ed1a0b428db
	xl, xh, yl, yh := x&(1<<32-1), x>>32, y&(1<<32-1), y>>32
	mid := xh*yl + xl*yl>>32
	hi := xh*yh + mid>>32 + (mid&(1<<32-1)+xl*yh)>>32
	return uint32(hi ^ x*y)
}

`

func main() {
	log.SetFlags(0)
	dir, err := os.UserCacheDir()
	if err == nil {
		err = write(filepath.Join(dir, "gopkg-simulation", runtime.Version()))
	}
	if err != nil {
		log.Fatalf("chance: %v", err)
	}
}

// write makes the overlay in dir. The files' names and contents are the same
// each time, so what the go command builds of them is cached.
func write(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return fmt.Errorf("go env GOROOT: %w", err)
	}
	src := filepath.Join(strings.TrimSpace(string(goroot)), "src", "runtime")
	replace := make(map[string]string)
	for _, c := range changes {
		from := filepath.Join(src, c.file)
		source := from
		if replace[from] != "" {
			source = replace[from]
		}
		text, err := os.ReadFile(source)
		if err != nil {
			return err
		}
		if n := strings.Count(string(text), c.old); n != 1 {
			return fmt.Errorf("%s has %d of %q, want one", from, n, c.old)
		}
		replace[from] = filepath.Join(dir, c.file)
		if err := os.WriteFile(replace[from], []byte(strings.Replace(string(text), c.old, c.new, 1)), 0o644); err != nil {
			return err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	overlay := filepath.Join(dir, "overlay.json")
	fmt.Println(overlay)
	return os.WriteFile(overlay, text, 0o644)
}

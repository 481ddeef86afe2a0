package simulation

import (
	"runtime"
	"runtime/debug"
	_ "unsafe" // for go:linkname
)

// bubbleSeed decides, under the overlay of package chance, what the runtime
// leaves to chance in the next bubble. Without that overlay it does nothing.
//
//go:linkname bubbleSeed runtime.bubbleSeed
var bubbleSeed uint64

// collectBetween has garbage collected between sequences only, since a
// collection in the middle of one changes which goroutine runs next. The function that it
// returns does so, each so many calls.
func collectBetween(sequences int) (collect func()) {
	debug.SetGCPercent(-1)
	n := 0
	return func() {
		if n++; n%sequences == 0 {
			runtime.GC()
		}
	}
}

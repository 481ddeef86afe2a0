//go:build !unix

package kafkacluster

import (
	"os"
	"os/exec"
)

// There is no pausing here, and no clean stop.
var sigTerm, sigStop, sigCont = os.Kill, os.Kill, os.Kill

func detach(*exec.Cmd) {}

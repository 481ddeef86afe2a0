package kafkacluster

import (
	"os/exec"
	"syscall"
)

// bindToParent has the kernel kill cmd when the thread that starts it ends. Its
// own process group spares cmd the SIGINT that a terminal sends to this one.
func bindToParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

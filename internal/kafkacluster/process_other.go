//go:build !linux

package kafkacluster

import "os/exec"

// bindToParent cannot do better here: brokers outlive a process that ends
// without Close.
func bindToParent(cmd *exec.Cmd) { detach(cmd) }

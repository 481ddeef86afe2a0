//go:build !linux

package kafkacluster

import "os/exec"

// bindToParent can not do better here: brokers outlive a process that ends
// without Close.
func bindToParent(cmd *exec.Cmd) { detach(cmd) }

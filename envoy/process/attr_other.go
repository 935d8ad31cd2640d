//go:build unix && !linux

package process

import "syscall"

// sysProcAttr gives Envoy a process group of its own. Only Linux can tie its
// life to ours: elsewhere it survives a kill -9 of this process.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

package process

import "syscall"

// sysProcAttr gives Envoy a process group of its own, so that Ctrl-C at the
// terminal does not reach it before we have stopped, and lets the kernel kill
// it when the thread that started it ends: also after a kill -9 of ours.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

package cluster

import (
	"os"
	"syscall"
)

// Windows has no such signals; sending them fails.
const (
	stopSignal     = syscall.Signal(-1)
	continueSignal = syscall.Signal(-2)
)

func signal(pid int, s syscall.Signal) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return os.ErrProcessDone
	}
	defer p.Release()
	return p.Signal(s)
}

//go:build unix

package cluster

import (
	"errors"
	"os"
	"syscall"
)

// The signals of Freeze and Thaw.
const (
	stopSignal     = syscall.SIGSTOP
	continueSignal = syscall.SIGCONT
)

// signal returns os.ErrProcessDone for a process that is gone.
func signal(pid int, s syscall.Signal) error {
	err := syscall.Kill(pid, s)
	if errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	}
	return err
}

//go:build unix

package handler

import (
	"io/fs"
	"os"
	"syscall"
)

func executable(info fs.FileInfo) bool { return info.Mode()&0o111 != 0 }

// sweep kills the group that p leads. The caller knows that p is not reaped yet.
func sweep(p *os.Process) { _ = syscall.Kill(-p.Pid, syscall.SIGKILL) }

//go:build unix

package handler

import (
	"io/fs"
	"os"
	"syscall"
)

func executable(info fs.FileInfo) bool { return info.Mode()&0o111 != 0 }

// sweep kills p and the group that it was started in, which it may have left. The
// caller knows that p is not reaped yet.
func sweep(p *os.Process) {
	_ = p.Kill()
	_ = syscall.Kill(-p.Pid, syscall.SIGKILL)
}

// lockFile fails if another open file has the lock. It ends with the file.
func lockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) }

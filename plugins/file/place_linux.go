package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// renameatNoReplace is renameat2(2) with RENAME_NOREPLACE. Not every file system
// has it; then the error is errors.ErrUnsupported.
func renameatNoReplace(fromDir *os.File, from string, toDir *os.File, to string) error {
	err := unix.Renameat2(int(fromDir.Fd()), from, int(toDir.Fd()), to, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	if err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	return nil
}

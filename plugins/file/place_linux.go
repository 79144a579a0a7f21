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

// beginWriteBack has the system write what it holds of a part of the file (n bytes; 0:
// all), without waiting for the disk. It promises nothing about what is on the disk:
// fsync does, and then has less to do.
func beginWriteBack(f *os.File, offset, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, n, unix.SYNC_FILE_RANGE_WRITE)
}

package handler

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

func executable(fs.FileInfo) bool { return true }

func sysProcAttr() *syscall.SysProcAttr { return nil }

// sweep ends the process; it has no group here.
func sweep(p *os.Process) { _ = p.Kill() }

// lockFile is for telling the living from the dead, which is not done here.
func lockFile(*os.File) error { return errors.ErrUnsupported }

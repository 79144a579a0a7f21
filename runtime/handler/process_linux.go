package handler

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// execPath makes the process run exactly the file that was checked: it inherits the
// open file, and the path leads to that descriptor. The way goes over a link with
// the binary's name, so that ps and top show that name and not a number.
func execPath(path, dir string, file *os.File, files []*os.File) (string, []*os.File) {
	fd := fmt.Sprintf("/proc/self/fd/%d", len(files))
	link := filepath.Join(dir, filepath.Base(path))
	if _, err := os.Stat("/proc/self/fd/0"); err != nil {
		return path, files // no /proc here: check, then run, as elsewhere
	}
	if err := os.Symlink(fd, link); err != nil {
		return fd, append(files, file)
	}
	return link, append(files, file)
}

// awaitExit returns when the process has ended and leaves it to be reaped: nil.
func awaitExit(p *os.Process) *os.ProcessState {
	for {
		err := unix.Waitid(unix.P_PID, p.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return nil
		}
	}
}

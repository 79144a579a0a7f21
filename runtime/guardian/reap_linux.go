package guardian

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// firstLook doubles up to longestLook: how long to wait for a child's end before
	// looking for children that came meanwhile.
	firstLook   = 5 * time.Millisecond
	longestLook = time.Second
)

// reap takes all children that have ended, and returns whether there are others. Its
// no is the kernel's word (ECHILD) that no descendant is left: one whose parent ends
// becomes a child of its subreaper before that parent can be reaped.
func reap(ended func(pid int, status unix.WaitStatus)) (left bool) {
	for {
		var status unix.WaitStatus
		// WALL: also children that were made by clone(2) without SIGCHLD.
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WALL, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ECHILD):
			return false
		case err != nil || pid == 0:
			return true
		default:
			ended(pid, status)
		}
	}
}

// sweep kills and reaps every descendant, and returns nil when none is left. It goes on
// until then, unless a stop is wanted and the limit has passed.
//
// It kills its own children only, over and over: their children become its own when
// they die. Nobody else reaps them, so a number is never another process's by now.
func (g *guardian) sweep(c *child) error {
	begun, complained, look := time.Now(), false, firstLook
	for g.reap(c) {
		err := g.killChildren()
		if time.Since(begun) >= g.cfg.sweepLimit {
			if g.stopping {
				return err
			}
			if !complained {
				complained = true
				g.log.Error("not everything of the runtime can be killed; it is neither declared dead nor started again before that", "error", err)
				g.manager.status("waiting for processes that do not die")
			}
		}
		g.await(look)
		look = min(2*look, longestLook)
	}
	return nil
}

// killChildren kills this process's children and returns an error that names them.
func (g *guardian) killChildren() error {
	pids, err := children()
	if err != nil {
		return err
	}
	var failed []error
	for _, pid := range pids {
		if err := g.cfg.kill(pid); err != nil && !errors.Is(err, unix.ESRCH) {
			failed = append(failed, fmt.Errorf("kill %d: %w", pid, err))
		}
	}
	return &undeadError{pids, failed}
}

// undeadError names the children that were there to be killed.
type undeadError struct {
	pids   []int
	failed []error
}

func (e *undeadError) Error() string {
	var texts []string
	for _, pid := range e.pids[:min(len(e.pids), 8)] {
		name, state, _ := stat(pid)
		texts = append(texts, fmt.Sprintf("%d (%s, state %s)", pid, name, state))
	}
	for _, err := range e.failed[:min(len(e.failed), 8)] {
		texts = append(texts, err.Error())
	}
	return "processes that do not die: " + strings.Join(texts, ", ")
}

// await returns when a child may have ended, or after d. Signals are noted.
func (g *guardian) await(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-g.ended:
	case <-timer.C:
	case s := <-g.signals:
		g.signalled(nil, s)
	case <-g.ctx.Done():
		g.stop(nil, unix.SIGTERM)
		select { // not again and again
		case <-g.ended:
		case <-timer.C:
		}
	}
}

// reap takes what has ended, notes how the child did, and returns whether there are
// other children.
func (g *guardian) reap(c *child) (left bool) {
	return reap(func(pid int, status unix.WaitStatus) {
		if c != nil && pid == c.pid {
			c.ended, c.status = true, status
			return
		}
		g.reaped++
	})
}

// children returns this process's children. Those of a thread that ends meanwhile may
// be missing.
func children() ([]int, error) {
	const tasks = "/proc/self/task"
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return nil, fmt.Errorf("find children: %w", err)
	}
	var pids []int
	for _, thread := range threads {
		data, err := os.ReadFile(tasks + "/" + thread.Name() + "/children")
		if errors.Is(err, os.ErrNotExist) {
			return scanChildren() // a kernel without that file, or a thread that ended
		}
		if err != nil {
			return nil, fmt.Errorf("find children: %w", err)
		}
		for _, field := range bytes.Fields(data) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// scanChildren finds the same by looking at all processes.
func scanChildren() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("find children: %w", err)
	}
	self := os.Getpid()
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if _, _, parent := stat(pid); parent == self {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// stat returns a process's short name, state and parent; the latter is 0 if there is
// no such process.
func stat(pid int) (name, state string, parent int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", "", 0
	}
	// "PID (NAME) STATE PPID ...", and a name may hold anything.
	begin, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if begin < 0 || end < begin {
		return "", "", 0
	}
	fields := strings.Fields(string(data[end+1:]))
	if len(fields) < 2 {
		return "", "", 0
	}
	parent, _ = strconv.Atoi(fields[1])
	return string(data[begin+1 : end]), fields[0], parent
}

// checkProc makes sure that the numbers in /proc are those that this process knows.
func checkProc() error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return fmt.Errorf("the guardian needs /proc: mount it, or run without guardian (--no-guardian): %w", err)
	}
	if self != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("/proc is of another PID namespace (process %d is %s there): mount the own one, or run without guardian (--no-guardian)",
			os.Getpid(), self)
	}
	return nil
}

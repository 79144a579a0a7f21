package datadir

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	// maxHolders are named: enough to see what they are.
	maxHolders = 8
	// searchFor bounds the search through all processes.
	searchFor = 500 * time.Millisecond
)

// holders returns the processes that have the file at the path open, as far as they
// can be seen. Processes come and go meanwhile, so errors mean nothing.
func holders(path string) []Holder {
	wanted, err := os.Stat(path)
	if err != nil {
		return nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return nil
	}
	var found []Holder
	end := time.Now().Add(searchFor)
	for _, name := range names {
		if time.Now().After(end) || len(found) == maxHolders {
			break
		}
		pid, err := strconv.Atoi(name)
		if err != nil || pid == os.Getpid() {
			continue
		}
		if holds(pid, wanted) {
			comm, _ := os.ReadFile(filepath.Join("/proc", name, "comm"))
			found = append(found, Holder{PID: pid, Name: strings.TrimSpace(string(comm))})
		}
	}
	return found
}

// holds tells whether the process has the file open.
func holds(pid int, wanted os.FileInfo) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
	fds, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		link := filepath.Join(dir, fd.Name())
		// By name first: looking at every open file could hang on one of a network
		// file system whose server is gone.
		target, err := os.Readlink(link)
		if err != nil || filepath.Base(target) != fileName {
			continue
		}
		if info, err := os.Stat(link); err == nil && os.SameFile(info, wanted) {
			return true
		}
	}
	return false
}

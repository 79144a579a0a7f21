//go:build !linux

package handler

import "os"

// execPath: without a path to an open file, checking and running are two steps.
func execPath(path, _ string, _ *os.File, files []*os.File) (string, []*os.File) {
	return path, files
}

// awaitExit returns when the process has ended. There is no portable wait that
// leaves a zombie, so its number is free for a moment before the group is swept.
func awaitExit(p *os.Process) *os.ProcessState {
	state, _ := p.Wait()
	return state
}

package cluster

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processTable reads /proc. Processes that end meanwhile are left out.
func processTable() ([]proc, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list /proc: %w", err)
	}
	var all []proc
	for _, name := range stats {
		state, parent, ok := stat(name)
		if !ok || state == 'Z' {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(name), "cmdline"))
		if err != nil {
			continue
		}
		p := proc{pid: pid, parent: parent}
		for arg := range bytes.SplitSeq(bytes.TrimSuffix(line, []byte{0}), []byte{0}) {
			p.args = append(p.args, string(arg))
		}
		all = append(all, p)
	}
	return all, nil
}

// stat reads the state and the parent from a stat file of proc(5).
func stat(name string) (state byte, parent int, ok bool) {
	data, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, false
	}
	// The program's name, in parentheses, may contain anything.
	end := bytes.LastIndexByte(data, ')')
	fields := strings.Fields(string(data[end+1:]))
	if end < 0 || len(fields) < 2 {
		return 0, 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0][0], parent, err == nil
}

// Alive reports whether the process exists and is no zombie.
func Alive(pid int) bool {
	state, _, ok := stat(fmt.Sprintf("/proc/%d/stat", pid))
	return ok && state != 'Z' && state != 'X'
}

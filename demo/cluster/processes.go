package cluster

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Part is what a process of a node is there for.
type Part string

// The parts of a node. A node without a guardian, on platforms that have none, is a
// runtime and its plugins.
const (
	Guardian Part = "guardian"
	Runtime  Part = "runtime"
	Plugin   Part = "plugin"
)

// Process is one process of a node.
type Process struct {
	PID  int
	Part Part
	// Adapter is the name of a plugin's adapter.
	Adapter string
}

// Signal sends a signal to the process; os.ErrProcessDone if it is gone.
func (p Process) Signal(s syscall.Signal) error { return signal(p.PID, s) }

// adapterPrefix begins the name of every plugin's binary.
const adapterPrefix = "fairlead-adapter-"

// goneWithin bounds the wait for killed processes.
const goneWithin = 10 * time.Second

// PID is the process that Start started, 0 if it does not run: the guardian, or the
// runtime where there is none.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cmd == nil {
		return 0
	}
	select {
	case <-n.done:
		return 0
	default:
		return n.cmd.Process.Pid
	}
}

// Processes returns what runs of the node now: what descends from the process that
// Start started. It is empty when the node does not run, and needs /proc.
func (n *Node) Processes() ([]Process, error) {
	root := n.PID()
	if root == 0 {
		return nil, nil
	}
	all, err := processTable()
	if err != nil {
		return nil, fmt.Errorf("processes of %s: %w", n.Name, err)
	}
	found := classify(root, all)
	n.mu.Lock()
	defer n.mu.Unlock()
	// Between two runtimes a guardian is alone and looks like one.
	switch {
	case len(found) > 0 && found[0].Part == Guardian:
		n.guardian = root
	case len(found) > 0 && n.guardian == root:
		found[0].Part = Guardian
	}
	return found, nil
}

// proc is one row of the machine's table of processes.
type proc struct {
	pid, parent int
	// args is the command line.
	args []string
}

// classify tells what the descendants of root are. A guardian is a node's process
// that has a child with its own command line: the runtime.
func classify(root int, all []proc) []Process {
	children := map[int][]proc{}
	var top proc
	for _, p := range all {
		children[p.parent] = append(children[p.parent], p)
		if p.pid == root {
			top = p
		}
	}
	if top.pid == 0 {
		return nil
	}
	var found []Process
	first := Runtime
	var walk func(p proc)
	walk = func(p proc) {
		for _, c := range children[p.pid] {
			name := base(c)
			switch {
			case strings.HasPrefix(name, adapterPrefix):
				adapter := strings.TrimPrefix(name, adapterPrefix)
				found = append(found, Process{PID: c.pid, Part: Plugin, Adapter: adapter})
			case slices.Contains(c.args, "run") && name == base(top):
				first = Guardian
				found = append(found, Process{PID: c.pid, Part: Runtime})
			default:
				continue // a program that something has started for a moment
			}
			walk(c)
		}
	}
	walk(top)
	return append([]Process{{PID: root, Part: first}}, found...)
}

// base is the name of the program without its folder.
func base(p proc) string {
	if len(p.args) == 0 {
		return ""
	}
	return p.args[0][strings.LastIndexByte(p.args[0], '/')+1:]
}

// PIDs returns the node's processes of the given parts; without parts all of them.
func (n *Node) PIDs(parts ...Part) ([]int, error) {
	all, err := n.Processes()
	var pids []int
	for _, p := range all {
		if len(parts) == 0 || slices.Contains(parts, p.Part) {
			pids = append(pids, p.PID)
		}
	}
	return pids, err
}

// Signal sends a signal to the process that Start started.
func (n *Node) Signal(s syscall.Signal) error {
	pid := n.PID()
	if pid == 0 {
		return fmt.Errorf("%s does not run", n.Name)
	}
	return signal(pid, s)
}

// SignalParts sends a signal to the node's processes of the given parts, in the order
// guardian, runtime, plugins, and returns their ids. That there is none is an error.
func (n *Node) SignalParts(s syscall.Signal, parts ...Part) ([]int, error) {
	pids, err := n.PIDs(parts...)
	if err == nil && len(pids) == 0 {
		err = fmt.Errorf("%s has no %v process", n.Name, parts)
	}
	for _, pid := range pids {
		// A process may end by itself between the look and the signal.
		if e := signal(pid, s); e != nil && !errors.Is(e, os.ErrProcessDone) {
			err = errors.Join(err, fmt.Errorf("signal process %d of %s: %w", pid, n.Name, e))
		}
	}
	return pids, err
}

// Kill kills all processes of the node, as a loss of power would, and waits until
// they are gone: the guardian first, so that nobody can tell the cluster of it.
func (n *Node) Kill() error {
	pids, err := n.PIDs()
	if err != nil { // no /proc here: then there is one process to know of
		pids = []int{n.PID()}
	}
	if len(pids) == 0 || pids[0] == 0 {
		return fmt.Errorf("%s does not run", n.Name)
	}
	n.mu.Lock()
	done := n.done
	n.mu.Unlock()
	var errs []error
	for _, pid := range pids {
		if err := signal(pid, syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, fmt.Errorf("kill process %d of %s: %w", pid, n.Name, err))
		}
	}
	end := time.NewTimer(goneWithin)
	defer end.Stop()
	select {
	case <-done:
	case <-end.C:
		return errors.Join(append(errs, fmt.Errorf("%s: process %d still runs %v after SIGKILL", n.Name, pids[0], goneWithin))...)
	}
	return errors.Join(append(errs, Gone(pids, goneWithin))...)
}

// Gone waits until none of the processes runs any more. A zombie does not run.
func Gone(pids []int, within time.Duration) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(within); ; <-tick.C {
		left := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return !Alive(pid) })
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("processes %v still run after %v", left, within)
		}
	}
}

// Freeze stops the node's processes of the given parts where they are (SIGSTOP);
// without parts all of them. Where the parts cannot be told, it stops the process
// that Start started.
func (n *Node) Freeze(parts ...Part) error { return n.hold(stopSignal, parts) }

// Thaw lets frozen processes go on (SIGCONT).
func (n *Node) Thaw(parts ...Part) error { return n.hold(continueSignal, parts) }

func (n *Node) hold(s syscall.Signal, parts []Part) error {
	if _, err := n.Processes(); err != nil {
		return n.Signal(s)
	}
	_, err := n.SignalParts(s, parts...)
	return err
}

package handler

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// hunt kills the descendants of a handler that outlived it, and returns one that is
// still there after within, or nil: also where nobody could be asked in that time. They are known by the variable markEnv, which
// every process hands on to its children, and, where group is not 0, by their
// process group: then the caller has to know that the group's number cannot have
// been given away. A descendant that dropped the variable and left the group is
// missed; the guardian ends those with the runtime. Linux before 5.3 has no safe way
// to signal what was looked at: there nothing is found.
func hunt(mark string, group int, within time.Duration) *survivor {
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	q := &quarry{mark: mark, group: group}
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		c := chases.join(q)
		select {
		case <-c.done:
		case <-deadline.C:
			return nil
		}
		found, ok := c.found[q]
		if !ok {
			return nil
		}
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-deadline.C:
			next.Stop()
			return &found
		}
	}
}

// quarry is what one hunt looks for.
type quarry struct {
	mark  string
	group int
}

// chase is one look at all processes of the machine, for all that hunt at the time:
// when a thousand handlers end together, a thousand looks would be a load.
type chase struct {
	quarries []*quarry
	done     chan struct{}
	// found holds one process of each quarry that has any. Valid after done.
	found map[*quarry]survivor
}

// chaser runs one chase after the other while there is anybody who waits for one.
type chaser struct {
	mu      sync.Mutex
	next    *chase // not begun yet
	running bool
}

var chases chaser

// join returns the chase that begins next, with q among its quarries.
func (r *chaser) join(q *quarry) *chase {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &chase{done: make(chan struct{}), found: map[*quarry]survivor{}}
	}
	r.next.quarries = append(r.next.quarries, q)
	if !r.running {
		r.running = true
		go r.run() // ends when nobody waits
	}
	return r.next
}

func (r *chaser) run() {
	for {
		r.mu.Lock()
		c := r.next
		r.next = nil
		r.running = c != nil
		r.mu.Unlock()
		if c == nil {
			return
		}
		c.look()
		close(c.done)
	}
}

// look reads /proc once and kills what it finds.
func (c *chase) look() {
	marks, groups := map[string]*quarry{}, map[int]*quarry{}
	for _, q := range c.quarries {
		marks[q.mark] = q
		if q.group != 0 {
			groups[q.group] = q
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return // no /proc here: as on other systems
	}
	self := os.Getpid()
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == self {
			continue
		}
		c.examine(pid, marks, groups)
	}
}

func (c *chase) examine(pid int, marks map[string]*quarry, groups map[int]*quarry) {
	// Held before it is looked at: the number may be given to another process
	// meanwhile, and then the signal hits nobody.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	state, group := stat(pid)
	if state == 0 || state == 'Z' || state == 'X' {
		return
	}
	q := groups[group]
	// The memory of one that hangs in the kernel may be locked: reading it would
	// hang as well.
	if q == nil && state != 'D' {
		q = marks[markOf(pid)]
	}
	if q == nil {
		return
	}
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	// Joined quarries of one mark share what is found.
	for _, other := range c.quarries {
		if other == q || other.mark == q.mark {
			c.found[other] = survivor{pid: pid, state: describeState(pid, state)}
		}
	}
}

// markOf returns the value of markEnv in the environment that the process began
// with, or nothing.
func markOf(pid int) string {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return "" // another user's, or gone
	}
	prefix := []byte(markEnv + "=")
	for kv := range bytes.SplitSeq(env, []byte{0}) {
		if v, ok := bytes.CutPrefix(kv, prefix); ok {
			return string(v)
		}
	}
	return ""
}

// stat returns the state's letter and the process group (proc_pid_stat(5)), or 0.
func stat(pid int) (state byte, group int) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0
	}
	// The name in parentheses may hold anything: count from its end.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	if len(fields) < 3 {
		return 0, 0
	}
	group, _ = strconv.Atoi(fields[2])
	return fields[0][0], group
}

// stateOf says what a process is doing, or nothing if it is gone.
func stateOf(pid int) string {
	state, _ := stat(pid)
	if state == 0 {
		return ""
	}
	return describeState(pid, state)
}

var stateNames = map[byte]string{
	'R': "running", 'S': "sleeping", 'D': "uninterruptible sleep", 'T': "stopped", 't': "traced",
	'Z': zombie, 'X': "dead", 'I': "idle",
}

func describeState(pid int, state byte) string {
	name := stateNames[state]
	if name == "" {
		name = "state " + string(state)
	}
	// What it waits for; "0" if it does not, or for whoever may not know.
	at, err := os.ReadFile(fmt.Sprintf("/proc/%d/wchan", pid))
	if err == nil && len(at) > 0 && string(at) != "0" {
		name += " in " + string(at)
	}
	return name
}

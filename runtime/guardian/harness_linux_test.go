package guardian

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// stage is a guardian process with all that it started.
type stage struct {
	cmd   *exec.Cmd
	spec  string      // unique to this test, in the environment of all its processes
	lines chan string // closed when nobody can say anything any more
	heard []string
}

func (s spec) environ(role string) []string {
	data, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return append(withRole(role), specEnv+"="+string(data))
}

// play starts a guardian by the given command, by default the test binary's.
func play(t *testing.T, s spec, change ...func(*exec.Cmd)) *stage {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = s.environ("guardian")
	for _, f := range change {
		f(cmd)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, os.Stderr
	if !testing.Verbose() {
		cmd.Stderr = nil
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	st := &stage{cmd: cmd, spec: s.Dir, lines: make(chan string, 1024)}
	go func() { // ends with the last process
		defer close(st.lines)
		defer r.Close()
		for in := bufio.NewScanner(r); in.Scan(); {
			st.lines <- in.Text()
		}
	}()
	t.Cleanup(func() { st.clear(t) })
	return st
}

// clear kills what a failed test has left.
func (st *stage) clear(t *testing.T) {
	t.Helper()
	if st.cmd.ProcessState == nil {
		_ = st.cmd.Process.Signal(unix.SIGCONT)
		_ = st.cmd.Process.Kill()
		_ = st.cmd.Wait()
	}
	limit := time.After(10 * time.Second)
	for {
		for _, line := range st.heard {
			// These ignore everything, and their parents are dead.
			var pid int
			if _, err := fmt.Sscanf(line, "descendant %d", &pid); err == nil && strings.Contains(environOf(pid), st.spec) {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		select {
		case line, ok := <-st.lines:
			if !ok {
				return
			}
			st.heard = append(st.heard, line)
		case <-limit:
			t.Errorf("processes are left after:\n%s", strings.Join(st.heard, "\n"))
			return
		}
	}
}

// expect returns the next line that begins like this.
func (st *stage) expect(t *testing.T, begin string) string {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-st.lines:
			if !ok {
				t.Fatalf("all ended without %q; heard:\n%s", begin, strings.Join(st.heard, "\n"))
			}
			st.heard = append(st.heard, line)
			if strings.HasPrefix(line, begin) {
				return line
			}
		case <-limit:
			t.Fatalf("no %q; heard:\n%s", begin, strings.Join(st.heard, "\n"))
		}
	}
}

// over waits for the end of every process, and of the guardian with the status.
func (st *stage) over(t *testing.T, code int) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for open := true; open; {
		select {
		case line, ok := <-st.lines:
			open = ok
			if ok {
				st.heard = append(st.heard, line)
			}
		case <-limit:
			t.Fatalf("processes are left; heard:\n%s", strings.Join(st.heard, "\n"))
		}
	}
	err := st.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := st.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("the guardian ended with %v, want status %d; heard:\n%s", st.cmd.ProcessState, code, strings.Join(st.heard, "\n"))
	}
}

// count returns how many lines so far begin like this.
func (st *stage) count(begin string) int {
	n := 0
	for _, line := range st.heard {
		if strings.HasPrefix(line, begin) {
			n++
		}
	}
	return n
}

func (st *stage) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := st.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func kill(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatalf("signal process %d: %v", pid, err)
	}
}

// field returns what stands after key= in a line.
func field(t *testing.T, line, key string) string {
	t.Helper()
	m := regexp.MustCompile(`(?:^| )` + key + `=("[^"]*"|\S*)`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("%q says no %s", line, key)
	}
	return strings.Trim(m[1], `"`)
}

func pidOf(t *testing.T, line string) int {
	t.Helper()
	pid, err := strconv.Atoi(field(t, line, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

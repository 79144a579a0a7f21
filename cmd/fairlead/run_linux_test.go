package main

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
)

// runEnv makes the test binary play `fairlead run` with a node that only says what it
// is told: a guardian reaps all children of its process, so it must not be the test's.
const runEnv = "FAIRLEAD_TEST_RUN"

func init() {
	if os.Getenv(runEnv) != "" {
		os.Exit(playRun())
	}
}

func playRun() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &cli{env: osEnvironment()}
	cmd := newRunCommand(c, func(_ *config.Node, _ *slog.Logger, a attachments) (daemon, error) {
		fmt.Printf("node pid=%d guarded=%v certifier=%d lock=%v\n", os.Getpid(), a.Link != nil, len(a.Link.Certifier()), a.Lock != nil)
		return talker{}, nil
	})
	cmd.SetArgs(os.Args[1:])
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	return report(os.Stderr, cmd.ExecuteContext(ctx))
}

// talker is a node that says what happens to it.
type talker struct{}

func (talker) Start(context.Context) error { fmt.Println("started"); return nil }
func (talker) Done() <-chan struct{}       { return nil }
func (talker) Err() error                  { return nil }
func (talker) Answer()                     {}
func (talker) Stop(context.Context) error  { fmt.Println("stopped"); return nil }

// running is a `fairlead run` with its node.
type running struct {
	cmd   *exec.Cmd
	lines chan string // closed when all of its processes have ended
	file  string
}

func startRun(t *testing.T, args ...string) *running {
	t.Helper()
	dir := t.TempDir()
	r := &running{file: filepath.Join(dir, "node.yaml"), lines: make(chan string, 64)}
	write(t, r.file, "node: {name: node-a, data_dir: "+dir+"/data}\n")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd = exec.Command(self, append([]string{"-c", r.file}, args...)...)
	r.cmd.Env = append(os.Environ(), runEnv+"=1")
	r.cmd.Stdout = w
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	go func() {
		defer close(r.lines)
		defer out.Close()
		for in := bufio.NewScanner(out); in.Scan(); {
			r.lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
		for range r.lines { // the node dies with its guardian
		}
	})
	return r
}

func (r *running) expect(t *testing.T, begin string) string {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case line, ok := <-r.lines:
			if !ok {
				t.Fatalf("ended without %q", begin)
			}
			if strings.HasPrefix(line, begin) {
				return line
			}
		case <-limit:
			t.Fatalf("no %q", begin)
		}
	}
}

func (r *running) node(t *testing.T, guarded bool) (pid int) {
	t.Helper()
	line := r.expect(t, "node ")
	certifier := 0
	if guarded {
		certifier = 32
	}
	want := fmt.Sprintf("guarded=%v certifier=%d lock=true", guarded, certifier)
	if _, err := fmt.Sscanf(line, "node pid=%d", &pid); err != nil || !strings.HasSuffix(line, want) {
		t.Fatalf("%q, want %s", line, want)
	}
	r.expect(t, "started")
	return pid
}

// over waits for the end of all processes, and for the exit status.
func (r *running) over(t *testing.T, code int) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for open := true; open; {
		select {
		case _, open = <-r.lines:
		case <-limit:
			t.Fatal("processes are left")
		}
	}
	_ = r.cmd.Wait()
	if got := r.cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("ended with %v, want exit status %d", r.cmd.ProcessState, code)
	}
}

func TestRunIsAGuardianWhoseNodeComesBack(t *testing.T) {
	r := startRun(t)
	first := r.node(t, true)
	if first == r.cmd.Process.Pid {
		t.Fatal("the node runs in the guardian's process")
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if second := r.node(t, true); second == first {
		t.Error("the node did not start again")
	}
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "stopped")
	r.over(t, exitDone)
}

func TestNodeFileThatBecameWrongEndsTheGuardian(t *testing.T) {
	r := startRun(t)
	pid := r.node(t, true)
	write(t, r.file, "node: {nmae: node-a}\n")
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.over(t, exitWrong)
}

func TestRunWithoutGuardianIsOneProcess(t *testing.T) {
	r := startRun(t, "--no-guardian")
	if pid := r.node(t, false); pid != r.cmd.Process.Pid {
		t.Errorf("the node is process %d, want %d itself", pid, r.cmd.Process.Pid)
	}
	if err := r.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r.expect(t, "stopped")
	r.over(t, exitDone)
}

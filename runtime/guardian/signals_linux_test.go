package guardian

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// needsHangups skips where hangups are ignored, as under nohup: then they are to stay
// ignored, in whatever is started there.
func needsHangups(t *testing.T) {
	t.Helper()
	if signal.Ignored(unix.SIGHUP) {
		t.Skip("hangups are ignored here, as under nohup")
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	needsHangups(t)
	st := play(t, spec{Dir: t.TempDir()})
	st.runtime(t, 1)
	st.signal(t, unix.SIGHUP)
	st.expect(t, "signal hangup")
	st.signal(t, unix.SIGINT)
	st.expect(t, "signal interrupt")
	st.over(t, 0)
	if n := st.count("signal "); n != 2 {
		t.Errorf("%d signals arrived, want each once:\n%s", n, strings.Join(st.heard, "\n"))
	}
}

// A signal to the whole foreground group of a terminal must not count twice.
func TestSignalToTheGroupReachesTheRuntimeOnce(t *testing.T) {
	needsHangups(t)
	st := play(t, spec{Scenario: "stubborn", Dir: t.TempDir()}, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	})
	st.runtime(t, 1)
	kill(t, -st.cmd.Process.Pid, unix.SIGINT)
	st.expect(t, "signal interrupt")
	st.signal(t, unix.SIGHUP)
	st.expect(t, "signal hangup") // which the guardian passed on after it
	if n := st.count("signal interrupt"); n != 1 {
		t.Errorf("%d interrupts arrived, want one", n)
	}
	st.signal(t, unix.SIGTERM) // the second that asks for the end
	st.over(t, 128+9)
}

// influxdata/telegraf#18285: a signal that is sent before its handler is installed
// kills the agent.
func TestSignalBeforeTheRuntimeIsUpIsNotLost(t *testing.T) {
	systemd := listenAsSystemd(t)
	s := spec{Scenario: "slow", Dir: t.TempDir()}
	st := play(t, s, systemd.use)
	st.expect(t, "begun ")
	st.signal(t, unix.SIGTERM)
	systemd.expect(t, "STOPPING=1") // so the guardian has it
	if err := os.WriteFile(filepath.Join(s.Dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	st.expect(t, "signal terminated")
	st.over(t, 0)
}

func TestSecondSignalEndsEverythingAtOnce(t *testing.T) {
	st := play(t, spec{Scenario: "stubborn", Dir: t.TempDir()})
	first := st.runtime(t, 1)
	st.signal(t, unix.SIGTERM)
	st.expect(t, "signal terminated") // and goes on
	st.signal(t, unix.SIGTERM)
	certified(t, st.expect(t, "notice "), first)
	st.over(t, 128+9)
}

func TestStopIsBounded(t *testing.T) {
	st := play(t, spec{Scenario: "stubborn", Dir: t.TempDir(), StopLimit: 100 * time.Millisecond})
	st.runtime(t, 1)
	st.signal(t, unix.SIGTERM)
	if notice := st.expect(t, "notice "); !strings.Contains(notice, "it had not stopped within 100ms") {
		t.Errorf("%q does not give the reason", notice)
	}
	st.over(t, 128+9)
}

// systemd is a socket like the one that systemd gives to a service of type notify.
type systemd struct {
	path  string
	words chan string
}

func listenAsSystemd(t *testing.T) *systemd {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // the test's own is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &systemd{path: filepath.Join(dir, "s"), words: make(chan string, 4096)}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 4096)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			s.words <- string(buffer[:n])
		}
	}()
	return s
}

func (s *systemd) use(cmd *exec.Cmd) {
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=20000")
}

func (s *systemd) expect(t *testing.T, begin string) string {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case word := <-s.words:
			if strings.HasPrefix(word, begin) {
				return word
			}
		case <-limit:
			t.Fatalf("systemd was not told %q", begin)
		}
	}
}

func TestSystemdHearsHowTheNodeIs(t *testing.T) {
	systemd := listenAsSystemd(t)
	// The guardian looks every 200 ms, and must not take that for a sign of life.
	st := play(t, spec{Dir: t.TempDir(), HangAfter: 200 * time.Millisecond * ticksToHang}, systemd.use)
	first := st.runtime(t, 1)
	if field(t, first, "notify") != "" {
		t.Error("the runtime has systemd's socket, too")
	}
	systemd.expect(t, "READY=1")
	systemd.expect(t, "WATCHDOG=1")

	// A runtime that hangs lets the watchdog starve. What it had said may still come.
	kill(t, pidOf(t, first), unix.SIGSTOP)
	rounds := 0
	for fed := true; fed; rounds++ {
		if rounds == 5 {
			t.Fatal("the watchdog is fed for a runtime that hangs")
		}
		fed = false
		quiet := time.After(300 * time.Millisecond)
		for waiting := true; waiting; {
			select {
			case <-quiet:
				waiting = false
			case word := <-systemd.words:
				fed = fed || word == "WATCHDOG=1"
			}
		}
	}
	kill(t, pidOf(t, first), unix.SIGCONT)
	systemd.expect(t, "WATCHDOG=1")

	kill(t, pidOf(t, first), unix.SIGKILL)
	systemd.expect(t, "STATUS=runtime was ended by signal 9 (killed); starting it again")
	systemd.expect(t, "READY=1")
	st.signal(t, unix.SIGTERM)
	systemd.expect(t, "STOPPING=1")
	st.over(t, 0)
}

// inNamespace makes the guardian process 1 of a new PID namespace.
func inNamespace(args ...string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		args := append([]string{"unshare", "--pid", "--fork", "--kill-child"}, args...)
		cmd.Path, _ = exec.LookPath("unshare")
		cmd.Args = append(args, "/proc/"+fmt.Sprint(os.Getpid())+"/exe")
	}
}

func needNamespaces(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: PID namespaces are not permitted here: %v: %s", err, out)
	}
}

func TestGuardianAsProcessOneReapsOrphansAllTheTime(t *testing.T) {
	needNamespaces(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	st := play(t, spec{Scenario: "orphans", Dir: t.TempDir()}, inNamespace("--mount-proc"), func(cmd *exec.Cmd) {
		cmd.Args[len(cmd.Args)-1] = self // /proc is another's there
	})
	first := st.runtime(t, 1)
	pids, err := childrenOf(st.cmd.Process.Pid)
	if err != nil || len(pids) != 1 {
		t.Fatalf("children of unshare: %v, %v", pids, err)
	}
	one := pids[0]
	st.expect(t, "descendant ") // its parent ends: it becomes process 1's child
	waitFor(t, "process 1 has two children, the runtime and the orphan, none of them dead", func() bool {
		pids, err := childrenOf(one)
		dead := 0
		for _, pid := range pids {
			if _, state, _ := stat(pid); state == "Z" {
				dead++
			}
		}
		return err == nil && len(pids) == 2 && dead == 0
	})
	pids, err = childrenOf(one)
	if err != nil || len(pids) != 2 {
		t.Fatalf("children of process 1: %v, %v", pids, err)
	}
	runtime, orphan := min(pids[0], pids[1]), max(pids[0], pids[1])
	kill(t, orphan, unix.SIGKILL)
	waitFor(t, "the orphan is reaped while the runtime lives", func() bool {
		pids, err := childrenOf(one)
		return err == nil && len(pids) == 1 && pids[0] == runtime
	})
	// The runtime leaves 21 children that have ended: process 1 has to take them.
	kill(t, runtime, unix.SIGKILL)
	certified(t, st.expect(t, "notice "), first)
	st.runtime(t, 2)
	kill(t, one, unix.SIGTERM)
	st.expect(t, "signal terminated")
	st.over(t, 0)
}

func TestGuardianRefusesTheProcOfAnotherNamespace(t *testing.T) {
	needNamespaces(t)
	st := play(t, spec{Dir: t.TempDir()}, inNamespace())
	if line := st.expect(t, "guardian: "); !strings.Contains(line, "/proc is of another PID namespace") {
		t.Errorf("%q", line)
	}
	st.over(t, 98)
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// childrenOf finds the children of another process.
func childrenOf(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil {
			continue
		}
		if _, _, p := stat(pid); p == parent {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

package guardian

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
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

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead-io/fairlead/runtime/datadir"
)

// A guardian reaps all children of its process and takes its signals, so it never runs
// in the test's own process: the test binary plays all the parts, told by roleEnv. They
// all speak on one standard output, whose end says that none of them is left.
const (
	roleEnv = "GUARDIAN_TEST_ROLE"
	specEnv = "GUARDIAN_TEST_SPEC"
)

// spec says what is played.
type spec struct {
	Scenario                         string
	Dir                              string
	HangAfter, StopLimit, SweepLimit time.Duration
	// Spare makes the guardian fail to kill anything but the runtime.
	Spare bool
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleEnv)
	if role == "" {
		goleak.VerifyTestMain(m)
	}
	var s spec
	if err := json.Unmarshal([]byte(os.Getenv(specEnv)), &s); err != nil {
		say("bad spec: %v", err)
		os.Exit(99)
	}
	switch role {
	case "guardian":
		os.Exit(s.playGuardian())
	case "runtime":
		os.Exit(s.playRuntime())
	case "leaver": // goes, and leaves a child behind
		s.spawn("stubborn")
	case "pair": // two generations that stay
		s.spawn("stubborn")
		stay()
	case "stubborn":
		stay()
	case "brief":
	}
	os.Exit(0)
}

func say(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }

// stay ignores everything that can be ignored.
func stay() {
	signal.Ignore(unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1)
	say("descendant %d", os.Getpid())
	time.Sleep(time.Hour)
}

// spawn starts a process of the test in a session of its own, with the lock if we
// have one.
func (s spec) spawn(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = withRole(role)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if lock := os.NewFile(3, "lock"); inheritedLock(lock) {
		cmd.ExtraFiles = []*os.File{lock}
	}
	if err := cmd.Start(); err != nil {
		say("spawn: %v", err)
	}
	return cmd
}

func inheritedLock(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode().IsRegular()
}

func withRole(role string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, roleEnv+"=") {
			env = append(env, v)
		}
	}
	// The race detector lets processes sleep for a second when they end.
	return append(env, roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
}

func (s spec) playGuardian() int {
	code, err := Run(context.Background(), Config{
		Node: "node-a", Path: "/proc/self/exe", Env: withRole("runtime"),
		HangAfter: s.HangAfter, StopLimit: s.StopLimit,
		Prepare: func(peers []string) Errand { return witness{s, peers} },
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),

		sweepLimit: s.SweepLimit, longestDelay: 20 * time.Millisecond, kill: s.killer(),
	})
	if err != nil {
		say("guardian: %v", err)
		return 98
	}
	return code
}

func (s spec) killer() func(int) error {
	if !s.Spare {
		return nil
	}
	return func(pid int) error {
		if name, _, _ := stat(pid); name == "" || !strings.Contains(environOf(pid), roleEnv+"=runtime") {
			return errors.New("spared")
		}
		return unix.Kill(pid, unix.SIGKILL)
	}
}

func environOf(pid int) string {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return string(data)
}

// witness is the fake way to the peers. It runs in the guardian, and looks whether
// what the notice says is true: nobody has the lock that all descendants inherited,
// and nobody is left to be reaped.
type witness struct {
	spec
	peers []string
}

func (w witness) Deliver(ctx context.Context, n Notice) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	state := "free"
	once, cancel := context.WithCancel(ctx)
	cancel()
	lock, err := datadir.Open(once, w.Dir)
	if err != nil {
		state = "held"
	} else {
		lock.Close()
	}
	zombies := 0
	pids, _ := children()
	for _, pid := range pids {
		if _, state, _ := stat(pid); state == "Z" {
			zombies++
		}
	}
	say("notice node=%s proof=%s lock=%s zombies=%d peers=%s reason=%q",
		n.Node, hex.EncodeToString(n.Proof), state, zombies, strings.Join(w.peers, ","), n.Reason)
	return nil
}

// life counts the runtimes that there were, with this one.
func (s spec) life() int {
	f, err := os.OpenFile(filepath.Join(s.Dir, "lives"), os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return 0
	}
	defer f.Close()
	_, _ = f.WriteString("x")
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return int(info.Size())
}

func (s spec) playRuntime() int {
	life := s.life()
	// What main does before Attach.
	signals := make(chan os.Signal, 4)
	switch s.Scenario {
	case "slow": // to handle signals
		say("begun %d", os.Getpid())
		for {
			if _, err := os.Stat(filepath.Join(s.Dir, "go")); err == nil {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	case "deaf": // never attaches
		say("runtime %d pid=%d", life, os.Getpid())
		time.Sleep(time.Hour)
	}
	signal.Notify(signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	link, err := Attach(os.Getenv)
	if err != nil || link == nil {
		say("attach: %v", err)
		return 97
	}
	defer link.Close()
	defer s.prepare(life)()
	link.SetPeers([]string{"leader:1", "other:2"})
	say("runtime %d pid=%d certifier=%s notify=%q", life, os.Getpid(), hex.EncodeToString(link.Certifier()), os.Getenv("NOTIFY_SOCKET"))
	switch {
	case s.Scenario == "refuse":
		link.Refuse()
		return 2
	case s.Scenario == "panic" && life == 1:
		link.Close()
		panic("on purpose")
	case s.Scenario == "done":
		return 0
	}
	link.Ready()
	return s.live(link, signals)
}

// prepare takes the lock and starts the descendants of the scenario.
func (s spec) prepare(life int) (undo func()) {
	if s.Scenario == "orphans" {
		for range 20 {
			cmd := s.spawn("brief")
			_ = cmd.Process.Release() // never waited for: zombies of ours until we end
		}
		s.spawn("leaver")
	}
	if s.Scenario != "family" || life > 1 && !s.everyLife() {
		return func() {}
	}
	lock, err := datadir.Open(context.Background(), s.Dir)
	if err != nil {
		say("lock: %v", err)
		return func() {}
	}
	for _, role := range []string{"pair", "leaver", "stubborn"} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = withRole(role)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.ExtraFiles = []*os.File{lock.File()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: role == "stubborn", Setpgid: role != "stubborn"}
		if err := cmd.Start(); err != nil {
			say("start: %v", err)
		}
	}
	return func() { lock.Close() }
}

// everyLife: all lives have a family, not only the first.
func (s spec) everyLife() bool {
	_, err := os.Stat(filepath.Join(s.Dir, "every-life"))
	return err == nil
}

func (s spec) live(link *Link, signals <-chan os.Signal) int {
	beat := time.NewTicker(20 * time.Millisecond)
	defer beat.Stop()
	begun, said := time.Now(), false
	for {
		select {
		case <-beat.C:
			link.Beat()
			if !said && time.Since(begun) > 3*s.HangAfter {
				said = true
				say("still here")
			}
		case got := <-signals:
			say("signal %v", got)
			if got != unix.SIGHUP && s.Scenario != "stubborn" {
				return 0
			}
		}
	}
}

package handler

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func sprint(t bootclock.Time) string { return fmt.Sprint(int64(t)) }

// hostRole is the name under which this binary plays a runtime.
const hostRole = "test-runtime"

// playHost starts or prepares the adapter that it is told on its standard input,
// prints its process's number and waits to be killed.
func playHost() {
	in := bufio.NewScanner(os.Stdin)
	var args []string
	for len(args) < 5 && in.Scan() {
		args = append(args, in.Text())
	}
	b := Binary{Name: args[0], Path: args[1], SHA256: args[2], Version: "1.2.3"}
	if args[4] == "prepare" {
		p, err := Prepare(context.Background(), PrepareSpec{Binary: b, RuntimeDir: args[3]})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(p.PID())
		_, _ = io.Copy(io.Discard, os.Stdin)
		return
	}
	h, err := Start(context.Background(), Spec{
		Binary: b, RuntimeDir: args[3],
		Lease:   func() bootclock.Time { return bootclock.Now().Add(time.Hour) },
		Receive: func(*adapterpb.FromAdapter) {},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(h.PID())
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startHost starts a process that plays a runtime of the binary.
func startHost(t *testing.T, b Binary, what string) (*exec.Cmd, io.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &exec.Cmd{Path: self, Args: []string{hostRole}, Stderr: os.Stderr}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	fmt.Fprintf(in, "%s\n%s\n%s\n%s\n%s\n", b.Name, b.Path, b.SHA256, shortDir(t), what)
	return c, out
}

func readPID(t *testing.T, out *bufio.Reader) int {
	t.Helper()
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the runtime says %q", line)
	}
	return pid
}

// hashicorp/go-plugin#10, spiffe/spire#93, #351 and #1962: a runtime that was killed
// left its plugins, and each restart added a set.
func TestRegressionGoPlugin10Spire93PluginDiesWithAKilledRuntime(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("the kernel kills orphans on Linux only; elsewhere the SDK sees its standard input end")
	}
	c, out := startHost(t, binary(t, "stubborn"), "start")
	pid := readPID(t, bufio.NewReader(out))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	if !alive(pid) {
		t.Fatal("the plugin does not run")
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the plugin is gone", func() bool { return !alive(pid) })
}

func TestGrandchildHoldingThePipesDelaysNothing(t *testing.T) {
	s, _, log := spec(t, "holder")
	h := start(t, s)
	eventually(t, "the grandchild's number is logged", func() bool { return strings.Contains(log.String(), "grandchild") })
	grandchild := loggedPID(t, log.String())
	t.Cleanup(func() { _ = syscall.Kill(grandchild, syscall.SIGKILL) })
	if !alive(grandchild) {
		t.Fatal("the grandchild does not run")
	}
	begun := time.Now()
	if err := h.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("stop took %v", took)
	}
	eventually(t, "the grandchild is gone", func() bool { return !alive(grandchild) })
}

func loggedPID(t *testing.T, log string) int {
	t.Helper()
	_, rest, ok := strings.Cut(log, `"msg":"grandchild"`)
	_, rest, ok2 := strings.Cut(rest, `"pid":`)
	pid, err := strconv.Atoi(rest[:strings.IndexAny(rest, "},")])
	if !ok || !ok2 || err != nil {
		t.Fatalf("no grandchild in %s", log)
	}
	return pid
}

// A descendant that has left the group survives it, but cannot hold us up.
func TestPipesHeldFromOutsideTheGroupAreClosed(t *testing.T) {
	p := newProcess(launchSpec{name: "sh", path: "/bin/sh", log: orDiscard(nil)}, shortDir(t))
	pp, err := newPipes()
	if err != nil {
		t.Fatal(err)
	}
	// We hold a copy of the writing end, as such a descendant would.
	fd, err := syscall.Dup(int(pp.errW.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	sh, err := os.Open("/bin/sh")
	if err != nil {
		t.Skip(err)
	}
	defer sh.Close()
	forked := make(chan error, 1)
	go p.life(sh, pp, forked)
	if err := <-forked; err != nil {
		t.Fatal(err)
	}
	pp.closeChild()
	go p.drain(pp)
	p.kill()
	await(t, p.exited, "the end of the process")
	begun := time.Now()
	await(t, p.drained, "the end of its pipes")
	if took := time.Since(begun); took > 10*pipesGrace {
		t.Errorf("took %v", took)
	}
}

func TestAProcessThatWasKilledBeforeItsStartDoesNotStart(t *testing.T) {
	b := binary(t, "good")
	p := newProcess(launchSpec{name: b.Name, path: b.Path, sha256: b.SHA256, log: orDiscard(nil)}, shortDir(t))
	p.kill()
	if err := p.start(); err == nil {
		t.Error("it started")
	}
}

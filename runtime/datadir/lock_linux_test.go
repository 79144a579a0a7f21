package datadir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// roleEnv makes the test binary play a process that inherited a lock.
const roleEnv = "DATADIR_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleEnv) {
	case "hold": // until it is killed, or the test has ended
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	case "leave": // a grandchild with the lock behind, in a session of its own
		cmd := self("hold", os.NewFile(3, "lock"))
		cmd.Stdin = os.Stdin
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(cmd.Process.Pid)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func self(role string, lock *os.File) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{lock}
	return cmd
}

// spiffe/spire#93: plugins of a killed host stay behind, and each restart adds a set
// of them. Here the next run does not begin before they are gone.
func TestLockIsHeldUntilTheLastDescendantThatInheritedItIsGone(t *testing.T) {
	dir := t.TempDir()
	lock := open(t, dir)
	id := lock.ID()

	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close() // ends the descendants if the test fails
	leaver := self("leave", lock.File())
	leaver.Stdin = r
	out, err := leaver.Output()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		t.Fatal(err)
	}
	// The process that took the lock, and its child, have ended.
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = attempt(dir)
	var held *HeldError
	if !errors.As(err, &held) {
		t.Fatalf("with a grandchild alive: got %v, want the lock held", err)
	}
	if len(held.Holders) != 1 || held.Holders[0].PID != pid || !strings.Contains(err.Error(), fmt.Sprintf("process %d (", pid)) {
		t.Errorf("%v does not name process %d alone", err, pid)
	}

	// A stopped process keeps it, too.
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := attempt(dir); !errors.As(err, &held) {
		t.Fatalf("with the grandchild stopped: got %v, want the lock held", err)
	}

	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	again := open(t, dir)
	if again.ID() != id {
		t.Errorf("the same lock was called %q, then %q", id, again.ID())
	}
}

func TestEveryLockHasItsOwnID(t *testing.T) {
	var fs unix.Statfs_t
	if err := unix.Statfs(t.TempDir(), &fs); err != nil {
		t.Fatal(err)
	}
	if err := judge(uint32(fs.Type)); err != nil {
		t.Skip("the temporary directory is on a file system that is not trusted:", err)
	}
	a, b := open(t, t.TempDir()), open(t, t.TempDir())
	if len(a.ID()) != 64 || a.ID() == b.ID() {
		t.Errorf("got %q and %q, want two different names of 64 hex digits", a.ID(), b.ID())
	}
	seen := map[string]bool{}
	for _, in := range []struct {
		boot       string
		dev, inode uint64
	}{{"a", 1, 2}, {"b", 1, 2}, {"a", 2, 2}, {"a", 1, 3}, {"a", 12, 2}, {"a", 1, 22}} {
		id, err := name(in.boot, in.dev, in.inode)
		if err != nil || seen[id] {
			t.Errorf("%+v: got %q, %v, want a name of its own", in, id, err)
		}
		seen[id] = true
	}
	if id, err := name("", 1, 2); err == nil {
		t.Errorf("without a boot ID: got %q, want none", id)
	}
}

func TestLocksOfForeignFileSystemsProveNothing(t *testing.T) {
	for magic, good := range map[uint32]bool{
		0xef53: true, 0x58465342: true, 0x9123683e: true, 0x794c7630: true, 0x01021994: true,
		0x6969: false, 0x517b: false, 0xff534d42: false, 0xfe534d42: false, 0x65735546: false, 0x12345678: false,
	} {
		err := judge(magic)
		if (err == nil) != good {
			t.Errorf("%#x: got %v", magic, err)
		}
		if err != nil && !strings.Contains(err.Error(), "put node.data_dir on a local disk") {
			t.Errorf("%#x: %q says no remedy", magic, err)
		}
	}
}

func TestLockIsNotInheritedUnlessGiven(t *testing.T) {
	dir := t.TempDir()
	lock := open(t, dir)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"=hold")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { in.Close(); _ = cmd.Wait() }()
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	again, err := Open(ctx, dir)
	if err != nil {
		t.Fatalf("a child that was not given the lock holds it: %v", err)
	}
	again.Close()
}

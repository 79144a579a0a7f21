package netns

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

const (
	// insideEnv marks the process in the new namespaces.
	insideEnv = "FAIRLEAD_NETNS_INSIDE"
	// requireEnv makes a test of what else is only skipped.
	requireEnv = "FAIRLEAD_REQUIRE_NETNS"
)

// errUnavailable says why there are no namespaces to test in; nil inside of them.
var errUnavailable = errors.New("not in a namespace of its own")

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		os.Exit(m.Run())
	}
	if os.Getenv(insideEnv) != "" {
		errUnavailable = settle()
		os.Exit(m.Run())
	}
	code, err := again()
	if err != nil {
		errUnavailable = err
		code = m.Run()
	}
	os.Exit(code)
}

// again runs this test binary in namespaces of its own and returns its exit status.
// An error means that it could not be started there.
func again() (int, error) {
	if os.Getuid() != 0 {
		return 0, errors.New("network namespaces need root")
	}
	for _, program := range []string{"ip", "tc", "bridge"} {
		if _, err := exec.LookPath(program); err != nil {
			return 0, fmt.Errorf("%w; install iproute2", err)
		}
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread() // Pdeathsig is about the thread; it stays with this call
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("new network and mount namespaces: %w", err)
	}
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() >= 0:
		return exit.ExitCode(), nil
	case err != nil: // it was killed: that is no reason to skip anything
		fmt.Fprintln(os.Stderr, "the test process in the namespaces:", err)
		return 1, nil
	}
	return 0, nil
}

// settle makes the new mount namespace private and gives ip a place of its own for
// the names of namespaces.
func settle() error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := os.MkdirAll("/run/netns", 0o755); err != nil {
		return fmt.Errorf("directory for namespaces: %w", err)
	}
	if err := syscall.Mount("fairlead", "/run/netns", "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("a file system for the names of namespaces: %w", err)
	}
	return nil
}

// needNamespaces skips the test where there are none, and fails it where they are
// required.
func needNamespaces(t *testing.T) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("needs root, namespaces, and some minutes")
	case errUnavailable == nil:
	case os.Getenv(requireEnv) == "1":
		t.Fatalf("network namespaces are required here (%s=1) and not to be had: %v", requireEnv, errUnavailable)
	default:
		line := fmt.Sprintf("*** NOT TESTED: the cluster under network faults. No namespaces: %v", errUnavailable)
		fmt.Fprintln(os.Stderr, line)
		t.Skip(line)
	}
}

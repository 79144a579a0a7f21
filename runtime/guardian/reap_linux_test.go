package guardian

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestChildrenAreFoundInBothWays(t *testing.T) {
	var want []int
	for range 3 {
		cmd := exec.Command("sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		want = append(want, cmd.Process.Pid)
	}
	for name, find := range map[string]func() ([]int, error){"lists": children, "scan": scanChildren} {
		got, err := find()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, pid := range want {
			if !slices.Contains(got, pid) {
				t.Errorf("%s: %v lacks %d", name, got, pid)
			}
		}
		if slices.Contains(got, os.Getpid()) || slices.Contains(got, os.Getppid()) {
			t.Errorf("%s: %v are not children only", name, got)
		}
	}
	if name, state, parent := stat(os.Getpid()); name == "" || state == "" || parent != os.Getppid() {
		t.Errorf("this process: name %q, state %q, parent %d", name, state, parent)
	}
}

func TestTheRuntimeDoesNotTalkToSystemd(t *testing.T) {
	got := environment([]string{"A=1", "NOTIFY_SOCKET=/run/x", "WATCHDOG_USEC=5", "WATCHDOG_PID=1", LinkEnv + "=9", "NOTIFY_SOCKETS=2"})
	if want := []string{"A=1", "NOTIFY_SOCKETS=2", LinkEnv + "=3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

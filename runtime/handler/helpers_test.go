package handler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

// patience is how long tests wait for what must come.
const patience = 20 * time.Second

// install puts this binary into a directory under the adapter's name.
func install(t testing.TB, roles ...string) (dir string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	for _, role := range roles {
		path := filepath.Join(dir, Prefix+role)
		if err := os.Link(self, path); err == nil {
			continue
		}
		data, err := os.ReadFile(self)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// binary is an installed role as Scan would return it.
func binary(t testing.TB, role string) Binary {
	t.Helper()
	path := filepath.Join(install(t, role), Prefix+role)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sum, err := checksum(f)
	if err != nil {
		t.Fatal(err)
	}
	return Binary{Name: role, Path: path, SHA256: sum, Version: "1.2.3"}
}

// shortDir is a directory whose path leaves room for a socket's.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// heard collects what Receive gets.
type heard struct {
	ch chan *adapterpb.FromAdapter
}

func (h *heard) receive(m *adapterpb.FromAdapter) { h.ch <- m }

// state waits for the endpoint state that is called what and returns its text.
func (h *heard) state(t testing.TB, what string) string {
	t.Helper()
	for {
		m := await(t, h.ch, "state "+what)
		if s := m.GetEndpointState(); s.GetEndpoint() == what {
			return s.GetError().GetText()
		}
	}
}

func await[T any](t testing.TB, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v for %s", patience, what)
		panic("not reached")
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// logBuffer is a log that tests read.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// spec is a complete one, with a lease that lasts.
func spec(t testing.TB, role string) (Spec, *heard, *logBuffer) {
	t.Helper()
	h, l := &heard{ch: make(chan *adapterpb.FromAdapter, 1<<14)}, &logBuffer{}
	return Spec{
		Binary: binary(t, role), Host: "intake", Node: "node-a",
		RuntimeDir: shortDir(t), Log: l.logger(),
		Lease:   func() bootclock.Time { return bootclock.Now().Add(time.Minute) },
		Receive: h.receive,
	}, h, l
}

// start starts s and sees to it that nothing of it stays.
func start(t testing.TB, s Spec) *Handler {
	t.Helper()
	h, err := Start(context.Background(), s)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		h.Kill()
		await(t, h.Done(), "the end of the handler")
		checkNothingLeft(t, s.RuntimeDir, h.PID())
	})
	return h
}

// mustFail starts s and returns the error.
func mustFail(t *testing.T, s Spec) error {
	t.Helper()
	h, err := Start(context.Background(), s)
	if err == nil {
		h.Kill()
		t.Fatal("started, but must not")
	}
	checkNothingLeft(t, s.RuntimeDir, 0)
	return err
}

func checkNothingLeft(t testing.TB, runtimeDir string, pid int) {
	t.Helper()
	err := filepath.WalkDir(runtimeDir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != runtimeDir {
			err = fmt.Errorf("left behind: %s", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if pid != 0 && alive(pid) {
		t.Errorf("process %d is left", pid)
	}
}

// freeze stops the process, and returns when all of it stands still.
func freeze(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return // cannot be seen here
	}
	eventually(t, "the process stands still", func() bool {
		stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, path := range stats {
			stat, err := os.ReadFile(path)
			_, rest, _ := strings.Cut(string(stat), ") ")
			if err == nil && !strings.HasPrefix(rest, "T") {
				return false
			}
		}
		return len(stats) > 0
	})
}

// alive tells whether pid runs: a zombie that nobody has reaped does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func poll(t testing.TB, h *Handler, command string) {
	t.Helper()
	m := &adapterpb.ToAdapter{Kind: &adapterpb.ToAdapter_Poll{Poll: &adapterpb.Poll{Location: command}}}
	if err := h.Send(context.Background(), m); err != nil {
		t.Fatalf("poll %s: %v", command, err)
	}
}

func wantText(t testing.TB, got string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(got, p) {
			t.Errorf("got %q, want %q in it", got, p)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/runtime/config"
)

// fakeDaemon is a node that does as it is told.
type fakeDaemon struct {
	startErr, err error
	hang          bool // in Stop, until its context ends
	started       chan struct{}
	done          chan struct{}
	stopped       int
}

func newFakeDaemon() *fakeDaemon {
	return &fakeDaemon{started: make(chan struct{}), done: make(chan struct{})}
}

func (f *fakeDaemon) Start(ctx context.Context) error {
	if f.startErr != nil {
		return f.startErr
	}
	close(f.started)
	return ctx.Err()
}

func (f *fakeDaemon) Done() <-chan struct{} { return f.done }
func (f *fakeDaemon) Err() error            { return f.err }
func (f *fakeDaemon) Answer()               {}

func (f *fakeDaemon) Stop(ctx context.Context) error {
	f.stopped++
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if f.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func TestSignalDrainsTheNode(t *testing.T) {
	n := newFakeDaemon()
	ctx, signal := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runNode(ctx, n, nil, time.Minute, quiet()) }()
	<-n.started
	signal()
	if err := <-ended; err != nil {
		t.Errorf("a drained node ended with %v, want no error", err)
	}
	if n.stopped != 1 {
		t.Errorf("stopped %d times, want once", n.stopped)
	}
}

func TestNodeThatEndsByItselfIsAFailure(t *testing.T) {
	for _, cause := range []error{errors.New("the ledger's disk does not answer"), nil} {
		n := newFakeDaemon()
		n.err = cause
		close(n.done)
		err := runNode(t.Context(), n, nil, time.Minute, quiet())
		if err == nil || cause != nil && !errors.Is(err, cause) || exitCode(err) != exitFailed {
			t.Errorf("cause %v: ended with %v", cause, err)
		}
		if n.stopped != 1 {
			t.Errorf("cause %v: stopped %d times, want once", cause, n.stopped)
		}
	}
}

func TestNodeThatDoesNotStartIsCleanedUp(t *testing.T) {
	n := newFakeDaemon()
	n.startErr = errors.New("address in use")
	if err := runNode(t.Context(), n, nil, time.Minute, quiet()); !errors.Is(err, n.startErr) {
		t.Errorf("ended with %v, want the reason", err)
	}
	if n.stopped != 1 {
		t.Errorf("stopped %d times, want once", n.stopped)
	}
}

func TestStoppingIsBounded(t *testing.T) {
	n := newFakeDaemon()
	n.hang = true
	ctx, signal := context.WithCancel(t.Context())
	signal()
	if err := runNode(ctx, n, nil, 20*time.Millisecond, quiet()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v, want the time limit", err)
	}
}

func TestRunTakesSettingsFromFileEnvironmentAndFlags(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "node.yaml")
	write(t, file, "node: {name: from-file, data_dir: "+dir+"}\ncluster: {name: from-file}\nlog: {format: json}\n")
	t.Setenv("FAIRLEAD_CLUSTER__NAME", "from-env")
	t.Setenv("FAIRLEAD_NODE__NAME", "from-env")

	var got *config.Node
	var log bytes.Buffer
	stop := errors.New("seen")
	c := &cli{env: environment{err: &log, getenv: os.Getenv}}
	cmd := newRunCommand(c, func(cfg *config.Node, log *slog.Logger, a attachments) (daemon, error) {
		got = cfg
		if a.Link != nil || a.Lock == nil {
			t.Errorf("got link %v and lock %v, want a lock only", a.Link, a.Lock)
		}
		log.Info("hello")
		return nil, stop
	})
	cmd.SetArgs([]string{"--no-guardian", "-c", file, "--node.name", "from-flag", "--deploy", filepath.Join(dir, "app.yaml")})
	cmd.SetErr(io.Discard)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	if err := cmd.ExecuteContext(t.Context()); !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
	if got.Node.Name != "from-flag" || got.Cluster.Name != "from-env" || got.Node.DataDir != dir || got.Deploy != filepath.Join(dir, "app.yaml") {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(log.String(), `"msg":"hello","node":"from-flag"`) {
		t.Errorf("the log is %q, want JSON with the node's name", log.String())
	}
}

func TestRunRefusesAWrongNodeFileWithItsPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "node.yaml")
	write(t, file, "node:\n  nmae: node-a\n  role: boss\n")
	r := fairlead(t, "run", "-c", file)
	if r.code != exitWrong {
		t.Errorf("exit status %d, want %d", r.code, exitWrong)
	}
	for _, place := range []string{file + ":2:3: ", file + ":3:9: "} {
		if !strings.Contains(r.err, place) {
			t.Errorf("stderr does not name %s:\n%s", place, r.err)
		}
	}
	if r := fairlead(t, "run", "-c", filepath.Join(t.TempDir(), "none.yaml")); r.code != exitWrong || !strings.Contains(r.err, "no such file") {
		t.Errorf("missing file: exit status %d: %s", r.code, r.err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

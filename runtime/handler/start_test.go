package handler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/sdk/bootclock"
	adapterpb "github.com/fairlead-io/fairlead/sdk/proto"
)

func TestStartErrorsSayWhatIsWrong(t *testing.T) {
	rows := []struct {
		name, role string
		change     func(*testing.T, *Spec)
		is         error
		want       []string
	}{
		{name: "missing", role: "good", is: ErrNotFound,
			change: func(t *testing.T, s *Spec) { s.Binary.Path = "/nowhere/" + Prefix + "good" },
			want: []string{"adapter good: no fairlead-adapter-good in /nowhere: ",
				"put it there or add its folder to node.adapter_dirs"}},
		{name: "not executable", role: "good",
			change: func(t *testing.T, s *Spec) { s.Binary.Path = write(t, "good", "#!/bin/sh\n", 0o640) },
			want:   []string{"is not executable (mode 0640): chmod +x /"}},
		{name: "a directory", role: "good",
			change: func(t *testing.T, s *Spec) { s.Binary.Path = t.TempDir() },
			want:   []string{"is not a regular file"}},
		{name: "wrong checksum", role: "good", is: ErrChecksum,
			change: func(t *testing.T, s *Spec) { s.Binary.SHA256 = strings.Repeat("ab", 32) },
			want:   []string{"not abababababab as when it was found", "restart the node"}},
		{name: "garbage", role: "good", is: ErrNotPlugin,
			change: func(t *testing.T, s *Spec) { replace(t, s, "\x7fELF garbage") },
			want:   []string{"is not a program for "}},
		{name: "script printing rubbish", role: "good", is: ErrNotPlugin,
			change: func(t *testing.T, s *Spec) { replace(t, s, "#!/bin/sh\necho welcome\n") },
			want:   []string{`is not a fairlead adapter: it printed "welcome" instead of a handshake`}},
		{name: "program printing rubbish", role: "rubbish", is: ErrNotPlugin,
			want: []string{`it printed "Hello, what would you like`}},
		{name: "closes its output", role: "mutest", is: ErrNotPlugin,
			want: []string{"it closed its standard output without a handshake"}},
		{name: "other protocol version", role: "future", is: ErrProtocol,
			want: []string{"speaks protocol version 2, this fairlead speaks 1"}},
		{name: "dies at start", role: "crash",
			want: []string{"adapter crash (pid ", "exited at start: exit status 3", "cannot find the frobnicator"}},
		{name: "panics at start", role: "panic",
			want: []string{"exit status 2", "panic: no frobnicator at all"}},
		{name: "silent at start", role: "silent", is: ErrStartTimeout,
			change: func(t *testing.T, s *Spec) { s.times.start = 300 * time.Millisecond },
			want:   []string{"said nothing for 300ms"}},
		{name: "silent after its handshake", role: "deaf", is: ErrStartTimeout,
			change: func(t *testing.T, s *Spec) { s.times.start = 300 * time.Millisecond },
			want:   []string{"said nothing for 300ms"}},
		{name: "describe fails", role: "undescribed",
			want: []string{"adapter undescribed: describe: the frobnicator is not described"}},
		{name: "dies while describing", role: "dies-describing",
			want: []string{"exited at start: exit status 5"}},
		{name: "dies between handshake and connection", role: "brief",
			want: []string{"exited at start: exit status 6"}},
		{name: "calls itself something else", role: "misnamed",
			want: []string{`calls itself "other": rename the file to fairlead-adapter-other`}},
		{name: "schema is not JSON", role: "shameless", want: []string{"schema that is not JSON"}},
		{name: "another version than found", role: "good",
			change: func(t *testing.T, s *Spec) { s.Binary.Version = "1.0.0" },
			want:   []string{"says it is version 1.2.3, but was found as 1.0.0"}},
		{name: "never ready", role: "unready", is: ErrStartTimeout,
			change: func(t *testing.T, s *Spec) { s.times.ready = 200 * time.Millisecond },
			want:   []string{"was configured but not ready after 200ms"}},
		{name: "ends its stream and stays", role: "hangs-up",
			want: []string{"its stream ended, but not its process: the frobnicator was refused"}},
		{name: "lease has ended", role: "good", is: ErrLeaseEnded,
			change: func(t *testing.T, s *Spec) { s.Lease = bootclock.Now },
			want:   []string{"adapter good: not started"}},
		{name: "unusable at the scan", role: "good",
			change: func(t *testing.T, s *Spec) { s.Binary.Err = errors.New("known to be bad") },
			want:   []string{"known to be bad"}},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			s, _, _ := spec(t, r.role)
			if r.change != nil {
				r.change(t, &s)
			}
			err := mustFail(t, s)
			if r.is != nil && !errors.Is(err, r.is) {
				t.Errorf("got %v, want it to be %v", err, r.is)
			}
			wantText(t, err.Error(), r.want...)
		})
	}
}

func write(t *testing.T, role, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), Prefix+role)
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

// replace puts another content in the place of s's binary, and pins it.
func replace(t *testing.T, s *Spec, content string) {
	t.Helper()
	s.Binary.Path = write(t, s.Binary.Name, content, 0o755)
	f, err := os.Open(s.Binary.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if s.Binary.SHA256, err = checksum(f); err != nil {
		t.Fatal(err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	s, _, _ := spec(t, "silent")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	_, err := Start(ctx, s)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want deadline exceeded", err)
	}
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	checkNothingLeft(t, s.RuntimeDir, 0)
}

func TestSocketsFitWhateverTheRuntimeDirectory(t *testing.T) {
	long := filepath.Join(shortDir(t), strings.Repeat("x", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	s, _, _ := spec(t, "good")
	s.RuntimeDir = long
	h := start(t, s)
	info, err := os.Stat(h.inst.dir.path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o700 {
		t.Errorf("mode of the socket's directory is %o, want 700", got)
	}
	if strings.HasPrefix(h.inst.dir.path, long) {
		t.Errorf("socket in %s does not fit", h.inst.dir.path)
	}
}

func TestRejectedEndpointsAreNoError(t *testing.T) {
	s, _, _ := spec(t, "good")
	s.Endpoints = []*adapterpb.Endpoint{{Name: "fine"}, {Name: "bad"}}
	h := start(t, s)
	r := h.Rejected()
	if len(r) != 1 || r[0].GetEndpoint() != "bad" || r[0].GetError().GetText() != "no such frobnicator" {
		t.Errorf("rejected: %v", r)
	}
}

func TestPluginGetsAReducedEnvironment(t *testing.T) {
	t.Setenv("FAIRLEAD_TEST_SECRET", "hunter2")
	s, heard, _ := spec(t, "good")
	h := start(t, s)
	poll(t, h, "env")
	env := heard.state(t, "env")
	wantText(t, env, "PATH=", "PLUGIN_UNIX_SOCKET_DIR="+s.RuntimeDir)
	if strings.Contains(env, "hunter2") {
		t.Error("a variable of ours reached the plugin")
	}
}

func TestPluginInheritsFilesThatItIsGiven(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(lock, []byte("the lock"), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(lock)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, heard, _ := spec(t, "good")
	s.Inherit = []*os.File{f}
	h := start(t, s)
	poll(t, h, "inherited")
	if got := heard.state(t, "inherited"); got != "the lock" {
		t.Errorf("descriptor 3 reads %q", got)
	}
}

// A file put into the checked one's place after the check must not run.
func TestFileIsExecutedThroughItsCheckedDescriptor(t *testing.T) {
	good := binary(t, "good")
	path := filepath.Join(t.TempDir(), Prefix+"good")
	if err := os.Link(good.Path, path); err != nil {
		t.Skip("needs hard links:", err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho swapped\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := newProcess(launchSpec{name: "good", path: path, log: orDiscard(nil)}, shortDir(t))
	pp, err := newPipes()
	if err != nil {
		t.Fatal(err)
	}
	forked := make(chan error, 1)
	go p.life(f, pp, forked)
	if err := <-forked; err != nil {
		t.Fatal(err)
	}
	pp.closeChild()
	go p.drain(pp)
	await(t, p.drained, "the end of the process")
	// Without the handshake's cookie the adapter says what it is and exits; the
	// script would have printed its line.
	if p.hello != "" {
		t.Errorf("the swapped file ran: it printed %q", p.hello)
	}
	wantText(t, p.exitError(true).Error(), "exit status 1", "This binary is a plugin")
}

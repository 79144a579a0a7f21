package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-io/fairlead/internal/freeport"
	"github.com/fairlead-io/fairlead/sdk"
	"github.com/fairlead-io/fairlead/sdk/files"
)

// serverScripts finds the scripts that start real servers, or skips the test.
func serverScripts(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("real servers are left out of short tests")
	}
	candidates := []string{os.Getenv("FAIRLEAD_SERVERS")}
	if dir, err := os.Getwd(); err == nil {
		for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				candidates = append(candidates, filepath.Join(dir, "..", "shared", "servers"), filepath.Join(dir, "..", "..", "shared", "servers"))
			}
		}
	}
	for _, dir := range candidates {
		if _, err := os.Stat(filepath.Join(dir, "start-vsftpd")); dir != "" && err == nil {
			return dir
		}
	}
	t.Skip("no scripts to start real servers; name their folder in FAIRLEAD_SERVERS")
	return ""
}

// startReal starts a server by its script, with settings such as "FTPS=explicit".
func startReal(t testing.TB, name string, settings ...string) *realServer {
	t.Helper()
	scripts := serverScripts(t)
	dir := t.TempDir()
	// Sessions run as another user, who has to get to the files.
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	port, release, err := freeport.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	cmd := exec.Command(filepath.Join(scripts, "start-"+name), dir, fmt.Sprint(port))
	cmd.Env = append(os.Environ(), append(settings, fmt.Sprintf("OWNER_PID=%d", os.Getpid()))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		if strings.Contains(string(out), "run ./install first") || strings.Contains(string(out), "needs root") {
			t.Skipf("%s cannot be started here: %s", name, out)
		}
		t.Fatalf("start %s: %v\n%s", name, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command(filepath.Join(scripts, "stop"), dir).CombinedOutput(); err != nil {
			t.Errorf("stop %s: %v\n%s", name, err, out)
		}
	})
	s := &realServer{Dir: filepath.Join(dir, "data"), props: map[string]any{
		"address": fmt.Sprintf("127.0.0.1:%d", port), "user": field(out, "user"), "password": field(out, "password"),
		"timeout": "10s", "directory": ".",
	}}
	for _, setting := range settings {
		if mode, ok := strings.CutPrefix(setting, "FTPS="); ok {
			s.props["tls"], s.props["ca_file"] = mode, field(out, "cert")
		}
	}
	return s
}

type realServer struct {
	Dir   string
	props map[string]any
}

func field(line []byte, name string) string {
	m := regexp.MustCompile(`\b` + name + `=(\S+)`).FindSubmatch(line)
	if m == nil {
		return ""
	}
	return string(m[1])
}

func (s *realServer) write(t testing.TB, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.Dir, name), content, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (s *realServer) names(t testing.TB) []string {
	return (&testServer{Dir: s.Dir}).names(t)
}

// everyRealServer runs a test against the servers that most people have, in all
// modes; with TLS they want every data connection to resume the session.
func everyRealServer(t *testing.T, test func(t *testing.T, s *realServer)) {
	serverScripts(t)
	for _, name := range []string{"vsftpd", "proftpd"} {
		for _, mode := range []string{"plain", tlsExplicit, tlsImplicit} {
			t.Run(name+" "+mode, func(t *testing.T) {
				if mode == "plain" {
					test(t, startReal(t, name))
					return
				}
				test(t, startReal(t, name, "FTPS="+mode, "TLS_REUSE=1", "TLS_FORCE=1"))
			})
		}
	}
}

func TestInteropReceive(t *testing.T) {
	everyRealServer(t, func(t *testing.T, s *realServer) {
		want := map[string][]byte{"empty.edi": {}, "big.edi": noise(1, 8<<20)}
		for i, name := range oddNames {
			want[name] = noise(byte(i), 1000+i)
		}
		for name, content := range want {
			s.write(t, name, content)
		}
		old := time.Now().AddDate(-2, 0, 0)
		if err := os.Chtimes(filepath.Join(s.Dir, "plain.edi"), old, old); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(s.Dir, "dir.edi"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("big.edi", filepath.Join(s.Dir, "link.edi")); err != nil {
			t.Fatal(err)
		}

		src := newSource(t, with(s.props, "connections", 4))
		items := list(t, src)
		if len(items) != len(want) {
			t.Errorf("listed are %q, want %d files", itemNames(items), len(want))
		}
		var wg sync.WaitGroup
		for name, content := range want {
			wg.Go(func() {
				got, err := readContext(testContext(t), src, items[name])
				if err != nil || !bytes.Equal(got, content) {
					t.Errorf("read %q: %d bytes, %v; want %d", name, len(got), err, len(content))
				}
				if err := src.Settle(testContext(t), items[name]); err != nil {
					t.Errorf("settle %q: %v", name, err)
				}
			})
		}
		wg.Wait()
		if left := s.names(t); len(left) != 2 {
			t.Errorf("left are %q, want the directory and the link", left)
		}
		if _, err := newSource(t, with(s.props, "directory", "missing")).List(testContext(t)); err == nil {
			t.Error("a missing directory is an empty listing")
		}
		if got := list(t, newSource(t, with(s.props, "directory", "dir.edi"))); len(got) != 0 {
			t.Errorf("an empty directory lists %q", itemNames(got))
		}
	})
}

func TestInteropChangedAndHalfReadFiles(t *testing.T) {
	everyRealServer(t, func(t *testing.T, s *realServer) {
		s.write(t, "changed", []byte("one"))
		s.write(t, "half", noise(1, 8<<20))
		src := newSource(t, with(s.props, "connections", 1))
		items := list(t, src)
		s.write(t, "changed", []byte("three"))
		if err := src.Settle(testContext(t), items["changed"]); !sdk.IsGone(err) {
			t.Errorf("settle of a changed file says %v, want gone", err)
		}
		content, err := src.Open(testContext(t), items["half"])
		if err != nil {
			t.Fatal(err)
		}
		for part := range content.Parts {
			if _, err := part.Reader.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
		}
		_ = content.Close()
		if got, err := read(t, src, items["half"]); err != nil || len(got) != 8<<20 {
			t.Errorf("read after a half reading: %d bytes, %v", len(got), err)
		}
		if err := os.Remove(filepath.Join(s.Dir, "half")); err != nil {
			t.Fatal(err)
		}
		if err := src.Settle(testContext(t), items["half"]); !sdk.IsGone(err) {
			t.Errorf("settle of a missing file says %v, want gone", err)
		}
		if _, err := read(t, src, items["half"]); !sdk.IsGone(err) {
			t.Errorf("open of a missing file says %v, want gone", err)
		}
	})
}

func TestInteropKeysOfAllAges(t *testing.T) {
	everyRealServer(t, func(t *testing.T, s *realServer) {
		now := time.Now().Truncate(time.Second)
		for name, age := range map[string]time.Duration{"new": 0, "month": 30 * 24 * time.Hour, "year": 365 * 24 * time.Hour, "future": -5 * time.Hour} {
			s.write(t, name, []byte("x"))
			when := now.Add(-age)
			if err := os.Chtimes(filepath.Join(s.Dir, name), when, when); err != nil {
				t.Fatal(err)
			}
			for _, listing := range []string{listingAuto, listingLIST, listingNLST} {
				src := newSource(t, with(s.props, "listing", listing, "after_delivery", "keep"))
				want := fmt.Sprintf("%s|1|%s", name, when.UTC().Format(time.RFC3339Nano))
				if got := list(t, src)[name].Key; got != want {
					t.Errorf("%s with listing: %s: key %q, want %q", name, listing, got, want)
				}
			}
		}
	})
}

func TestInteropSendAndProbe(t *testing.T) {
	everyRealServer(t, func(t *testing.T, s *realServer) {
		for _, tls13 := range []bool{false, true} {
			props := with(s.props, "name", "{{fairlead.id}}.bin", "connections", 4)
			if s.props["tls"] != nil {
				props["tls13"] = tls13
			}
			k := newSink(t, props)
			var wg sync.WaitGroup
			for i, size := range []int{0, 1, 200_000, 200_001, 3 << 20, 8 << 20, 0, 100} {
				wg.Go(func() {
					m := newMessage(t, noise(byte(i), size))
					if err := k.Send(testContext(t), m); err != nil {
						t.Errorf("send %d bytes, tls13 %t: %v", size, tls13, err)
						return
					}
					got, err := os.ReadFile(filepath.Join(s.Dir, m.ID+".bin"))
					if err != nil || !bytes.Equal(got, noise(byte(i), size)) {
						t.Errorf("%d of %d bytes arrived, %v", len(got), size, err)
					}
					if a, err := k.Probe(testContext(t), m); err != nil || a != sdk.Arrived {
						t.Errorf("probe says %s, %v", arrivalName(a), err)
					}
				})
			}
			wg.Wait()
		}
		for _, name := range s.names(t) {
			if files.IsTemporary(name) {
				t.Errorf("%s was left behind", name)
			}
		}
		shared := newSink(t, with(s.props, "name", "orders.csv"))
		m := newMessage(t, noise(5, 100_000))
		wantProbe(t, shared, m, sdk.Unknown)
		for range 2 {
			if err := shared.Send(testContext(t), m); err != nil {
				t.Fatal(err)
			}
			wantProbe(t, shared, m, sdk.Arrived)
		}
		wantProbe(t, shared, newMessage(t, noise(6, 100_000)), sdk.Unknown)
		if err := os.Mkdir(filepath.Join(s.Dir, "closed"), 0o555); err != nil {
			t.Fatal(err)
		}
		err := newSink(t, with(s.props, "directory", "closed")).Send(testContext(t), m)
		if err == nil || sdk.IsPermanent(err) || sdk.IsDisconnected(err) {
			t.Errorf("send into a closed directory says %v, want an error to try again after", err)
		}
	})
}

func TestInteropWithoutEPSV(t *testing.T) {
	for _, name := range []string{"vsftpd", "proftpd"} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name, "EPSV=0")
			s.write(t, "a", []byte("x"))
			src := newSource(t, s.props)
			if got, err := read(t, src, list(t, src)["a"]); err != nil || string(got) != "x" {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestInteropTooManyClients(t *testing.T) {
	for _, name := range []string{"vsftpd", "proftpd"} {
		t.Run(name, func(t *testing.T) {
			s := startReal(t, name, "MAX_CLIENTS=1")
			first := newSource(t, s.props)
			// The script's own look at the port may still count as a client.
			waitFor(t, "the only place", func() bool { _, err := first.List(testContext(t)); return err == nil })
			if _, err := newSource(t, s.props).List(testContext(t)); !sdk.IsDisconnected(err) {
				t.Errorf("one client too many is %v, want disconnected", err)
			}
			list(t, first)
		})
	}
}
